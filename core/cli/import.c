/* SPDX-License-Identifier: MIT */
#include "cli/import.h"

#include "base/clock.h"
#include "base/str.h"
#include "git/git.h"
#include "run/change.h"

#define GIT_TIMEOUT_MS 60000

int import_read(struct cli *cli, const struct site *site, const char *path, struct plan **ret)
{
	struct plan_context context = {
		.shared = site->config->invariants.items,
		.n_shared = site->config->invariants.count,
	};
	struct diags d = DIAGS_INIT;
	struct err e = ERR_INIT;
	int r = plan_parse_file(path, &context, ret, &d, &e);
	diags_print(&d, stderr);
	diags_deinit(&d);
	return r < 0 ? cli_error(cli, &e) : 0;
}

int import_refused(const struct cli *cli, char *const *refused, const struct err *e)
{
	for (size_t i = 0; refused && refused[i]; i++) {
		fputs("  ", stderr);
		cli_print_safe(stderr, refused[i]);
		fputc('\n', stderr);
	}
	return cli_error(cli, e);
}

static int update(struct cli *cli, struct store *s, int64_t id, const struct plan *plan)
{
	struct err e = ERR_INIT;
	CLEANUP_STRV char **refused = NULL;
	return change_plan(s, id, plan, &refused, &e) < 0 ? import_refused(cli, refused, &e) : 0;
}

static int note_draft(void *ctx, const struct plan_row *row)
{
	bool *draft = ctx;
	*draft = row->status == PLAN_DRAFT;
	return 0;
}

static int approve_draft(struct cli *cli, struct store *s, int64_t id)
{
	struct err e = ERR_INIT;
	bool draft = false;
	int r = store_plan(s, id, note_draft, &draft, &e);
	if (r == 0 && draft)
		r = store_plan_set_status(s, id, PLAN_APPROVED, clock_wall_ms(), &e);
	return r < 0 ? cli_error(cli, &e) : 0;
}

/* ---- what a saved state needs here ---- */

/* The work that a passed task, or one that a person is to judge, has left. */
static bool needs_commit(const struct plan_state *state)
{
	return str_eq(state->status, "passed") || str_eq(state->status, "awaiting_review");
}

static int resolve_commits(
	const struct site *site, struct plan *plan, char ***ret_missing, struct err *e)
{
	struct git_ctx ctx = site_git(site);
	ctx.deadline_ms = deadline_after(GIT_TIMEOUT_MS);
	CLEANUP_STRV char **revs = NULL;
	size_t n = 0;
	vec_foreach(t, &plan->tasks) {
		if (!t->state || !t->state->commit)
			continue;
		CLEANUP_STR char *rev = str_printf("%s^{commit}", t->state->commit);
		if (!rev || strv_add(&revs, rev) < 0)
			return err_nomem(e);
		n++;
	}
	if (n == 0)
		return 0;
	CLEANUP(freep) struct git_oid *found = calloc(n, sizeof(*found));
	int r = found ? git_resolve_many(&ctx, (const char *const *)revs, n, found, e)
		      : err_nomem(e);
	n = 0;
	vec_foreach(t, &plan->tasks) {
		if (r < 0 || !t->state || !t->state->commit)
			continue;
		t->state->commit_absent = !found[n++].hex[0];
		if (t->state->commit_absent && needs_commit(t->state) &&
			strv_add(ret_missing, t->name) < 0)
			r = err_nomem(e);
	}
	return r;
}

/* A plan travels with the repository: its state means nothing without the commits. */
static int check_commits(const struct site *site, struct plan *plan, struct err *e)
{
	CLEANUP_STRV char **missing = NULL;
	if (!site->repo || plan->isolation != ISOLATION_WORKTREE)
		return 0;
	int r = resolve_commits(site, plan, &missing, e);
	if (r < 0 || !missing)
		return r;
	CLEANUP_STR char *list = strv_join(missing, ", ");
	return err_exit(e, EXIT_DATA,
		"the work of tasks that have passed or await review is not here (%s); bring it "
		"with: "
		"git fetch origin 'refs/orch/%s/*:refs/orch/%s/*' "
		"'refs/heads/orch/%s/*:refs/heads/orch/%s/*'",
		list ? list : "?", plan->name, plan->name, plan->name, plan->name);
}

int import_store(struct cli *cli, struct cli_site *at, struct plan *plan, enum plan_status status,
	int64_t *ret_id)
{
	struct store *s = at->store;
	struct err e = ERR_INIT;
	int64_t id = 0;
	int r = store_plan_id(s, plan->name, &id, &e);
	if (r < 0)
		return cli_error(cli, &e);
	if (id) {
		int code = update(cli, s, id, plan);
		*ret_id = id;
		return code || status != PLAN_APPROVED ? code : approve_draft(cli, s, id);
	}
	r = check_commits(at->site, plan, &e);
	if (r == 0)
		r = store_plan_import(s, plan, status, clock_wall_ms(), ret_id, &e);
	return r < 0 ? cli_error(cli, &e) : 0;
}
