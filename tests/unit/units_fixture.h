/* SPDX-License-Identifier: MIT */
/*
 * For tests that start real units: a private state directory, the test program as the subreaper of
 * whatever escapes a keeper, and the assertion that nothing is left. Included by one .c each.
 */
#ifndef UNITS_FIXTURE_H
#define UNITS_FIXTURE_H

#include "lifecycle/lifecycle.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"
#include "os/file.h"
#include "os/pidns.h"
#include "os/proc.h"
#include "unit/nursery.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

extern char **environ;

#define DEADLINE_MS 30000

struct world {
	char dir[64]; /* state and working directory */
	struct lifecycle *lc;
};

static inline int world_setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	struct err e = ERR_INIT;
	assert_non_null(w);
	snprintf(w->dir, sizeof(w->dir), "/tmp/orch-test-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	if (lifecycle_open(w->dir, ORCH_SHIM, NULL, &w->lc, &e) < 0)
		fail_msg("%s", e.msg);
	*state = w;
	return 0;
}

/* Skips, loudly, where the kernel or a container forbids process namespaces. */
static inline void need_pidns(void)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		struct pidns p = PIDNS_INIT;
		struct err e = ERR_INIT;
		_exit(pidns_open(&p, &e) < 0); /* takes init with it */
	}
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (status == 0)
		return;
	print_message("no process namespace can be made here: SKIPPED\n");
	skip();
}

static inline bool is_nursery(pid_t pid)
{
	static const char cmdline[] = "orch-shim\0" NURSERY_ARG;
	char path[32];
	CLEANUP_BUF struct buf text = BUF_INIT;
	snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
	return file_read(AT_FDCWD, path, 4096, &text, NULL) == 0 && text.len >= sizeof(cmdline) &&
	       memcmp(text.data, cmdline, sizeof(cmdline)) == 0;
}

/* What descends from the test, less the process that a struct lifecycle has for forking. */
static inline void living(struct pids *ret)
{
	size_t kept = 0;
	assert_int_equal(proc_descendants(getpid(), ret), 0);
	for (size_t i = 0; i < ret->count; i++)
		if (!is_nursery(ret->items[i]))
			ret->items[kept++] = ret->items[i];
	ret->count = kept;
}

/* Every process that ever descended from the test is gone, within a moment for the kernel. */
static inline void assert_nothing_left(void)
{
	int64_t deadline = deadline_after(5000);
	struct pids left = {0};
	for (;;) {
		while (waitpid(-1, NULL, WNOHANG) > 0)
			;
		living(&left);
		if (left.count == 0 || clock_mono_ms() > deadline)
			break;
		VEC_FREE(&left);
		poll(NULL, 0, 5);
	}
	vec_foreach(pid, &left)
		kill(*pid, SIGKILL);
	size_t count = left.count;
	VEC_FREE(&left);
	if (count > 0)
		fail_msg("%zu processes are left", count);
}

static inline void assert_no_children(void)
{
	assert_nothing_left();
	pid_t pid;
	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
		; /* dead since a moment ago */
	assert_int_equal(pid, -1);
	assert_int_equal(errno, ECHILD);
}

static inline int world_teardown(void **state)
{
	struct world *w = *state;
	struct err e = ERR_INIT;
	lifecycle_close(w->lc);
	assert_no_children(); /* not even the nursery */
	assert_int_equal(dir_remove_tree(AT_FDCWD, w->dir, &e), 0);
	free(w);
	return 0;
}

/* A spec of a shell line. */
static inline void spec_command(struct unit_spec *s, struct world *w, const char *command)
{
	struct err e = ERR_INIT;
	unit_spec_init(s, UNIT_INVARIANT);
	assert_int_equal(unit_spec_new_id(s, &e), 0);
	s->name = strdup("test");
	s->plan = strdup("plan");
	s->cwd = strdup(w->dir);
	s->command = strdup(command);
	s->kill_grace_ms = 300;
}

static inline struct unit *start(struct world *w, const struct unit_spec *s)
{
	struct unit *u = NULL;
	struct err e = ERR_INIT;
	if (unit_start(w->lc, s, environ, &u, &e) < 0)
		fail_msg("%s", e.msg);
	return u;
}

/* Waits for an event of this type; others are passed over. False: GONE came first. */
static inline bool await_event(struct unit *u, enum unit_event_type type, struct unit_event *ret)
{
	int64_t deadline = deadline_after(DEADLINE_MS);
	for (;;) {
		struct err e = ERR_INIT;
		int r = unit_read(u, ret, &e);
		assert_true(r >= 0);
		if (r == 1 && ret->type == type)
			return true;
		if (r == 1 && ret->type == UNIT_EVENT_GONE)
			return false;
		if (r == 1)
			continue;
		struct pollfd p = {.fd = unit_fd(u), .events = POLLIN};
		if (poll(&p, 1, deadline_poll_ms(deadline)) == 0)
			fail_msg("waited too long for event %d", (int)type);
	}
}

/* Runs to the end; the caller deinits the exit. The unit is freed. */
static inline struct unit_exit finish(struct unit *u)
{
	struct unit_event event;
	struct unit_exit x = UNIT_EXIT_INIT;
	struct err e = ERR_INIT;
	assert_true(await_event(u, UNIT_EVENT_ENDED, &event));
	assert_false(await_event(u, UNIT_EVENT_STARTED, &event)); /* to the GONE */
	if (unit_exit_read(u, &x, &e) < 0)
		fail_msg("%s", e.msg);
	unit_free(u);
	return x;
}

static inline struct unit_exit run(struct world *w, const struct unit_spec *s)
{
	return finish(start(w, s));
}

static inline void read_file(struct world *w, const char *id, const char *file, struct buf *ret)
{
	struct err e = ERR_INIT;
	CLEANUP(closep) int dirfd = -1;
	assert_int_equal(lifecycle_unit_dir(w->lc, id, &dirfd, &e), 0);
	if (file_read(dirfd, file, 256U << 20, ret, &e) < 0)
		fail_msg("%s", e.msg);
}

/* Until the file is there and not empty. */
static inline void await_file(struct world *w, const char *name)
{
	CLEANUP_STR char *path = path_join(w->dir, name);
	int64_t deadline = deadline_after(DEADLINE_MS);
	struct stat st;
	while (stat(path, &st) < 0 || st.st_size == 0) {
		if (clock_mono_ms() > deadline)
			fail_msg("waited too long for '%s'", path);
		poll(NULL, 0, 5);
	}
}

#endif
