/* SPDX-License-Identifier: MIT */
/*
 * The one way to start another program. The child gets exactly the descriptors that are named, the
 * signal mask, ignored signals, umask and soft file limit that this program was itself started
 * with, and nothing else of ours. A failure in the child, up to and including exec, is the caller's
 * error.
 *
 * Safe from any thread. Blocks until the child has called exec (vfork semantics: microseconds).
 */
#ifndef OS_SPAWN_H
#define OS_SPAWN_H

#include "base/err.h"

#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

/* What the program was started with: saved first thing in main, given back to every child. */
struct spawn_origin {
	sigset_t mask;
	sigset_t ignored; /* signals that were SIG_IGN at our own start */
	mode_t umask;
	struct rlimit nofile;
};

void spawn_origin_save(struct spawn_origin *ret);

struct spawn_fd {
	int fd;     /* borrowed; may be CLOEXEC */
	int target; /* the number it has in the child; above 2, each once */
};

struct spawn {
	const char *file; /* path, or a name to look up in envp's PATH; NULL: argv[0] */
	char *const *argv;
	char *const *envp;          /* NULL: our own environment */
	const char *cwd;            /* NULL: unchanged */
	int stdio[3];               /* -1: /dev/null; borrowed */
	const struct spawn_fd *fds; /* further descriptors, n_fds of them */
	size_t n_fds;
	bool new_session; /* setsid(2) */
	int death_signal; /* PR_SET_PDEATHSIG, 0: none; fires when the calling *thread* ends */
	int cgroup_fd;    /* directory of the cgroup to be born in, -1: ours */
	const char *oom_score_adj; /* written to the child's oom_score_adj; NULL: unchanged */
	const struct spawn_origin *origin; /* NULL: all signals unblocked and default */
};

#define SPAWN_INIT \
	((struct spawn){ \
		.stdio = {-1, -1, -1}, \
		.cgroup_fd = -1, \
	})

/*
 * 0, or the child's failure (-ENOENT: no such program, -EAGAIN: no more processes, ...) with a
 * message that names the program. *ret_pidfd (if not NULL) is owned and CLOEXEC.
 */
int spawn_process(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd, struct err *e) MUST_CHECK;

/*
 * Forks without exec and runs fn(arg) in the child, which has exactly the descriptors named, envp
 * as its environ, and ends with _exit of what fn returns (127 when it could not be set up). file
 * and argv are not used; the caller must have a single thread. The child enters the cgroup by
 * itself before fn runs; the caller does not wait for that.
 */
int spawn_fork(const struct spawn *s, int (*fn)(void *arg), void *arg, pid_t *ret_pid,
	struct err *e) MUST_CHECK;

/*
 * Forks without exec a brother: a child of our parent, which has to reap it. It has all our
 * descriptors, leads a session of its own, and ends with _exit of what fn returns. The caller must
 * have a single thread. 0 or -errno.
 */
int spawn_sibling(int (*fn)(void *arg), void *arg, pid_t *ret_pid) MUST_CHECK;

/* The status of an ended child, as a shell shows it: exit code, or 128 + signal. */
int spawn_shell_status(int wait_status);

#endif
