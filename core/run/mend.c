/* SPDX-License-Identifier: MIT */
/* Before anything starts: git's leftovers of an earlier engine; and room on the machine. */
#include "run/state.h"

#include "base/clock.h"
#include "git/guard.h"
#include "os/file.h"
#include "run/preflight.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

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

/* ---- room on the machine ---- */

#define SHORTAGES_MAX   5
#define SHORTAGE_MIN_MS 100

static void on_shortage_over(uv_timer_t *handle)
{
	struct run *r = handle->data;
	r->short_until = 0;
	if (r->short_row >= SHORTAGES_MAX && r->watches == 0) {
		run_fault(r, &r->short_err);
		return;
	}
	room_check(r);
	for (size_t i = 0; i < r->live.count; i++)
		if (r->live.items[i] && command_waits(r->live.items[i]))
			command_resume(r->live.items[i]);
}

static int64_t shortage_wait_ms(const struct run *r)
{
	const struct config_retry *c = &r->config->retry;
	int64_t wait = c->backoff_ms < c->backoff_max_ms ? c->backoff_ms : c->backoff_max_ms;
	if (wait < SHORTAGE_MIN_MS)
		wait = SHORTAGE_MIN_MS;
	for (uint32_t i = 1; i < r->short_row && wait < c->backoff_max_ms; i++)
		wait = 2 * wait < c->backoff_max_ms ? 2 * wait : c->backoff_max_ms;
	return wait;
}

static void wait_for_others(struct run *r, const struct err *e)
{
	int64_t now = clock_mono_ms();
	if (r->short_until > now)
		return; /* another one that was about to start */
	r->short_row++;
	r->short_err = *e;
	int64_t wait = shortage_wait_ms(r);
	run_warn(r, "nothing new starts for %.1f s: %s", (double)wait / 1000, e->msg);
	r->short_until = now + wait;
	room_check(r);
	uv_timer_start(&r->shortage, on_shortage_over, (uint64_t)wait, 0);
}

bool run_machine_failed(struct run *r, const struct err *e)
{
	if (err_is_shortage(e->code))
		wait_for_others(r, e);
	else if (err_is_machine(e->code))
		run_fault(r, e);
	else
		return false;
	return true;
}

void room_tell(struct run *r, const char *why)
{
	CLEANUP_STR char *path = path_join(r->site->state_dir, SITE_WAITING);
	struct err ignored = ERR_INIT; /* there may be no room for it */
	if (path && why)
		(void)!file_write_atomic(AT_FDCWD, path, why, strlen(why), 0600, &ignored);
	else if (path)
		(void)unlink(path);
}

void room_check(struct run *r)
{
	struct preflight_room room = preflight_room(r->site);
	int64_t memory = room.memory_bytes, disk = room.disk_bytes;
	const struct config_orch *c = &r->config->orch;
	bool short_memory = memory >= 0 && memory < c->min_free_memory_bytes;
	bool short_disk = disk >= 0 && disk < c->min_free_disk_bytes;
	bool short_room = short_memory || short_disk;
	bool hold = short_room || r->short_until > clock_mono_ms();
	if (hold == r->held)
		return;
	r->held = hold;
	CLEANUP_STR char *why = NULL;
	if (short_room)
		why = str_printf("nothing new starts: %s is below %s (%lld MiB free)",
			short_memory ? "free memory" : "free disk space",
			short_memory ? "min_free_memory" : "min_free_disk",
			(long long)((short_memory ? memory : disk) >> 20));
	else if (hold)
		why = str_printf("nothing new starts for a while: %s", r->short_err.msg);
	room_tell(r, why);
	if (short_room && why)
		run_warn(r, "%s", why);
	if (!r->engine)
		return; /* it will begin with that */
	run_post(r,
		(struct engine_event){
			.kind = hold ? EVENT_HOLD : EVENT_RELEASE, .plan = ENGINE_NONE},
		NULL);
}
