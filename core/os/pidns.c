/* SPDX-License-Identifier: MIT */
#include "os/pidns.h"

#include "base/str.h"
#include "os/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int write_text(const char *path, const char *text)
{
	CLEANUP(closep) int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return write(fd, text, strlen(text)) < 0 ? -errno : 0;
}

/* Each id is its own inside. */
static int map_ids(uid_t uid, gid_t gid)
{
	char uids[64], gids[64];
	snprintf(uids, sizeof(uids), "%u %u 1", (unsigned)uid, (unsigned)uid);
	snprintf(gids, sizeof(gids), "%u %u 1", (unsigned)gid, (unsigned)gid);
	int r = write_text("/proc/self/uid_map", uids);
	if (r == 0)
		r = write_text("/proc/self/setgroups", "deny"); /* the condition for gid_map */
	if (r == 0)
		r = write_text("/proc/self/gid_map", gids);
	return r;
}

static int leave_for_new(void)
{
	if (unshare(CLONE_NEWPID) == 0)
		return 0;
	if (errno != EPERM)
		return -errno;
	uid_t uid = geteuid();
	gid_t gid = getegid();
	if (unshare(CLONE_NEWUSER | CLONE_NEWPID) < 0)
		return -errno;
	return map_ids(uid, gid);
}

/* What is orphaned in the namespace becomes init's, and is reaped by ignoring SIGCHLD. */
static int be_init(void *unused)
{
	(void)unused;
	signal(SIGCHLD, SIG_IGN);
	char c;
	while (read(STDIN_FILENO, &c, 1) != 0 || errno == EINTR)
		;
	return 0;
}

int pidns_open(struct pidns *ret, struct err *e)
{
	int fds[2];
	int r = leave_for_new();
	if (r < 0)
		return err_errno(e, r, "cannot make a process namespace");
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(e, -errno, "cannot make a pipe");
	CLEANUP(closep) int child_end = fds[0];
	CLEANUP(closep) int own_end = fds[1];
	struct spawn s = SPAWN_INIT;
	s.stdio[0] = child_end;
	s.cwd = "/";
	s.new_session = true;
	s.death_signal = SIGKILL;
	r = spawn_fork(&s, be_init, NULL, &ret->init, e);
	if (r < 0)
		return r;
	ret->fd = TAKE_FD(own_end);
	return 0;
}

void pidns_deinit(struct pidns *p)
{
	closep(&p->fd);
	p->init = 0;
}
