/* SPDX-License-Identifier: MIT */
/*
 * Strings and NULL-terminated string vectors (strv). Every function that returns `char *` or `char
 * **` returns owned memory, or NULL when memory is out. Predicates take NULL as the empty string
 * unless they say otherwise.
 */
#ifndef BASE_STR_H
#define BASE_STR_H

#include "base/cleanup.h"
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

bool str_eq(const char *a, const char *b); /* NULL equals only NULL */
bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
char *str_printf(const char *fmt, ...) PRINTF_LIKE(1, 2) MUST_CHECK;
char *str_dup(const char *s) MUST_CHECK; /* NULL gives NULL */
/* Replaces *p by a copy of s (NULL allowed). -ENOMEM leaves *p as it was. */
int str_replace(char **p, const char *s) MUST_CHECK;
/* A copy without white space at either end. */
char *str_trimmed(const char *s, size_t len) MUST_CHECK;
/* "dir/name", or a copy of name when name is absolute. */
char *path_join(const char *dir, const char *name) MUST_CHECK;

/* [A-Za-z0-9][A-Za-z0-9._-]*, at most 100 bytes, and a valid git ref component. On failure *ret_why
 * (if not NULL) is a static text that says what is wrong. */
bool name_is_valid(const char *name, const char **ret_why);

/* Valid UTF-8 without NUL; overlong forms and surrogates refused. */
bool utf8_is_valid(const char *s, size_t len);
/* The largest n <= limit at which s[0..len) can be cut without splitting a UTF-8 sequence. */
size_t utf8_cut(const char *s, size_t len, size_t limit);

/* Lower-case hexadecimal. ret holds 2 * len + 1 bytes. */
void hex_encode(const uint8_t *data, size_t len, char *ret);

/*
 * Copies s for a terminal: control characters (C0, DEL, C1) become `\x..` escapes, invalid UTF-8
 * becomes U+FFFD; tab and newline stay when `keep_lines`. Owned; NULL when memory is out.
 */
char *str_printable(const char *s, size_t len, bool keep_lines) MUST_CHECK;

/* strv */
void strv_free(char **v);
size_t strv_len(char *const *v);
bool strv_contains(char *const *v, const char *s);
/* Appends a copy of s. -ENOMEM leaves *v as it was. */
int strv_add(char ***v, const char *s) MUST_CHECK;
char **strv_copy(char *const *v) MUST_CHECK;
/* Splits at any byte of seps, trims each part, drops empty parts. */
char **strv_split(const char *s, const char *seps) MUST_CHECK;
char *strv_join(char *const *v, const char *sep) MUST_CHECK;

DEFINE_FREEP(strv_freep, char *, strv_free)
#define CLEANUP_STR  CLEANUP(freep)
#define CLEANUP_STRV CLEANUP(strv_freep)

/*
 * Values as people write them. Durations: `90` (seconds), `90s`, `1m30s`, `1min 30s`, `2h`,
 * `500ms`, `off`; d and w too. Sizes: `500`, `64K`, `100M`, `1G` (powers of 1024). 0 or -EINVAL.
 */
#define DURATION_OFF INT64_MAX
int parse_duration_ms(const char *s, int64_t *ret_ms) MUST_CHECK;
int parse_size_bytes(const char *s, int64_t *ret_bytes) MUST_CHECK;
int parse_int64(const char *s, int64_t min, int64_t max, int64_t *ret) MUST_CHECK;
int parse_bool(const char *s, bool *ret) MUST_CHECK; /* yes/no, true/false, on/off, 1/0 */
/* The shortest form that parse_duration_ms reads back to the same value: "90s" -> "1m30s", "off".
 */
char *format_duration(int64_t ms) MUST_CHECK;

#endif
