/* SPDX-License-Identifier: MIT */
/* A line of JSON as agents write them: leniently, and fields by name whatever their order. */
#ifndef COMMON_LINE_H
#define COMMON_LINE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The object or the array of a line, owned; NULL when it is neither. Bytes that are not UTF-8
 * become '?', halves of surrogate pairs (an emoji that a stream has cut) U+FFFD: JSON.stringify
 * lets both through.
 */
json_t *line_parse(const char *line, size_t len);
/* What can be read of an object that was cut: the members before the one that the cut is in. */
json_t *line_parse_cut(const char *line, size_t len);

/* Fields by path, "a.b.c". Borrowed; NULL, 0 or false when there is none of that type. */
json_t *line_get(const json_t *object, const char *path);
const char *line_text(const json_t *object, const char *path);
int64_t line_int(const json_t *object, const char *path); /* a real number is cut */
bool line_true(const json_t *object, const char *path);

#endif
