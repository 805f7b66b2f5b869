/* SPDX-License-Identifier: MIT */
#include "../common/line.h"

#include <stdlib.h>
#include <string.h>

#define PATH_PART_MAX 64

/* The length of the UTF-8 sequence at p, 0: not one. */
static size_t utf8_len(const unsigned char *p, size_t left)
{
	size_t len = p[0] < 0x80 ? 1 : p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (len > left || (p[0] >= 0x80 && p[0] < 0xc2) || p[0] > 0xf4)
		return 0;
	for (size_t i = 1; i < len; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
		(p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return len;
}

/* The value of \uXXXX at p, -1: no such escape. */
static long escape_at(const char *p, size_t left)
{
	if (left < 6 || p[0] != '\\' || p[1] != 'u')
		return -1;
	char digits[5] = {p[2], p[3], p[4], p[5], '\0'};
	char *end;
	long value = strtol(digits, &end, 16);
	return *end ? -1 : value;
}

/* Repairs the escape at p in place; the bytes to go on by. */
static size_t repair_escape(char *p, size_t left)
{
	long value = escape_at(p, left);
	if (value < 0)
		return left < 2 ? 1 : 2; /* what is escaped is not looked at */
	long next = left >= 12 ? escape_at(p + 6, left - 6) : -1;
	if (value >= 0xd800 && value < 0xdc00 && next >= 0xdc00 && next < 0xe000)
		return 12;
	if (value >= 0xd800 && value < 0xe000)
		memcpy(p + 2, "fffd", 4);
	return 6;
}

static void repair(char *text, size_t len)
{
	for (size_t i = 0; i < len;) {
		if (text[i] == '\\') {
			i += repair_escape(text + i, len - i);
			continue;
		}
		size_t n = utf8_len((const unsigned char *)text + i, len - i);
		if (n == 0)
			text[i] = '?';
		i += n ? n : 1;
	}
}

static json_t *parse(const char *text, size_t len)
{
	return json_loadb(text, len, JSON_ALLOW_NUL, NULL);
}

json_t *line_parse(const char *line, size_t len)
{
	while (len > 0 && strchr(" \t\r", line[0])) {
		line++;
		len--;
	}
	if (len == 0 || !strchr("{[", line[0]))
		return NULL;
	json_t *json = parse(line, len);
	char *copy = json ? NULL : malloc(len);
	if (!copy)
		return json;
	memcpy(copy, line, len);
	repair(copy, len);
	json = parse(copy, len);
	free(copy);
	return json;
}

/* Where the last member that is whole ends in the beginning of an object; 0: there is none. */
static size_t whole_members(const char *line, size_t len)
{
	size_t depth = 0, end = 0;
	bool in_string = false;
	for (size_t i = 0; i < len; i++) {
		char c = line[i];
		if (in_string && c == '\\')
			i++;
		else if (c == '"')
			in_string = !in_string;
		else if (!in_string && (c == '{' || c == '['))
			depth++;
		else if (!in_string && depth > 0 && (c == '}' || c == ']'))
			depth--;
		else if (!in_string && depth == 1 && c == ',')
			end = i;
	}
	return end;
}

json_t *line_parse_cut(const char *line, size_t len)
{
	size_t end = whole_members(line, len);
	char *copy = end > 0 ? malloc(end + 1) : NULL;
	if (!copy)
		return NULL;
	memcpy(copy, line, end);
	copy[end] = '}';
	json_t *json = line_parse(copy, end + 1);
	free(copy);
	if (json_is_object(json))
		return json;
	json_decref(json);
	return NULL;
}

json_t *line_get(const json_t *object, const char *path)
{
	json_t *at = NULL;
	while (object && *path) {
		char part[PATH_PART_MAX];
		size_t len = strcspn(path, ".");
		if (len >= sizeof(part))
			return NULL;
		memcpy(part, path, len);
		part[len] = '\0';
		at = json_object_get(object, part);
		object = at;
		path += len + (path[len] == '.');
	}
	return at;
}

const char *line_text(const json_t *object, const char *path)
{
	return json_string_value(line_get(object, path));
}

int64_t line_int(const json_t *object, const char *path)
{
	const json_t *value = line_get(object, path);
	double real = json_is_real(value) ? json_real_value(value) : 0;
	if (real > -9e15 && real < 9e15 && real != 0)
		return (int64_t)real;
	return json_integer_value(value);
}

bool line_true(const json_t *object, const char *path)
{
	return json_is_true(line_get(object, path));
}
