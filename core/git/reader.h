/* SPDX-License-Identifier: MIT */
/*
 * A git cat-file that stays: most questions to git are what object a name stands for, and starting
 * a git takes far longer than the answer. It looks refs up anew each time, ends by itself with us,
 * and whoever gets no answer from it asks a git of their own.
 */
#ifndef GIT_READER_H
#define GIT_READER_H

#include "git/git.h"

/* The process starts with the first question. Any thread; one question at a time. */
struct git_reader;

/* NULL when memory is out. */
struct git_reader *git_reader_new(void);
void git_reader_free(struct git_reader *r);

/*
 * Asks about the names in `input`, `count` lines, and appends as many lines to *ret. 0, -EAGAIN
 * when another way has to be taken, -ECANCELED, -ETIMEDOUT.
 */
int git_reader_ask(const struct git_ctx *ctx, const struct buf *input, size_t count,
	struct buf *ret) MUST_CHECK;

/* run.c: starts git with these descriptors, as git_run does; the fourth, -1: none, is for strays.
 */
int git_start(const struct git_ctx *ctx, const struct git_cmd *cmd, const int fds[4],
	pid_t *ret_pid, int *ret_pidfd, struct err *e) MUST_CHECK;

#endif
