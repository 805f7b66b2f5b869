/* SPDX-License-Identifier: MIT */
#include "config/presets.h"

#include "base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct project {
	char dir[64];
	char **files;
};

static int setup(void **state)
{
	struct project *p = calloc(1, sizeof(*p));
	assert_non_null(p);
	strcpy(p->dir, "/tmp/test-presets-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct project *p = *state;
	for (size_t i = 0; p->files && p->files[i]; i++)
		unlink(p->files[i]);
	assert_int_equal(rmdir(p->dir), 0);
	strv_free(p->files);
	free(p);
	return 0;
}

static void put_file(struct project *p, const char *name, const char *text)
{
	CLEANUP_STR char *path = path_join(p->dir, name);
	FILE *f = fopen(path, "we");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(strv_add(&p->files, path), 0);
}

/* What is detected, as "kind: name name\n". */
static void check_detected(const struct project *p, const char *expected)
{
	CLEANUP_PRESETS struct presets found = PRESETS_INIT;
	struct err e = ERR_INIT;
	assert_int_equal(presets_detect(p->dir, &found, &e), 0);
	CLEANUP_BUF struct buf got = BUF_INIT;
	vec_foreach(it, &found.list) {
		buf_addf(&got, "%s:", it->name);
		vec_foreach(inv, &it->invariants)
			buf_addf(&got, " %s", inv->name);
		buf_addc(&got, '\n');
	}
	assert_string_equal(buf_cstr(&got), expected);
}

static void test_all_kinds_are_there(void **state)
{
	(void)state;
	static const char *const kinds[] = {"make", "cmake", "cargo", "npm", "python", "go"};
	CLEANUP_PRESETS struct presets all = PRESETS_INIT;
	struct err e = ERR_INIT;
	assert_int_equal(presets_load(&all, &e), 0);
	assert_int_equal(all.list.count, 6);
	for (size_t i = 0; i < 6; i++) {
		const struct preset *p = presets_find(&all, kinds[i]);
		assert_non_null(p);
		assert_true(p->invariants.count >= 2);
		vec_foreach(inv, &p->invariants)
			assert_true(name_is_valid(inv->name, NULL) && *inv->command);
	}
	assert_null(presets_find(&all, "cobol"));
}

static void test_nothing_is_detected_in_an_empty_directory(void **state)
{
	check_detected(*state, "");
}

static void test_kinds_are_detected_by_their_files(void **state)
{
	struct project *p = *state;
	put_file(p, "Cargo.toml", "");
	put_file(p, "setup.cfg", "");
	put_file(p, "go.mod", "");
	put_file(p, "CMakeLists.txt", "");
	check_detected(p, "cmake: build test\ncargo: build test lint\npython: build test lint\n"
			  "go: build test lint\n");
}

static void test_npm_offers_only_scripts_that_are_there(void **state)
{
	struct project *p = *state;
	put_file(p, "package.json",
		"{\"lint\": \"x\", \"deps\": {\"scripts\": {\"lint\": \"x\"}},"
		"\"scripts\": {\"bu\\u0069ld\": \"tsc\", \"test\": \"jest\"}}");
	check_detected(p, "npm: build test\n");
	put_file(p, "package.json",
		"{\"scripts\": {\"lint\": \"eslint\", \"test\": "
		"\"echo \\\"Error: no test specified\\\" && exit 1\"}}");
	check_detected(p, "npm: lint\n");
	put_file(p, "package.json", "{ not JSON");
	check_detected(p, "npm:\n");
}

static void test_make_offers_only_targets_that_are_there(void **state)
{
	struct project *p = *state;
	put_file(p, "Makefile", "test := 1\nall:\n\ttest: x\n.PHONY: lint\nall check : x\n");
	check_detected(p, "make: build check\n");
	put_file(p, "Makefile", "all:\n\ntest: all\n\t./run\nlint:");
	check_detected(p, "make: build test lint\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_kinds_are_there),
		cmocka_unit_test_setup_teardown(
			test_nothing_is_detected_in_an_empty_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_kinds_are_detected_by_their_files, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_npm_offers_only_scripts_that_are_there, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_make_offers_only_targets_that_are_there, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
