/* SPDX-License-Identifier: MIT */
#include "config/ini.h"

#include "base/str.h"
#include "config/ini_line.h"

#include <errno.h>
#include <string.h>

/* Bytes [begin, end) of the text: whole lines. */
struct span {
	size_t begin, end;
};

/* The bytes of lines first to last. */
static struct span lines_span(const struct buf *text, unsigned first, unsigned last)
{
	struct ini_lines lines = ini_lines_begin(buf_cstr(text), text->len);
	struct span span = {lines.at, lines.at};
	const char *line;
	size_t len, begin = lines.at;
	while (lines.number < last && ini_lines_next(&lines, &line, &len)) {
		if (lines.number == first)
			span.begin = begin;
		begin = span.end = lines.at;
	}
	return span;
}

/* The last continuation line of the entry on that line. */
static unsigned entry_last_line(const struct buf *text, unsigned first)
{
	struct ini_lines lines = ini_lines_begin(buf_cstr(text), text->len);
	unsigned last = first;
	const char *line;
	size_t len;
	while (ini_lines_next(&lines, &line, &len)) {
		if (lines.number <= first)
			continue;
		enum ini_line_kind kind = ini_line_kind(line, len);
		if (kind == INI_LINE_INDENTED)
			last = lines.number;
		else if (kind != INI_LINE_BLANK && kind != INI_LINE_COMMENT)
			break;
	}
	return last;
}

static unsigned section_last_line(const struct buf *text, const struct ini_section *s)
{
	if (s->entries.count == 0)
		return s->line;
	return entry_last_line(text, s->entries.items[s->entries.count - 1].line);
}

static void add_comments(struct buf *out, const char *text, size_t len)
{
	struct ini_lines lines = {.text = text, .len = len};
	const char *line;
	size_t line_len, begin = 0;
	while (ini_lines_next(&lines, &line, &line_len)) {
		if (ini_line_kind(line, line_len) == INI_LINE_COMMENT)
			buf_add(out, text + begin, lines.at - begin);
		begin = lines.at;
	}
}

/* Adds s with the line ends of the text. */
static void add_lines(struct buf *out, const struct buf *text, const char *s)
{
	const char *newline = text->len ? memchr(text->data, '\n', text->len) : NULL;
	bool crlf = newline && newline > text->data && newline[-1] == '\r';
	for (; *s; s++) {
		if (*s == '\n' && crlf)
			buf_addc(out, '\r');
		buf_addc(out, *s);
	}
}

static int load(const struct buf *text, struct ini *ini, struct err *e)
{
	CLEANUP(diags_deinit) struct diags d = DIAGS_INIT;
	if (ini_load_text("the file", buf_cstr(text), text->len, ini, &d) < 0)
		return err_nomem(e);
	vec_foreach(it, &d.list)
		if (it->severity == DIAG_ERROR)
			return err_set(e, -EBADMSG, "line %u: %s", it->line,
				it->text ? it->text : "(out of memory)");
	return 0;
}

/* Puts `middle` in the place of a span. */
static int splice(struct buf *text, struct span span, const struct buf *middle, struct err *e)
{
	CLEANUP_BUF struct buf out = BUF_INIT;
	buf_add(&out, text->data, span.begin);
	if (out.len > 0 && middle->len > 0 && out.data[out.len - 1] != '\n')
		add_lines(&out, text, "\n");
	buf_add(&out, buf_cstr(middle), middle->len);
	if (span.end < text->len)
		buf_add(&out, text->data + span.end, text->len - span.end);
	if (buf_check(&out) < 0 || buf_check(middle) < 0)
		return err_nomem(e);
	struct buf old = *text;
	*text = out;
	out = old;
	return 0;
}

static const struct ini_entry *find_entry(const struct ini_section *s, const char *key)
{
	vec_foreach(entry, &s->entries)
		if (str_eq(entry->key, key))
			return entry;
	return NULL;
}

int ini_edit_set(struct buf *text, const char *type, const char *label, const char *key,
	const char *value, struct err *e)
{
	CLEANUP_INI struct ini ini = INI_INIT;
	int r = load(text, &ini, e);
	if (r < 0)
		return r;
	CLEANUP_BUF struct buf put = BUF_INIT, middle = BUF_INIT;
	const struct ini_section *s = ini_find(&ini, type, label);
	const struct ini_entry *entry = s ? find_entry(s, key) : NULL;
	struct span span;
	if (entry) {
		span = lines_span(text, entry->line, entry_last_line(text, entry->line));
		ini_put(&put, key, value);
		add_lines(&middle, text, buf_cstr(&put));
		add_comments(&middle, text->data + span.begin, span.end - span.begin);
	} else if (s) {
		span.end = lines_span(text, 1, section_last_line(text, s)).end;
		span.begin = span.end;
		ini_put(&put, key, value);
		add_lines(&middle, text, buf_cstr(&put));
	} else {
		span.begin = span.end = text->len;
		if (text->len > 0)
			buf_addc(&put, '\n');
		CLEANUP_BUF struct buf section = BUF_INIT;
		ini_put_section(&section, type, label);
		buf_adds(&put, buf_cstr(&section));
		ini_put(&put, key, value);
		add_lines(&middle, text, buf_cstr(&put));
	}
	return buf_check(&put) < 0 ? err_nomem(e) : splice(text, span, &middle, e);
}

/* The blank lines around a section that goes: those before its end where others follow, those
 * before its beginning where none do. */
static void take_blank_lines(const struct buf *text, struct span *span)
{
	const char *t = buf_cstr(text);
	while (span->end < text->len && (t[span->end] == '\n' || t[span->end] == '\r'))
		span->end++;
	if (span->end < text->len)
		return;
	while (span->begin > 1 && t[span->begin - 1] == '\n' &&
		(t[span->begin - 2] == '\n' || (span->begin > 2 && t[span->begin - 2] == '\r' &&
						       t[span->begin - 3] == '\n')))
		span->begin -= t[span->begin - 2] == '\r' ? 2 : 1;
}

int ini_edit_remove(
	struct buf *text, const char *type, const char *label, const char *key, struct err *e)
{
	CLEANUP_INI struct ini ini = INI_INIT;
	int r = load(text, &ini, e);
	if (r < 0)
		return r;
	const struct ini_section *s = ini_find(&ini, type, label);
	const struct ini_entry *entry = s && key ? find_entry(s, key) : NULL;
	if (!s || (key && !entry))
		return err_set(e, -ENOENT, "there is no %s%s[%s%s%s]", key ? key : "",
			key ? " in " : "", type, label ? ":" : "", label ? label : "");
	struct span span;
	struct buf nothing = BUF_INIT;
	if (entry) {
		span = lines_span(text, entry->line, entry_last_line(text, entry->line));
	} else {
		span = lines_span(text, s->line, section_last_line(text, s));
		take_blank_lines(text, &span);
	}
	return splice(text, span, &nothing, e);
}
