/* SPDX-License-Identifier: MIT */
#include "lifecycle/internal.h"

#include "base/clock.h"
#include "base/str.h"
#include "os/sock.h"
#include "unit/nursery.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define FD_SOCKET    3
#define ANSWERED_MAX 64 /* that stay in the list */
/* So many answers fit into the socket, whatever its limits: the nursery never waits for us to read
 * one while we wait for it to read a request. */
#define UNREAD_MAX 64
#define NO_ANSWER  (-ECHILD)
#define ANSWER_MS  5000 /* one that was stopped, or starves, is given up */

void nursery_init(struct nursery *n)
{
	*n = (struct nursery){.fd = -1};
	pthread_mutex_init(&n->lock, NULL);
}

/* Killed, also where it is stopped, before it sees the end of its socket: one that is ended on its
 * way out may leave a child of its own behind (the tracer of a leak check). The lock is held. */
static void nursery_end(struct nursery *n)
{
	if (n->pid > 0)
		kill(n->pid, SIGKILL);
	while (n->pid > 0 && waitpid(n->pid, NULL, 0) < 0 && errno == EINTR)
		;
	n->pid = 0;
	if (n->fd >= 0)
		close(TAKE_FD(n->fd));
}

void nursery_deinit(struct nursery *n)
{
	nursery_end(n);
	VEC_FREE(&n->unanswered);
	pthread_mutex_destroy(&n->lock);
}

static int nursery_start(struct lifecycle *lc, struct nursery *n)
{
	int socks[2];
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, socks) < 0)
		return -errno;
	CLEANUP(closep) int ours = socks[0];
	CLEANUP(closep) int theirs = socks[1];
	char name[] = "orch-shim", arg[] = NURSERY_ARG, fd_arg[8], env[] = NURSERY_ENV;
	/* Once for all keepers, instead of in each: what they call is looked up at the start. */
	char bind_now[] = "LD_BIND_NOW=1";
	snprintf(fd_arg, sizeof(fd_arg), "%d", FD_SOCKET);
	char *argv[] = {name, arg, fd_arg, NULL};
	char *envp[] = {env, bind_now, NULL};
	const struct spawn_fd sock = {.fd = theirs, .target = FD_SOCKET};
	struct spawn s = SPAWN_INIT;
	s.file = lc->shim_path;
	s.argv = argv;
	s.envp = envp;
	s.fds = &sock;
	s.n_fds = 1;
	s.new_session = true;
	s.origin = lc->has_origin ? &lc->origin : NULL;
	struct err why = ERR_INIT;
	int r = spawn_process(&s, &n->pid, NULL, &why);
	if (r == 0)
		n->fd = TAKE_FD(ours);
	return r;
}

/* Whether there is one to ask. The lock is held. */
static bool nursery_is_up(struct lifecycle *lc, struct nursery *n)
{
	if (n->fd >= 0)
		return true;
	bool first = !n->tried;
	n->tried = true;
	if (first || n->failed)
		return false;
	n->failed = nursery_start(lc, n) < 0;
	return !n->failed;
}

static int send_request(
	const struct nursery *n, const struct unit *u, char *const *envp, int lock, int sock)
{
	CLEANUP_BUF struct buf message = BUF_INIT;
	const int fds[NURSERY_FD_COUNT] = {
		[NURSERY_FD_DIR] = u->dirfd, [NURSERY_FD_LOCK] = lock, [NURSERY_FD_ENGINE] = sock};
	buf_add(&message, u->id, UNIT_ID_LEN);
	for (size_t i = 0; envp[i]; i++)
		if (!str_starts(envp[i], "ORCH_UNIT="))
			buf_add(&message, envp[i], strlen(envp[i]) + 1);
	if (buf_check(&message) < 0)
		return -ENOMEM;
	if (message.len > NURSERY_MESSAGE_MAX)
		return -EMSGSIZE;
	return sock_send_fds(n->fd, message.data, message.len, fds, NURSERY_FD_COUNT);
}

static bool is_ready(int fd, short events)
{
	int64_t deadline = deadline_after(ANSWER_MS);
	struct pollfd p = {.fd = fd, .events = events};
	int n;
	do {
		n = poll(&p, 1, deadline_poll_ms(deadline));
	} while (n < 0 && errno == EINTR);
	return n > 0;
}

static void answered(struct nursery *n, int32_t pid)
{
	struct unit *u = n->unanswered.items[n->next++];
	u->unanswered = false;
	u->is_child = pid > 0;
	u->keeper_pid = u->is_child ? (pid_t)pid : 0;
	u->unborn = pid < 0 && pid != NO_ANSWER ? (int)pid : 0;
}

/* All who wait are told that no answer will come. The lock is held. */
static void give_up(struct nursery *n)
{
	while (n->next < n->unanswered.count)
		answered(n, NO_ANSWER);
	n->unanswered.count = n->next = 0;
	nursery_end(n);
	n->failed = true;
}

/* Reads one answer. The lock is held. */
static void take_answer(struct nursery *n)
{
	int32_t pid;
	ssize_t got = is_ready(n->fd, POLLIN) ? sock_recv_fds(n->fd, &pid, sizeof(pid), NULL, 0)
					      : -ETIMEDOUT;
	if (got != (ssize_t)sizeof(pid)) {
		give_up(n);
		return;
	}
	answered(n, pid);
	if (n->next == n->unanswered.count || n->next >= ANSWERED_MAX) {
		n->unanswered.count -= n->next;
		memmove(n->unanswered.items, n->unanswered.items + n->next,
			n->unanswered.count * sizeof(*n->unanswered.items));
		n->next = 0;
	}
}

int nursery_ask(struct lifecycle *lc, struct unit *u, char *const *envp, int lock, int sock)
{
	struct nursery *n = &lc->nursery;
	int asked = 0;
	pthread_mutex_lock(&n->lock);
	while (n->unanswered.count - n->next >= UNREAD_MAX)
		take_answer(n);
	bool up = nursery_is_up(lc, n);
	if (up && !is_ready(n->fd, POLLOUT)) {
		give_up(n);
		up = false;
	}
	if (up) {
		struct unit **slot = VEC_PUSH(&n->unanswered);
		if (slot && send_request(n, u, envp, lock, sock) == 0) {
			*slot = u;
			u->unanswered = true;
			asked = 1;
		} else if (slot) {
			n->unanswered.count--;
		}
	}
	pthread_mutex_unlock(&n->lock);
	return asked;
}

void nursery_await(struct lifecycle *lc, struct unit *u)
{
	struct nursery *n = &lc->nursery;
	pthread_mutex_lock(&n->lock);
	while (u->unanswered)
		take_answer(n);
	pthread_mutex_unlock(&n->lock);
}
