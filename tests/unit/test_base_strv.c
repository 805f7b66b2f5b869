/* SPDX-License-Identifier: MIT */
#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static void check_split(const char *text, const char *joined)
{
	CLEANUP_STRV char **v = strv_split(text, ",\n");
	assert_non_null(v);
	CLEANUP_STR char *again = strv_join(v, "|");
	assert_string_equal(again, joined);
	for (int i = 0; i < 40; i++)
		assert_int_equal(strv_add(&v, "x"), 0);
}

static void test_split_trims_and_drops_empty_parts(void **state)
{
	(void)state;
	check_split("", "");
	check_split(NULL, "");
	check_split(",,\n ,", "");
	check_split("a", "a");
	check_split(" a , b\nc,", "a|b|c");
	check_split("a,b,c,d,e,f,g,h", "a|b|c|d|e|f|g|h");
}

static void test_split_of_many_parts_is_linear(void **state)
{
	(void)state;
	enum { N = 300000 };
	char *text = malloc(2 * N + 1);
	assert_non_null(text);
	for (size_t i = 0; i < N; i++)
		memcpy(text + 2 * i, "a,", 2);
	text[2 * N] = '\0';
	clock_t begin = clock(); /* the process's own time: other tests may run beside it */
	CLEANUP_STRV char **v = strv_split(text, ",");
	/* Quadratic it took a minute. */
	assert_true(clock() - begin < 5 * CLOCKS_PER_SEC);
	assert_int_equal(strv_len(v), N);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split_trims_and_drops_empty_parts),
		cmocka_unit_test(test_split_of_many_parts_is_linear),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
