/* SPDX-License-Identifier: MIT */
#include "plugin/plugin.h"

#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

/* <build>/tests/plugins, beside this program. */
static char *plugins_dir(void)
{
	char exe[4096];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	assert_true(n > 0);
	exe[n] = '\0';
	*strrchr(exe, '/') = '\0';
	char *dir = path_join(exe, "plugins");
	assert_non_null(dir);
	return dir;
}

static char *plugin_file(const char *name)
{
	CLEANUP_STR char *dir = plugins_dir();
	char *path = NULL;
	struct err e = ERR_INIT;
	assert_int_equal(plugin_find(dir, name, &path, &e), 0);
	return path;
}

static void test_find_takes_the_first_along_the_path(void **state)
{
	(void)state;
	CLEANUP_STR char *dir = plugins_dir();
	CLEANUP_STR char *path = str_printf("/nonexistent::%s:%s", dir, "/");
	CLEANUP_STR char *found = NULL;
	struct err e = ERR_INIT;
	assert_int_equal(plugin_find(path, "good", &found, &e), 0);
	CLEANUP_STR char *expected = path_join(dir, "orch-harness-good.so");
	assert_string_equal(found, expected);
	char *missing = NULL;
	assert_int_equal(plugin_find(path, "nobody", &missing, &e), PLUGIN_MISSING);
	assert_null(missing);
	assert_non_null(strstr(e.msg, "nobody"));
	assert_non_null(strstr(e.msg, dir));
	assert_int_equal(plugin_find(path, "../good", &missing, &e), PLUGIN_MISSING);
	assert_int_equal(plugin_find(NULL, "good", &missing, &e), PLUGIN_MISSING);
	assert_int_equal(plugin_find("", "good", &missing, &e), PLUGIN_MISSING);
}

static void test_list_is_sorted_and_has_each_name_once(void **state)
{
	(void)state;
	CLEANUP_STR char *dir = plugins_dir();
	CLEANUP_STR char *path = str_printf("%s:%s:/nonexistent", dir, dir);
	CLEANUP(plugin_files_deinit) struct plugin_files files = {0};
	struct err e = ERR_INIT;
	assert_int_equal(plugin_list(path, &files, &e), 0);
	assert_true(files.list.count > 20);
	bool good = false;
	for (size_t i = 0; i < files.list.count; i++) {
		good |= str_eq(files.list.items[i].name, "good");
		if (i > 0)
			assert_true(
				strcmp(files.list.items[i - 1].name, files.list.items[i].name) < 0);
	}
	assert_true(good);
}

static void test_the_good_one_loads(void **state)
{
	(void)state;
	CLEANUP_STR char *path = plugin_file("good");
	CLEANUP(plugin_deinit) struct plugin p = {0};
	struct err e = ERR_INIT;
	assert_int_equal(plugin_load(path, &p, &e), 0);
	assert_string_equal(p.harness.name, "test");
	assert_string_equal(p.path, path);
	assert_non_null(p.harness.release);
}

static void test_other_minor_versions_load(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	CLEANUP_STR char *old_path = plugin_file("old-minor");
	CLEANUP(plugin_deinit) struct plugin old = {0};
	assert_int_equal(plugin_load(old_path, &old, &e), 0);
	assert_non_null(old.harness.wait);
	assert_null(old.harness.send); /* beyond what it says it has, whatever bytes are there */
	assert_null(old.harness.release);
	CLEANUP_STR char *new_path = plugin_file("new-minor");
	CLEANUP(plugin_deinit) struct plugin newer = {0};
	assert_int_equal(plugin_load(new_path, &newer, &e), 0);
	assert_int_equal(newer.harness.abi.minor, 99);
}

static void test_each_defect_is_named(void **state)
{
	(void)state;
	static const struct {
		const char *name, *reason;
	} cases[] = {
		{"not-elf", "not an ELF file"},
		{"no-symbol", "no symbol orch_harness"},
		{"wrong-magic", "wrong magic 0x12345678"},
		{"wrong-major", "made for plugin interface 99.1"},
		{"short-struct", "too short"},
		{"long-struct", "claims"},
		{"no-name", "no name"},
		{"bad-option", "the option 'patience' with the default 'soon'"},
		{"null-spawn", "no spawn function"},
		{"null-kill", "no kill function"},
		{"null-wait", "no wait function"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CLEANUP_STR char *path = plugin_file(cases[i].name);
		struct plugin p = {0};
		struct err e = ERR_INIT;
		assert_int_equal(plugin_load(path, &p, &e), PLUGIN_INVALID);
		assert_null(p.path);
		CLEANUP_STR char *start = str_printf("harness '%s' (%s): ", cases[i].name, path);
		assert_true(str_starts(e.msg, start));
		if (!strstr(e.msg, cases[i].reason))
			fail_msg("%s: '%s' not in '%s'", cases[i].name, cases[i].reason, e.msg);
	}
}

/* Writes a file of that name in a directory of its own; returns its path. */
static char *scratch_file(const char *dir, const void *data, size_t len)
{
	char *path = path_join(dir, "orch-harness-scratch.so");
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), len);
	close(fd);
	return path;
}

static char *read_whole(const char *path, size_t *ret_len)
{
	FILE *f = fopen(path, "re");
	assert_non_null(f);
	char *data = malloc(1 << 20);
	*ret_len = fread(data, 1, 1 << 20, f);
	fclose(f);
	return data;
}

static void test_verify_looks_before_it_loads(void **state)
{
	(void)state;
	char dir[] = "/tmp/orch-test-XXXXXX";
	assert_non_null(mkdtemp(dir));
	CLEANUP_STR char *good = plugin_file("good");
	size_t len = 0;
	CLEANUP_STR char *data = read_whole(good, &len);
	struct err e = ERR_INIT;

	CLEANUP_STR char *path = scratch_file(dir, data, 4096);
	assert_int_equal(plugin_verify(path, &e), PLUGIN_INVALID);
	assert_non_null(strstr(e.msg, "truncated"));
	struct plugin p = {0};
	assert_int_equal(plugin_load(path, &p, &e), PLUGIN_INVALID);

	free(scratch_file(dir, data, 0));
	assert_int_equal(plugin_verify(path, &e), PLUGIN_INVALID);
	assert_non_null(strstr(e.msg, "not an ELF file"));

	data[4] = data[4] == 1 ? 2 : 1; /* the other word size */
	free(scratch_file(dir, data, len));
	assert_int_equal(plugin_verify(path, &e), PLUGIN_INVALID);
	assert_non_null(strstr(e.msg, "another kind of machine"));

	unlink(path);
	assert_int_equal(plugin_verify(path, &e), PLUGIN_MISSING);
	assert_non_null(strstr(e.msg, path));
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(plugin_verify(path, &e), PLUGIN_INVALID);
	assert_non_null(strstr(e.msg, "not a regular file"));
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(plugin_verify(path, &e), PLUGIN_INVALID);
	rmdir(path);
	assert_int_equal(symlink("/nonexistent/x", path), 0);
	char *found = NULL;
	assert_int_equal(plugin_find(dir, "scratch", &found, &e), 0);
	assert_int_equal(plugin_verify(found, &e), PLUGIN_MISSING);
	free(found);
	unlink(path);
	assert_int_equal(plugin_verify("/proc/self/exe", &e) == 0 ||
				 strstr(e.msg, "not a shared object") != NULL,
		1);
	rmdir(dir);
}

static void test_default_path(void **state)
{
	(void)state;
	setenv("XDG_DATA_HOME", "/data", 1);
	CLEANUP_STR char *path = plugin_path_default("/usr/lib");
	CLEANUP_STR char *dir = plugins_dir();
	CLEANUP_STR char *expected = str_printf("%s:/data/orch/plugins:/usr/lib/orch/plugins", dir);
	assert_string_equal(path, expected);
	setenv("XDG_DATA_HOME", "", 1);
	setenv("HOME", "/home/me", 1);
	CLEANUP_STR char *home = plugin_path_default(NULL);
	assert_true(str_ends(home, ":/home/me/.local/share/orch/plugins"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_find_takes_the_first_along_the_path),
		cmocka_unit_test(test_list_is_sorted_and_has_each_name_once),
		cmocka_unit_test(test_the_good_one_loads),
		cmocka_unit_test(test_other_minor_versions_load),
		cmocka_unit_test(test_each_defect_is_named),
		cmocka_unit_test(test_verify_looks_before_it_loads),
		cmocka_unit_test(test_default_path),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
