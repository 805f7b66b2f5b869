/* SPDX-License-Identifier: MIT */
#include "run/missing.h"

#include "base/map.h"
#include "base/str.h"
#include "base/vec.h"

#include <errno.h>
#include <string.h>

struct passed {
	char *name;
	struct git_oid commit;
};

struct collect {
	struct VEC(struct passed) tasks;
	struct buf revs;
};

static int add_passed(void *ctx, const struct task_row *row)
{
	struct collect *c = ctx;
	struct git_oid oid;
	if (row->status != TASK_PASSED || !row->commit_oid ||
		git_oid_parse(row->commit_oid, &oid) < 0)
		return 0;
	struct passed *p = VEC_PUSH(&c->tasks);
	if (!p || !(p->name = str_dup(row->name)))
		return -ENOMEM;
	p->commit = oid;
	buf_addf(&c->revs, "%s\n", oid.hex);
	return 0;
}

static int run_stdin(const struct git_ctx *ctx, const char *const *argv, const struct buf *input,
	struct git_output *o, struct err *e)
{
	struct git_cmd cmd = {.argv = argv, .input = buf_cstr(input), .input_len = input->len};
	git_output_deinit(o);
	*o = GIT_OUTPUT_INIT;
	return git_run_ok(ctx, &cmd, o, e);
}

/* Cuts off the next line of text; NULL at its end. */
static char *next_line(char **text)
{
	char *line = *text && **text ? *text : NULL;
	if (line) {
		size_t len = strcspn(line, "\n");
		*text = line + len + (line[len] == '\n');
		line[len] = '\0';
	}
	return line;
}

/* Into the map: ids of the commits that do not exist, or are not in tip's history. */
static int find_missing(const struct git_ctx *ctx, struct collect *c, const struct git_oid *tip,
	struct map *missing, struct err *e)
{
	/* rev-list leaves out what does not exist, so that is asked for apart: an answer a line. */
	static const char *const check[] = {"cat-file", "--batch-check", NULL};
	static const char *const list[] = {"rev-list", "--ignore-missing", "--stdin", NULL};
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	int r = run_stdin(ctx, check, &c->revs, &o, e);
	char *at = o.out.data, *line;
	vec_foreach(t, &c->tasks) {
		line = r == 0 ? next_line(&at) : NULL;
		if (line && str_ends(line, " missing") &&
			map_put(missing, t->commit.hex, c) == -ENOMEM)
			r = err_nomem(e);
	}
	buf_addf(&c->revs, "^%s\n", tip->hex);
	if (r == 0 && buf_check(&c->revs) < 0)
		r = err_nomem(e);
	if (r == 0)
		r = run_stdin(ctx, list, &c->revs, &o, e);
	for (at = o.out.data; r == 0 && (line = next_line(&at));)
		if (map_put(missing, line, c) == -ENOMEM)
			r = err_nomem(e);
	return r;
}

int missing_tasks(const struct git_ctx *ctx, struct store *s, int64_t plan_id,
	const struct git_oid *tip, char ***ret_names, struct err *e)
{
	struct collect c = {0};
	CLEANUP(map_deinit) struct map missing = MAP_INIT;
	CLEANUP_STRV char **names = NULL;
	int r = store_each_task(s, plan_id, add_passed, &c, e);
	if (r == -ENOMEM)
		err_nomem(e);
	if (r == 0 && c.tasks.count > 0)
		r = find_missing(ctx, &c, tip, &missing, e);
	vec_foreach(t, &c.tasks) {
		if (r == 0 && map_get(&missing, t->commit.hex) && strv_add(&names, t->name) < 0)
			r = err_nomem(e);
		free(t->name);
	}
	VEC_FREE(&c.tasks);
	buf_deinit(&c.revs);
	if (r == 0)
		*ret_names = TAKE(names);
	return r;
}
