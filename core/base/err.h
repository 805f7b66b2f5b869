/* SPDX-License-Identifier: MIT */
/*
 * The one error type. A function that can fail in a way a person must understand takes a
 * caller-owned `struct err *` as its last parameter and returns 0, a negative errno, or a positive
 * outcome that its header documents. The message says what was tried, on which object, why: lower
 * case, no full stop. Context is added once per layer; the error is logged where the chain ends,
 * never in between.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include "base/cleanup.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>

/* Exit statuses of every command, after sysexits(3). */
enum exit_status {
	EXIT_OK = 0,
	EXIT_USAGE = 64,
	EXIT_DATA = 65,
	EXIT_NOINPUT = 66,
	EXIT_UNAVAILABLE = 69,
	EXIT_SOFTWARE = 70,
	EXIT_CANTCREAT = 73,
	EXIT_IO = 74,
	EXIT_CONFIG = 78,
	EXIT_INTERRUPTED = 130,
};

struct err {
	int code;   /* negative errno; 0: no error */
	int status; /* exit status for a command that ends with this error; 0: derived from code */
	char msg[1000];
};

#define ERR_INIT ((struct err){0})

/*
 * Each sets *e and returns the code, so that `return err_set(e, -ENOENT, ...)` reads well. e may be
 * NULL: then only the code is returned. err_errno appends ": <strerror>" to the message.
 * err_exit also fixes the exit status.
 */
int err_set(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
int err_errno(struct err *e, int code, const char *fmt, ...) PRINTF_LIKE(3, 4);
int err_exit(struct err *e, enum exit_status status, const char *fmt, ...) PRINTF_LIKE(3, 4);
static inline int err_nomem(struct err *e)
{
	(void)err_set(e, -ENOMEM, "out of memory");
	return -ENOMEM;
}

/* Puts "<context>: " before the message and returns e's code. */
int err_prefix(struct err *e, const char *fmt, ...) PRINTF_LIKE(2, 3);

/* Whether the code says that the machine has run out of what others may give back: descriptors,
 * processes, memory. */
bool err_is_shortage(int code);
/* The same, or of a disk that is full or fails: nothing that orch runs is to blame. */
bool err_is_machine(int code);

/* The exit status for e: its own, else the one its code stands for (never 0). */
int err_status(const struct err *e);

#endif
