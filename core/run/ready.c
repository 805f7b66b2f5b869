/* SPDX-License-Identifier: MIT */
#include "run/ready.h"

#include "base/clock.h"
#include "base/str.h"
#include "git/guard.h"
#include "git/integrate.h"
#include "run/missing.h"

#include <errno.h>
#include <poll.h>

#define GIT_TIMEOUT_MS   120000
#define GIT_LOCK_LOOK_MS 250

struct ready {
	struct git_ctx ctx;
	struct store *store;
	int64_t plan_id;
	char *plan;
	char *base;     /* as the plan says; NULL: the current branch */
	char *base_ref; /* what it came to; without a commit: cleaned up, goes on from there */
	struct git_oid base_oid;
	struct git_oid tip; /* of the branch, "": there is none */
	bool left;          /* a task has not passed yet */
};

static void ready_deinit(struct ready *r)
{
	free(r->plan);
	free(r->base);
	free(r->base_ref);
}

static int read_plan(void *ctx, const struct plan_row *row)
{
	struct ready *r = ctx;
	if (row->base_oid && git_oid_parse(row->base_oid, &r->base_oid) < 0)
		r->base_oid = GIT_OID_NONE;
	r->plan = str_dup(row->name);
	return r->plan && str_replace(&r->base, row->base) == 0 &&
			       str_replace(&r->base_ref, row->base_ref) == 0
		       ? 0
		       : -ENOMEM;
}

static int note_task(void *ctx, const struct task_row *row)
{
	struct ready *r = ctx;
	r->left |= row->status != TASK_PASSED;
	return 0;
}

/* The commit to start from; fixed already: a base that moves later is met at `orch merge`. */
static int find_base(struct ready *r, const struct git_repo *repo, struct err *e)
{
	const char *ref = r->base ? r->base : r->base_ref ? r->base_ref : repo->head_branch;
	if (r->base_oid.hex[0])
		return 0;
	int code = ref ? git_resolve(&r->ctx, ref, &r->base_oid, e) : 0;
	if (!ref)
		r->base_oid = repo->head;
	if (code == -ENOENT)
		e->status = EXIT_NOINPUT;
	return code < 0                                                     ? code
	       : str_replace(&r->base_ref, ref ? ref : r->base_oid.hex) < 0 ? err_nomem(e)
									    : 0;
}

static int check_passed(const struct ready *r, const struct git_oid *tip, struct err *e)
{
	CLEANUP_STRV char **names = NULL;
	int code = missing_tasks(&r->ctx, r->store, r->plan_id, tip, &names, e);
	if (code < 0 || !names)
		return code;
	CLEANUP_STR char *list = strv_join(names, ", ");
	return err_exit(e, EXIT_DATA,
		"tasks that have passed are not in orch/%s/integration any more: %s; bring the "
		"branch back (into a clone: git fetch origin "
		"'refs/heads/orch/%s/*:refs/heads/orch/%s/*'), or give the plan another name, or "
		"forget it: orch plan delete %s --yes",
		r->plan, list ? list : "?", r->plan, r->plan, r->plan);
}

static int make_ready(struct ready *r, const struct git_repo *repo, struct err *e)
{
	int code = store_plan(r->store, r->plan_id, read_plan, r, e);
	if (code == 0)
		code = store_each_task(r->store, r->plan_id, note_task, r, e);
	if (code < 0)
		return e->code ? code : err_nomem(e);
	bool fixed = r->base_oid.hex[0];
	code = git_mend_refs(&r->ctx, e);
	if (code == 0)
		code = find_base(r, repo, e);
	if (code == 0)
		code = git_integration_find(&r->ctx, r->plan, &r->tip, e);
	if (code == 0)
		code = check_passed(r, r->tip.hex[0] ? &r->tip : &r->base_oid, e);
	if (code < 0 || (!r->tip.hex[0] && !r->left))
		return code;
	if (!fixed)
		code = store_plan_set_base(r->store, r->plan_id, r->base_ref, r->base_oid.hex, e);
	return code < 0 ? code : git_integration_ensure(&r->ctx, r->plan, &r->base_oid, &r->tip, e);
}

/* Those of an earlier engine are waited for, but not after a stop signal: nothing was begun. */
static int take_git_lock(const struct site *s, int cancel_fd, int *ret, struct err *e)
{
	int64_t deadline = deadline_after(GIT_LOCK_WAIT_MS);
	for (;;) {
		struct err why = ERR_INIT;
		struct pollfd stop = {.fd = cancel_fd, .events = POLLIN};
		int code = git_lock_take(s->state_dir, GIT_LOCK_LOOK_MS, ret, &why);
		bool stopped = code == -EBUSY && poll(&stop, 1, 0) > 0;
		if (code == -EBUSY && !stopped && clock_mono_ms() < deadline)
			continue;
		if (stopped)
			return err_exit(e, EXIT_INTERRUPTED, "stopped: %s", why.msg);
		if (code < 0 && e)
			*e = why;
		return code;
	}
}

int ready_plan(
	const struct site *s, struct store *store, int64_t plan_id, int cancel_fd, struct err *e)
{
	CLEANUP(ready_deinit)
	struct ready r = {.ctx = site_git(s), .store = store, .plan_id = plan_id};
	CLEANUP(closep) int git_lock = -1;
	r.ctx.cancel_fd = cancel_fd;
	r.ctx.deadline_ms = deadline_after(GIT_TIMEOUT_MS);
	int code = take_git_lock(s, cancel_fd, &git_lock, e);
	r.ctx.lock_fd = git_lock;
	return code < 0 ? code : make_ready(&r, s->repo, e);
}

int ready_look(const struct site *s, const char *plan, bool *ret_there, struct err *e)
{
	struct git_ctx ctx = site_git(s);
	struct git_oid tip;
	ctx.deadline_ms = deadline_after(GIT_TIMEOUT_MS);
	int code = git_integration_find(&ctx, plan, &tip, e);
	if (code == 0)
		*ret_there = tip.hex[0] != '\0';
	return code;
}
