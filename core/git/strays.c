/* SPDX-License-Identifier: MIT */
#include "git/strays.h"

#include "os/proc.h"

#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GRACE_MS 500 /* helpers that end with their git */
#define ROUND_MS 100
#define ROUNDS   20

static bool all_gone(int read_end, int timeout_ms)
{
	struct pollfd fd = {.fd = read_end};
	return poll(&fd, 1, timeout_ms) == 1 && (fd.revents & POLLHUP);
}

/* A child of another thread's on its way to exec has copies of our descriptors. */
static bool is_ourselves(pid_t pid)
{
	char path[64], own[PATH_MAX], its[PATH_MAX];
	snprintf(path, sizeof(path), "/proc/%ld/exe", (long)pid);
	ssize_t n = readlink("/proc/self/exe", own, sizeof(own));
	return n > 0 && readlink(path, its, sizeof(its)) == n && memcmp(own, its, (size_t)n) == 0;
}

static bool contains(const struct pids *pids, pid_t pid)
{
	vec_foreach(it, pids)
		if (*it == pid)
			return true;
	return false;
}

/* Who has it still at a second look, and is not ourselves in between, is past its exec. */
static void end_holders(const struct stat *pipe)
{
	struct pids first = {0}, second = {0};
	IGNORE(proc_find_holders(pipe, &first)); /* tried again */
	for (size_t i = 0; i < first.count; i++)
		if (is_ourselves(first.items[i]))
			first.items[i--] = first.items[--first.count];
	if (first.count > 0)
		IGNORE(proc_find_holders(pipe, &second));
	vec_foreach(pid, &second) {
		struct proc_id id;
		if (contains(&first, *pid) && proc_identify(*pid, &id) == 0)
			IGNORE(proc_kill(&id, SIGKILL)); /* it is gone, or not ours to end */
	}
	VEC_FREE(&first);
	VEC_FREE(&second);
}

void strays_end(int read_end, pid_t session)
{
	struct stat pipe;
	bool gone = all_gone(read_end, GRACE_MS);
	(void)kill(-session, SIGKILL); /* mostly there is nobody */
	for (int i = 0; !gone && i < ROUNDS && fstat(read_end, &pipe) == 0; i++) {
		end_holders(&pipe);
		gone = all_gone(read_end, ROUND_MS);
	}
}
