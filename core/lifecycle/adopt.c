/* SPDX-License-Identifier: MIT */
/* What became of a unit whose engine is gone: the reading rules after a crash. */
#include "lifecycle/internal.h"

#include "base/clock.h"
#include "base/str.h"
#include "os/file.h"
#include "os/lock.h"
#include "os/sock.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>

#define NO_SOCKET_MS   5000 /* lock held, nobody listens */
#define NO_ANSWER_MS   2000 /* then SIGCONT, in case it was stopped */
#define LAST_CHANCE_MS 5000
#define TRY_AGAIN_MS   20
#define EXITING_MS     2000

/* Positive: go round again. */
enum { AGAIN = 1 };

/* The lock is ours, so that nobody keeps the unit any more; or there is none. */
static int judge_unkept(
	int dirfd, const char *id, const char *why, enum unit_found *ret, struct err *e)
{
	if (file_exists(dirfd, UNIT_FILE_EXIT)) {
		*ret = UNIT_FOUND_ENDED;
		return 0;
	}
	int r = journal_has_started(dirfd, e);
	if (r < 0)
		return r;
	if (r == 0) {
		settle_never_ran(dirfd, id);
		*ret = UNIT_FOUND_NEVER_RAN;
		return 0;
	}
	*ret = UNIT_FOUND_LOST;
	return settle_lost(dirfd, id, why, e);
}

static int end_it(int dirfd, const char *id, const char *why, enum unit_found *ret, struct err *e)
{
	*ret = UNIT_FOUND_LOST;
	return settle_lost(dirfd, id, why, e);
}

/* 1: it answered; 0: it did not in time; -EPIPE: it went away. */
static int await_pong(struct unit *u, int64_t deadline, struct err *e)
{
	for (;;) {
		struct unit_event event;
		int r = unit_read(u, &event, e);
		if (r < 0)
			return r;
		if (r == 1 && event.type == UNIT_EVENT_GONE)
			return -EPIPE;
		if (r == 1 && event.type == UNIT_EVENT_PONG)
			return 1;
		if (r == 1)
			continue;
		if (clock_mono_ms() >= deadline)
			return 0;
		struct pollfd p = {.fd = unit_fd(u), .events = POLLIN};
		(void)!poll(&p, 1, deadline_poll_ms(deadline));
	}
}

/* Consumes sock. 0 with *ret_unit, or with LOST; AGAIN when it ended meanwhile. */
static int talk(struct lifecycle *lc, const char *id, int sock, const struct holder *holder,
	struct unit **ret_unit, enum unit_found *ret, struct err *e)
{
	int dirfd;
	int r = lifecycle_unit_dir(lc, id, &dirfd, e);
	if (r < 0) {
		close(sock);
		return r;
	}
	CLEANUP_UNIT struct unit *u = NULL;
	r = unit_new(lc, id, dirfd, sock, &u, e);
	if (r < 0)
		return r;
	u->keeper_pid = holder->id.pid;
	r = unit_ping(u, e);
	if (r == 0)
		r = await_pong(u, deadline_after(NO_ANSWER_MS), e);
	if (r == 0) {
		(void)!proc_kill(&holder->id, SIGCONT); /* gone: the answer says so */
		r = await_pong(u, deadline_after(LAST_CHANCE_MS), e);
	}
	if (r == 0)
		return end_it(unit_dirfd(u), id, "its keeper did not answer", ret, e);
	if (r == 1)
		r = unit_request(u, "adopt", e);
	if (r == -EPIPE)
		return AGAIN;
	if (r < 0)
		return r;
	(void)!proc_open(&holder->id, &u->pidfd); /* gone: the unit says so */
	*ret_unit = TAKE(u);
	*ret = UNIT_FOUND_LIVE;
	return 0;
}

/* That it cannot be asked is no fault of the keeper's. */
static bool is_our_want(int r)
{
	return r == -EMFILE || r == -ENFILE || r == -ENOMEM || r == -ENOBUFS;
}

/* One look at a unit. AGAIN: look again in a moment. */
static int look(struct lifecycle *lc, const char *id, int dirfd, bool is_late,
	struct unit **ret_unit, enum unit_found *ret, struct err *e)
{
	CLEANUP(closep) int lock = -1;
	int r = lock_take_existing(dirfd, UNIT_FILE_LOCK, 0, &lock, e);
	/* Without a lock nothing was started; or somebody removed it, and the keeper lives. */
	if (r == 0 || r == -ENOENT)
		return judge_unkept(dirfd, id,
			r == 0 ? "its keeper ended without a word" : "its lock was removed", ret,
			e);
	if (r < 0)
		return r;
	CLEANUP(holder_deinit) struct holder holder = {0};
	r = holder_read(dirfd, &holder, e);
	if (r < 0)
		return r;
	if (holder.id.pid > 0 && !holder_is_alive(&holder)) {
		if (!is_late)
			return AGAIN; /* it may be ending this very moment */
		if (file_exists(dirfd, UNIT_FILE_EXIT)) {
			*ret = UNIT_FOUND_ENDED;
			return 0;
		}
		return end_it(dirfd, id, "its keeper is gone, its lock was left behind", ret, e);
	}
	int sock;
	r = sock_connect(dirfd, UNIT_FILE_SOCKET, &sock, e);
	bool listens = r == 0;
	if (listens)
		r = talk(lc, id, sock, &holder, ret_unit, ret, e);
	else if (!is_our_want(r))
		r = AGAIN;
	if (r == AGAIN && is_late)
		return end_it(dirfd, id,
			listens ? "its keeper hangs up" : "its keeper does not listen", ret, e);
	return r;
}

/* Its keeper has written the exit, and may still be there. */
static void await_holder(int dirfd)
{
	CLEANUP(holder_deinit) struct holder holder = {0};
	CLEANUP(closep) int pidfd = -1;
	struct err ignored = ERR_INIT;
	if (holder_read(dirfd, &holder, &ignored) == 0 && proc_open(&holder.id, &pidfd) == 0)
		await_keeper_end(pidfd);
}

/* It was not made yet, or somebody removed it from under a unit that runs. */
static int judge_absent(const char *id, enum unit_found *ret, struct err *e)
{
	struct pids found = {0};
	int r = find_marked(id, &found);
	bool runs = found.count > 0;
	VEC_FREE(&found);
	if (r < 0)
		return err_errno(e, r, "cannot look for what unit %s has left", id);
	if (runs)
		return err_set(e, -ENOENT, "the directory of a unit that runs is gone");
	*ret = UNIT_FOUND_NEVER_RAN;
	return 0;
}

int unit_adopt(struct lifecycle *lc, const char *id, struct unit **ret_unit,
	enum unit_found *ret_found, struct err *e)
{
	CLEANUP(closep) int dirfd = -1;
	int r = lifecycle_unit_dir(lc, id, &dirfd, e);
	if (r == -ENOENT)
		return judge_absent(id, ret_found, e);
	if (r < 0)
		return r;
	if (file_exists(dirfd, UNIT_FILE_EXIT)) {
		await_holder(dirfd);
		*ret_found = UNIT_FOUND_ENDED;
		return 0;
	}
	int64_t deadline = deadline_after(NO_SOCKET_MS);
	do {
		bool is_late = clock_mono_ms() >= deadline;
		r = look(lc, id, dirfd, is_late, ret_unit, ret_found, e);
		if (r == AGAIN)
			(void)!poll(NULL, 0, TRY_AGAIN_MS); /* a lock cannot be polled */
	} while (r == AGAIN);
	if (r == 0 && *ret_found == UNIT_FOUND_ENDED)
		await_holder(dirfd);
	return r;
}

static int exit_of_unkept(int dirfd, const char *id, struct unit_exit *ret, struct err *e)
{
	int r = unit_exit_load(dirfd, ret, e);
	if (r != -ENOENT)
		return r;
	CLEANUP(closep) int lock = -1;
	r = lock_take_existing(dirfd, UNIT_FILE_LOCK, deadline_after(EXITING_MS), &lock, e);
	if (r == LOCK_HELD) {
		CLEANUP(holder_deinit) struct holder holder = {0};
		r = holder_read(dirfd, &holder, e);
		if (r == 0 && (holder.id.pid == 0 || holder_is_alive(&holder)))
			return err_set(e, -EBUSY, "unit %s has not ended", id);
	}
	if (r < 0)
		return r;
	/* It may have been written between the two looks. */
	if (!file_exists(dirfd, UNIT_FILE_EXIT)) {
		r = settle_lost(dirfd, id, "its keeper ended without a word", e);
		if (r < 0)
			return r;
	}
	return unit_exit_load(dirfd, ret, e);
}

/* Nothing of it is left to be read, and none is written: for a later engine, too, it never ran. */
static int exit_of_unborn(struct unit *u, struct unit_exit *ret, struct err *e)
{
	struct unit_exit x = UNIT_EXIT_INIT;
	settle_never_ran(u->dirfd, u->id);
	x.cause = CAUSE_SPAWN_FAILED;
	x.error = u->unborn;
	x.ended_at = clock_wall_ms();
	x.contained = true;
	x.text = str_printf("cannot fork its keeper: %s", strerror(-u->unborn));
	x.containment = str_dup("none");
	if (!x.text || !x.containment) {
		unit_exit_deinit(&x);
		return err_nomem(e);
	}
	*ret = x;
	return 0;
}

int unit_exit_read(struct unit *u, struct unit_exit *ret, struct err *e)
{
	if (u->gone)
		nursery_await(u->lc, u);
	return u->unborn ? exit_of_unborn(u, ret, e) : exit_of_unkept(u->dirfd, u->id, ret, e);
}

int lifecycle_exit_read(struct lifecycle *lc, const char *id, struct unit_exit *ret, struct err *e)
{
	CLEANUP(closep) int dirfd = -1;
	int r = lifecycle_unit_dir(lc, id, &dirfd, e);
	return r < 0 ? r : exit_of_unkept(dirfd, id, ret, e);
}

int unit_spoilt(struct unit *u, const char *why, struct unit_exit *ret, struct err *e)
{
	struct proc_id keeper = {0};
	nursery_await(u->lc, u);
	/* Its number is its own until we have reaped it. */
	bool known = u->is_child && proc_identify(u->keeper_pid, &keeper) == 0;
	return settle_spoilt(u->dirfd, u->id, known ? &keeper : NULL, why, ret, e);
}

int lifecycle_spoilt(
	struct lifecycle *lc, const char *id, const char *why, struct unit_exit *ret, struct err *e)
{
	CLEANUP(closep) int dirfd = -1;
	struct err unknown = ERR_INIT;
	int r = lifecycle_unit_dir(lc, id, &dirfd, &unknown);
	if (err_is_machine(r))
		return err_set(e, r, "%s", unknown.msg);
	return settle_spoilt(dirfd, id, NULL, why, ret, e);
}

int unit_abandon(struct unit *u, struct err *e)
{
	if (file_exists(u->dirfd, UNIT_FILE_EXIT))
		return 0;
	return settle_lost(u->dirfd, u->id, "its keeper did not do what it was told", e);
}
