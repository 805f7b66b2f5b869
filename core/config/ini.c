/* SPDX-License-Identifier: MIT */
#include "config/ini.h"

#include "base/map.h"
#include "base/str.h"
#include "config/ini_escape.h"
#include "config/ini_line.h"

#include <errno.h>
#include <ini.h>
#include <stdint.h>
#include <string.h>

/*
 * What inih is fed are short lines without white space, made from the lines of the text:
 *
 *	[section]      the first bytes of a section name
 *	@=rest         always follows it: inih does not report a section by itself
 *	key=value      a key and the first bytes of its value
 *	+=more         more of the value: the rest of a long line, or a continuation line
 *
 * with every byte that means something to inih, in any way it can be built, as %XX. inih calls its
 * handler before it asks for the next line, so the line number here is the true one, and a line
 *that inih refuses is noticed by the handler not being called. Nothing depends on inih's own
 *handling of multi-line values, comments, long lines or errors.
 */
#define SHORT_LINE    150 /* inih 55 takes 197 bytes */
#define SECTION_CHUNK 12  /* bytes of a name, three times as many when escaped; inih takes 49 */
#define MAX_KEY       100
#define LINEAR_LIMIT  32

struct ini_reader {
	const char *file;
	struct ini *ini;
	struct diags *d;
	struct ini_lines lines;
	struct buf out; /* short lines for inih */
	size_t out_at;
	bool unconfirmed; /* the line fed last must reach the handler */
	bool failed;      /* out of memory */

	struct buf section; /* its name as far as it has come */
	bool section_open;
	unsigned section_line;
	bool in_section; /* entries belong to the last section */
	bool orphans_told;
	struct map seen_sections; /* "type:label" -> line */
	struct map seen_keys;     /* of the last section, from LINEAR_LIMIT entries on */

	struct buf key, value;
	bool entry_open;
	bool entry_bad; /* its continuation lines are skipped */
	unsigned entry_line;
	struct buf blanks;  /* blank lines that count if a continuation line follows */
	const char *indent; /* of the entry's first continuation line; NULL: none yet */
	size_t indent_len;
};

/* ---- the structure that is built ---- */

/* One block that holds both strings; *ret_b is NULL when b is. */
static char *block_of_two(const char *a, const char *b, char **ret_b)
{
	size_t la = strlen(a) + 1, lb = b ? strlen(b) + 1 : 0;
	char *block = malloc(la + lb);
	if (!block)
		return NULL;
	memcpy(block, a, la);
	if (b)
		memcpy(block + la, b, lb);
	*ret_b = b ? block + la : NULL;
	return block;
}

static struct ini_section *add_section(struct ini_reader *r, const char *type, const char *label)
{
	char *tail;
	char *block = block_of_two(type, label, &tail);
	struct ini_section *s = block ? VEC_PUSH(&r->ini->sections) : NULL;
	if (!s) {
		free(block);
		return NULL;
	}
	s->type = block;
	s->label = tail;
	s->line = r->section_line;
	return s;
}

static void finish_section(struct ini_reader *r)
{
	if (!r->section_open)
		return;
	r->section_open = false;
	const char *name = buf_cstr(&r->section), *colon = strchr(name, ':');
	CLEANUP_STR char *type = str_trimmed(name, colon ? (size_t)(colon - name) : strlen(name));
	CLEANUP_STR char *label = colon ? str_trimmed(colon + 1, strlen(colon + 1)) : NULL;
	CLEANUP_STR char *full =
		str_printf("%s%s%s", type ? type : "", colon ? ":" : "", label ? label : "");
	struct ini_section *s = NULL;
	if (buf_check(&r->section) == 0 && type && full && (label || !colon))
		s = add_section(r, type, label);
	if (!s) {
		r->failed = true;
		return;
	}
	r->in_section = true;
	map_deinit(&r->seen_keys);
	int put = map_put(&r->seen_sections, full, (void *)(uintptr_t)s->line);
	if (put == -EEXIST) {
		s->duplicate = true;
		diags_error(r->d, r->file, s->line,
			"duplicate section [%s], first defined on line %u", full,
			(unsigned)(uintptr_t)map_get(&r->seen_sections, full));
	} else if (put < 0) {
		r->failed = true;
	}
}

/* The line on which the section's key was set before, or 0. */
static unsigned earlier_line(struct ini_reader *r, const struct ini_section *s, const char *key)
{
	if (s->entries.count < LINEAR_LIMIT) {
		vec_foreach(it, &s->entries)
			if (strcmp(it->key, key) == 0)
				return it->line;
		return 0;
	}
	int put = 0;
	if (r->seen_keys.count == 0)
		vec_foreach(it, &s->entries)
			if (put == 0)
				put = map_put(&r->seen_keys, it->key, (void *)(uintptr_t)it->line);
	if (put == 0)
		put = map_put(&r->seen_keys, key, (void *)(uintptr_t)r->entry_line);
	if (put == -EEXIST)
		return (unsigned)(uintptr_t)map_get(&r->seen_keys, key);
	if (put < 0)
		r->failed = true;
	return 0;
}

/* For `key*`: takes the star off and decodes the value; false after a mistake. */
static bool decode_starred(struct ini_reader *r)
{
	buf_truncate(&r->key, r->key.len - 1);
	CLEANUP_BUF struct buf plain = BUF_INIT;
	if (!ini_unescape(&plain, buf_cstr(&r->value)) ||
		!utf8_is_valid(buf_cstr(&plain), plain.len)) {
		diags_error(r->d, r->file, r->entry_line,
			"expected percent-encoded UTF-8 as the value of '%s*'", buf_cstr(&r->key));
		return false;
	}
	buf_reset(&r->value);
	buf_add(&r->value, buf_cstr(&plain), plain.len);
	if (buf_check(&plain) < 0)
		r->failed = true;
	return true;
}

static void finish_entry(struct ini_reader *r)
{
	if (!r->entry_open)
		return;
	r->entry_open = false;
	if (buf_check(&r->key) < 0 || buf_check(&r->value) < 0) {
		r->failed = true;
		return;
	}
	if (str_ends(buf_cstr(&r->key), "*") && !decode_starred(r))
		return;
	if (buf_check(&r->key) < 0 || buf_check(&r->value) < 0) {
		r->failed = true;
		return;
	}
	struct ini_section *s = &r->ini->sections.items[r->ini->sections.count - 1];
	unsigned earlier = earlier_line(r, s, buf_cstr(&r->key));
	if (earlier) {
		diags_error(r->d, r->file, r->entry_line,
			"duplicate key '%s', first set on line %u", buf_cstr(&r->key), earlier);
		return;
	}
	char *value;
	char *block = block_of_two(buf_cstr(&r->key), buf_cstr(&r->value), &value);
	struct ini_entry *entry = block ? VEC_PUSH(&s->entries) : NULL;
	if (!entry) {
		free(block);
		r->failed = true;
		return;
	}
	*entry = (struct ini_entry){.key = block, .value = value, .line = r->entry_line};
}

/* Reports a mistake on the current line; what continues it is skipped. */
static void refuse(struct ini_reader *r, const char *why)
{
	finish_entry(r);
	finish_section(r);
	diags_error(r->d, r->file, r->lines.number, "%s", why);
	r->entry_bad = true;
}

/* ---- what inih says ---- */

static void begin_entry(struct ini_reader *r, const char *key, const char *value)
{
	if (!r->in_section) {
		if (!r->orphans_told)
			refuse(r, "expected a [section] before the first key");
		r->orphans_told = true;
		r->entry_bad = true;
		return;
	}
	buf_reset(&r->key);
	buf_adds(&r->key, key);
	buf_reset(&r->value);
	(void)ini_unescape(&r->value, value); /* our own escapes */
	r->entry_open = true;
	r->entry_line = r->lines.number;
}

static int on_pair(void *user, const char *section, const char *name, const char *value)
{
	struct ini_reader *r = user;
	if (!value) /* a line without `=`, where inih was built to take that */
		return 1;
	r->unconfirmed = false;
	if (str_eq(name, "@")) {
		if (!r->section_open)
			(void)ini_unescape(&r->section, section);
		r->section_open = true;
		(void)ini_unescape(&r->section, value);
	} else if (!str_eq(name, "+")) {
		begin_entry(r, name, value);
	} else if (r->entry_open) {
		(void)ini_unescape(&r->value, value);
	}
	return 1;
}

/* ---- what inih is fed ---- */

/* Adds short lines that carry text: the first goes on with what r->out ends in. */
static void put_short_lines(struct ini_reader *r, const char *next_prefix, const char *text,
	size_t len, size_t line_len)
{
	while (len > 0) {
		size_t fit = line_len < SHORT_LINE ? (SHORT_LINE - line_len) / 3 : 0;
		size_t n = len < fit ? len : fit;
		ini_escape(&r->out, text, n);
		text += n;
		len -= n;
		if (len > 0) {
			buf_addc(&r->out, '\n');
			buf_adds(&r->out, next_prefix);
			line_len = strlen(next_prefix);
		}
	}
	buf_addc(&r->out, '\n');
}

static void put_section(struct ini_reader *r, const char *line, size_t len)
{
	finish_entry(r);
	finish_section(r);
	while (line[len - 1] == ' ' || line[len - 1] == '\t')
		len--;
	r->in_section = false;
	r->orphans_told = true; /* after a bad header its entries are not reported one by one */
	if (len < 3 || line[len - 1] != ']' || memchr(line, ']', len - 1)) {
		refuse(r, "expected a section such as [plan] or [task:NAME], alone on its line");
		return;
	}
	line++;
	len -= 2;
	size_t n = len < SECTION_CHUNK ? len : SECTION_CHUNK;
	buf_reset(&r->section);
	r->section_line = r->lines.number;
	r->entry_bad = false;
	buf_addc(&r->out, '[');
	ini_escape(&r->out, line, n);
	buf_adds(&r->out, "]\n@=");
	put_short_lines(r, "@=", line + n, len - n, 2);
}

static bool key_is_valid(const char *key, size_t len)
{
	if (len > 1 && key[len - 1] == '*')
		len--;
	bool valid = len > 0;
	for (size_t i = 0; i < len; i++) {
		char c = key[i];
		valid = valid && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
					 (c >= '0' && c <= '9') || strchr("_.-", c));
	}
	return valid && len <= MAX_KEY;
}

static void put_pair(struct ini_reader *r, const char *line, size_t len)
{
	finish_entry(r);
	finish_section(r);
	r->entry_bad = false;
	buf_reset(&r->blanks);
	r->indent = NULL;
	const char *end = line + len, *equals = memchr(line, '=', len);
	if (!equals) {
		put_short_lines(r, "", line, len < SHORT_LINE / 3 ? len : SHORT_LINE / 3, 0);
		return;
	}
	size_t key_len = (size_t)(equals - line);
	while (key_len > 0 && (line[key_len - 1] == ' ' || line[key_len - 1] == '\t'))
		key_len--;
	if (!key_is_valid(line, key_len)) {
		refuse(r, "expected 'key = value' with a key of letters, digits, '_', '.' and '-', "
			  "at most 100");
		return;
	}
	const char *value = equals + 1;
	while (value < end && (*value == ' ' || *value == '\t'))
		value++;
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	buf_add(&r->out, line, key_len);
	buf_addc(&r->out, '=');
	put_short_lines(r, "+=", value, (size_t)(end - value), key_len + 1);
}

static void put_continuation(struct ini_reader *r, const char *line, size_t len)
{
	if (r->entry_bad)
		return;
	if (!r->entry_open) {
		refuse(r, "an indented line continues the value above it, and there is none");
		return;
	}
	if (!r->indent) {
		r->indent = line;
		r->indent_len = ini_common_indent(line, len, line, len);
	}
	size_t cut = ini_common_indent(line, len, r->indent, r->indent_len);
	/* A value with nothing behind its `=` begins here. */
	if (r->value.len > 0)
		buf_addc(&r->blanks, '\n');
	else
		buf_reset(&r->blanks);
	buf_add(&r->blanks, line + cut, len - cut);
	buf_adds(&r->out, "+=");
	put_short_lines(r, "+=", buf_cstr(&r->blanks), r->blanks.len, 2);
	if (buf_check(&r->blanks) < 0)
		r->failed = true;
	buf_reset(&r->blanks);
}

static void put_blank(struct ini_reader *r, const char *line, size_t len)
{
	if (!r->entry_open)
		return;
	buf_addc(&r->blanks, '\n');
	size_t cut = r->indent ? ini_common_indent(line, len, r->indent, r->indent_len) : len;
	buf_add(&r->blanks, line + cut, len - cut);
}

static void put_line(struct ini_reader *r, const char *line, size_t len)
{
	const char *why = ini_line_check(line, len);
	if (why) {
		refuse(r, why);
		return;
	}
	switch (ini_line_kind(line, len)) {
	case INI_LINE_COMMENT:
		break;
	case INI_LINE_BLANK:
		put_blank(r, line, len);
		break;
	case INI_LINE_INDENTED:
		put_continuation(r, line, len);
		break;
	case INI_LINE_SECTION:
		put_section(r, line, len);
		break;
	case INI_LINE_OTHER:
		put_pair(r, line, len);
		break;
	}
}

/* The reader for inih, with the interface of fgets(3). */
static char *next_short_line(char *str, int num, void *stream)
{
	struct ini_reader *r = stream;
	if (r->unconfirmed) {
		r->unconfirmed = false;
		refuse(r, "expected '[section]' or 'key = value'");
	}
	while (r->out_at == r->out.len) {
		const char *line;
		size_t len;
		buf_reset(&r->out);
		r->out_at = 0;
		if (r->failed || !ini_lines_next(&r->lines, &line, &len))
			return NULL;
		put_line(r, line, len);
		/* Before the next line resets them. */
		if (buf_check(&r->out) < 0 || buf_check(&r->section) < 0 ||
			buf_check(&r->blanks) < 0) {
			r->failed = true;
			return NULL;
		}
	}
	const char *from = r->out.data + r->out_at;
	size_t n = (size_t)((const char *)memchr(from, '\n', r->out.len - r->out_at) - from) + 1;
	if (num < 0 || n >= (size_t)num) {
		r->failed = true;
		return NULL;
	}
	memcpy(str, from, n);
	str[n] = '\0';
	r->out_at += n;
	r->unconfirmed = str[0] != '[';
	return str;
}

static void reader_deinit(struct ini_reader *r)
{
	buf_deinit(&r->out);
	buf_deinit(&r->section);
	buf_deinit(&r->key);
	buf_deinit(&r->value);
	buf_deinit(&r->blanks);
	map_deinit(&r->seen_sections);
	map_deinit(&r->seen_keys);
}

int ini_load_text(const char *file, const char *text, size_t len, struct ini *ret, struct diags *d)
{
	*ret = INI_INIT;
	ret->file = str_dup(file);
	if (!ret->file)
		return -ENOMEM;
	if (len > INI_MAX_BYTES) {
		diags_error(d, file, 0, "is larger than %zu MiB", INI_MAX_BYTES >> 20);
		return 0;
	}
	CLEANUP(reader_deinit)
	struct ini_reader r = {
		.file = ret->file, .ini = ret, .d = d, .lines = ini_lines_begin(text, len)};
	/* An inih built to stop at its first error is started again behind it. */
	do {
		if (ini_parse_stream(next_short_line, &r, on_pair, &r) == -2)
			r.failed = true;
	} while (!r.failed && (r.lines.at < len || r.out_at < r.out.len || r.unconfirmed));
	finish_entry(&r);
	finish_section(&r);
	return r.failed ? -ENOMEM : 0;
}

void ini_deinit(struct ini *ini)
{
	vec_foreach(s, &ini->sections) {
		vec_foreach(entry, &s->entries)
			free(entry->key);
		VEC_FREE(&s->entries);
		free(s->type);
	}
	VEC_FREE(&ini->sections);
	free(ini->file);
	*ini = INI_INIT;
}

const struct ini_section *ini_find(const struct ini *ini, const char *type, const char *label)
{
	vec_foreach(s, &ini->sections)
		if (!s->duplicate && str_eq(s->type, type) && str_eq(s->label, label))
			return s;
	return NULL;
}

const char *ini_value(const struct ini_section *section, const char *key)
{
	vec_foreach(entry, &section->entries)
		if (str_eq(entry->key, key))
			return entry->value;
	return NULL;
}
