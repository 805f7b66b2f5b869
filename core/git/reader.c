/* SPDX-License-Identifier: MIT */
#include "git/reader.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define QUESTION_MAX 4096 /* fits into a pipe: we write all of it before we read */
#define END_MS       2000

struct git_reader {
	pthread_mutex_t mutex;
	pid_t pid; /* 0: not started, or ended */
	int pidfd;
	int in, out; /* our ends */
};

struct git_reader *git_reader_new(void)
{
	struct git_reader *r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->pidfd = r->in = r->out = -1;
	pthread_mutex_init(&r->mutex, NULL); /* cannot fail with default attributes */
	return r;
}

static void end(struct git_reader *r)
{
	if (!r->pid)
		return;
	closep(&r->in); /* at the end of its input it ends */
	closep(&r->out);
	r->in = r->out = -1;
	struct pollfd fd = {.fd = r->pidfd, .events = POLLIN};
	if (poll(&fd, 1, END_MS) != 1)
		kill(r->pid, SIGKILL);
	while (waitpid(r->pid, NULL, 0) < 0 && errno == EINTR)
		;
	closep(&r->pidfd);
	r->pidfd = -1;
	r->pid = 0;
}

void git_reader_free(struct git_reader *r)
{
	if (!r)
		return;
	end(r);
	pthread_mutex_destroy(&r->mutex);
	free(r);
}

static int begin(const struct git_ctx *ctx, struct git_reader *r)
{
	const char *const argv[] = {"cat-file", "--batch-check=%(objectname)", NULL};
	struct git_cmd cmd = {.argv = argv};
	struct git_ctx own = *ctx;
	own.lock_fd = -1; /* it changes nothing */
	CLEANUP(closep) int its_in = -1;
	CLEANUP(closep) int its_out = -1;
	int in[2], out[2];
	if (pipe2(in, O_CLOEXEC) < 0)
		return -errno;
	its_in = in[0];
	r->in = in[1];
	if (pipe2(out, O_CLOEXEC) < 0)
		return -errno;
	its_out = out[1];
	r->out = out[0];
	struct err why = ERR_INIT; /* another way is taken, which will say it */
	return git_start(&own, &cmd, (int[4]){its_in, its_out, -1, -1}, &r->pid, &r->pidfd, &why);
}

static size_t count_lines(const struct buf *b, size_t from)
{
	size_t n = 0;
	for (size_t i = from; i < b->len; i++)
		n += b->data[i] == '\n';
	return n;
}

static int read_lines(
	const struct git_ctx *ctx, const struct git_reader *r, size_t count, struct buf *ret)
{
	const size_t begin = ret->len;
	while (count_lines(ret, begin) < count) {
		char chunk[4096];
		struct pollfd fds[] = {
			{.fd = r->out, .events = POLLIN},
			{.fd = ctx->cancel_fd, .events = POLLIN},
		};
		int n = poll(fds, 2, deadline_poll_ms(ctx->deadline_ms));
		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			return -ETIMEDOUT;
		if (n > 0 && fds[1].revents)
			return -ECANCELED;
		ssize_t got = read(r->out, chunk, sizeof(chunk));
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return -EAGAIN;
		buf_add(ret, chunk, (size_t)got);
		if (buf_check(ret) < 0)
			return -EAGAIN;
	}
	return 0;
}

/* A reader that was killed must not kill us. SIGPIPE is for a thread, and so is its mask. */
static int write_question(const struct git_reader *r, const struct buf *input)
{
	sigset_t pipe, before;
	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe, &before);
	bool whole = write(r->in, input->data, input->len) == (ssize_t)input->len;
	const struct timespec at_once = {0};
	if (!whole && errno == EPIPE)
		(void)sigtimedwait(&pipe, NULL, &at_once);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return whole ? 0 : -EAGAIN;
}

int git_reader_ask(
	const struct git_ctx *ctx, const struct buf *input, size_t count, struct buf *ret)
{
	struct git_reader *r = ctx->reader;
	if (!r || input->len > QUESTION_MAX)
		return -EAGAIN;
	pthread_mutex_lock(&r->mutex);
	size_t before = ret->len;
	int code = r->pid ? 0 : begin(ctx, r);
	if (code == 0)
		code = write_question(r, input);
	if (code == 0)
		code = read_lines(ctx, r, count, ret);
	if (code < 0) {
		buf_truncate(ret, before);
		end(r);
		closep(&r->in); /* of one that could not be started */
		closep(&r->out);
		r->in = r->out = -1;
	}
	pthread_mutex_unlock(&r->mutex);
	return code == 0 || code == -ECANCELED || code == -ETIMEDOUT ? code : -EAGAIN;
}
