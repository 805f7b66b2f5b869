/* SPDX-License-Identifier: MIT */
/* The parts of plugins/common that need no agent. */
#include "../../plugins/common/line.h"
#include "../../plugins/common/verdict.h"
#include "../../plugins/common/words.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define NOW      INT64_C(1790000000000)
#define HOUR     INT64_C(3600000)

static void test_words(void **state)
{
	(void)state;
	static const struct {
		const char *line;
		const char *words[4];
	} table[] = {
		{"", {NULL}},
		{"  one\ttwo\n three ", {"one", "two", "three"}},
		{"-c \"a 'b' c\" 'd \"e\" \\ f'", {"-c", "a 'b' c", "d \"e\" \\ f"}},
		{"a\\ b \"c\\\"d\" e''f", {"a b", "c\"d", "ef"}},
		{"'' \"open quote", {"", "open quote"}},
		{"$HOME `x` *", {"$HOME", "`x`", "*"}},
	};
	for (size_t i = 0; i < COUNT(table); i++) {
		struct words w = {0};
		words_add_line(&w, table[i].line);
		assert_false(words_failed(&w));
		size_t n = 0;
		for (; n < 4 && table[i].words[n]; n++) {
			assert_true(n < w.count);
			assert_string_equal(w.list[n], table[i].words[n]);
		}
		assert_int_equal(w.count, n);
		words_deinit(&w);
	}
}

static void test_verdicts(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int outcome;
	} table[] = {
		{"unexpected status 401 Unauthorized: no", ORCH_OUTCOME_AUTH_FAILED},
		{"API Error: 403 forbidden", ORCH_OUTCOME_AUTH_FAILED},
		{"[API Error: {\"error\":{\"code\":429,\"message\":\"x\"}}]",
			ORCH_OUTCOME_RATE_LIMITED},
		{"API Error: Request rejected (429) · slow", ORCH_OUTCOME_RATE_LIMITED},
		{"API Error: 529 Overloaded", ORCH_OUTCOME_RATE_LIMITED},
		{"Internal error: {\"details\":\"401 bad\"}", ORCH_OUTCOME_AUTH_FAILED},
		{"unexpected status 500 Oops: try 401 things", ORCH_OUTCOME_AGENT_ERROR},
		{"Invalid API key · Please run /login", ORCH_OUTCOME_AUTH_FAILED},
		{"You've hit your usage limit.", ORCH_OUTCOME_RATE_LIMITED},
		{"status 4011", ORCH_OUTCOME_AGENT_ERROR},
		{"cannot read file 401", ORCH_OUTCOME_AGENT_ERROR},
		{"", ORCH_OUTCOME_AGENT_ERROR},
		{NULL, ORCH_OUTCOME_AGENT_ERROR},
	};
	for (size_t i = 0; i < COUNT(table); i++)
		if (verdict_of_text(table[i].text) != table[i].outcome)
			fail_msg("%s: %d", table[i].text ? table[i].text : "(null)",
				verdict_of_text(table[i].text));
}

static void test_reset_times(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int64_t at;
	} table[] = {
		{"Please try again in 1.5s.", NOW + 1500},
		{"try again in 3 days 4 hours 12 minutes.", NOW + 76 * HOUR + 12 * 60000},
		{"Please retry in 34.07s", NOW + 34070},
		{"{\"retryDelay\":\"34s\"}", NOW + 34000},
		{"Try again in 20ms", NOW + 20},
		{"try again in 1h2m", NOW + HOUR + 120000},
		{"usage limit reached|1790003600", INT64_C(1790003600000)},
		{"try again later", 0},
		{"try again in a while", 0},
		{"try again in 900 days", 0},
		{NULL, 0},
	};
	for (size_t i = 0; i < COUNT(table); i++)
		if (verdict_reset_in(table[i].text, NOW) != table[i].at)
			fail_msg("%s: %lld", table[i].text ? table[i].text : "(null)",
				(long long)verdict_reset_in(table[i].text, NOW));
	assert_int_equal(verdict_retry_after("120", NOW), NOW + 120000);
	assert_int_equal(verdict_retry_after("Fri, 20 Nov 2026 09:27:13 GMT", NOW), 1795166833000);
	assert_int_equal(verdict_retry_after("soon", NOW), 0);
	assert_int_equal(verdict_retry_after(NULL, NOW), 0);
}

static void test_lines(void **state)
{
	(void)state;
	static const char *const good[] = {"{\"a\": 1, \"text\": \"x\"}", " \t{\"text\":\"x\"}\r",
		"{\"text\":\"x\",\"b\":\"\\ud83d\"}",
		"{\"text\":\"x\",\"b\":\"\\ude00 \\\\ud83d\"}",
		"{\"text\":\"x\",\"b\":\"\xff\xc3\"}", "{\"text\":\"x\",\"b\":\"\\u0000\"}"};
	static const char *const bad[] = {"", "x", "[1", "7", "{\"a\"", "{\"a\":1} {", "null"};
	for (size_t i = 0; i < COUNT(good); i++) {
		json_t *json = line_parse(good[i], strlen(good[i]));
		if (!json)
			fail_msg("%s", good[i]);
		assert_string_equal(line_text(json, "text"), "x");
		json_decref(json);
	}
	for (size_t i = 0; i < COUNT(bad); i++)
		assert_null(line_parse(bad[i], strlen(bad[i])));
	json_t *batch = line_parse("[{}, 1]", 7);
	assert_int_equal(json_array_size(batch), 2);
	json_decref(batch);
}

static void test_cut_lines(void **state)
{
	(void)state;
	static const struct {
		const char *line;
		json_int_t id;
		const char *method;
	} table[] = {
		{"{\"id\":7,\"method\":\"m\",\"params\":{\"id\":8,\"x", 7, "m"},
		{"{\"method\":\"a\\\",{\",\"id\":7,\"params\":[[1,{\"b\":2},", 7, "a\",{"},
		{"{\"id\":7,\"result\":\"a,b", 7, NULL},
		{"{\"params\":{\"id\":8,", 0, NULL},
		{"{\"id\":7", 0, NULL},
		{"[{\"id\":7,\"a\":", 0, NULL},
		{"]],{,", 0, NULL},
		{"", 0, NULL},
	};
	for (size_t i = 0; i < COUNT(table); i++) {
		json_t *json = line_parse_cut(table[i].line, strlen(table[i].line));
		const char *method = line_text(json, "method");
		if (line_int(json, "id") != table[i].id || !method != !table[i].method ||
			(method && strcmp(method, table[i].method) != 0))
			fail_msg("%s", table[i].line);
		json_decref(json);
	}
}

static void test_fields(void **state)
{
	(void)state;
	static const char line[] = "{\"a\":{\"b\":{\"c\":7,\"d\":2.9,\"t\":true}},\"s\":\"x\"}";
	json_t *json = line_parse(line, sizeof(line) - 1);
	assert_non_null(json);
	assert_int_equal(line_int(json, "a.b.c"), 7);
	assert_int_equal(line_int(json, "a.b.d"), 2);
	assert_int_equal(line_int(json, "a.x.c"), 0);
	assert_int_equal(line_int(json, "s"), 0);
	assert_true(line_true(json, "a.b.t"));
	assert_false(line_true(json, "s"));
	assert_null(line_text(json, "a"));
	assert_null(line_text(NULL, "a.b"));
	json_decref(json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_verdicts),
		cmocka_unit_test(test_reset_times),
		cmocka_unit_test(test_lines),
		cmocka_unit_test(test_cut_lines),
		cmocka_unit_test(test_fields),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
