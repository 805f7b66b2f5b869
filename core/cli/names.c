/* SPDX-License-Identifier: MIT */
/* Plans and tasks as people name them: by name, `plan/task`, unique prefix, or id. */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/str.h"

#include <stdio.h>
#include <string.h>

#define CANDIDATES_SHOWN 20

struct lookup {
	const char *name;
	size_t len;
	int64_t number; /* the name as an id, -1: it is none */
	bool any;       /* no name was given: the one there is */
	bool exact;     /* a name or id matched wholly: prefixes no longer count */
	size_t matches;
	struct buf candidates;
	struct cli_task scope; /* the plan that is being looked through */
	struct cli_task found;
	struct store *store;
	struct err *err;
};

static void consider(struct lookup *l, const char *name, int64_t id, const char *shown,
	const struct cli_task *candidate)
{
	bool exact = strcmp(name, l->name) == 0 || id == l->number;
	/* An empty name begins every other one, and means none of them. */
	if (!exact && l->len == 0 && !l->any)
		return;
	if (!exact && (l->exact || strncmp(name, l->name, l->len) != 0))
		return;
	if (exact && !l->exact) {
		l->exact = true;
		l->matches = 0;
		buf_reset(&l->candidates);
	}
	if (l->matches++ < CANDIDATES_SHOWN)
		buf_addf(&l->candidates, "%s%s", l->matches > 1 ? ", " : "", shown);
	l->found = *candidate;
}

static int consider_plan(void *ctx, const struct plan_row *row)
{
	struct lookup *l = ctx;
	struct cli_task candidate = {.plan_id = row->id};
	snprintf(candidate.plan, sizeof(candidate.plan), "%s", row->name);
	consider(l, row->name, row->id, row->name, &candidate);
	return 0;
}

static void lookup_init(struct lookup *l, struct store *s, const char *name, struct err *e)
{
	*l = (struct lookup){.name = name, .len = strlen(name), .number = -1, .store = s, .err = e};
	if (parse_int64(name, 1, INT64_MAX, &l->number) < 0)
		l->number = -1;
}

static int lookup_result(struct cli *cli, struct lookup *l, const char *what)
{
	int status = 0;
	if (l->err->code) {
		status = cli_error(cli, l->err);
	} else if (l->matches == 0 && !l->name[0]) {
		err_exit(l->err, EXIT_NOINPUT,
			"there is no %s yet; write one, and type: orch dispatch "
			"FILE",
			what);
		status = cli_error(cli, l->err);
	} else if (l->matches == 0) {
		/* What only reads plan files is one verb. */
		bool is_file = str_eq(what, "plan") && str_ends(l->name, ".ini");
		err_exit(l->err, EXIT_NOINPUT, "no %s '%s'%s", what, l->name,
			is_file ? "; a file is looked at by `orch plan check`" : "");
		status = cli_error(cli, l->err);
	} else if (l->matches > 1) {
		err_exit(l->err, EXIT_USAGE, "'%s' may be any of: %s%s", l->name,
			buf_cstr(&l->candidates), l->matches > CANDIDATES_SHOWN ? ", ..." : "");
		status = cli_error(cli, l->err);
	}
	buf_deinit(&l->candidates);
	return status;
}

int cli_find_plan(
	struct cli *cli, struct store *s, const char *name, int64_t *ret_id, char ret_name[101])
{
	struct err e = ERR_INIT;
	struct lookup l;
	lookup_init(&l, s, name ? name : "", &e);
	l.any = !name;
	if (s)
		IGNORE(store_each_plan(s, consider_plan, &l, &e)); /* it is in e */
	int status = lookup_result(cli, &l, "plan");
	if (status)
		return status;
	*ret_id = l.found.plan_id;
	snprintf(ret_name, 101, "%s", l.found.plan);
	return 0;
}

static int consider_task(void *ctx, const struct task_row *row)
{
	struct lookup *l = ctx;
	struct cli_task candidate = l->scope;
	char shown[210];
	candidate.task_id = row->id;
	snprintf(candidate.task, sizeof(candidate.task), "%s", row->name);
	snprintf(shown, sizeof(shown), "%s/%s", candidate.plan, candidate.task);
	consider(l, row->name, row->id, shown, &candidate);
	return 0;
}

static int consider_plan_tasks(void *ctx, const struct plan_row *row)
{
	struct lookup *l = ctx;
	l->scope.plan_id = row->id;
	snprintf(l->scope.plan, sizeof(l->scope.plan), "%s", row->name);
	return store_each_task(l->store, row->id, consider_task, l, l->err);
}

int cli_find_task(struct cli *cli, struct store *s, const char *name, struct cli_task *ret)
{
	struct err e = ERR_INIT;
	struct lookup l;
	const char *slash = strchr(name, '/');
	lookup_init(&l, s, slash ? slash + 1 : name, &e);
	if (slash) {
		CLEANUP_STR char *plan = strndup(name, (size_t)(slash - name));
		if (!plan)
			return cli_no_memory(cli);
		int status = cli_find_plan(cli, s, plan, &l.scope.plan_id, l.scope.plan);
		if (status)
			return status;
		IGNORE(store_each_task(s, l.scope.plan_id, consider_task, &l, &e)); /* it is in e */
	} else if (s) {
		IGNORE(store_each_plan(s, consider_plan_tasks, &l, &e)); /* it is in e */
	}
	int status = lookup_result(cli, &l, "task");
	if (status == 0)
		*ret = l.found;
	return status;
}
