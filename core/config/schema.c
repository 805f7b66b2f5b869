/* SPDX-License-Identifier: MIT */
#include "config/schema.h"

#include "base/str.h"

#include <errno.h>
#include <string.h>

_Static_assert(sizeof(enum key_type) == sizeof(int), "KEY_ENUM values are stored as int");

const struct key_spec *key_find(const struct key_table *table, const char *key)
{
	for (size_t i = 0; i < table->count; i++)
		if (strcmp(table->keys[i].key, key) == 0)
			return &table->keys[i];
	return NULL;
}

int name_table_find(const char *const *names, const char *name)
{
	for (int i = 0; names[i]; i++)
		if (str_eq(names[i], name))
			return i;
	return -1;
}

static void *at(const struct key_spec *spec, void *object)
{
	return (char *)object + spec->offset;
}

static const void *at_const(const struct key_spec *spec, const void *object)
{
	return (const char *)object + spec->offset;
}

static bool is_string(enum key_type type)
{
	return type == KEY_STRING || type == KEY_TEXT || type == KEY_NAME;
}

/* ---- reading ---- */

/* "expected ..., found 'text'"; a long text is cut. */
static int expected(struct buf *why, const char *what, const char *text)
{
	size_t len = strlen(text), n = utf8_cut(text, len, 60);
	if (len == 0)
		buf_addf(why, "expected %s, found nothing", what);
	else
		buf_addf(why, "expected %s, found '%.*s'%s", what, (int)n, text,
			n < len ? "..." : "");
	return -EINVAL;
}

static int set_string(const struct key_spec *spec, void *object, const char *text, struct buf *why)
{
	const char *what = NULL;
	if (!*text)
		return expected(why, spec->type == KEY_NAME ? "a name" : "a value", text);
	if (spec->type == KEY_NAME && !name_is_valid(text, &what)) {
		expected(why, "a name", text);
		buf_addf(why, ", which %s", what);
		return -EINVAL;
	}
	if (spec->type == KEY_STRING && strchr(text, '\n'))
		return expected(why, "one line", text);
	return str_replace(at(spec, object), text);
}

static int set_number(const struct key_spec *spec, void *object, const char *text, struct buf *why)
{
	CLEANUP_STR char *trimmed = str_trimmed(text, strlen(text));
	if (!trimmed)
		return -ENOMEM;
	CLEANUP_BUF struct buf what = BUF_INIT;
	int64_t value = 0;
	int r = -EINVAL;
	switch (spec->type) {
	case KEY_DURATION:
		r = parse_duration_ms(trimmed, &value);
		if (r == 0 && spec->no_off && value == DURATION_OFF)
			r = -EINVAL;
		buf_addf(
			&what, "a duration such as 90s or 1h30m%s", spec->no_off ? "" : ", or off");
		break;
	case KEY_SIZE:
		r = parse_size_bytes(trimmed, &value);
		buf_adds(&what, "a size in bytes such as 500K, 100M or 2G");
		break;
	default:
		r = parse_int64(trimmed, INT64_MIN, INT64_MAX, &value);
		buf_adds(&what, "a number");
		break;
	}
	bool off = spec->type == KEY_DURATION && value == DURATION_OFF;
	if (spec->max && !off && (r < 0 || value < spec->min || value > spec->max)) {
		r = -EINVAL;
		if (spec->type == KEY_INT)
			buf_addf(&what, " from %lld to %lld", (long long)spec->min,
				(long long)spec->max);
		else if (spec->min == 1)
			buf_adds(&what, ", more than 0");
	}
	if (r == -EINVAL)
		return expected(why, buf_cstr(&what), text);
	if (r == 0)
		memcpy(at(spec, object), &value, sizeof(value));
	return r;
}

static int set_choice(const struct key_spec *spec, void *object, const char *text, struct buf *why)
{
	CLEANUP_STR char *trimmed = str_trimmed(text, strlen(text));
	if (!trimmed)
		return -ENOMEM;
	if (spec->type == KEY_BOOL) {
		bool value;
		if (parse_bool(trimmed, &value) < 0)
			return expected(why, "yes or no", text);
		memcpy(at(spec, object), &value, sizeof(value));
		return 0;
	}
	int value = name_table_find(spec->names, trimmed);
	if (value >= 0) {
		memcpy(at(spec, object), &value, sizeof(value));
		return 0;
	}
	CLEANUP_BUF struct buf what = BUF_INIT;
	for (size_t i = 0; spec->names[i]; i++)
		buf_addf(&what, "%s%s",
			i == 0               ? ""
			: spec->names[i + 1] ? ", "
					     : " or ",
			spec->names[i]);
	expected(why, buf_cstr(&what), text);
	struct suggestion s = SUGGESTION(trimmed);
	suggest_names(&s, spec->names);
	suggest_add(&s, why);
	return -EINVAL;
}

static int set_list(const struct key_spec *spec, void *object, const char *text, struct buf *why)
{
	CLEANUP_STRV char **list = strv_split(text, ",\n");
	if (!list)
		return -ENOMEM;
	for (size_t i = 0; list[i]; i++) {
		if (spec->blanks || !list[i][strcspn(list[i], " \t")])
			continue;
		buf_addf(why, "expected a comma between words, found '%s'", list[i]);
		return buf_check(why) < 0 ? -ENOMEM : -EINVAL;
	}
	char ***place = at(spec, object);
	strv_free(*place);
	*place = list[0] ? TAKE(list) : NULL;
	return 0;
}

int key_set(const struct key_spec *spec, void *object, const char *text, struct buf *why)
{
	if (is_string(spec->type))
		return set_string(spec, object, text, why);
	if (spec->type == KEY_LIST)
		return set_list(spec, object, text, why);
	if (spec->type == KEY_BOOL || spec->type == KEY_ENUM)
		return set_choice(spec, object, text, why);
	return set_number(spec, object, text, why);
}

/* ---- whole tables ---- */

static size_t key_size(enum key_type type)
{
	if (is_string(type))
		return sizeof(char *);
	if (type == KEY_LIST)
		return sizeof(char **);
	if (type == KEY_BOOL)
		return sizeof(bool);
	return type == KEY_ENUM ? sizeof(int) : sizeof(int64_t);
}

int keys_init(const struct key_table *table, void *object)
{
	int r = 0;
	for (size_t i = 0; i < table->count; i++)
		memset(at(&table->keys[i], object), 0, key_size(table->keys[i].type));
	for (size_t i = 0; r == 0 && i < table->count; i++) {
		const struct key_spec *spec = &table->keys[i];
		CLEANUP_BUF struct buf why = BUF_INIT;
		if (spec->default_value)
			r = key_set(spec, object, spec->default_value, &why);
	}
	return r;
}

static void key_free(const struct key_spec *spec, void *object)
{
	if (is_string(spec->type))
		free(*(char **)at(spec, object));
	else if (spec->type == KEY_LIST)
		strv_free(*(char ***)at(spec, object));
	memset(at(spec, object), 0, key_size(spec->type));
}

void keys_deinit(const struct key_table *table, void *object)
{
	for (size_t i = 0; i < table->count; i++)
		key_free(&table->keys[i], object);
}

int keys_copy(const struct key_table *table, void *to, const void *from)
{
	bool failed = false;
	for (size_t i = 0; i < table->count; i++) {
		const struct key_spec *spec = &table->keys[i];
		const void *source = at_const(spec, from);
		if (is_string(spec->type)) {
			const char *s = *(char *const *)source;
			char **copy = at(spec, to);
			*copy = str_dup(s);
			failed = failed || (s && !*copy);
		} else if (spec->type == KEY_LIST) {
			char *const *v = *(char **const *)source;
			char ***copy = at(spec, to);
			*copy = v ? strv_copy(v) : NULL;
			failed = failed || (v && !*copy);
		} else {
			memcpy(at(spec, to), source, key_size(spec->type));
		}
	}
	return failed ? -ENOMEM : 0;
}

void keys_move(const struct key_table *table, void *to, void *from)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct key_spec *spec = &table->keys[i];
		memcpy(at(spec, to), at(spec, from), key_size(spec->type));
		memset(at(spec, from), 0, key_size(spec->type));
	}
}

bool key_equal(const struct key_spec *spec, const void *a, const void *b)
{
	const void *x = at_const(spec, a), *y = at_const(spec, b);
	if (is_string(spec->type))
		return str_eq(*(char *const *)x, *(char *const *)y);
	if (spec->type != KEY_LIST)
		return memcmp(x, y, key_size(spec->type)) == 0;
	char *const *v = *(char **const *)x, *const *w = *(char **const *)y;
	size_t n = strv_len(v);
	if (n != strv_len(w))
		return false;
	for (size_t i = 0; i < n; i++)
		if (strcmp(v[i], w[i]) != 0)
			return false;
	return true;
}

static char *format_size(int64_t bytes)
{
	static const char units[] = "KMGT";
	int unit = -1;
	while (bytes > 0 && bytes % 1024 == 0 && unit < 3) {
		bytes /= 1024;
		unit++;
	}
	if (unit < 0)
		return str_printf("%lld", (long long)bytes);
	return str_printf("%lld%c", (long long)bytes, units[unit]);
}

char *key_format(const struct key_spec *spec, const void *object)
{
	const void *value = at_const(spec, object);
	int64_t number = 0;
	if (is_string(spec->type)) {
		const char *s = *(char *const *)value;
		return str_dup(s ? s : "");
	}
	if (spec->type == KEY_LIST)
		return strv_join(*(char **const *)value, ", ");
	if (spec->type == KEY_BOOL)
		return str_dup(*(const bool *)value ? "yes" : "no");
	if (spec->type == KEY_ENUM)
		return str_dup(spec->names[*(const int *)value]);
	memcpy(&number, value, sizeof(number));
	if (spec->type == KEY_SIZE)
		return format_size(number);
	if (spec->type == KEY_DURATION)
		return format_duration(number);
	return str_printf("%lld", (long long)number);
}
