/* SPDX-License-Identifier: MIT */
/*
 * Databases of every released schema (tests/unit/schemas/<n>.sql, dumped when it was released)
 * open, are upgraded and keep their rows; a newer one and what is no database of ours are refused
 * untouched.
 */
#include "store/store.h"

#include "base/buf.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[64];

static char *db_path(void)
{
	return path_join(dir, STORE_FILE);
}

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/test-upgrade-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	static const char *const files[] = {
		"orch.db", "orch.db-wal", "orch.db-shm", STORE_RESERVE_FILE};
	(void)state;
	for (size_t i = 0; i < 4; i++) {
		CLEANUP_STR char *path = path_join(dir, files[i]);
		unlink(path);
	}
	return rmdir(dir);
}

static void run_sql(const char *sql)
{
	CLEANUP_STR char *path = db_path();
	sqlite3 *db;
	char *message = NULL;
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
		fail_msg("%s", message);
	sqlite3_close(db);
}

static bool load_schema(int version)
{
	CLEANUP_STR char *path = str_printf("%s/tests/unit/schemas/%d.sql", SOURCE_DIR, version);
	FILE *f = fopen(path, "re");
	if (!f)
		return false;
	CLEANUP_BUF struct buf sql = BUF_INIT;
	char chunk[4096];
	size_t n;
	while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
		buf_add(&sql, chunk, n);
	fclose(f);
	run_sql(buf_cstr(&sql));
	return true;
}

static int count_plan(void *ctx, const struct plan_row *row)
{
	(*(int *)ctx)++;
	assert_string_equal(row->name, "kept");
	assert_int_equal(row->n_tasks, 2);
	assert_int_equal(row->tokens[0], 5);
	return 0;
}

static void test_every_released_schema_opens(void **state)
{
	(void)state;
	for (int version = 1; version <= store_schema_latest(); version++) {
		struct store *s = NULL;
		struct err e = ERR_INIT;
		int plans = 0;
		CLEANUP_STR char *check = NULL;
		if (!load_schema(version))
			fail_msg("tests/unit/schemas/%d.sql is missing: every schema that was "
				 "released needs a dump with rows",
				version);
		assert_int_equal(store_open(dir, STORE_WRITE, &s, &e), 0);
		assert_int_equal(store_each_plan(s, count_plan, &plans, &e), 0);
		assert_int_equal(plans, 1);
		assert_int_equal(store_check(s, &check, &e), 0);
		assert_string_equal(check, "ok");
		store_close(s);
		teardown(NULL);
		assert_int_equal(mkdir(dir, 0700), 0);
	}
}

static void test_an_older_schema_is_not_read_as_it_is(void **state)
{
	(void)state;
	struct store *s = NULL;
	struct err e = ERR_INIT;
	run_sql("CREATE TABLE x (a); PRAGMA user_version = 0");
	assert_int_equal(store_open(dir, STORE_READ, &s, &e), -ESTALE);
	assert_null(s);
}

static void test_a_newer_schema_is_refused(void **state)
{
	(void)state;
	struct store *s = NULL;
	struct err e = ERR_INIT;
	run_sql("CREATE TABLE x (a); PRAGMA user_version = 9999");
	assert_int_equal(store_open(dir, STORE_WRITE, &s, &e), -EPROTO);
	assert_non_null(strstr(e.msg, "newer orch"));
	assert_non_null(strstr(e.msg, "9999"));
	e = ERR_INIT;
	assert_int_equal(store_open(dir, STORE_READ, &s, &e), -EPROTO);
	run_sql("INSERT INTO x VALUES (1)"); /* still the table it was */
}

static void test_what_is_no_database_is_refused(void **state)
{
	(void)state;
	CLEANUP_STR char *path = db_path();
	FILE *f = fopen(path, "we");
	struct store *s = NULL;
	struct err e = ERR_INIT;
	for (int i = 0; i < 1000; i++)
		fputs("this is no database\n", f);
	fclose(f);
	assert_int_equal(store_open(dir, STORE_WRITE, &s, &e), -EBADMSG);
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, 20000);
}

static void test_a_missing_one_is_said_so(void **state)
{
	(void)state;
	struct store *s = NULL;
	struct err e = ERR_INIT;
	assert_int_equal(store_open(dir, STORE_READ, &s, &e), -ENOENT);
}

/* As on a full disk: nothing new is created beside the database. */
static int open_without_creating(const char *path, int flags, int mode)
{
	if (!(flags & O_CREAT) || access(path, F_OK) == 0)
		return open(path, flags, mode);
	errno = ENOSPC;
	return -1;
}

static void test_a_full_disk_is_no_missing_file(void **state)
{
	(void)state;
	struct store *s = NULL;
	struct err e = ERR_INIT;
	sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
	for (int exists = 0; exists < 2; exists++) {
		if (exists) {
			assert_int_equal(store_open(dir, STORE_WRITE, &s, &e), 0);
			store_close(s);
		}
		vfs->xSetSystemCall(vfs, "open", (sqlite3_syscall_ptr)open_without_creating);
		int r = store_open(dir, STORE_WRITE, &s, &e);
		vfs->xSetSystemCall(vfs, "open", NULL);
		assert_int_equal(r, -EIO);
		assert_int_equal(err_status(&e), EXIT_IO);
	}
}

static void test_mode(void **state)
{
	(void)state;
	struct store *s = NULL;
	struct err e = ERR_INIT;
	struct stat st;
	CLEANUP_STR char *path = db_path();
	assert_int_equal(store_open(dir, STORE_WRITE, &s, &e), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	store_close(s);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_every_released_schema_opens),
		T(test_an_older_schema_is_not_read_as_it_is),
		T(test_a_newer_schema_is_refused),
		T(test_what_is_no_database_is_refused),
		T(test_a_missing_one_is_said_so),
		T(test_a_full_disk_is_no_missing_file),
		T(test_mode),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
