/* SPDX-License-Identifier: MIT */
/* process_* for a plugin's `check`: without a keeper, on one thread. */
#include "plugin/probe_impl.h"

#include "base/clock.h"
#include "base/str.h"
#include "os/spawn.h"
#include "plugin/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define EVENT_FD 3
#define STREAMS  ORCH_STREAM_EVENT

extern char **environ;

struct orch_process {
	pid_t pid;
	int pidfd;
	int in;           /* write end of its stdin, -1: none */
	int out[STREAMS]; /* read ends, -1: closed */
	struct lines lines[STREAMS];
	orch_line_fn on_line;
	void *user;
	bool ended; /* reaped, and its output delivered */
	int wait_status;
};

static void process_deinit(struct orch_process *p)
{
	closep(&p->in);
	closep(&p->pidfd);
	for (size_t i = 0; i < STREAMS; i++) {
		closep(&p->out[i]);
		lines_deinit(&p->lines[i]);
	}
	free(p);
}

DEFINE_FREEP(process_freep, struct orch_process, process_deinit)

/* `from` with the changes "NAME=value" (set) and "NAME" (remove); owned. */
static char **environment(char *const *from, const char *const *changes)
{
	CLEANUP_STRV char **result = NULL;
	for (size_t i = 0; from[i]; i++) {
		bool keep = true;
		for (size_t j = 0; changes && changes[j]; j++) {
			size_t len = strcspn(changes[j], "=");
			keep &= strncmp(from[i], changes[j], len) != 0 || from[i][len] != '=';
		}
		if (keep && strv_add(&result, from[i]) < 0)
			return NULL;
	}
	for (size_t j = 0; changes && changes[j]; j++)
		if (strchr(changes[j], '=') && strv_add(&result, changes[j]) < 0)
			return NULL;
	return result ? TAKE(result) : calloc(1, sizeof(char *));
}

/* What the process reads: a pipe whose write end goes to *ret_in, a file, or -1 for /dev/null. */
static int open_stdin(const struct orch_process_spec *spec, int *ret_fd, int *ret_in)
{
	int fds[2];
	if (spec->flags & ORCH_PROCESS_STDIN_OPEN) {
		if (pipe2(fds, O_CLOEXEC) < 0)
			return -errno;
		*ret_fd = fds[0];
		*ret_in = fds[1];
		if (fcntl(fds[1], F_SETFL, O_NONBLOCK) < 0)
			return -errno;
		if (spec->stdin_data && write(fds[1], spec->stdin_data, spec->stdin_len) !=
						(ssize_t)spec->stdin_len)
			return -EAGAIN;
	} else if (spec->stdin_data) {
		int fd = memfd_create("stdin", MFD_CLOEXEC);
		if (fd < 0)
			return -errno;
		*ret_fd = fd;
		if (write(fd, spec->stdin_data, spec->stdin_len) != (ssize_t)spec->stdin_len ||
			lseek(fd, 0, SEEK_SET) < 0)
			return -EIO;
	}
	return 0;
}

static int start(struct orch_process *p, const struct orch_process_spec *spec, char *const *envp)
{
	CLEANUP(closep) int in = -1;
	int child[STREAMS] = {-1, -1, -1};
	int r = open_stdin(spec, &in, &p->in);
	if (r < 0)
		return r;
	for (size_t i = 0; i < STREAMS; i++) {
		int fds[2];
		if (pipe2(fds, O_CLOEXEC) < 0) {
			r = -errno;
			while (i-- > 0)
				close(child[i]);
			return r;
		}
		p->out[i] = fds[0];
		child[i] = fds[1];
		(void)fcntl(fds[0], F_SETFL, O_NONBLOCK); /* cannot fail on a fresh pipe */
	}
	const struct spawn_fd event = {.fd = child[2], .target = EVENT_FD};
	struct spawn s = SPAWN_INIT;
	s.argv = (char *const *)(uintptr_t)spec->argv;
	s.envp = envp;
	s.cwd = spec->cwd;
	s.stdio[0] = in;
	s.stdio[1] = child[0];
	s.stdio[2] = child[1];
	s.new_session = true;
	if (spec->flags & ORCH_PROCESS_EVENT_FD) {
		s.fds = &event;
		s.n_fds = 1;
	}
	r = spawn_process(&s, &p->pid, &p->pidfd, NULL);
	for (size_t i = 0; i < STREAMS; i++)
		close(child[i]);
	return r;
}

static int probe_process_start(const struct orch_host *host, const struct orch_process_spec *from,
	struct orch_process **ret_process)
{
	(void)host;
	struct orch_process_spec spec = ORCH_PROCESS_SPEC_INIT;
	if (from->size < offsetof(struct orch_process_spec, user) + sizeof(from->user))
		return -EINVAL;
	memcpy(&spec, from, sizeof(spec) < from->size ? sizeof(spec) : from->size);
	if (!spec.argv || !spec.argv[0])
		return -EINVAL;
	CLEANUP_STRV char **envp = environment(environ, spec.env);
	CLEANUP(process_freep) struct orch_process *p = calloc(1, sizeof(*p));
	if (!envp || !p)
		return -ENOMEM;
	p->pidfd = p->in = -1;
	for (size_t i = 0; i < STREAMS; i++)
		p->out[i] = -1;
	p->on_line = spec.on_line;
	p->user = spec.user;
	if ((spec.flags & ORCH_PROCESS_EVENT_FD) && strv_add(&envp, "ORCH_EVENT_FD=3") < 0)
		return -ENOMEM;
	int r = start(p, &spec, envp);
	if (r < 0)
		return r;
	*ret_process = TAKE(p);
	return 0;
}

static int probe_process_write(
	const struct orch_host *host, struct orch_process *p, const void *data, size_t len)
{
	(void)host;
	if (p->in < 0)
		return -EPIPE;
	ssize_t n = write(p->in, data, len);
	if (n < 0)
		return -errno;
	return (size_t)n == len ? 0 : -EAGAIN;
}

static int probe_process_close_stdin(const struct orch_host *host, struct orch_process *p)
{
	(void)host;
	if (p->in < 0)
		return -EPIPE;
	close(TAKE_FD(p->in));
	return 0;
}

static int probe_process_kill(
	const struct orch_host *host, struct orch_process *p, int term_signal, unsigned kill_flags)
{
	(void)host;
	if (p->ended)
		return -ESRCH;
	return kill(kill_flags & ORCH_KILL_GROUP ? -p->pid : p->pid, term_signal) < 0 ? -errno : 0;
}

/* Hands out what a pipe has now. 1 when there was something, 0 when nothing; closed at its end. */
static int take_output(struct orch_process *p, size_t i)
{
	char data[4096];
	if (p->out[i] < 0)
		return 0;
	ssize_t n = read(p->out[i], data, sizeof(data));
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0) {
		close(TAKE_FD(p->out[i]));
		return 0;
	}
	if (p->on_line)
		/* A lost part is marked on its line. */
		(void)!lines_feed(&p->lines[i], data, (size_t)n, (int)i + 1, p->on_line, p->user);
	return 1;
}

/* After the process was reaped: the rest of its output, not waiting for who else may write. */
static void finish(struct orch_process *p)
{
	for (size_t i = 0; i < STREAMS; i++) {
		while (take_output(p, i) > 0)
			;
		if (p->on_line)
			lines_end(&p->lines[i], (int)i + 1, p->on_line, p->user);
	}
	p->ended = true;
}

static int probe_process_wait(const struct orch_host *host, struct orch_process *p,
	int64_t timeout_ms, struct orch_exit *ret_exit)
{
	(void)host;
	int64_t deadline_ms = timeout_ms < 0 ? DEADLINE_NONE : deadline_after(timeout_ms);
	while (!p->ended) {
		struct pollfd fds[STREAMS + 1];
		for (size_t i = 0; i < STREAMS; i++)
			fds[i] = (struct pollfd){.fd = p->out[i], .events = POLLIN};
		fds[STREAMS] = (struct pollfd){.fd = p->pidfd, .events = POLLIN};
		int n = poll(fds, STREAMS + 1, deadline_poll_ms(deadline_ms));
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0)
			return -ETIMEDOUT;
		for (size_t i = 0; i < STREAMS; i++)
			(void)take_output(p, i);
		if (waitpid(p->pid, &p->wait_status, WNOHANG) == p->pid)
			finish(p);
	}
	struct orch_exit ended = ORCH_EXIT_INIT;
	if (WIFEXITED(p->wait_status))
		ended.exit_code = WEXITSTATUS(p->wait_status);
	else
		ended.term_signal = WTERMSIG(p->wait_status);
	if (ret_exit) {
		ended.size = ret_exit->size;
		memcpy(ret_exit, &ended,
			ret_exit->size < sizeof(ended) ? ret_exit->size : sizeof(ended));
	}
	return 0;
}

static void probe_process_free(const struct orch_host *host, struct orch_process *p)
{
	(void)host;
	if (p)
		process_deinit(p); /* one that still runs is the warden's */
}

void probe_process_init(struct service *s)
{
	s->api.process_start = probe_process_start;
	s->api.process_write = probe_process_write;
	s->api.process_close_stdin = probe_process_close_stdin;
	s->api.process_kill = probe_process_kill;
	s->api.process_wait = probe_process_wait;
	s->api.process_free = probe_process_free;
}
