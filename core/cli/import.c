/* SPDX-License-Identifier: MIT */
#include "cli/import.h"

#include "base/clock.h"
#include "base/str.h"
#include "git/git.h"
#include "run/change.h"
#include "run/preflight.h"
#include "server/client.h"

#define GIT_TIMEOUT_MS 60000
#define ASK_TIMEOUT_MS 60000

int import_read(struct cli *cli, const struct site *site, const char *path, struct plan **ret)
{
	struct plan_context context = {
		.shared = site->config->invariants.items,
		.n_shared = site->config->invariants.count,
		.cancel_fd = cli->signal_fd,
	};
	struct diags d = DIAGS_INIT;
	struct err e = ERR_INIT;
	int r = plan_parse_file(path, &context, ret, &d, &e);
	diags_print(&d, stderr);
	diags_deinit(&d);
	return r < 0 ? cli_error(cli, &e) : 0;
}

int import_warn(struct cli *cli, const struct site *site, const char *path, const struct plan *plan)
{
	struct diags d = DIAGS_INIT;
	struct err e = ERR_INIT;
	int r = preflight_installed(site, plan, path, &d);
	diags_print(&d, stderr);
	diags_deinit(&d);
	if (r < 0)
		err_nomem(&e);
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

int import_ask(const struct cli_site *at, const char *method, json_t *params, json_t **ret_result,
	char ***ret_refused, struct err *e)
{
	json_t *result = NULL;
	int r = client_call(at->engine, method, params, deadline_after(ASK_TIMEOUT_MS), &result, e);
	if (r < 0)
		return r;
	int status = (int)json_integer_value(json_object_get(result, "exit_status"));
	size_t i;
	json_t *line;
	json_array_foreach(json_object_get(result, "refused"), i, line) {
		if (strv_add(ret_refused, json_string_value(line)) < 0)
			r = err_nomem(e);
	}
	if (r == 0 && status)
		r = err_exit(e, (enum exit_status)status, "%s",
			json_string_value(json_object_get(result, "message")));
	if (ret_result)
		*ret_result = json_incref(result);
	json_decref(result);
	return r;
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

static int import_through_engine(const struct cli_site *at, const struct plan *plan,
	enum plan_status status, int64_t *ret_id, char ***ret_refused, struct err *e)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	json_t *absent = json_array(), *result = NULL;
	vec_foreach(t, &plan->tasks)
		if (t->state && t->state->commit_absent)
			json_array_append_new(absent, json_string(t->name));
	if (plan_export(plan, PLAN_EXPORT_STATE, &text) < 0) {
		json_decref(absent);
		return err_nomem(e);
	}
	int r = import_ask(at, "plan.import",
		json_pack("{s:s, s:b, s:o}", "text", buf_cstr(&text), "approve",
			status == PLAN_APPROVED, "absent", absent),
		&result, ret_refused, e);
	*ret_id = json_integer_value(json_object_get(result, "plan_id"));
	json_decref(result);
	return r;
}

int import_store(struct cli *cli, struct cli_site *at, struct plan *plan, enum plan_status status,
	int64_t *ret_id)
{
	struct err e = ERR_INIT;
	CLEANUP_STRV char **refused = NULL;
	int64_t known = 0;
	int r = at->store ? store_plan_id(at->store, plan->name, &known, &e) : 0;
	if (r == 0 && !known)
		r = check_commits(at->site, plan, &e);
	if (r == 0 && at->engine >= 0)
		r = import_through_engine(at, plan, status, ret_id, &refused, &e);
	else if (r == 0)
		r = change_import(at->store, plan, status, ret_id, &refused, &e);
	return r < 0 ? import_refused(cli, refused, &e) : 0;
}
