/* SPDX-License-Identifier: MIT */
/*
 * The lines of an INI text and what kind each is: shared by the reader and the editor, private to
 * config.
 */
#ifndef CONFIG_INI_LINE_H
#define CONFIG_INI_LINE_H

#include <stdbool.h>
#include <stddef.h>

enum ini_line_kind {
	INI_LINE_BLANK,    /* nothing but spaces and tabs */
	INI_LINE_COMMENT,  /* `;` or `#` in column 1 */
	INI_LINE_SECTION,  /* `[` in column 1 */
	INI_LINE_INDENTED, /* text behind white space */
	INI_LINE_OTHER,
};

struct ini_lines {
	const char *text;
	size_t len;
	size_t at;       /* where the next line begins */
	unsigned number; /* of the line handed out last, from 1 */
};

/* Skips a byte order mark. The text is borrowed. */
struct ini_lines ini_lines_begin(const char *text, size_t len);
/* The next line without its line end (LF or CRLF); false at the end. */
bool ini_lines_next(struct ini_lines *lines, const char **ret_line, size_t *ret_len);
enum ini_line_kind ini_line_kind(const char *line, size_t len);
/* NULL, or what is wrong with the bytes of the line. */
const char *ini_line_check(const char *line, size_t len);
/* How many bytes of white space two lines have in common at their beginnings. */
size_t ini_common_indent(const char *a, size_t a_len, const char *b, size_t b_len);

#endif
