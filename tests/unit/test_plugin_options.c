/* SPDX-License-Identifier: MIT */
#include "plugin/options.h"

#include "base/str.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const struct orch_option table[] = {
	ORCH_OPTION("model", ORCH_OPTION_STRING, "large", "which model"),
	ORCH_OPTION("loud", ORCH_OPTION_BOOL, "no", "a switch"),
	ORCH_OPTION("turns", ORCH_OPTION_INT, NULL, "a number"),
	ORCH_OPTION("rest", ORCH_OPTION_DURATION, "1m30s", "a time"),
	ORCH_OPTION("room", ORCH_OPTION_SIZE, "64K", "a size"),
	ORCH_OPTIONS_END,
};

static void assert_value(
	const struct option_values *v, const char *key, const char *text, int64_t number)
{
	const struct option_value *value = option_values_get(v, key);
	assert_non_null(value);
	if (text)
		assert_string_equal(value->text, text);
	else
		assert_null(value->text);
	assert_int_equal(value->number, number);
}

static void test_defaults(void **state)
{
	(void)state;
	CLEANUP(option_values_deinit) struct option_values v = OPTION_VALUES_INIT;
	assert_int_equal(options_check_table(table, NULL), 0);
	assert_int_equal(options_resolve(table, NULL, 0, &v, NULL), 0);
	assert_value(&v, "model", "large", 0);
	assert_value(&v, "loud", "no", 0);
	assert_value(&v, "turns", NULL, 0);
	assert_value(&v, "rest", "90000", 90000);
	assert_value(&v, "room", "65536", 65536);
	assert_null(option_values_get(&v, "other"));
}

static void test_settings_win_and_are_canonical(void **state)
{
	(void)state;
	const struct plugin_setting settings[] = {
		{"model", " as ; written "}, {"loud", "on"}, {"turns", "-7"}, {"rest", "off"}};
	CLEANUP(option_values_deinit) struct option_values v = OPTION_VALUES_INIT;
	assert_int_equal(options_resolve(table, settings, 4, &v, NULL), 0);
	assert_value(&v, "model", " as ; written ", 0);
	assert_value(&v, "loud", "yes", 1);
	assert_value(&v, "turns", "-7", -7);
	assert_value(&v, "rest", "off", INT64_MAX);
}

static void test_bad_settings_are_named(void **state)
{
	(void)state;
	static const struct {
		const char *key, *value, *reason;
	} cases[] = {
		{"modell", "x", "unknown option 'modell' (it has: model, loud, turns, rest, room)"},
		{"loud", "very", "option 'loud' is 'very', expected yes or no"},
		{"turns", "1e3", "option 'turns' is '1e3', expected a whole number"},
		{"rest", "soon", "option 'rest' is 'soon', expected a duration"},
		{"room", "-1", "option 'room' is '-1', expected a size"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct plugin_setting setting = {cases[i].key, cases[i].value};
		struct option_values v = OPTION_VALUES_INIT;
		struct err e = ERR_INIT;
		assert_int_equal(options_resolve(table, &setting, 1, &v, &e), -EINVAL);
		if (!strstr(e.msg, cases[i].reason))
			fail_msg("'%s' not in '%s'", cases[i].reason, e.msg);
		assert_int_equal(v.list.count, 0);
	}
	const struct plugin_setting setting = {"any", "x"};
	struct option_values v = OPTION_VALUES_INIT;
	struct err e = ERR_INIT;
	assert_int_equal(options_resolve(NULL, &setting, 1, &v, &e), -EINVAL);
	assert_non_null(strstr(e.msg, "(it has: none)"));
}

static void test_bad_tables_are_refused(void **state)
{
	(void)state;
	static const struct orch_option bad[][3] = {
		{ORCH_OPTION("Upper", ORCH_OPTION_STRING, NULL, "h"), ORCH_OPTIONS_END},
		{ORCH_OPTION("", ORCH_OPTION_STRING, NULL, "h"), ORCH_OPTIONS_END},
		{ORCH_OPTION(NULL, ORCH_OPTION_STRING, NULL, "h"), ORCH_OPTIONS_END},
		{ORCH_OPTION("plugin", ORCH_OPTION_STRING, NULL, "h"), ORCH_OPTIONS_END},
		{ORCH_OPTION("k", 0, NULL, "h"), ORCH_OPTIONS_END},
		{ORCH_OPTION("k", 6, NULL, "h"), ORCH_OPTIONS_END},
		{ORCH_OPTION("k", ORCH_OPTION_INT, "many", "h"), ORCH_OPTIONS_END},
		{ORCH_OPTION("k", ORCH_OPTION_STRING, NULL, NULL), ORCH_OPTIONS_END},
		{ORCH_OPTION("k", ORCH_OPTION_STRING, NULL, "h"),
			ORCH_OPTION("k", ORCH_OPTION_INT, NULL, "h"), ORCH_OPTIONS_END},
		{{.size = 8, .type = 1, .key = "k", .help = "h"}, ORCH_OPTIONS_END},
		{{.size = 5000, .type = 1, .key = "k", .help = "h"}, ORCH_OPTIONS_END},
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct err e = ERR_INIT;
		if (options_check_table(bad[i], &e) != -EINVAL || !e.msg[0])
			fail_msg("table %zu is taken", i);
	}
	assert_int_equal(options_check_table(NULL, NULL), 0);
}

static void test_a_table_of_longer_elements(void **state)
{
	(void)state;
	/* As a plugin of a later minor version would have it. */
	static const struct later_option {
		struct orch_option now;
		const char *more;
	} later[] = {
		{{sizeof(struct later_option), ORCH_OPTION_STRING, "one", "1", "h"}, "x"},
		{{sizeof(struct later_option), ORCH_OPTION_STRING, "two", "2", "h"}, "y"},
		{ORCH_OPTIONS_END, NULL},
	};
	CLEANUP(option_values_deinit) struct option_values v = OPTION_VALUES_INIT;
	assert_int_equal(options_check_table(&later[0].now, NULL), 0);
	assert_int_equal(options_resolve(&later[0].now, NULL, 0, &v, NULL), 0);
	assert_int_equal(v.list.count, 2);
	assert_value(&v, "two", "2", 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_settings_win_and_are_canonical),
		cmocka_unit_test(test_bad_settings_are_named),
		cmocka_unit_test(test_bad_tables_are_refused),
		cmocka_unit_test(test_a_table_of_longer_elements),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
