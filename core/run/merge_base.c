/* SPDX-License-Identifier: MIT */
#include "run/merge_base.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "git/guard.h"
#include "git/integrate.h"
#include "git/worktree.h"
#include "plan/plan.h"
#include "run/missing.h"
#include "run/tamper.h"

#include <errno.h>
#include <string.h>

#define GIT_TIMEOUT_MS   600000
#define SETUP_TIMEOUT_MS 1800000

struct judged {
	char *name;
	char *command;
	char fingerprint[33];
	int64_t timeout_ms;
	int64_t expect;
	bool advisory;
	enum red_before red_before;
};

/* A merge under way. */
struct final {
	struct merge_base *m;
	struct git_ctx ctx;
	int git_lock, merge_lock;
	char *plan;
	char *dir;
	struct plan *definition;
	struct checker *checker;
	struct VEC(struct judged) checks;
	struct git_oid tip, base, merge, tree, base_tree;
	struct git_oid at; /* what the worktree holds; "": it is not there yet */
	bool worktrees;
};

void merge_base_deinit(struct merge_base *m)
{
	free(m->branch);
	free(m->text);
	m->branch = m->text = NULL;
}

static int say(struct merge_base *m, enum merge_base_outcome outcome, char *text,
	enum merge_base_outcome *ret, struct err *e)
{
	free(m->text);
	m->text = text;
	*ret = outcome;
	return text ? 1 : err_nomem(e);
}

/* ---- what is merged ---- */

static int read_plan(void *ctx, const struct plan_row *row)
{
	struct final *f = ctx;
	f->plan = str_dup(row->name);
	f->m->branch = str_dup(row->base_ref);
	f->worktrees = row->worktrees;
	return f->plan && (f->m->branch || !row->base_ref) ? 0 : -ENOMEM;
}

static int load(struct final *f, struct err *e)
{
	CLEANUP_STR char *text = NULL;
	struct diags d = DIAGS_INIT;
	int r = store_plan(f->m->store, f->m->plan_id, read_plan, f, e);
	if (r == 0)
		r = store_plan_definition(f->m->store, f->m->plan_id, &text, e);
	if (r == 0)
		r = plan_parse_text(f->plan, NULL, text, strlen(text), NULL, &f->definition, &d, e);
	diags_deinit(&d);
	return r < 0 && e->code == 0 ? err_nomem(e) : r;
}

/* What a plan may begin at, and no branch can be called (gitrevisions(7)). */
static bool is_expression(const char *base)
{
	return base && (strpbrk(base, "~^:") || strstr(base, "@{"));
}

/* *ret_tip and *ret_base: "" where there is none. */
static int resolve_refs(
	struct final *f, struct git_oid *ret_tip, struct git_oid *ret_base, struct err *e)
{
	CLEANUP_STR char *tip = git_ref_integration(f->plan);
	CLEANUP_STR char *base = str_printf("refs/heads/%s", f->m->branch ? f->m->branch : "");
	struct git_oid oids[2];
	if (!tip || !base)
		return err_nomem(e);
	const char *const revs[] = {tip, base};
	int r = git_resolve_many(&f->ctx, revs, 2, oids, e);
	*ret_tip = oids[0];
	*ret_base = is_expression(f->m->branch) ? GIT_OID_NONE : oids[1];
	return r;
}

/* Fills in tip and base; positive: there is nothing to do, and *ret says why. */
static int find_refs(struct final *f, enum merge_base_outcome *ret, struct err *e)
{
	struct merge_base *m = f->m;
	if (!m->site->repo || !f->worktrees)
		return say(m, MERGE_BASE_NOTHING,
			str_printf(
				"plan '%s' works in the checkout itself: there is nothing to merge",
				f->plan),
			ret, e);
	int r = resolve_refs(f, &f->tip, &f->base, e);
	if (r < 0)
		return r;
	m->from = f->base;
	if (!f->tip.hex[0])
		return say(m, MERGE_BASE_NOTHING,
			str_printf("plan '%s' has no branch orch/%s/integration: nothing has been "
				   "integrated, or it was cleaned up",
				f->plan, f->plan),
			ret, e);
	if (!f->base.hex[0])
		return say(m, MERGE_BASE_NOTHING,
			str_printf(
				"the plan's base '%s' is no branch that could be moved; take the "
				"work with: git merge orch/%s/integration",
				m->branch ? m->branch : "", f->plan),
			ret, e);
	return 0;
}

/* An engine publishes a merge before it says that the task has passed: what seems to be missing is
 * looked for where the branch is by then. */
static int find_missing(struct final *f, char ***ret_names, struct err *e)
{
	for (;;) {
		struct git_oid tip, base;
		int r = missing_tasks(&f->ctx, f->m->store, f->m->plan_id, &f->tip, ret_names, e);
		if (r < 0 || !*ret_names || !f->m->beside)
			return r;
		r = resolve_refs(f, &tip, &base, e);
		if (r < 0 || git_oid_eq(&tip, &f->tip))
			return r;
		strv_free(TAKE(*ret_names));
		f->tip = tip;
	}
}

static int check_missing(struct final *f, enum merge_base_outcome *ret, struct err *e)
{
	CLEANUP_STRV char **names = NULL;
	int r = find_missing(f, &names, e);
	if (r < 0 || !names)
		return r;
	CLEANUP_STR char *list = strv_join(names, ", ");
	return say(f->m, MERGE_BASE_MISSING,
		str_printf(
			"orch/%s/integration does not hold the commits of tasks that have passed "
			"(%s): somebody moved it",
			f->plan, list ? list : "?"),
		ret, e);
}

/* A checkout that would be in the way is told before a long gate. */
static int check_base(struct final *f, enum merge_base_outcome *ret, struct err *e)
{
	int r = git_base_check(&f->ctx, f->m->branch, &f->base, e);
	if (r == GIT_REFUSED)
		return say(f->m, MERGE_BASE_REFUSED, str_dup(e->msg), ret, e);
	if (r == GIT_MOVED)
		return say(f->m, MERGE_BASE_MOVED, str_dup(e->msg), ret, e);
	return r;
}

static int make_merge(struct final *f, enum merge_base_outcome *ret, struct err *e)
{
	CLEANUP_STRV char **conflicts = NULL;
	CLEANUP_STR char *messages = NULL;
	CLEANUP_STR char *message =
		str_printf("Merge plan %s\n\nOrch-Plan: %s\n", f->plan, f->plan);
	bool already = false;
	if (!message)
		return err_nomem(e);
	int r = git_is_ancestor(&f->ctx, &f->tip, &f->base, &already, e);
	if (r == 0 && already) {
		*ret = MERGE_BASE_ALREADY;
		return 1;
	}
	if (r == 0)
		r = check_base(f, ret, e);
	if (r == 0)
		r = git_merge(
			&f->ctx, &f->base, &f->tip, message, &f->merge, &conflicts, &messages, e);
	if (r == GIT_CONFLICT) {
		CLEANUP_STR char *paths = strv_join(conflicts, ", ");
		return say(f->m, MERGE_BASE_CONFLICT, str_dup(paths ? paths : "?"), ret, e);
	}
	if (r == -EIO && strstr(e->msg, "refusing to merge unrelated histories"))
		return say(f->m, MERGE_BASE_REFUSED,
			str_printf("'%s' and orch/%s/integration have no commit in common: the "
				   "base was replaced",
				f->m->branch, f->plan),
			ret, e);
	if (r == 0)
		r = git_tree_of(&f->ctx, &f->merge, &f->tree, e);
	return r;
}

/* ---- how it is judged ---- */

static int add_check(void *ctx, const struct invariant_row *row)
{
	struct final *f = ctx;
	struct judged *c = VEC_PUSH(&f->checks);
	if (!c)
		return -ENOMEM;
	*c = (struct judged){
		.name = str_dup(row->name),
		.command = str_dup(row->command),
		.timeout_ms = row->timeout_ms,
		.expect = row->expect,
		.advisory = row->advisory,
		.red_before = row->red_before,
	};
	snprintf(c->fingerprint, sizeof(c->fingerprint), "%s", row->fingerprint);
	return c->name && c->command ? 0 : -ENOMEM;
}

/* The worktree, clean at a commit, with the plan's files and its set-up command done. */
static int stand_at(
	struct final *f, const struct git_oid *commit, enum merge_base_outcome *ret, struct err *e)
{
	if (git_oid_eq(&f->at, commit))
		return 0;
	int r = git_worktree_prepare(&f->ctx, f->dir, commit, f->definition->copy, e);
	if (r < 0)
		return r;
	f->at = *commit;
	if (!f->definition->setup)
		return 0;
	CLEANUP(check_result_deinit) struct check_result x = CHECK_RESULT_INIT;
	r = checker_run(f->checker, UNIT_SETUP, "setup", f->definition->setup, f->dir,
		SETUP_TIMEOUT_MS, f->m->signal_fd, &x, e);
	if (r < 0)
		return r;
	if (x.interrupted)
		return say(f->m, MERGE_BASE_INTERRUPTED, str_dup("interrupted"), ret, e);
	if (check_passed(&x, 0))
		return 0;
	f->m->told(f->m->ctx, "the set-up command", false, true, &x);
	return say(f->m, MERGE_BASE_RED, str_dup("the set-up command failed"), ret, e);
}

static int store_result(struct final *f, const struct git_oid *tree, const struct judged *c,
	const struct check_result *x, struct err *e)
{
	/* A result that time took is no result. */
	if (x->exit.cause == CAUSE_TIMED_OUT || f->m->beside)
		return 0;
	struct gate_result_row row = {
		.passed = check_passed(x, c->expect),
		.exit_code = x->exit.exit_code,
		.signal = x->exit.signal,
		.duration_ms = x->exit.duration_ms,
		.out = x->out,
		.errout = x->errout,
	};
	return store_cache_put(f->m->store, tree->hex, c->fingerprint, &row, clock_wall_ms(), e);
}

static int note_passed(void *ctx, const struct gate_result_row *row)
{
	bool *passed = ctx;
	*passed = row->passed;
	return 0;
}

/* One invariant on one tree, from the cache where it is known (x is empty then). */
static int judge_tree(struct final *f, const struct judged *c, const struct git_oid *commit,
	const struct git_oid *tree, bool *ret_passed, struct check_result *x, bool *ret_ran,
	enum merge_base_outcome *ret, struct err *e)
{
	*ret_ran = false;
	int r = store_cache_get(f->m->store, tree->hex, c->fingerprint, note_passed, ret_passed, e);
	if (r <= 0)
		return r;
	r = stand_at(f, commit, ret, e);
	if (r == 0)
		r = checker_run(f->checker, UNIT_INVARIANT, c->name, c->command, f->dir,
			c->timeout_ms, f->m->signal_fd, x, e);
	if (r == 0)
		*ret_ran = true;
	if (r == 0 && x->interrupted)
		return say(f->m, MERGE_BASE_INTERRUPTED, str_dup("interrupted"), ret, e);
	if (r == 0)
		r = store_result(f, tree, c, x, e);
	*ret_passed = r == 0 && check_passed(x, c->expect);
	return r;
}

/* red_before = ignore: what is red on the base already does not count. */
static int red_on_base(struct final *f, const struct judged *c, bool *ret_red,
	enum merge_base_outcome *ret, struct err *e)
{
	CLEANUP(check_result_deinit) struct check_result x = CHECK_RESULT_INIT;
	bool passed = false, ran;
	int r = f->base_tree.hex[0] ? 0 : git_tree_of(&f->ctx, &f->base, &f->base_tree, e);
	if (r == 0)
		r = judge_tree(f, c, &f->base, &f->base_tree, &passed, &x, &ran, ret, e);
	*ret_red = !passed;
	return r;
}

static int judge_one(struct final *f, const struct judged *c, bool *ret_blocked,
	enum merge_base_outcome *ret, struct err *e)
{
	CLEANUP(check_result_deinit) struct check_result x = CHECK_RESULT_INIT;
	bool passed = false, ran = false, ignored = c->advisory;
	int r = judge_tree(f, c, &f->merge, &f->tree, &passed, &x, &ran, ret, e);
	if (r == 0 && !passed && !ignored && c->red_before == RED_BEFORE_IGNORE)
		r = red_on_base(f, c, &ignored, ret, e);
	if (r != 0)
		return r;
	*ret_blocked = !passed && !ignored;
	f->m->told(f->m->ctx, c->name, passed, *ret_blocked, ran ? &x : NULL);
	return 0;
}

static int judge(struct final *f, enum merge_base_outcome *ret, struct err *e)
{
	CLEANUP_BUF struct buf red = BUF_INIT;
	int r = store_each_final_invariant(f->m->store, f->m->plan_id, add_check, f, e);
	if (r < 0)
		return e->code ? r : err_nomem(e);
	f->dir = git_worktree_path(f->m->site->worktree_root, f->plan, GIT_FINAL);
	if (!f->dir)
		return err_nomem(e);
	r = checker_open(f->m->site, &f->checker, e);
	vec_foreach(c, &f->checks) {
		bool blocked = false;
		if (r == 0)
			r = judge_one(f, c, &blocked, ret, e);
		if (blocked)
			buf_addf(&red, "%s%s", red.len ? ", " : "", c->name);
	}
	if (r == 0 && buf_check(&red) < 0)
		return err_nomem(e);
	return r == 0 && red.len > 0 ? say(f->m, MERGE_BASE_RED, buf_steal(&red), ret, e) : r;
}

/* ---- all of it ---- */

static int publish(struct final *f, enum merge_base_outcome *ret, struct err *e)
{
	CLEANUP_STR char *ref = str_printf("refs/heads/%s", f->m->branch);
	f->m->to = f->merge;
	*ret = MERGE_BASE_DONE;
	if (f->m->dry_run || !ref)
		return ref ? 0 : err_nomem(e);
	f->m->moves(f->m->ctx, ref, &f->base, &f->merge);
	int r = git_base_publish(&f->ctx, f->m->branch, &f->base, &f->merge, e);
	if (r == GIT_REFUSED)
		return say(f->m, MERGE_BASE_REFUSED, str_dup(e->msg), ret, e);
	if (r == GIT_MOVED)
		return say(f->m, MERGE_BASE_MOVED, str_dup(e->msg), ret, e);
	if (r == 0 && !f->m->beside)
		tamper_moved(f->m->store,
			&(struct git_ref_update){.ref = ref, .old = f->base, .new = f->merge});
	return r;
}

static void final_deinit(struct final *f)
{
	struct err why = ERR_INIT;
	/* The signal that ended us must not end the clearing up, too. */
	f->ctx.cancel_fd = -1;
	f->ctx.deadline_ms = deadline_after(GIT_TIMEOUT_MS);
	if (f->at.hex[0] && git_worktree_remove(&f->ctx, f->dir, &why) < 0)
		log_warning("the worktree of the merge stays: %s", why.msg);
	checker_close(f->checker);
	plan_free(f->definition);
	vec_foreach(c, &f->checks) {
		free(c->name);
		free(c->command);
	}
	VEC_FREE(&f->checks);
	free(f->plan);
	free(f->dir);
	closep(&f->git_lock);
	closep(&f->merge_lock);
}

/* git.lock belongs to an engine that runs; its successor waits for it, and for nothing of ours. */
static int take_locks(struct final *f, struct err *e)
{
	const struct site *site = f->m->site;
	int r = site_lock_merge(site, &f->merge_lock, e);
	if (r == 0 && site->repo && !f->m->beside)
		r = git_lock_take(site->state_dir, GIT_LOCK_WAIT_MS, &f->git_lock, e);
	f->ctx.lock_fd = f->m->beside ? f->merge_lock : f->git_lock;
	return r;
}

static int merge_final(struct final *f, enum merge_base_outcome *ret, struct err *e)
{
	struct merge_base *m = f->m;
	int r = load(f, e);
	if (r == 0)
		r = take_locks(f, e);
	if (r == 0)
		r = find_refs(f, ret, e);
	if (r == 0)
		r = check_missing(f, ret, e);
	if (r == 0)
		r = make_merge(f, ret, e);
	if (r == 0)
		r = judge(f, ret, e);
	if (r == 0)
		r = publish(f, ret, e);
	if (r == -ECANCELED)
		return say(m, MERGE_BASE_INTERRUPTED, str_dup("interrupted"), ret, e);
	return r;
}

int merge_base_run(struct merge_base *m, enum merge_base_outcome *ret, struct err *e)
{
	struct final f = {.m = m, .ctx = site_git(m->site), .git_lock = -1, .merge_lock = -1};
	f.ctx.cancel_fd = m->signal_fd;
	f.ctx.deadline_ms = deadline_after(GIT_TIMEOUT_MS);
	*ret = MERGE_BASE_NOTHING;
	int r = merge_final(&f, ret, e);
	final_deinit(&f);
	return r < 0 ? r : 0;
}
