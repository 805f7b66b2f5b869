/* SPDX-License-Identifier: MIT */
#include "run/record.h"

#include "base/str.h"
#include "os/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <cmocka.h>

struct place {
	char dir[64];
	struct record *record;
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	struct err e = ERR_INIT;
	assert_non_null(p);
	snprintf(p->dir, sizeof(p->dir), "/tmp/orch-test-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	assert_int_equal(record_open(p->dir, &p->record, &e), 0);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;
	struct err e = ERR_INIT;
	record_close(p->record);
	assert_int_equal(dir_remove_tree(AT_FDCWD, p->dir, &e), 0);
	free(p);
	return 0;
}

/* The one file, as it is now. */
static void read_record(const struct place *p, struct buf *ret)
{
	CLEANUP_STR char *dir = path_join(p->dir, RECORD_DIR);
	DIR *d = opendir(dir);
	struct err e = ERR_INIT;
	assert_non_null(d);
	buf_reset(ret);
	for (struct dirent *entry; (entry = readdir(d));)
		if (str_ends(entry->d_name, ".jsonl"))
			assert_int_equal(
				file_read(dirfd(d), entry->d_name, SIZE_MAX / 2, ret, &e), 0);
	closedir(d);
}

static void tell(struct place *p, const char *text)
{
	struct engine_event ev = {
		.kind = EVENT_ENDED, .now = -5, .plan = ENGINE_NONE, .text = text};
	record_call(p->record, &(struct engine_call){.kind = CALL_STEP, .event = &ev});
}

static void answer(struct place *p)
{
	struct engine_actions none = ENGINE_ACTIONS_INIT;
	record_call(p->record,
		&(struct engine_call){.kind = CALL_ANSWER, .code = -1, .actions = &none});
}

static void test_lines(void **state)
{
	struct place *p = *state;
	CLEANUP_BUF struct buf got = BUF_INIT;
	struct err e = ERR_INIT;
	tell(p, "no UTF-8: \xff\"\\\n");
	read_record(p, &got);
	const char *second = strchr(buf_cstr(&got), '\n') + 1;
	static const char said[] = "{\"call\":\"step\",\"kind\":2,\"now\":-5,\"plan\":-1,"
				   "\"text\":\"no UTF-8: \\u00ff\\u0022\\u005c\\u000a\"}\n";
	assert_string_equal(second, said);
	answer(p);
	assert_int_equal(record_flush(p->record, &e), 0);
	read_record(p, &got);
	second = strchr(buf_cstr(&got), '\n') + 1;
	static const char answered[] = "{\"call\":\"answer\",\"code\":-1,\"actions\":0,"
				       "\"digest\":\"cbf29ce484222325\"}\n";
	assert_string_equal(second + sizeof(said) - 1, answered);
}

static void test_a_full_file_says_so(void **state)
{
	struct place *p = *state;
	const size_t len = 3U << 20;
	CLEANUP_BUF struct buf got = BUF_INIT;
	CLEANUP_STR char *text = malloc(len + 1);
	struct err e = ERR_INIT;
	assert_non_null(text);
	memset(text, 'x', len);
	text[len] = '\0';
	for (int i = 0; i < 30; i++) {
		tell(p, text);
		assert_int_equal(record_flush(p->record, &e), 0);
	}
	read_record(p, &got);
	assert_true(got.len > 60U << 20 && got.len <= 64U << 20);
	assert_true(str_ends(buf_cstr(&got), "xxx\"}\n{\"full\":true}\n"));
}

static void test_a_failed_write_is_told_once(void **state)
{
	struct place *p = *state;
	struct err e = ERR_INIT;
	struct rlimit before;
	void (*on_xfsz)(int) = signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	struct rlimit small = {.rlim_cur = 100, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	tell(p, "short");
	assert_int_equal(record_flush(p->record, &e), 0);
	tell(p, "this one has no room any more in a file of a hundred bytes");
	tell(p, "nor this one");
	assert_int_equal(record_flush(p->record, &e), -EFBIG);
	assert_non_null(strstr(e.msg, "is not recorded any more"));
	tell(p, "nobody hears this");
	assert_int_equal(record_flush(p->record, &e), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	signal(SIGXFSZ, on_xfsz);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_lines, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_full_file_says_so, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_failed_write_is_told_once, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
