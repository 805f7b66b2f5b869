/* SPDX-License-Identifier: MIT */
#include "unit/spec.h"

#include "base/json_text.h"
#include "base/str.h"
#include "os/file.h"

#include <errno.h>
#include <jansson.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>

#define SPEC_VERSION       1
#define SPEC_MAX_BYTES     (16U << 20)
#define COMMAND_OUTPUT_CAP (1LL << 20)
#define AGENT_OUTPUT_CAP   (64LL << 20)

#define X(id, name)        name,
static const char *const kind_names[] = {UNIT_KINDS(X)};
static const char *const containment_names[] = {UNIT_CONTAINMENTS(X)};
static const char *const on_crash_names[] = {UNIT_ON_CRASHES(X)};
#undef X

static int find_name(const char *const *names, int count, const char *name)
{
	for (int i = 0; name && i < count; i++)
		if (str_eq(names[i], name))
			return i;
	return -EINVAL;
}

const char *unit_kind_name(enum unit_kind kind)
{
	return kind_names[kind];
}

const char *unit_containment_name(enum unit_containment containment)
{
	return containment_names[containment];
}

const char *unit_on_crash_name(enum unit_on_crash on_crash)
{
	return on_crash_names[on_crash];
}

int unit_kind_parse(const char *name, enum unit_kind *ret)
{
	int i = find_name(kind_names, UNIT_KIND_COUNT, name);
	if (i < 0)
		return i;
	*ret = (enum unit_kind)i;
	return 0;
}

int unit_containment_parse(const char *name, enum unit_containment *ret)
{
	int i = find_name(containment_names, CONTAINMENT_COUNT, name);
	if (i < 0)
		return i;
	*ret = (enum unit_containment)i;
	return 0;
}

int unit_on_crash_parse(const char *name, enum unit_on_crash *ret)
{
	int i = find_name(on_crash_names, ON_CRASH_COUNT, name);
	if (i < 0)
		return i;
	*ret = (enum unit_on_crash)i;
	return 0;
}

/* The members that are plain strings and numbers: one table for both directions. */
#define STRING(field) \
	{ \
#field, offsetof(struct unit_spec, field) \
	}
static const struct {
	const char *key;
	size_t offset;
} strings[] = {
	STRING(plan),
	STRING(task),
	STRING(name),
	STRING(cwd),
	STRING(command),
	STRING(harness),
	STRING(plugin),
	STRING(plugin_path),
	STRING(prompt_file),
	STRING(session),
	STRING(tmpdir),
};
static const struct {
	const char *key;
	size_t offset;
} numbers[] = {
	STRING(attempt),
	STRING(timeout_ms),
	STRING(silence_ms),
	STRING(runaway_events),
	STRING(runaway_bytes),
	STRING(output_cap_bytes),
	STRING(callback_timeout_ms),
	STRING(kill_grace_ms),
	STRING(session_input),
	STRING(session_output),
	STRING(session_cache_read),
	STRING(session_cache_write),
};
#undef STRING

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static char **string_at(const struct unit_spec *s, size_t offset)
{
	return (char **)(void *)((char *)(uintptr_t)s + offset);
}

static int64_t *number_at(const struct unit_spec *s, size_t offset)
{
	return (int64_t *)(void *)((char *)(uintptr_t)s + offset);
}

void unit_spec_init(struct unit_spec *s, enum unit_kind kind)
{
	*s = (struct unit_spec){
		.kind = kind,
		.output_cap_bytes = kind == UNIT_AGENT ? AGENT_OUTPUT_CAP : COMMAND_OUTPUT_CAP,
		.callback_timeout_ms = 10000,
		.kill_grace_ms = 5000,
	};
}

void unit_spec_deinit(struct unit_spec *s)
{
	for (size_t i = 0; i < COUNT(strings); i++)
		free(*string_at(s, strings[i].offset));
	free(s->prompt);
	strv_free(s->argv);
	strv_free(s->mask_env);
	vec_foreach(option, &s->options) {
		free(option->key);
		free(option->value);
	}
	VEC_FREE(&s->options);
	*s = (struct unit_spec){0};
}

int unit_spec_add_option(struct unit_spec *s, const char *key, const char *value)
{
	CLEANUP_STR char *k = strdup(key);
	CLEANUP_STR char *v = strdup(value);
	if (!k || !v)
		return -ENOMEM;
	struct unit_option *option = VEC_PUSH(&s->options);
	if (!option)
		return -ENOMEM;
	option->key = TAKE(k);
	option->value = TAKE(v);
	return 0;
}

bool unit_id_is_valid(const char *id)
{
	return strlen(id) == UNIT_ID_LEN && strspn(id, "0123456789abcdef") == UNIT_ID_LEN;
}

int unit_spec_new_id(struct unit_spec *s, struct err *e)
{
	uint8_t bits[UNIT_ID_LEN / 2];
	if (getrandom(bits, sizeof(bits), 0) != (ssize_t)sizeof(bits))
		return err_errno(e, -errno, "cannot get random bytes");
	hex_encode(bits, sizeof(bits), s->id);
	free(s->tmpdir);
	s->tmpdir = str_printf("/tmp/orch-%.8s", s->id);
	return s->tmpdir ? 0 : err_nomem(e);
}

/* Consumes value. */
static int set(json_t *object, const char *key, json_t *value)
{
	return json_object_set_new(object, key, value) < 0 ? -ENOMEM : 0;
}

static json_t *strv_to_json(char *const *v)
{
	json_t *array = json_array();
	for (size_t i = 0; array && v[i]; i++) {
		if (json_array_append_new(array, json_string(v[i])) < 0) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

static json_t *options_to_json(const struct unit_spec *s)
{
	json_t *object = json_object();
	vec_foreach(option, &s->options) {
		if (object &&
			json_object_set_new(object, option->key, json_string(option->value)) < 0) {
			json_decref(object);
			return NULL;
		}
	}
	return object;
}

static int spec_to_json(const struct unit_spec *s, json_t *o)
{
	int r = set(o, "v", json_integer(SPEC_VERSION));
	r |= set(o, "id", json_string(s->id));
	r |= set(o, "kind", json_string(unit_kind_name(s->kind)));
	for (size_t i = 0; i < COUNT(strings); i++) {
		const char *value = *string_at(s, strings[i].offset);
		if (value)
			r |= set(o, strings[i].key, json_string(value));
	}
	for (size_t i = 0; i < COUNT(numbers); i++)
		r |= set(o, numbers[i].key, json_integer(*number_at(s, numbers[i].offset)));
	if (s->argv)
		r |= set(o, "argv", strv_to_json(s->argv));
	if (s->mask_env)
		r |= set(o, "mask_env", strv_to_json(s->mask_env));
	if (s->options.count > 0)
		r |= set(o, "options", options_to_json(s));
	r |= set(o, "resume", json_boolean(s->resume));
	r |= set(o, "containment", json_string(unit_containment_name(s->containment)));
	r |= set(o, "on_crash", json_string(unit_on_crash_name(s->on_crash)));
	return r < 0 ? -ENOMEM : 0;
}

/* jansson does not tell a text that is no UTF-8 from out of memory. */
static bool is_text(const char *s)
{
	return !s || utf8_is_valid(s, strlen(s));
}

static bool strv_is_text(char *const *v)
{
	for (size_t i = 0; v && v[i]; i++)
		if (!is_text(v[i]))
			return false;
	return true;
}

static bool spec_is_text(const struct unit_spec *s)
{
	bool valid = strv_is_text(s->argv) && strv_is_text(s->mask_env);
	for (size_t i = 0; i < COUNT(strings); i++)
		valid = valid && is_text(*string_at(s, strings[i].offset));
	vec_foreach(option, &s->options)
		valid = valid && is_text(option->key) && is_text(option->value);
	return valid;
}

int unit_spec_write(int dirfd, const struct unit_spec *s, struct err *e)
{
	json_t *o = json_object();
	if (!o)
		return err_nomem(e);
	CLEANUP_STR char *text = spec_to_json(s, o) == 0 ? json_text_dump(o, JSON_INDENT(1)) : NULL;
	json_decref(o);
	if (!text && !spec_is_text(s))
		return err_set(e, -EINVAL,
			"cannot write the unit's " UNIT_FILE_SPEC ": a text in it is not UTF-8");
	if (!text)
		return err_nomem(e);
	return file_write_new(dirfd, UNIT_FILE_SPEC, text, strlen(text), 0600, e);
}

/* The names end up in paths and messages, the rest is looked at by who uses it. */
static int bad(struct err *e, const char *what)
{
	return err_set(e, -EBADMSG, UNIT_FILE_SPEC ": %s", what);
}

static int json_to_strv(const json_t *array, char ***ret, struct err *e)
{
	if (!array)
		return 0;
	size_t i;
	json_t *value;
	json_array_foreach(array, i, value) {
		if (!json_is_string(value))
			return bad(e, "a list holds something else than strings");
		if (strv_add(ret, json_string_value(value)) < 0)
			return err_nomem(e);
	}
	return 0;
}

static int read_scalars(const json_t *o, struct unit_spec *s, struct err *e)
{
	for (size_t i = 0; i < COUNT(strings); i++) {
		const json_t *value = json_object_get(o, strings[i].key);
		if (!value)
			continue;
		if (!json_is_string(value))
			return bad(e, strings[i].key);
		if (str_replace(string_at(s, strings[i].offset), json_string_value(value)) < 0)
			return err_nomem(e);
	}
	for (size_t i = 0; i < COUNT(numbers); i++) {
		const json_t *value = json_object_get(o, numbers[i].key);
		if (!value)
			continue;
		if (!json_is_integer(value))
			return bad(e, numbers[i].key);
		*number_at(s, numbers[i].offset) = json_integer_value(value);
	}
	return 0;
}

static int json_to_spec(json_t *o, struct unit_spec *s, struct err *e)
{
	if (json_integer_value(json_object_get(o, "v")) != SPEC_VERSION)
		return bad(e, "written by another version");
	const char *id = json_string_value(json_object_get(o, "id"));
	if (!id || !unit_id_is_valid(id))
		return bad(e, "no valid id");
	enum unit_kind kind;
	if (unit_kind_parse(json_string_value(json_object_get(o, "kind")), &kind) < 0)
		return bad(e, "no valid kind");
	unit_spec_init(s, kind);
	memcpy(s->id, id, UNIT_ID_LEN);
	int r = read_scalars(o, s, e);
	if (r == 0)
		r = json_to_strv(json_object_get(o, "argv"), &s->argv, e);
	if (r == 0)
		r = json_to_strv(json_object_get(o, "mask_env"), &s->mask_env, e);
	const char *key;
	json_t *value;
	json_object_foreach(json_object_get(o, "options"), key, value)
		if (r == 0 && unit_spec_add_option(s, key, json_string_value(value)) < 0)
			r = err_nomem(e);
	if (r < 0)
		return r;
	s->resume = json_is_true(json_object_get(o, "resume"));
	if (unit_containment_parse(
		    json_string_value(json_object_get(o, "containment")), &s->containment) < 0)
		return bad(e, "no valid containment");
	if (unit_on_crash_parse(json_string_value(json_object_get(o, "on_crash")), &s->on_crash) <
		0)
		return bad(e, "no valid on_crash");
	return 0;
}

int unit_spec_read(int dirfd, struct unit_spec *ret, struct err *e)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	int r = file_read(dirfd, UNIT_FILE_SPEC, SPEC_MAX_BYTES, &text, e);
	if (r < 0)
		return r;
	json_error_t error;
	json_t *o = NULL;
	r = json_text_parse(buf_cstr(&text), text.len, JSON_REJECT_DUPLICATES, &o, &error);
	if (r < 0)
		return r == -ENOMEM ? err_nomem(e) : bad(e, error.text);
	CLEANUP_UNIT_SPEC struct unit_spec s = {0};
	r = json_to_spec(o, &s, e);
	json_decref(o);
	if (r < 0)
		return r;
	*ret = s;
	s = (struct unit_spec){0};
	return 0;
}
