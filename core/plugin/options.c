/* SPDX-License-Identifier: MIT */
#include "plugin/options.h"

#include "base/str.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define OPTIONS_MAX     256
#define KEY_MAX         64
#define OPTION_SIZE_MAX 4096

static const char *const type_names[] = {
	[ORCH_OPTION_STRING] = "string",
	[ORCH_OPTION_BOOL] = "bool",
	[ORCH_OPTION_INT] = "int",
	[ORCH_OPTION_DURATION] = "duration",
	[ORCH_OPTION_SIZE] = "size",
};

static const char *const type_expected[] = {
	[ORCH_OPTION_STRING] = "a text",
	[ORCH_OPTION_BOOL] = "yes or no",
	[ORCH_OPTION_INT] = "a whole number",
	[ORCH_OPTION_DURATION] = "a duration such as 90s, 1m30s, 500ms or off",
	[ORCH_OPTION_SIZE] = "a size such as 500, 64K, 100M or 1G",
};

/* Keys of [harness:NAME] that orch itself reads. */
static const char *const reserved_keys[] = {
	"plugin", "max_agents", "pass_env", "env_file", "token_budget"};

const char *option_type_name(uint32_t type)
{
	return type < sizeof(type_names) / sizeof(type_names[0]) ? type_names[type] : NULL;
}

void option_values_deinit(struct option_values *v)
{
	vec_foreach(value, &v->list) {
		free(value->key);
		free(value->text);
	}
	VEC_FREE(&v->list);
}

const struct orch_option *options_next(
	const struct orch_option *table, const struct orch_option *at)
{
	if (!table)
		return NULL;
	const struct orch_option *next =
		at ? (const struct orch_option *)(const void *)((const char *)at + at->size)
		   : table;
	return next->size == 0 ? NULL : next;
}

static bool key_is_valid(const char *key)
{
	size_t len = strlen(key);
	return len > 0 && len <= KEY_MAX && key[0] >= 'a' && key[0] <= 'z' &&
	       strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789_") == len;
}

static bool key_is_reserved(const char *key)
{
	for (size_t i = 0; i < sizeof(reserved_keys) / sizeof(reserved_keys[0]); i++)
		if (str_eq(key, reserved_keys[i]))
			return true;
	return false;
}

/* -EINVAL: text is not a value of the type; -ENOMEM. */
static int value_parse(uint32_t type, const char *text, char **ret_text, int64_t *ret_number)
{
	char number_text[32];
	const char *canonical = text;
	int64_t number = 0;
	bool yes = false;
	int r = 0;
	switch ((enum orch_option_type)type) {
	case ORCH_OPTION_STRING:
		break;
	case ORCH_OPTION_BOOL:
		r = parse_bool(text, &yes);
		number = yes;
		canonical = yes ? "yes" : "no";
		break;
	case ORCH_OPTION_INT:
		r = parse_int64(text, INT64_MIN, INT64_MAX, &number);
		break;
	case ORCH_OPTION_DURATION:
		r = parse_duration_ms(text, &number);
		break;
	case ORCH_OPTION_SIZE:
		r = parse_size_bytes(text, &number);
		break;
	}
	if (r < 0)
		return r;
	if (type == ORCH_OPTION_DURATION && number == DURATION_OFF) {
		canonical = "off";
	} else if (type != ORCH_OPTION_STRING && type != ORCH_OPTION_BOOL) {
		(void)snprintf(number_text, sizeof(number_text), "%" PRId64, number);
		canonical = number_text;
	}
	char *copy = str_dup(canonical);
	if (!copy)
		return -ENOMEM;
	*ret_text = copy;
	*ret_number = number;
	return 0;
}

static int check_element(const struct orch_option *o, struct err *e)
{
	if (o->size < sizeof(struct orch_option) || o->size > OPTION_SIZE_MAX ||
		o->size % _Alignof(struct orch_option) != 0)
		return err_set(e, -EINVAL, "an option with an impossible size, %u", o->size);
	if (!o->key || !key_is_valid(o->key))
		return err_set(
			e, -EINVAL, "an option with the bad key '%s'", o->key ? o->key : "(null)");
	if (key_is_reserved(o->key))
		return err_set(e, -EINVAL, "the option '%s', a key that belongs to orch", o->key);
	if (!option_type_name(o->type))
		return err_set(e, -EINVAL, "the option '%s' of unknown type %u", o->key, o->type);
	if (!o->help)
		return err_set(e, -EINVAL, "the option '%s' without a help text", o->key);
	if (o->default_value) {
		CLEANUP_STR char *text = NULL;
		int64_t number;
		int r = value_parse(o->type, o->default_value, &text, &number);
		if (r == -EINVAL)
			return err_set(e, r, "the option '%s' with the default '%s', not %s",
				o->key, o->default_value, type_expected[o->type]);
		if (r < 0)
			return err_nomem(e);
	}
	return 0;
}

int options_check_table(const struct orch_option *table, struct err *e)
{
	size_t count = 0;
	for (const struct orch_option *o = options_next(table, NULL); o;
		o = options_next(table, o)) {
		int r = check_element(o, e);
		if (r < 0)
			return r;
		if (++count > OPTIONS_MAX)
			return err_set(e, -EINVAL, "more than %d options", OPTIONS_MAX);
		for (const struct orch_option *p = table; p != o; p = options_next(table, p))
			if (str_eq(p->key, o->key))
				return err_set(e, -EINVAL, "the option '%s' twice", o->key);
	}
	return 0;
}

static const struct orch_option *table_get(const struct orch_option *table, const char *key)
{
	for (const struct orch_option *o = options_next(table, NULL); o; o = options_next(table, o))
		if (str_eq(o->key, key))
			return o;
	return NULL;
}

static int check_keys(const struct orch_option *table, const struct plugin_setting *settings,
	size_t n_settings, struct err *e)
{
	for (size_t i = 0; i < n_settings; i++) {
		if (table_get(table, settings[i].key))
			continue;
		CLEANUP_STRV char **known = NULL;
		for (const struct orch_option *o = options_next(table, NULL); o;
			o = options_next(table, o))
			if (strv_add(&known, o->key) < 0)
				return err_nomem(e);
		CLEANUP_STR char *list = strv_join(known, ", ");
		return err_set(e, -EINVAL, "unknown option '%s' (it has: %s)", settings[i].key,
			list && list[0] ? list : "none");
	}
	return 0;
}

int options_resolve(const struct orch_option *table, const struct plugin_setting *settings,
	size_t n_settings, struct option_values *ret, struct err *e)
{
	int r = check_keys(table, settings, n_settings, e);
	if (r < 0)
		return r;
	CLEANUP(option_values_deinit) struct option_values values = OPTION_VALUES_INIT;
	for (const struct orch_option *o = options_next(table, NULL); o;
		o = options_next(table, o)) {
		const char *text = o->default_value;
		for (size_t i = 0; i < n_settings; i++)
			if (str_eq(settings[i].key, o->key))
				text = settings[i].value;
		struct option_value *v = VEC_PUSH(&values.list);
		if (!v || !(v->key = str_dup(o->key)))
			return err_nomem(e);
		if (!text)
			continue;
		r = value_parse(o->type, text, &v->text, &v->number);
		if (r == -EINVAL)
			return err_set(e, r, "option '%s' is '%s', expected %s", o->key, text,
				type_expected[o->type]);
		if (r < 0)
			return err_nomem(e);
	}
	*ret = values;
	values = OPTION_VALUES_INIT;
	return 0;
}

const struct option_value *option_values_get(const struct option_values *v, const char *key)
{
	vec_foreach(value, &v->list)
		if (str_eq(value->key, key))
			return value;
	return NULL;
}
