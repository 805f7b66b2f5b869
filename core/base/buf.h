/* SPDX-License-Identifier: MIT */
/*
 * A growable byte buffer, always NUL-terminated behind its length. Once an allocation has failed
 * the buffer is `failed`: appends do nothing and buf_check() tells, so that a chain of appends
 * needs one check at its end.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/cleanup.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct buf {
	char *data; /* NULL until the first append; use buf_cstr() for a string */
	size_t len;
	size_t cap;
	bool failed;
};

#define BUF_INIT ((struct buf){0})

void buf_deinit(struct buf *b);
/* Empties the buffer and keeps its memory; a failed buffer works again. */
void buf_reset(struct buf *b);
int buf_reserve(struct buf *b, size_t more);
void buf_add(struct buf *b, const void *data, size_t len);
void buf_adds(struct buf *b, const char *s);
void buf_addc(struct buf *b, char c);
void buf_addf(struct buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
void buf_addv(struct buf *b, const char *fmt, va_list ap) PRINTF_LIKE(2, 0);
/* Removes the first n bytes. */
void buf_consume(struct buf *b, size_t n);
/* Shortens to len bytes; len must not exceed the length. */
void buf_truncate(struct buf *b, size_t len);
/* 0, or -ENOMEM when an append has failed. */
int buf_check(const struct buf *b) MUST_CHECK;
/* The contents as a string, "" when empty; borrowed until the next change. */
const char *buf_cstr(const struct buf *b);
/* Hands the contents over as a heap string (never NULL unless the buffer failed). */
char *buf_steal(struct buf *b) MUST_CHECK;

#define CLEANUP_BUF CLEANUP(buf_deinit)

#endif
