/* SPDX-License-Identifier: MIT */
/* Command units (invariants, set-up): one process, its output in two files. */
#include "shim/keeper.h"

#include "base/clock.h"
#include "base/str.h"
#include "os/file.h"
#include "shim/capture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define READ_SIZE       65536
#define READS_MAX       16 /* a turn, so that other descriptors get theirs */
#define DRAIN_READS_MAX 64
#define NO_PROGRAM      127
#define NOT_RUNNABLE    126

struct stream {
	int fd; /* of the pipe; -1: at its end */
	struct capture capture;
};

struct command {
	struct stream streams[2]; /* stdout, stderr */
};

static char read_buffer[READ_SIZE];

/* Reads what is there; false when there is no more to come. */
static bool pump(struct keeper *k, struct stream *s, int reads)
{
	while (reads-- > 0) {
		ssize_t n = read(s->fd, read_buffer, sizeof(read_buffer));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN;
		if (n == 0)
			return false;
		capture_write(&s->capture, read_buffer, (size_t)n);
		keeper_note_output(k, (size_t)n);
	}
	return true;
}

static void on_output(struct keeper *k, void *user, short revents)
{
	struct stream *s = user;
	(void)revents;
	if (s->fd >= 0 && !pump(k, s, READS_MAX))
		close(TAKE_FD(s->fd));
}

static void command_poll(struct keeper *k)
{
	struct command *c = k->unit;
	for (int i = 0; i < 2; i++)
		if (c->streams[i].fd >= 0)
			poll_add(k, c->streams[i].fd, POLLIN, on_output, &c->streams[i]);
}

static int open_streams(struct keeper *k, struct command *c, int ret_write[2], struct err *e)
{
	static const char *const files[] = {UNIT_FILE_STDOUT, UNIT_FILE_STDERR};
	for (int i = 0; i < 2; i++) {
		int fds[2];
		struct stream *s = &c->streams[i];
		int r = capture_open(
			&s->capture, k->dirfd, files[i], k->spec.output_cap_bytes, &k->mask, e);
		if (r < 0)
			return r;
		if (pipe2(fds, O_CLOEXEC) < 0)
			return err_errno(e, -errno, "cannot make a pipe");
		s->fd = fds[0];
		ret_write[i] = fds[1];
		r = fd_set_nonblock(s->fd, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* A program that is not there is a result, as it is for a shell; what else fails is ours. */
static int as_shell_would(struct keeper *k, struct command *c, int r, const struct err *e)
{
	if (r != -ENOENT && r != -EACCES && r != -ENOEXEC)
		return r;
	if (access(k->spec.cwd, X_OK) < 0)
		return r;
	CLEANUP_STR char *line = str_printf("%s\n", e->msg);
	if (line)
		capture_write(&c->streams[1].capture, line, strlen(line));
	k->exit.exit_code = r == -ENOENT ? NO_PROGRAM : NOT_RUNNABLE;
	k->over = true;
	return 0;
}

static int run(struct keeper *k, struct command *c, const int out[2], pid_t *ret_pid, struct err *e)
{
	char *shell[] = {"/bin/sh", "-c", k->spec.command, NULL};
	struct spawn s;
	if (!k->spec.argv && !k->spec.command)
		return err_set(e, -EINVAL, "the unit has no command");
	keeper_spawn_init(k, &s);
	s.argv = k->spec.argv ? k->spec.argv : shell;
	s.stdio[1] = out[0];
	s.stdio[2] = out[1];
	int r = spawn_process(&s, ret_pid, NULL, e);
	if (r < 0 && k->spec.argv)
		return as_shell_would(k, c, r, e);
	return r;
}

static int command_start(struct keeper *k, pid_t *ret_pid, struct err *e)
{
	struct command *c = calloc(1, sizeof(*c));
	if (!c)
		return err_nomem(e);
	for (int i = 0; i < 2; i++)
		c->streams[i] = (struct stream){.fd = -1, .capture = {.fd = -1}};
	k->unit = c;
	int out[2] = {-1, -1};
	int r = open_streams(k, c, out, e);
	if (r == 0)
		r = run(k, c, out, ret_pid, e);
	closep(&out[0]);
	closep(&out[1]);
	return r;
}

static void command_reaped(struct keeper *k, pid_t pid, int wait_status)
{
	if (pid != k->main_pid)
		return;
	if (WIFEXITED(wait_status))
		k->exit.exit_code = WEXITSTATUS(wait_status);
	else if (WIFSIGNALED(wait_status))
		k->exit.signal = WTERMSIG(wait_status);
	k->over = true;
}

static void command_ask_to_end(struct keeper *k)
{
	tree_signal(&k->tree, SIGTERM, 0);
	tree_signal(&k->tree, SIGCONT, 0); /* what is stopped acts on SIGTERM only then */
	k->deadlines[DL_TERM_TREE] = DEADLINE_NONE;
}

static void no_shift(struct keeper *k, int64_t by_ms)
{
	(void)k;
	(void)by_ms;
}

static int64_t no_deadline(const struct keeper *k)
{
	(void)k;
	return DEADLINE_NONE;
}

static void none_expired(struct keeper *k, int64_t now)
{
	(void)k;
	(void)now;
}

static void command_finish(struct keeper *k)
{
	struct command *c = k->unit;
	for (int i = 0; i < 2; i++) {
		struct stream *s = &c->streams[i];
		struct err e = ERR_INIT;
		/* What is still in the pipe; bounded, should a writer have escaped. */
		if (s->fd >= 0)
			(void)pump(k, s, DRAIN_READS_MAX);
		if (s->fd >= 0)
			close(TAKE_FD(s->fd));
		const char *words = i == 1 && k->last_words[0] ? k->last_words : NULL;
		if (s->capture.fd >= 0 && capture_close(&s->capture, words, &e) < 0)
			keeper_log(k, "warning", "%s", e.msg);
	}
}

const struct unit_sort command_sort = {
	.start = command_start,
	.poll = command_poll,
	.reaped = command_reaped,
	.ask_to_end = command_ask_to_end,
	.shift = no_shift,
	.next_deadline = no_deadline,
	.expired = none_expired,
	.finish = command_finish,
};
