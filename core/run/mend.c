/* SPDX-License-Identifier: MIT */
/* Before anything starts: git's leftovers of an earlier engine, and room on the machine. */
#include "run/state.h"

#include "base/clock.h"
#include "git/guard.h"
#include "run/preflight.h"

#define GIT_START_MS 60000

static bool any_worktrees(const struct run *r)
{
	vec_foreach(p, &r->plans)
		if ((*p)->worktrees)
			return true;
	return false;
}

static struct git_ctx start_git(const struct run *r)
{
	struct git_ctx ctx = site_git(r->site);
	ctx.lock_fd = r->git_lock;
	/* Not cancelled by a signal: what is left of an earlier engine is to be ended in order. */
	ctx.deadline_ms = deadline_after(GIT_START_MS);
	return ctx;
}

/* Locks of a git that died with an earlier engine; worktrees whose agents still run are left alone.
 */
int mend_start(struct run *r, struct err *e)
{
	if (!r->site->repo || !any_worktrees(r) || r->git_lock >= 0)
		return 0;
	int code = git_lock_take(r->site->state_dir, GIT_LOCK_WAIT_MS, &r->git_lock, e);
	if (code < 0)
		return code;
	CLEANUP_STRV char **live = NULL;
	code = reconcile_worktrees(r, &live, e);
	if (code < 0)
		return code;
	struct git_ctx ctx = start_git(r);
	return git_mend(&ctx, r->site->worktree_root, live, e);
}

void room_check(struct run *r)
{
	struct preflight_room room = preflight_room(r->site);
	int64_t memory = room.memory_bytes, disk = room.disk_bytes;
	const struct config_orch *c = &r->config->orch;
	bool short_memory = memory >= 0 && memory < c->min_free_memory_bytes;
	bool short_disk = disk >= 0 && disk < c->min_free_disk_bytes;
	bool hold = short_memory || short_disk;
	if (hold == r->held)
		return;
	r->held = hold;
	if (hold)
		run_warn(r, "nothing new starts: %s is below %s (%lld MiB free)",
			short_memory ? "free memory" : "free disk space",
			short_memory ? "min_free_memory" : "min_free_disk",
			(long long)((short_memory ? memory : disk) >> 20));
	run_post(r,
		(struct engine_event){
			.kind = hold ? EVENT_HOLD : EVENT_RELEASE, .plan = ENGINE_NONE},
		NULL);
}
