/* SPDX-License-Identifier: MIT */
/*
 * The commit of a plan's state when its dispatch has halted: after the last save, only what
 * changed, once. A failure is a warning and what the database says of it; it never changes how the
 * dispatch ended.
 */
#include "run/state.h"

#include "base/clock.h"
#include "git/branchfile.h"
#include "run/snapshot.h"

/* A git that is told to stop has two seconds more: five in all. */
#define HALT_COMMIT_MS 3000

#define STATE_REF      "refs/orch/state"

struct outcome_text {
	const char *result;
	char *oid;
	char *why;
};

static void commit_state(
	struct run *r, const struct rplan *p, enum halt_reason reason, struct outcome_text *ret)
{
	struct err err = ERR_INIT;
	CLEANUP_BUF struct buf text = BUF_INIT;
	CLEANUP_STR char *name = str_printf("orch-plan.%s.ini", p->name);
	CLEANUP_STR char *message =
		str_printf("[orch] Save plan state on halt (%s)", halt_reason_name(reason));
	struct git_ctx ctx = site_git(r->site);
	struct git_oid oid = GIT_OID_NONE;
	bool changed = false;
	ctx.lock_fd = r->git_lock;
	/* Whoever stops it a second time does not want to wait for this either. */
	if (r->interrupted)
		ctx.cancel_fd = r->options.signal_fd;
	int code = name && message ? snapshot_build(r->store, p->id, &text, &err) : err_nomem(&err);
	ctx.deadline_ms = deadline_after(HALT_COMMIT_MS);
	if (code == 0 && r->config->halt.commit == CONFIG_HALT_COMMIT_BRANCH)
		code = git_commit_on_branch(
			&ctx, name, buf_cstr(&text), text.len, message, &oid, &changed, &err);
	else if (code == 0)
		code = git_commit_file(&ctx, STATE_REF, name, buf_cstr(&text), text.len, message,
			&oid, &changed, &err);
	if (code != 0) {
		ret->why = str_dup(err.msg);
		run_warn(r, "the state of plan %s was not %s: %s", p->name,
			oid.hex[0] ? "written to the checkout, only committed" : "committed",
			err.msg);
	}
	ret->result = changed ? "committed" : code != 0 ? "failed" : "unchanged";
	ret->oid = oid.hex[0] ? str_dup(oid.hex) : NULL;
}

void halt_commit(struct run *r, struct rplan *p, enum halt_reason reason)
{
	struct err err = ERR_INIT;
	struct outcome_text outcome = {.result = "off"};
	if (r->site->repo && r->config->halt.commit != CONFIG_HALT_COMMIT_OFF)
		commit_state(r, p, reason, &outcome);
	if (run_tx(r) == 0 && store_plan_set_halt_commit(r->store, p->id, outcome.result,
				      outcome.oid, outcome.why, &err) < 0)
		run_warn(r, "%s", err.msg);
	free(outcome.oid);
	free(outcome.why);
}
