/* SPDX-License-Identifier: MIT */
#include "base/str.h"

#include "base/buf.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

bool str_eq(const char *a, const char *b)
{
	if (!a || !b)
		return a == b;
	return strcmp(a, b) == 0;
}

bool str_starts(const char *s, const char *prefix)
{
	return s && strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_ends(const char *s, const char *suffix)
{
	size_t ls = s ? strlen(s) : 0, lx = strlen(suffix);
	return ls >= lx && memcmp(s + ls - lx, suffix, lx) == 0;
}

char *str_printf(const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;
	va_start(ap, fmt);
	int n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return n < 0 ? NULL : s;
}

char *str_dup(const char *s)
{
	return s ? strdup(s) : NULL;
}

int str_replace(char **p, const char *s)
{
	char *copy = NULL;
	if (s) {
		copy = strdup(s);
		if (!copy)
			return -ENOMEM;
	}
	free(*p);
	*p = copy;
	return 0;
}

char *str_trimmed(const char *s, size_t len)
{
	while (len > 0 && isspace((unsigned char)s[0])) {
		s++;
		len--;
	}
	while (len > 0 && isspace((unsigned char)s[len - 1]))
		len--;
	return strndup(s, len);
}

char *path_join(const char *dir, const char *name)
{
	if (name[0] == '/')
		return strdup(name);
	return str_printf("%s%s%s", dir, str_ends(dir, "/") ? "" : "/", name);
}

bool name_is_valid(const char *name, const char **ret_why)
{
	const char *why = NULL;
	size_t len = name ? strlen(name) : 0;
	if (len == 0)
		why = "is empty";
	else if (len > 100)
		why = "is longer than 100 characters";
	else if (!isalnum((unsigned char)name[0]))
		why = "must begin with a letter or a digit";
	else if (strstr(name, ".."))
		why = "must not contain '..' (it becomes part of a git ref)";
	else if (str_ends(name, ".lock") || str_ends(name, "."))
		why = "must not end in '.' or '.lock' (it becomes part of a git ref)";
	for (size_t i = 0; !why && i < len; i++) {
		unsigned char c = (unsigned char)name[i];
		if (c >= 0x80 || (!isalnum(c) && c != '.' && c != '_' && c != '-'))
			why = "may hold only letters, digits, '.', '_' and '-'";
	}
	if (why && ret_why)
		*ret_why = why;
	return !why;
}

/* The length of the valid UTF-8 sequence at s (1 to 4), or 0. */
static size_t utf8_sequence(const unsigned char *s, size_t len)
{
	if (s[0] < 0x80)
		return 1;
	size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	if (s[0] < 0xc2 || s[0] > 0xf4 || len < n)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) ||
		(s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return n;
}

bool utf8_is_valid(const char *s, size_t len)
{
	for (size_t i = 0; i < len;) {
		size_t n = utf8_sequence((const unsigned char *)s + i, len - i);
		if (n == 0 || s[i] == '\0')
			return false;
		i += n;
	}
	return true;
}

size_t utf8_cut(const char *s, size_t len, size_t limit)
{
	if (len <= limit)
		return len;
	size_t n = limit;
	for (size_t back = 0; back < 4 && n > 0; back++, n--)
		if (((unsigned char)s[n] & 0xc0) != 0x80)
			return n;
	return limit;
}

void hex_encode(const uint8_t *data, size_t len, char *ret)
{
	static const char digits[] = "0123456789abcdef";
	for (size_t i = 0; i < len; i++) {
		ret[2 * i] = digits[data[i] >> 4];
		ret[2 * i + 1] = digits[data[i] & 15];
	}
	ret[2 * len] = '\0';
}

char *str_printable(const char *s, size_t len, bool keep_lines)
{
	CLEANUP_BUF struct buf out = BUF_INIT;
	for (size_t i = 0; i < len;) {
		unsigned char c = (unsigned char)s[i];
		size_t n = utf8_sequence((const unsigned char *)s + i, len - i);
		bool c1 = n == 2 && c == 0xc2 && (unsigned char)s[i + 1] < 0xa0;
		if (n == 0) {
			buf_adds(&out, "\xef\xbf\xbd");
			n = 1;
		} else if (c1) {
			buf_addf(&out, "\\x%02x", (unsigned char)s[i + 1]);
		} else if (keep_lines && (c == '\n' || c == '\t')) {
			buf_addc(&out, (char)c);
		} else if (c < 0x20 || c == 0x7f) {
			buf_addf(&out, "\\x%02x", c);
		} else {
			buf_add(&out, s + i, n);
		}
		i += n;
	}
	return buf_steal(&out);
}

void strv_free(char **v)
{
	for (size_t i = 0; v && v[i]; i++)
		free(v[i]);
	free(v);
}

size_t strv_len(char *const *v)
{
	size_t n = 0;
	while (v && v[n])
		n++;
	return n;
}

bool strv_contains(char *const *v, const char *s)
{
	for (size_t i = 0; v && v[i]; i++)
		if (strcmp(v[i], s) == 0)
			return true;
	return false;
}

int strv_add(char ***v, const char *s)
{
	size_t n = strv_len(*v);
	char *copy = strdup(s);
	if (!copy)
		return -ENOMEM;
	/* Room doubles at each power of two, so that n appends cost O(n). */
	if (n == 0 || (n & (n + 1)) == 0) {
		char **grown = realloc(*v, (2 * n + 2) * sizeof(char *));
		if (!grown) {
			free(copy);
			return -ENOMEM;
		}
		*v = grown;
	}
	(*v)[n] = copy;
	(*v)[n + 1] = NULL;
	return 0;
}

/* The room for n strings and the NULL that fits strv_add's rule: the next power of two above n. */
static size_t strv_room(size_t n)
{
	size_t room = 2;
	while (room < n + 1)
		room *= 2;
	return room;
}

char **strv_copy(char *const *v)
{
	size_t n = strv_len(v);
	char **copy = calloc(strv_room(n), sizeof(char *));
	for (size_t i = 0; copy && i < n; i++) {
		copy[i] = strdup(v[i]);
		if (!copy[i]) {
			strv_free(copy);
			return NULL;
		}
	}
	return copy;
}

char **strv_split(const char *s, const char *seps)
{
	size_t parts = 1, n = 0;
	for (const char *p = s; p && *(p += strcspn(p, seps)); p++)
		parts++;
	CLEANUP_STRV char **v = calloc(strv_room(parts), sizeof(char *));
	while (v && s) {
		size_t len = strcspn(s, seps);
		CLEANUP_STR char *part = str_trimmed(s, len);
		if (!part)
			return NULL;
		if (part[0])
			v[n++] = TAKE(part);
		s = s[len] ? s + len + 1 : NULL;
	}
	return TAKE(v);
}

char *strv_join(char *const *v, const char *sep)
{
	CLEANUP_BUF struct buf out = BUF_INIT;
	for (size_t i = 0; v && v[i]; i++) {
		if (i > 0)
			buf_adds(&out, sep);
		buf_adds(&out, v[i]);
	}
	return buf_steal(&out);
}

static const struct {
	const char *name;
	int64_t ms;
} duration_units[] = {
	{"ms", 1},
	{"msec", 1},
	{"s", 1000},
	{"sec", 1000},
	{"second", 1000},
	{"seconds", 1000},
	{"m", 60000},
	{"min", 60000},
	{"minute", 60000},
	{"minutes", 60000},
	{"h", 3600000},
	{"hr", 3600000},
	{"hour", 3600000},
	{"hours", 3600000},
	{"d", 86400000},
	{"day", 86400000},
	{"days", 86400000},
	{"w", 604800000},
	{"week", 604800000},
	{"weeks", 604800000},
};

/* Reads one "<number>[unit]" part at *s into *total and moves *s behind it. */
static int duration_part(const char **s, int64_t *total)
{
	const char *p = *s;
	int64_t whole = 0, frac = 0, scale = 1;
	if (!isdigit((unsigned char)*p))
		return -EINVAL;
	for (; isdigit((unsigned char)*p); p++)
		if (__builtin_mul_overflow(whole, 10, &whole) ||
			__builtin_add_overflow(whole, *p - '0', &whole))
			return -EINVAL;
	if (*p == '.') {
		p++;
		if (!isdigit((unsigned char)*p))
			return -EINVAL;
		for (; isdigit((unsigned char)*p); p++) {
			if (scale < 1000000) {
				frac = frac * 10 + (*p - '0');
				scale *= 10;
			}
		}
	}
	while (*p == ' ')
		p++;
	size_t len = 0;
	while (isalpha((unsigned char)p[len]))
		len++;
	int64_t unit = len == 0 ? 1000 : 0;
	for (size_t i = 0; i < sizeof(duration_units) / sizeof(duration_units[0]); i++)
		if (strlen(duration_units[i].name) == len &&
			memcmp(p, duration_units[i].name, len) == 0)
			unit = duration_units[i].ms;
	int64_t ms;
	if (unit == 0 || __builtin_mul_overflow(whole, unit, &ms) ||
		__builtin_add_overflow(ms, frac * unit / scale, &ms) ||
		__builtin_add_overflow(*total, ms, total) || *total == DURATION_OFF)
		return -EINVAL;
	p += len;
	while (*p == ' ')
		p++;
	*s = p;
	return 0;
}

int parse_duration_ms(const char *s, int64_t *ret_ms)
{
	if (str_eq(s, "off") || str_eq(s, "infinity")) {
		*ret_ms = DURATION_OFF;
		return 0;
	}
	int64_t total = 0;
	if (!s || !*s)
		return -EINVAL;
	while (*s)
		if (duration_part(&s, &total) < 0)
			return -EINVAL;
	*ret_ms = total;
	return 0;
}

int parse_size_bytes(const char *s, int64_t *ret_bytes)
{
	if (!s || !isdigit((unsigned char)*s))
		return -EINVAL;
	errno = 0;
	char *end;
	long long n = strtoll(s, &end, 10);
	if (errno)
		return -EINVAL;
	int shift = 0;
	switch (*end) {
	case 'K':
	case 'k':
		shift = 10;
		break;
	case 'M':
	case 'm':
		shift = 20;
		break;
	case 'G':
	case 'g':
		shift = 30;
		break;
	case 'T':
	case 't':
		shift = 40;
		break;
	default:
		break;
	}
	if (shift)
		end++;
	if (str_eq(end, "iB") || str_eq(end, "B"))
		end += strlen(end);
	int64_t bytes;
	if (*end || __builtin_mul_overflow((int64_t)n, (int64_t)1 << shift, &bytes))
		return -EINVAL;
	*ret_bytes = bytes;
	return 0;
}

int parse_int64(const char *s, int64_t min, int64_t max, int64_t *ret)
{
	if (!s || !(isdigit((unsigned char)*s) || (*s == '-' && isdigit((unsigned char)s[1]))))
		return -EINVAL;
	errno = 0;
	char *end;
	long long n = strtoll(s, &end, 10);
	if (errno || *end || n < min || n > max)
		return -EINVAL;
	*ret = n;
	return 0;
}

int parse_bool(const char *s, bool *ret)
{
	static const char *const yes[] = {"yes", "true", "on", "1"};
	static const char *const no[] = {"no", "false", "off", "0"};
	for (size_t i = 0; i < 4; i++) {
		if (str_eq(s, yes[i]) || str_eq(s, no[i])) {
			*ret = str_eq(s, yes[i]);
			return 0;
		}
	}
	return -EINVAL;
}

char *format_duration(int64_t ms)
{
	if (ms == DURATION_OFF)
		return strdup("off");
	if (ms == 0)
		return strdup("0s");
	CLEANUP_BUF struct buf out = BUF_INIT;
	int64_t h = ms / 3600000, m = ms / 60000 % 60, s = ms / 1000 % 60, rest = ms % 1000;
	if (h)
		buf_addf(&out, "%lldh", (long long)h);
	if (m)
		buf_addf(&out, "%lldm", (long long)m);
	if (s)
		buf_addf(&out, "%llds", (long long)s);
	if (rest)
		buf_addf(&out, "%lldms", (long long)rest);
	return buf_steal(&out);
}
