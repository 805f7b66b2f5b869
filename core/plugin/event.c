/* SPDX-License-Identifier: MIT */
#include "plugin/event.h"

#include "base/buf.h"
#include "base/json_text.h"
#include "base/str.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* Longer texts are cut before they are looked at any further. */
#define TEXT_MAX ((size_t)48 << 10)
/* Fields that nobody knows are kept up to this number. */
#define FIELDS_MAX 16
/* Deeper data would overflow a small stack, or the depth limit of whoever reads it. */
#define DEPTH_MAX 128

enum field_type {
	FIELD_STRING,
	FIELD_BOOL,
	FIELD_COUNT, /* an integer of at least 0 */
	FIELD_NUMBER,
	FIELD_ANY,
	FIELD_SEVERITY,
};

struct field {
	const char *name;
	enum field_type type;
	bool required;
};

struct kind {
	const char *name;
	struct field fields[7];
};

static const struct kind kinds[] = {
	[ORCH_EVENT_MESSAGE] = {"message", {{"text", FIELD_STRING, true}}},
	[ORCH_EVENT_TOOL_CALL] = {"tool_call",
		{{"id", FIELD_STRING, true}, {"name", FIELD_STRING, true},
			{"input", FIELD_ANY, true}}},
	[ORCH_EVENT_TOOL_RESULT] = {"tool_result",
		{{"id", FIELD_STRING, true}, {"ok", FIELD_BOOL, true},
			{"output", FIELD_ANY, true}}},
	[ORCH_EVENT_USAGE] = {"usage",
		{{"input", FIELD_COUNT, true}, {"output", FIELD_COUNT, true},
			{"id", FIELD_STRING, false}, {"cache_read", FIELD_COUNT, false},
			{"cache_write", FIELD_COUNT, false}, {"cost", FIELD_NUMBER, false},
			{"total", FIELD_BOOL, false}}},
	[ORCH_EVENT_SESSION] = {"session", {{"id", FIELD_STRING, true}}},
	[ORCH_EVENT_RATE_LIMIT] = {"rate_limit",
		{{"text", FIELD_STRING, true}, {"until", FIELD_COUNT, false}}},
	[ORCH_EVENT_ERROR] = {"error",
		{{"text", FIELD_STRING, true}, {"code", FIELD_STRING, false}}},
	[ORCH_EVENT_PROGRESS] = {"progress", {{"text", FIELD_STRING, true}}},
	[ORCH_EVENT_FINDING] = {"finding",
		{{"severity", FIELD_SEVERITY, true}, {"title", FIELD_STRING, true},
			{"body", FIELD_STRING, false}}},
};

#define KIND_COUNT (sizeof(kinds) / sizeof(kinds[0]))
#define N_FIELDS   (sizeof(kinds[0].fields) / sizeof(kinds[0].fields[0]))

static const char *const severities[] = {"info", "low", "medium", "high", "critical"};

static const char *const type_expected[] = {
	[FIELD_STRING] = "a string",
	[FIELD_BOOL] = "true or false",
	[FIELD_COUNT] = "a whole number of at least 0",
	[FIELD_NUMBER] = "a number of at least 0",
	[FIELD_ANY] = "a value",
	[FIELD_SEVERITY] = "info, low, medium, high or critical",
};

const char *event_kind_name(int kind)
{
	return kind > 0 && (size_t)kind < KIND_COUNT ? kinds[kind].name : NULL;
}

int event_kind_parse(const char *name, enum orch_event_kind *ret)
{
	for (size_t i = 1; i < KIND_COUNT; i++) {
		if (str_eq(name, kinds[i].name)) {
			*ret = (enum orch_event_kind)i;
			return 0;
		}
	}
	return -EINVAL;
}

static bool severity_is_valid(const char *text)
{
	for (size_t i = 0; i < sizeof(severities) / sizeof(severities[0]); i++)
		if (str_eq(text, severities[i]))
			return true;
	return false;
}

static bool field_fits(enum field_type type, const json_t *value)
{
	switch (type) {
	case FIELD_STRING:
		return json_is_string(value);
	case FIELD_BOOL:
		return json_is_boolean(value);
	case FIELD_COUNT:
		return json_is_integer(value) && json_integer_value(value) >= 0;
	case FIELD_NUMBER:
		return json_is_number(value) && json_number_value(value) >= 0;
	case FIELD_SEVERITY:
		return json_is_string(value) && severity_is_valid(json_string_value(value));
	case FIELD_ANY:
		return true;
	}
	return false;
}

int event_check(enum orch_event_kind kind, json_t *data, struct err *e)
{
	const char *name = event_kind_name((int)kind);
	if (!name)
		return err_set(e, -EINVAL, "there is no event kind %d", (int)kind);
	if (!json_is_object(data))
		return err_set(e, -EINVAL, "the data of a %s event is not an object", name);
	for (size_t i = 0; i < N_FIELDS && kinds[kind].fields[i].name; i++) {
		const struct field *f = &kinds[kind].fields[i];
		const json_t *value = json_object_get(data, f->name);
		if (!value && !f->required)
			continue;
		if (!value || !field_fits(f->type, value))
			return err_set(e, -EINVAL, "a %s event needs %s as '%s'", name,
				type_expected[f->type], f->name);
	}
	if (kind != ORCH_EVENT_USAGE)
		return 0;
	if ((!json_object_get(data, "cache_read") &&
		    json_object_set_new(data, "cache_read", json_integer(0)) < 0) ||
		(!json_object_get(data, "cache_write") &&
			json_object_set_new(data, "cache_write", json_integer(0)) < 0))
		return err_nomem(e);
	return 0;
}

static bool field_is_known(enum orch_event_kind kind, const char *name)
{
	for (size_t i = 0; i < N_FIELDS && kinds[kind].fields[i].name; i++)
		if (str_eq(name, kinds[kind].fields[i].name))
			return true;
	return false;
}

/* Takes away what no reader knows, when there is too much of it. */
static void drop_unknown(enum orch_event_kind kind, json_t *data)
{
	const char *key;
	json_t *value;
	void *next;
	json_object_foreach_safe(data, next, key, value)
	{
		if (!field_is_known(kind, key))
			(void)json_object_del(data, key); /* it is there */
	}
}

/* Makes every field at most `limit` bytes of text; what is no text becomes its JSON text. */
static int shorten(json_t *data, size_t limit)
{
	const char *key;
	json_t *value;
	void *next;
	json_object_foreach_safe(data, next, key, value)
	{
		CLEANUP_STR char *dumped = NULL;
		const char *text = json_string_value(value);
		size_t len = text ? json_string_length(value) : 0;
		if (json_is_object(value) || json_is_array(value)) {
			dumped = json_text_dump(value, JSON_COMPACT);
			if (!dumped)
				return -ENOMEM;
			text = dumped;
			len = strlen(dumped);
		}
		if (!text || len <= limit)
			continue;
		json_t *shorter = json_stringn(text, utf8_cut(text, len, limit));
		if (!shorter || json_object_set_new(data, key, shorter) < 0)
			return -ENOMEM;
	}
	return 0;
}

static char *dump_event(const char *kind, json_t *data, size_t *ret_len)
{
	json_t *event = json_pack("{s:s,s:O}", "kind", kind, "data", data);
	char *text = event ? json_text_dump(event, JSON_COMPACT) : NULL;
	json_decref(event);
	if (text)
		*ret_len = strlen(text);
	return text;
}

char *event_encode(enum orch_event_kind kind, json_t *data, size_t *ret_len)
{
	const char *name = event_kind_name((int)kind);
	if (json_object_size(data) > FIELDS_MAX) {
		drop_unknown(kind, data);
		if (json_object_set_new(data, "cut", json_true()) < 0)
			return NULL;
	}
	for (size_t limit = TEXT_MAX;; limit /= 2) {
		size_t len = 0;
		CLEANUP_STR char *text = dump_event(name, data, &len);
		if (!text)
			return NULL;
		if (len <= EVENT_MAX_BYTES) {
			*ret_len = len;
			return TAKE(text);
		}
		if (limit < 1024)
			drop_unknown(kind, data);
		if (shorten(data, limit) < 0 || json_object_set_new(data, "cut", json_true()) < 0)
			return NULL;
	}
}

/* Copies text with NUL and everything that is not UTF-8 replaced. */
static int clean_text(const char *text, size_t len, struct buf *ret)
{
	for (size_t i = 0; i < len;) {
		size_t n = 0;
		for (size_t k = 1; k <= 4 && k <= len - i && n == 0; k++)
			if (utf8_is_valid(text + i, k))
				n = k;
		if (n > 0)
			buf_add(ret, text + i, n);
		else
			buf_adds(ret, "\xef\xbf\xbd");
		i += n > 0 ? n : 1;
	}
	return buf_check(ret);
}

/*
 * How deep the arrays and objects of a JSON text are nested, and whether one of its strings holds
 * an escaped NUL, which not every reader takes.
 */
static size_t scan_json(const char *text, size_t len, bool *ret_nul)
{
	size_t depth = 0, deepest = 0;
	bool in_string = false;
	for (size_t i = 0; i < len; i++) {
		char c = text[i];
		if (in_string && c == '\\') {
			*ret_nul |= len - i >= 6 && memcmp(text + i, "\\u0000", 6) == 0;
			i++;
		} else if (c == '"') {
			in_string = !in_string;
		} else if (!in_string && (c == '{' || c == '[')) {
			depth++;
			deepest = depth > deepest ? depth : deepest;
		} else if (!in_string && (c == '}' || c == ']') && depth > 0) {
			depth--;
		}
	}
	return deepest;
}

/* Writes \ufffd over every \u0000, in place. */
static void replace_escaped_nul(char *text, size_t len)
{
	for (size_t i = 0; i + 6 <= len; i++) {
		if (text[i] != '\\')
			continue;
		if (memcmp(text + i, "\\u0000", 6) == 0)
			memcpy(text + i, "\\ufffd", 6);
		i++;
	}
}

static int parse_json(const char *text, size_t len, json_t **ret, struct err *e)
{
	bool escaped_nul = false;
	if (scan_json(text, len, &escaped_nul) > DEPTH_MAX)
		return err_set(e, -EINVAL, "JSON nested deeper than %d", DEPTH_MAX);
	CLEANUP_BUF struct buf clean = BUF_INIT;
	if (escaped_nul || !utf8_is_valid(text, len)) {
		if (clean_text(text, len, &clean) < 0)
			return err_nomem(e);
		replace_escaped_nul(clean.data, clean.len);
		text = clean.data;
		len = clean.len;
	}
	json_error_t error;
	int r = json_text_parse(text, len, 0, ret, &error);
	if (r == -ENOMEM)
		return err_nomem(e);
	return r < 0 ? err_set(e, -EINVAL, "not JSON: %s", error.text) : 0;
}

int event_parse(
	enum orch_event_kind kind, const char *json, size_t len, json_t **ret, struct err *e)
{
	json_t *data = NULL;
	int r = parse_json(json, len, &data, e);
	if (r < 0)
		return r;
	r = event_check(kind, data, e);
	if (r < 0) {
		json_decref(data);
		return r;
	}
	*ret = data;
	return 0;
}

int event_parse_line(
	const char *line, size_t len, enum orch_event_kind *ret_kind, json_t **ret, struct err *e)
{
	size_t i = 0;
	while (i < len && (line[i] == ' ' || line[i] == '\t'))
		i++;
	if (i == len || line[i] != '{')
		return err_set(e, -EINVAL, "not a JSON object");
	json_t *event = NULL;
	int r = parse_json(line, len, &event, e);
	if (r < 0)
		return r;
	enum orch_event_kind kind = ORCH_EVENT_MESSAGE;
	const char *name = json_string_value(json_object_get(event, "kind"));
	json_t *data = json_object_get(event, "data");
	if (!name || event_kind_parse(name, &kind) < 0)
		r = err_set(e, -EINVAL, "no known kind of event");
	else
		r = event_check(kind, data, e);
	if (r == 0) {
		*ret_kind = kind;
		*ret = json_incref(data);
	}
	json_decref(event);
	return r;
}

json_t *event_text_data(const char *text, size_t len)
{
	bool cut = len > TEXT_MAX;
	CLEANUP_BUF struct buf clean = BUF_INIT;
	len = utf8_cut(text, len, TEXT_MAX);
	if (!utf8_is_valid(text, len)) {
		if (clean_text(text, len, &clean) < 0)
			return NULL;
		text = buf_cstr(&clean);
		len = clean.len;
	}
	json_t *data = json_pack("{s:s%}", "text", text, len);
	if (data && cut && json_object_set_new(data, "cut", json_true()) < 0) {
		json_decref(data);
		return NULL;
	}
	return data;
}
