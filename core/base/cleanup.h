/* SPDX-License-Identifier: MIT */
/*
 * Scope cleanup: a variable declared with CLEANUP(fn) is handed to fn when its scope ends.
 * Declare it at first use, initialised; never jump past it with goto (gcc 12 would run the
 * cleanup on an uninitialised value). TAKE(p) hands the value over and leaves NULL behind.
 */
#ifndef BASE_CLEANUP_H
#define BASE_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

#define CLEANUP(fn) __attribute__((cleanup(fn)))

#define TAKE(p) \
	__extension__({ \
		__typeof__(p) take_ = (p); \
		(p) = NULL; \
		take_; \
	})

/* Hands a descriptor over and leaves -1 behind. */
#define TAKE_FD(fd) \
	__extension__({ \
		int take_fd_ = (fd); \
		(fd) = -1; \
		take_fd_; \
	})

/* Defines NAME(type **), a cleanup function that calls FREE on what the variable holds. */
#define DEFINE_FREEP(name, type, free_fn) \
	static inline void name(type **p) \
	{ \
		if (*p) \
			free_fn(*p); \
	}

#define MUST_CHECK __attribute__((warn_unused_result))
/* For a MUST_CHECK result that is ignored on purpose; say why beside it. */
#define IGNORE(expr) \
	do { \
		if (expr) { \
		} \
	} while (0)
#define PRINTF_LIKE(fmt, args) __attribute__((format(printf, fmt, args)))

static inline void freep(void *p)
{
	free(*(void **)p);
}

static inline void closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

#endif
