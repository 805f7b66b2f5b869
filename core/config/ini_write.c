/* SPDX-License-Identifier: MIT */
#include "config/ini.h"

#include "config/ini_escape.h"

#include <string.h>

void ini_escape_byte(struct buf *out, char c)
{
	static const char hex[] = "0123456789ABCDEF";
	unsigned char u = (unsigned char)c;
	buf_add(out, (char[]){'%', hex[u >> 4], hex[u & 15]}, 3);
}

/* Looked up for every byte of a plan. */
static const bool is_special[256] = {
	[0x7f] = true,
	['%'] = true,
	[';'] = true,
	['#'] = true,
	[':'] = true,
	['='] = true,
	['['] = true,
	[']'] = true,
	['@'] = true,
	['+'] = true,
	['"'] = true,
	['\''] = true,
};

void ini_escape(struct buf *out, const char *s, size_t len)
{
	size_t plain = 0;
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)s[i];
		if (c > ' ' && !is_special[c])
			continue;
		buf_add(out, s + plain, i - plain);
		ini_escape_byte(out, s[i]);
		plain = i + 1;
	}
	buf_add(out, s + plain, len - plain);
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

bool ini_unescape(struct buf *out, const char *s)
{
	for (;;) {
		size_t n = strcspn(s, "%");
		buf_add(out, s, n);
		s += n;
		if (!*s)
			return true;
		int hi = hex_digit(s[1]);
		int lo = hi < 0 ? -1 : hex_digit(s[2]);
		if (lo < 0)
			return false;
		buf_addc(out, (char)(hi << 4 | lo));
		s += 3;
	}
}

void ini_put_section(struct buf *out, const char *type, const char *label)
{
	buf_addf(out, "%s[%s%s%s]\n", out->len > 0 ? "\n" : "", type, label ? ":" : "",
		label ? label : "");
}

static bool is_white(char c)
{
	return c == ' ' || c == '\t' || c == '\n';
}

static bool is_control(char c)
{
	unsigned char u = (unsigned char)c;
	return (u < ' ' && c != '\t' && c != '\n') || u == 0x7f;
}

static bool needs_star(const char *value, size_t len)
{
	if (len > 0 && (is_white(value[0]) || is_white(value[len - 1])))
		return true;
	for (size_t i = 0; i < len; i++)
		if (is_control(value[i]))
			return true;
	return false;
}

/* Percent-encodes what plain text cannot say; the rest stays readable. */
static void star_encode(struct buf *out, const char *value, size_t len)
{
	size_t first = 0, last = len;
	while (first < len && is_white(value[first]))
		first++;
	while (last > first && is_white(value[last - 1]))
		last--;
	for (size_t i = 0; i < len; i++) {
		char c = value[i];
		if (i < first || i >= last || is_control(c) || c == '%')
			ini_escape_byte(out, c);
		else
			buf_addc(out, c);
	}
}

/* value neither begins nor ends with white space. */
static void put_value(struct buf *out, const char *value)
{
	if (!strchr(value, '\n')) {
		buf_addf(out, "%s%s\n", *value ? " " : "", value);
		return;
	}
	buf_addc(out, '\n');
	for (;;) {
		size_t n = strcspn(value, "\n");
		if (n > 0)
			buf_adds(out, "    ");
		buf_add(out, value, n);
		buf_addc(out, '\n');
		if (!value[n])
			return;
		value += n + 1;
	}
}

void ini_put(struct buf *out, const char *key, const char *value)
{
	size_t len = strlen(value);
	buf_adds(out, key);
	if (!needs_star(value, len)) {
		buf_adds(out, " =");
		put_value(out, value);
		return;
	}
	CLEANUP_BUF struct buf encoded = BUF_INIT;
	star_encode(&encoded, value, len);
	buf_adds(out, "* =");
	put_value(out, buf_cstr(&encoded));
	if (buf_check(&encoded) < 0)
		out->failed = true;
}
