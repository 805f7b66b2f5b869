/* SPDX-License-Identifier: MIT */
#include "config/ini_line.h"

#include "base/str.h"

#include <string.h>

struct ini_lines ini_lines_begin(const char *text, size_t len)
{
	struct ini_lines lines = {.text = text, .len = len};
	if (len >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0)
		lines.at = 3;
	return lines;
}

bool ini_lines_next(struct ini_lines *lines, const char **ret_line, size_t *ret_len)
{
	if (lines->at >= lines->len)
		return false;
	const char *line = lines->text + lines->at;
	size_t left = lines->len - lines->at;
	const char *end = memchr(line, '\n', left);
	size_t len = end ? (size_t)(end - line) : left;
	lines->at += len + (end ? 1 : 0);
	lines->number++;
	if (len > 0 && line[len - 1] == '\r')
		len--;
	*ret_line = line;
	*ret_len = len;
	return true;
}

static size_t white_len(const char *line, size_t len)
{
	size_t n = 0;
	while (n < len && (line[n] == ' ' || line[n] == '\t'))
		n++;
	return n;
}

enum ini_line_kind ini_line_kind(const char *line, size_t len)
{
	size_t white = white_len(line, len);
	if (white == len)
		return INI_LINE_BLANK;
	if (white > 0)
		return INI_LINE_INDENTED;
	if (line[0] == ';' || line[0] == '#')
		return INI_LINE_COMMENT;
	return line[0] == '[' ? INI_LINE_SECTION : INI_LINE_OTHER;
}

const char *ini_line_check(const char *line, size_t len)
{
	if (memchr(line, '\0', len))
		return "expected text, found a NUL byte";
	if (!utf8_is_valid(line, len))
		return "expected UTF-8, found other bytes";
	return NULL;
}

size_t ini_common_indent(const char *a, size_t a_len, const char *b, size_t b_len)
{
	size_t n = 0;
	while (n < a_len && n < b_len && a[n] == b[n] && (a[n] == ' ' || a[n] == '\t'))
		n++;
	return n;
}
