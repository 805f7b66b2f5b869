/* SPDX-License-Identifier: MIT */
/*
 * Fails the n-th allocation, write or system call of our own code, for every n until none is left.
 * The calls are wrapped at link time (the list in tests/CMakeLists.txt and the one in failing.c are
 * the same), so that a sanitizer keeps its own; jansson and SQLite are led through them by their
 * own hooks.
 *
 * A scenario is a function that prepares what it needs, calls failing_start(), does its work, calls
 * failing_stop() and looks at what came of it. It returns what the work returned. The runner holds
 * for every point: a failed scenario has a message; one in which nothing failed has succeeded; all
 * memory is given back, all descriptors are closed, and no temporary file is left.
 *
 * Where a point takes long, a test takes every so manieth. With EVERY_FAILURE=most, as in the
 * release build's tests (CMakeLists.txt), each n fails once, but for the allocations of
 * FAILING_MANY, and every so manieth for good; with =all, each of all. One point alone:
 * EVERY_FAILURE=<scenario>:<kind>:<n>[+], where + fails what follows, too: all allocations and
 * writes from the n-th on, or all calls of the name of the n-th. A failure prints this, and with it
 * set the stack of the call that failed.
 */
#ifndef FAILING_H
#define FAILING_H

#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum failing_kind {
	FAILING_MEMORY,    /* ENOMEM */
	FAILING_WRITE,     /* ENOSPC, of what needs room on a disk */
	FAILING_CALL,      /* EIO or what else the call may say, of any system call */
	FAILING_INTERRUPT, /* EINTR, where a signal may interrupt */
	FAILING_SHORT,     /* half of what a read or a write was to move */
	FAILING_KIND_COUNT,
};

#define FAILING_ALL ((1U << FAILING_KIND_COUNT) - 1)

struct failing {
	char dir[64]; /* private, empty at the beginning of each point */
	int dirfd;
	enum failing_kind kind;
	bool forever;
	bool even; /* every second point */
	void *arg; /* of the scenario */
};

struct failing_scenario {
	const char *name;
	int (*run)(struct failing *f, struct err *e);
	unsigned without; /* kinds that do not apply, as bits */
	unsigned flags;
	unsigned stride; /* of allocations every so manieth fails only; 0: each */
	void *arg;
	unsigned call_stride; /* the same for calls */
};

enum failing_flag {
	FAILING_QUIET = 1,    /* the functions have no message */
	FAILING_ANY_CODE = 2, /* out of memory need not be -ENOMEM */
	FAILING_MANY = 4,     /* thousands of allocations, nearly all SQLite's */
};

/* From here on, and until here, calls count. Not nested. */
void failing_start(struct failing *f);
/* The same, from behind the first call of this name on. */
void failing_start_after(struct failing *f, const char *name);
void failing_stop(void);
/* Whether the calls of this point have met the fault. */
bool failing_fired(void);
/* The name of the first call that failed. */
const char *failing_what(void);

/*
 * What fn returns in a process of its own, where calls count from behind the first one of this name
 * (NULL: all). Its memory and its descriptors are given back at the end, and the children that it
 * leaves become ours. -ECHILD: the process ended in the middle, with this status.
 */
int failing_process(
	struct failing *f, int (*fn)(struct failing *f), const char *after, int *ret_status);

/* The whole contents of a file, owned; NULL: not there. */
char *failing_read(struct failing *f, const char *name);
void failing_write(struct failing *f, const char *name, const char *text);

/* Whether this system call, of a library that a test wraps itself, fails now. */
bool failing_call(const char *name);

/* Leads SQLite through the wrapped calls; once, before SQLite is used. */
void failing_sqlite(void);

int failing_run(const struct failing_scenario *scenarios, size_t n);

#endif
