/* SPDX-License-Identifier: MIT */
#include "run/hold.h"

#include "base/clock.h"
#include "base/str.h"
#include "os/lock.h"

#include <errno.h>
#include <fcntl.h>

#define WAIT_MS 1000 /* for others who only look */

static char *hold_path(const struct site *s, int64_t plan_id)
{
	return str_printf("%s/hold-%lld", s->state_dir, (long long)plan_id);
}

static int held(struct err *e)
{
	return err_exit(e, EXIT_UNAVAILABLE,
		"the plan is being cleaned up (`orch cleanup`); wait until that is done");
}

int hold_take(const struct site *s, int64_t plan_id, int *ret_fd, struct err *e)
{
	CLEANUP_STR char *path = hold_path(s, plan_id);
	int r = path ? lock_take(AT_FDCWD, path, deadline_after(WAIT_MS), ret_fd, e) : err_nomem(e);
	return r == LOCK_HELD ? held(e) : r;
}

void hold_release(const struct site *s, int64_t plan_id, int *fd)
{
	CLEANUP_STR char *path = *fd >= 0 ? hold_path(s, plan_id) : NULL;
	if (path)
		(void)unlink(path); /* a file that nobody locks holds nothing */
	if (*fd >= 0)
		close(TAKE_FD(*fd));
}

int hold_check(const struct site *s, int64_t plan_id, struct err *e)
{
	CLEANUP_STR char *path = hold_path(s, plan_id);
	bool is_held = false;
	int r = path ? lock_is_held(AT_FDCWD, path, &is_held, e) : err_nomem(e);
	return r == 0 && is_held ? held(e) : r;
}
