/* SPDX-License-Identifier: MIT */
#include "plugin/event.h"

#include "base/str.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_names_and_kinds_agree(void **state)
{
	(void)state;
	for (int kind = ORCH_EVENT_MESSAGE; kind <= ORCH_EVENT_FINDING; kind++) {
		enum orch_event_kind parsed;
		assert_int_equal(event_kind_parse(event_kind_name(kind), &parsed), 0);
		assert_int_equal(parsed, kind);
	}
	assert_null(event_kind_name(0));
	assert_null(event_kind_name(ORCH_EVENT_FINDING + 1));
	assert_null(event_kind_name(-1));
	enum orch_event_kind kind;
	assert_int_equal(event_kind_parse("", &kind), -EINVAL);
	assert_int_equal(event_kind_parse("started", &kind), -EINVAL);
}

static void test_data_that_a_kind_takes(void **state)
{
	(void)state;
	static const struct {
		enum orch_event_kind kind;
		const char *data;
		int expected;
	} cases[] = {
		{ORCH_EVENT_MESSAGE, "{\"text\":\"x\"}", 0},
		{ORCH_EVENT_MESSAGE, "{\"text\":\"x\",\"more\":[1]}", 0},
		{ORCH_EVENT_MESSAGE, "{\"text\":1}", -EINVAL},
		{ORCH_EVENT_MESSAGE, "{}", -EINVAL},
		{ORCH_EVENT_MESSAGE, "[]", -EINVAL},
		{ORCH_EVENT_MESSAGE, "{\"text\":", -EINVAL},
		{ORCH_EVENT_MESSAGE, "", -EINVAL},
		{ORCH_EVENT_TOOL_CALL, "{\"id\":\"1\",\"name\":\"sh\",\"input\":{\"a\":1}}", 0},
		{ORCH_EVENT_TOOL_CALL, "{\"id\":\"1\",\"name\":\"sh\"}", -EINVAL},
		{ORCH_EVENT_TOOL_RESULT, "{\"id\":\"1\",\"ok\":true,\"output\":\"\"}", 0},
		{ORCH_EVENT_TOOL_RESULT, "{\"id\":\"1\",\"ok\":\"yes\",\"output\":\"\"}", -EINVAL},
		{ORCH_EVENT_USAGE, "{\"input\":1,\"output\":2}", 0},
		{ORCH_EVENT_USAGE, "{\"input\":-1,\"output\":2}", -EINVAL},
		{ORCH_EVENT_USAGE, "{\"input\":1.5,\"output\":2}", -EINVAL},
		{ORCH_EVENT_USAGE, "{\"input\":1,\"output\":2,\"cost\":0.5,\"total\":true}", 0},
		{ORCH_EVENT_SESSION, "{\"id\":\"s\"}", 0},
		{ORCH_EVENT_RATE_LIMIT, "{\"text\":\"wait\",\"until\":1700000000000}", 0},
		{ORCH_EVENT_RATE_LIMIT, "{\"text\":\"wait\",\"until\":\"soon\"}", -EINVAL},
		{ORCH_EVENT_ERROR, "{\"text\":\"no\",\"code\":\"E1\"}", 0},
		{ORCH_EVENT_PROGRESS, "{\"text\":\"half\"}", 0},
		{ORCH_EVENT_FINDING, "{\"severity\":\"high\",\"title\":\"t\"}", 0},
		{ORCH_EVENT_FINDING, "{\"severity\":\"awful\",\"title\":\"t\"}", -EINVAL},
		{(enum orch_event_kind)77, "{\"text\":\"x\"}", -EINVAL},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		json_t *data = NULL;
		struct err e = ERR_INIT;
		int r = event_parse(cases[i].kind, cases[i].data, strlen(cases[i].data), &data, &e);
		if (r != cases[i].expected)
			fail_msg("%s: %d (%s)", cases[i].data, r, e.msg);
		json_decref(data);
	}
}

static void test_usage_always_has_the_cache_counts(void **state)
{
	(void)state;
	const char *text = "{\"input\":1,\"output\":2,\"cache_read\":3}";
	json_t *data = NULL;
	assert_int_equal(event_parse(ORCH_EVENT_USAGE, text, strlen(text), &data, NULL), 0);
	assert_int_equal(json_integer_value(json_object_get(data, "cache_read")), 3);
	assert_true(json_is_integer(json_object_get(data, "cache_write")));
	json_decref(data);
}

static void test_a_line_that_is_an_event(void **state)
{
	(void)state;
	enum orch_event_kind kind = 0;
	json_t *data = NULL;
	const char *line = " {\"kind\":\"progress\",\"data\":{\"text\":\"half\"}}";
	assert_int_equal(event_parse_line(line, strlen(line), &kind, &data, NULL), 0);
	assert_int_equal(kind, ORCH_EVENT_PROGRESS);
	size_t len = 0;
	CLEANUP_STR char *encoded = event_encode(kind, data, &len);
	assert_string_equal(encoded, line + 1);
	assert_int_equal(len, strlen(encoded));
	json_decref(data);
	static const char *const others[] = {"", "  ", "words", "{", "{}",
		"{\"kind\":\"progress\"}", "{\"kind\":\"progress\",\"data\":{}}",
		"{\"kind\":\"wat\",\"data\":{\"text\":\"\"}}",
		"{\"kind\":7,\"data\":{\"text\":\"\"}}", "[{\"kind\":\"progress\"}]"};
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		assert_int_equal(event_parse_line(others[i], strlen(others[i]), &kind, &data, NULL),
			-EINVAL);
}

static void test_bytes_that_are_no_text_are_replaced(void **state)
{
	(void)state;
	json_t *data = event_text_data("a\0\xff\xc3\xa9\xe2\x82", 7);
	assert_string_equal(json_string_value(json_object_get(data, "text")),
		"a\xef\xbf\xbd\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\xef\xbf\xbd");
	json_decref(data);
	/* NUL as an escape, which many readers refuse; a backslash before it is no escape. */
	const char *text = "{\"text\":\"\\u0000 \\\\u0000 \xff\"}";
	assert_int_equal(event_parse(ORCH_EVENT_MESSAGE, text, strlen(text), &data, NULL), 0);
	assert_string_equal(json_string_value(json_object_get(data, "text")),
		"\xef\xbf\xbd \\u0000 \xef\xbf\xbd");
	json_decref(data);
}

static void test_deep_nesting_is_refused(void **state)
{
	(void)state;
	CLEANUP_STR char *deep = calloc(1, 100001);
	memset(deep, '[', 100000);
	struct err e = ERR_INIT;
	json_t *data = NULL;
	assert_int_equal(event_parse(ORCH_EVENT_MESSAGE, deep, 100000, &data, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "nested deeper"));
}

/* Encodes, asserts that it fits and parses, and returns the data of the result. */
static json_t *encoded_data(enum orch_event_kind kind, json_t *data)
{
	size_t len = 0;
	CLEANUP_STR char *text = event_encode(kind, data, &len);
	json_decref(data);
	assert_non_null(text);
	assert_true(len <= EVENT_MAX_BYTES);
	json_t *event = json_loadb(text, len, 0, NULL);
	assert_non_null(event);
	json_t *result = json_incref(json_object_get(event, "data"));
	json_decref(event);
	assert_true(json_is_true(json_object_get(result, "cut")));
	assert_int_equal(event_check(kind, result, NULL), 0);
	return result;
}

static void test_long_data_is_cut_and_marked(void **state)
{
	(void)state;
	size_t len = 3000000;
	CLEANUP_STR char *text = malloc(len + 1);
	assert_non_null(text);
	/* Two bytes a letter, so that a careless cut shows; control characters grow sixfold. */
	for (size_t i = 0; i < len; i += 2)
		memcpy(text + i, "\xc3\xa9", 2);
	json_t *data = encoded_data(ORCH_EVENT_MESSAGE, event_text_data(text, len));
	assert_true(json_string_length(json_object_get(data, "text")) > 40000);
	json_decref(data);
	memset(text, 1, len);
	data = encoded_data(ORCH_EVENT_MESSAGE, event_text_data(text, len));
	assert_true(json_string_length(json_object_get(data, "text")) > 4000);
	json_decref(data);

	memset(text, 'x', len);
	text[len] = '\0';
	json_t *input = json_pack("{s:s,s:[s]}", "path", "p", "lines", text);
	data = encoded_data(ORCH_EVENT_TOOL_CALL,
		json_pack("{s:s,s:s,s:o}", "id", "1", "name", "write", "input", input));
	assert_true(json_is_string(json_object_get(data, "input")));
	json_decref(data);

	json_t *wide = json_pack("{s:s}", "text", "kept");
	for (int i = 0; i < 10000; i++) {
		char key[32];
		snprintf(key, sizeof(key), "field-%d", i);
		json_object_set_new(wide, key, json_integer(i));
	}
	data = encoded_data(ORCH_EVENT_PROGRESS, wide);
	assert_string_equal(json_string_value(json_object_get(data, "text")), "kept");
	json_decref(data);

	text[200000] = '\0';
	json_t *long_key = json_pack("{s:s}", "text", "kept");
	json_object_set_new(long_key, text, json_true());
	json_decref(encoded_data(ORCH_EVENT_PROGRESS, long_key));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names_and_kinds_agree),
		cmocka_unit_test(test_data_that_a_kind_takes),
		cmocka_unit_test(test_usage_always_has_the_cache_counts),
		cmocka_unit_test(test_a_line_that_is_an_event),
		cmocka_unit_test(test_bytes_that_are_no_text_are_replaced),
		cmocka_unit_test(test_deep_nesting_is_refused),
		cmocka_unit_test(test_long_data_is_cut_and_marked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
