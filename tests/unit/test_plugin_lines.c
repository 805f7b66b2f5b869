/* SPDX-License-Identifier: MIT */
#include "plugin/lines.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct seen {
	struct buf text; /* "<stream>:<line>\n" a line */
	size_t count, last_len;
	unsigned last_flags;
};

static void see(void *user, int stream, const char *line, size_t len, unsigned int line_flags)
{
	struct seen *seen = user;
	assert_int_equal(line[len], 0);
	if (len < 100)
		buf_addf(&seen->text, "%d:", stream);
	buf_add(&seen->text, line, len < 100 ? len : 0);
	buf_addc(&seen->text, '\n');
	seen->count++;
	seen->last_len = len;
	seen->last_flags = line_flags;
}

static void feed(struct lines *l, const char *data, size_t len, struct seen *seen)
{
	char *copy = malloc(len ? len : 1); /* exactly so long, for the address sanitizer */
	assert_non_null(copy);
	memcpy(copy, data, len);
	assert_int_equal(lines_feed(l, copy, len, 1, see, seen), 0);
	free(copy);
}

static void test_lines_however_the_data_is_cut(void **state)
{
	(void)state;
	const char text[] = "one\n\ntwo\r\nthr\0ee\nlast";
	const char expected[] = "1:one\n1:\n1:two\r\n1:thr\0ee\n1:last\n";
	for (size_t step = 1; step < sizeof(text); step++) {
		CLEANUP(lines_deinit) struct lines l = LINES_INIT;
		struct seen seen = {0};
		for (size_t i = 0; i < sizeof(text) - 1; i += step)
			feed(&l, text + i,
				step < sizeof(text) - 1 - i ? step : sizeof(text) - 1 - i, &seen);
		lines_end(&l, 1, see, &seen);
		lines_end(&l, 1, see, &seen);
		assert_int_equal(seen.text.len, sizeof(expected) - 1);
		assert_memory_equal(seen.text.data, expected, sizeof(expected));
		assert_int_equal(seen.last_flags, 0);
		buf_deinit(&seen.text);
	}
}

static void test_a_line_is_cut_at_the_limit(void **state)
{
	(void)state;
	CLEANUP(lines_deinit) struct lines l = LINES_INIT;
	struct seen seen = {0};
	size_t size = 1 << 20;
	CLEANUP(freep) char *part = malloc(size);
	assert_non_null(part);
	memset(part, 'x', size);
	for (int i = 0; i < 10; i++)
		feed(&l, part, size, &seen);
	assert_int_equal(seen.count, 0);
	feed(&l, "\nshort\n", 7, &seen); /* exactly the limit is whole */
	assert_int_equal(seen.count, 2);
	assert_int_equal(seen.last_flags, 0);
	for (int i = 0; i < 11; i++)
		feed(&l, part, size, &seen);
	assert_true(l.part.len <= ORCH_LINE_MAX);
	feed(&l, "\n", 1, &seen);
	assert_int_equal(seen.last_len, ORCH_LINE_MAX);
	assert_int_equal(seen.last_flags, ORCH_LINE_CUT);
	feed(&l, "next\n", 5, &seen);
	assert_int_equal(seen.last_len, 4);
	assert_int_equal(seen.last_flags, 0);
	assert_true(l.part.cap <= 65536);
	buf_deinit(&seen.text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lines_however_the_data_is_cut),
		cmocka_unit_test(test_a_line_is_cut_at_the_limit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
