/* SPDX-License-Identifier: MIT */
/*
 * What a git has started and left behind: a filter or a helper of the user's, or of an agent's, may
 * start a daemon. Whatever a git starts inherits the write end of a pipe of its own; the pipe tells
 * that the last of them is gone, and /proc who still has it, whatever session that is in.
 */
#ifndef GIT_STRAYS_H
#define GIT_STRAYS_H

#include "base/err.h"

#include <sys/types.h>

/*
 * The git that leads this session has ended and was not reaped; its pipe's write end is closed on
 * our side. After a moment of grace whatever holds it is ended with SIGKILL. Blocks until then, a
 * few seconds at most.
 */
void strays_end(int read_end, pid_t session);

#endif
