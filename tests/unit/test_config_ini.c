/* SPDX-License-Identifier: MIT */
#include "config/ini.h"

#include "base/str.h"

#include <errno.h>
#include <ini.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct loaded {
	struct ini ini;
	struct diags d;
	int r;
};

static void loaded_deinit(struct loaded *l)
{
	ini_deinit(&l->ini);
	diags_deinit(&l->d);
}

#define LOADED CLEANUP(loaded_deinit) struct loaded

static struct loaded load_bytes(const char *text, size_t len)
{
	struct loaded l = {0};
	l.r = ini_load_text("f.ini", text, len, &l.ini, &l.d);
	return l;
}

static struct loaded load(const char *text)
{
	return load_bytes(text, strlen(text));
}

/* The value of [s] key, in a text that must be without mistakes. */
static void check_value(const char *text, const char *expected)
{
	LOADED l = load(text);
	if (l.d.errors)
		diags_print(&l.d, stderr);
	assert_int_equal(l.r, 0);
	assert_int_equal(l.d.errors, 0);
	const struct ini_section *s = ini_find(&l.ini, "s", NULL);
	assert_non_null(s);
	assert_non_null(ini_value(s, "k"));
	assert_string_equal(ini_value(s, "k"), expected);
}

/* The mistakes as "line: text\n" in order. */
static void check_mistakes(const char *text, size_t len, const char *expected)
{
	LOADED l = load_bytes(text, len);
	assert_int_equal(l.r, 0);
	CLEANUP_BUF struct buf got = BUF_INIT;
	vec_foreach(it, &l.d.list) {
		assert_string_equal(it->file, "f.ini");
		buf_addf(&got, "%u: %s\n", it->line, it->text);
	}
	assert_string_equal(buf_cstr(&got), expected);
}

/* ---- inih's traps, first as they are, then that they are not ours ---- */

struct raw {
	struct buf out;
	const char *text;
};

static int raw_pair(void *user, const char *section, const char *name, const char *value)
{
	struct raw *raw = user;
	buf_addf(&raw->out, "[%s]%s=%s\n", section, name, value ? value : "");
	return 1;
}

static void test_inih_alone_has_the_traps(void **state)
{
	(void)state;
	char text[1000];
	CLEANUP(buf_deinit) struct buf out = BUF_INIT;
	struct raw raw = {.out = BUF_INIT};
	snprintf(text, sizeof(text), "[s]\nk = %0300d\n", 7);
	(void)ini_parse_string(text, raw_pair, &raw);
	assert_true(raw.out.len < 250); /* cut at 200 */
	buf_reset(&raw.out);
	snprintf(text, sizeof(text), "[%080d]\nk = 1\n", 7);
	(void)ini_parse_string(text, raw_pair, &raw);
	assert_true(raw.out.len < 60); /* cut at 49 */
	buf_reset(&raw.out);
	(void)ini_parse_string("[s]\nk = a ; b\nk = c\n  # d\n", raw_pair, &raw);
	assert_string_equal(buf_cstr(&raw.out), "[s]k=a\n[s]k=c\n");
	buf_deinit(&raw.out);
}

static void test_long_lines_and_names_arrive_whole(void **state)
{
	(void)state;
	static const size_t lengths[] = {
		1, 40, 49, 50, 100, 145, 149, 150, 151, 199, 200, 201, 1000, 200000};
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		CLEANUP_BUF struct buf value = BUF_INIT, text = BUF_INIT;
		for (size_t k = 0; k < lengths[i]; k++)
			buf_addc(&value,
				" ;#=%:\"'\\[]xyz\t"[k == 0 || k + 1 == lengths[i] ? 3 : k % 15]);
		buf_addf(&text, "[s]\nk = %s\n", buf_cstr(&value));
		check_value(buf_cstr(&text), buf_cstr(&value));
	}
	for (size_t n = 1; n < 300; n += 7) {
		char text[1000], label[400];
		snprintf(label, sizeof(label), "%0*d", (int)n, 5);
		snprintf(text, sizeof(text), "[task:%s]\nk = 1\n", label);
		LOADED l = load(text);
		assert_int_equal(l.d.errors, 0);
		assert_non_null(ini_find(&l.ini, "task", label));
	}
}

static void test_comments_are_whole_lines_in_column_one(void **state)
{
	(void)state;
	check_value("; c\n#c\n[s]\n;k = 1\nk = a ; b # c\n", "a ; b # c");
	check_value("[s]\nk = ;x\n", ";x");
	check_value("[s]\nk = #x ;y\n", "#x ;y");
	check_value("[s]\nk=a\n; between\n    b\n", "a\nb");
	check_mistakes("[s] ; comment\n", 14,
		"1: expected a section such as [plan] or [task:NAME], alone on its line\n");
}

static void test_indented_lines_are_text(void **state)
{
	(void)state;
	check_value("[s]\nk = a\n    # Notes\n    ; b\n    [x]\n    k = v\n",
		"a\n# Notes\n; b\n[x]\nk = v");
	check_value("[s]\nk = a\n\tb\n\t\tc\n\td\n", "a\nb\n\tc\nd");
	check_value("[s]\nk = a\n    b\n  c\n      d\n", "a\nb\nc\n  d");
	check_value("[s]\nk = a\n\n\n  b\n \n  c\n\n\n", "a\n\n\nb\n\nc");
	check_value("[s]\nk =\n  a\n  b\n", "a\nb");
	check_value("[s]\nk =\n\n  a\n", "a");
	check_value("[s]\nk =\n  a\n    \n  b\n", "a\n  \nb");
	check_value("[s]\nk =\n  a  \n  b\n", "a  \nb");
	check_value("[s]\nk =\n", "");
	check_value("[s]\nk = a\n    ", "a");
	check_value("[s]\nk = a\n    b", "a\nb");
	check_mistakes("[s]\n  a\n  b\nk = 1\n", 18,
		"2: an indented line continues the value above it, and there is none\n");
}

static void test_line_ends_and_encoding(void **state)
{
	(void)state;
	check_value("[s]\r\nk = a\r\n\r\n    b\r\n", "a\n\nb");
	check_value("\xef\xbb\xbf[s]\nk = \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80",
		"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
	check_value("[s]\nk = a\rb\n", "a\rb");
	check_mistakes("[s]\nk = a\0b\n  c\nl = \xff\nm = \xc0\x80\n", 29,
		"2: expected text, found a NUL byte\n"
		"4: expected UTF-8, found other bytes\n"
		"5: expected UTF-8, found other bytes\n");
}

static void test_mistakes_have_true_line_numbers(void **state)
{
	(void)state;
	CLEANUP_BUF struct buf text = BUF_INIT;
	buf_adds(&text, "k = 1\nl = 1\n[s]\nk = ");
	for (int i = 0; i < 1000; i++)
		buf_adds(&text, "a long line ");
	buf_adds(&text, "\n    more\n\nk = 2\nnonsense\n   its continuation\n"
			"key: value\n= 3\n[s]\nk = 4\nk = 5\n[bad\nk = "
			"6\n[]\n[t]\nx*=%4\ny*=%00\nz*=%41\n");
	check_mistakes(buf_cstr(&text), text.len,
		"1: expected a [section] before the first key\n"
		"7: duplicate key 'k', first set on line 4\n"
		"8: expected '[section]' or 'key = value'\n"
		"10: expected '[section]' or 'key = value'\n"
		"11: expected 'key = value' with a key of letters, digits, '_', '.' and '-', at "
		"most "
		"100\n"
		"12: duplicate section [s], first defined on line 3\n"
		"14: duplicate key 'k', first set on line 13\n"
		"15: expected a section such as [plan] or [task:NAME], alone on its line\n"
		"17: expected a section such as [plan] or [task:NAME], alone on its line\n"
		"19: expected percent-encoded UTF-8 as the value of 'x*'\n"
		"20: expected percent-encoded UTF-8 as the value of 'y*'\n");
}

static void test_duplicates_among_many_keys(void **state)
{
	(void)state;
	CLEANUP_BUF struct buf text = BUF_INIT;
	buf_adds(&text, "[s]\n");
	for (int i = 0; i < 100; i++)
		buf_addf(&text, "k%d = 1\n", i);
	buf_adds(&text, "k3 = 1\nk90* = x\n");
	check_mistakes(buf_cstr(&text), text.len,
		"102: duplicate key 'k3', first set on line 5\n"
		"103: duplicate key 'k90', first set on line 92\n");
}

static void test_a_file_is_read_within_bounds(void **state)
{
	(void)state;
	CLEANUP_INI struct ini ini = INI_INIT;
	CLEANUP(diags_deinit) struct diags d = DIAGS_INIT;
	struct err e = ERR_INIT;
	assert_int_equal(ini_load_file("/nonexistent/x.ini", -1, &ini, &d, &e), -ENOENT);
	assert_int_equal(ini_load_file("/", -1, &ini, &d, &e), -EISDIR);
	assert_int_equal(err_status(&e), EXIT_NOINPUT);
	assert_int_equal(ini_load_file("/dev/zero", -1, &ini, &d, &e), -EFBIG);
	assert_int_equal(d.errors, 0);
}

/* ---- writing ---- */

static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void check_round_trip(const char *value)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	ini_put_section(&text, "s", NULL);
	ini_put(&text, "before", "1");
	ini_put(&text, "k", value);
	ini_put(&text, "after", "2");
	check_value(buf_cstr(&text), value);
	LOADED l = load(buf_cstr(&text));
	assert_string_equal(ini_value(ini_find(&l.ini, "s", NULL), "after"), "2");
}

static void test_every_value_is_written_so_that_it_reads_back(void **state)
{
	(void)state;
	static const char *const atoms[] = {" ", "\t", "\n", "\r", "\r\n", ";", "#", "=", ":", "[",
		"]", "%", "%41", "\"", "'", "\\", "a", "bc", "k = v", "[s]", "\n\n", "\n  ", "\n\t",
		"\xc3\xa4", "\xef\xbb\xbf", "\x01", "\x7f", "*", "+=", "@="};
	const size_t n_atoms = sizeof(atoms) / sizeof(atoms[0]);
	check_round_trip("");
	for (size_t i = 0; i < n_atoms; i++)
		check_round_trip(atoms[i]);
	uint64_t seed = 0x9e3779b97f4a7c15;
	for (int round = 0; round < 20000; round++) {
		CLEANUP_BUF struct buf value = BUF_INIT;
		for (uint64_t n = next_random(&seed) % 12; n > 0; n--)
			buf_adds(&value, atoms[next_random(&seed) % n_atoms]);
		check_round_trip(buf_cstr(&value));
	}
}

/* ---- editing ---- */

static void check_edit(const char *before, const char *type, const char *label, const char *key,
	const char *value, int expected_r, const char *after)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct err e = ERR_INIT;
	buf_adds(&text, before);
	int r = value ? ini_edit_set(&text, type, label, key, value, &e)
		      : ini_edit_remove(&text, type, label, key, &e);
	assert_int_equal(r, expected_r);
	assert_string_equal(buf_cstr(&text), after);
}

static void test_setting_keeps_all_else(void **state)
{
	(void)state;
	check_edit("; top\n[a]\n# c\nx = 1\n\n; about b\n[b]\ny = 2\n", "a", NULL, "x", "9", 0,
		"; top\n[a]\n# c\nx = 9\n\n; about b\n[b]\ny = 2\n");
	check_edit("[a]\nx = 1\n    more\n\n    last\n\n[b]\n", "a", NULL, "x", "9", 0,
		"[a]\nx = 9\n\n[b]\n");
	check_edit("[a]\nx = 1\n\n; about b\n[b]\n", "a", NULL, "z", "9", 0,
		"[a]\nx = 1\nz = 9\n\n; about b\n[b]\n");
	check_edit("[a]\nx = 1", "c", "d", "z", "l1\nl2", 0,
		"[a]\nx = 1\n\n[c:d]\nz =\n    l1\n    l2\n");
	check_edit("", "c", NULL, "z", "1", 0, "[c]\nz = 1\n");
	check_edit("[a]\r\nx = 1\r\n", "a", NULL, "y", "2", 0, "[a]\r\nx = 1\r\ny = 2\r\n");
	check_edit(
		"[a]\nx = 1\n; kept\n    more\n", "a", NULL, "x", "2", 0, "[a]\nx = 2\n; kept\n");
	check_edit("[a]\nx* = %41\ny = 1\n", "a", NULL, "x", "2", 0, "[a]\nx = 2\ny = 1\n");
	check_edit("[a\n", "a", NULL, "x", "2", -EBADMSG, "[a\n");
}

static void test_removing_keeps_all_else(void **state)
{
	(void)state;
	check_edit("[a]\nx = 1\n    more\ny = 2\n", "a", NULL, "x", NULL, 0, "[a]\ny = 2\n");
	check_edit("; top\n[a]\nx = 1\n\n[b:c]\n; in\ny = 2\n\n; about d\n[d]\nz = 3\n", "b", "c",
		NULL, NULL, 0, "; top\n[a]\nx = 1\n\n; about d\n[d]\nz = 3\n");
	check_edit("[a]\nx = 1\n\n[b]\ny = 2\n", "b", NULL, NULL, NULL, 0, "[a]\nx = 1\n");
	check_edit("[b]\ny = 2\n", "b", NULL, NULL, NULL, 0, "");
	check_edit("[a]\nx = 1\n", "a", NULL, "y", NULL, -ENOENT, "[a]\nx = 1\n");
	check_edit("[a]\nx = 1\n", "a", "l", NULL, NULL, -ENOENT, "[a]\nx = 1\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inih_alone_has_the_traps),
		cmocka_unit_test(test_long_lines_and_names_arrive_whole),
		cmocka_unit_test(test_comments_are_whole_lines_in_column_one),
		cmocka_unit_test(test_indented_lines_are_text),
		cmocka_unit_test(test_line_ends_and_encoding),
		cmocka_unit_test(test_mistakes_have_true_line_numbers),
		cmocka_unit_test(test_duplicates_among_many_keys),
		cmocka_unit_test(test_a_file_is_read_within_bounds),
		cmocka_unit_test(test_every_value_is_written_so_that_it_reads_back),
		cmocka_unit_test(test_setting_keeps_all_else),
		cmocka_unit_test(test_removing_keeps_all_else),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
