/* SPDX-License-Identifier: MIT */
#include "os/file.h"
#include "unit/exit.h"
#include "unit/journal.h"
#include "unit/spec.h"

#include "base/str.h"

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
	int fd;
};

static int setup(void **state)
{
	struct place *p = calloc(1, sizeof(*p));
	assert_non_null(p);
	snprintf(p->dir, sizeof(p->dir), "/tmp/orch-test-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	p->fd = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;
	struct err e = ERR_INIT;
	close(p->fd);
	assert_int_equal(dir_remove_tree(AT_FDCWD, p->dir, &e), 0);
	free(p);
	return 0;
}

static void test_spec_round_trip(void **state)
{
	const struct place *p = *state;
	struct err e = ERR_INIT;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	CLEANUP_UNIT_SPEC struct unit_spec t = {0};
	unit_spec_init(&s, UNIT_AGENT);
	assert_int_equal(unit_spec_new_id(&s, &e), 0);
	assert_true(unit_id_is_valid(s.id));
	assert_true(str_starts(s.tmpdir, "/tmp/orch-"));
	assert_int_equal(strlen(s.tmpdir), strlen("/tmp/orch-") + 8);
	s.plan = strdup("p");
	s.cwd = strdup("/w \"quoted\"\n\xc3\xa9");
	s.harness = strdup("shell");
	s.prompt = strdup("not stored");
	s.attempt = 7;
	s.timeout_ms = DURATION_OFF;
	s.resume = true;
	s.containment = CONTAINMENT_SUBREAPER;
	s.on_crash = ON_CRASH_KILL;
	assert_int_equal(unit_spec_add_option(&s, "model", "big"), 0);
	assert_int_equal(strv_add(&s.argv, "a b"), 0);
	assert_int_equal(strv_add(&s.argv, ""), 0);
	assert_int_equal(strv_add(&s.mask_env, "SECRET"), 0);
	assert_int_equal(unit_spec_write(p->fd, &s, &e), 0);
	assert_int_equal(unit_spec_read(p->fd, &t, &e), 0);
	assert_string_equal(t.id, s.id);
	assert_int_equal(t.kind, UNIT_AGENT);
	assert_string_equal(t.plan, "p");
	assert_string_equal(t.cwd, s.cwd);
	assert_null(t.task);
	assert_null(t.prompt);
	assert_int_equal(t.attempt, 7);
	assert_true(t.timeout_ms == DURATION_OFF);
	assert_int_equal(t.output_cap_bytes, 64 << 20);
	assert_true(t.resume);
	assert_int_equal(t.containment, CONTAINMENT_SUBREAPER);
	assert_int_equal(t.on_crash, ON_CRASH_KILL);
	assert_int_equal(t.options.count, 1);
	assert_string_equal(t.options.items[0].value, "big");
	assert_int_equal(strv_len(t.argv), 2);
	assert_string_equal(t.argv[1], "");
	assert_string_equal(t.mask_env[0], "SECRET");
}

static void test_bad_specs(void **state)
{
	static const char *const bad[] = {"", "{", "[]", "{\"v\":2}", "{\"v\":1,\"id\":\"x\"}",
		"{\"v\":1,\"id\":\"0123456789abcdef0123456789abcdef\",\"kind\":\"cow\"}",
		"{\"v\":1,\"id\":\"0123456789abcdef0123456789abcdef\",\"kind\":\"setup\",\"cwd\":"
		"5}"};
	const struct place *p = *state;
	struct unit_spec t;
	struct err e = ERR_INIT;
	assert_int_equal(unit_spec_read(p->fd, &t, &e), -ENOENT);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(
			file_write_new(p->fd, UNIT_FILE_SPEC, bad[i], strlen(bad[i]), 0600, &e), 0);
		assert_int_equal(unit_spec_read(p->fd, &t, &e), -EBADMSG);
	}
}

static void test_exit_round_trip(void **state)
{
	const struct place *p = *state;
	struct err e = ERR_INIT;
	int reserve = -1;
	CLEANUP_UNIT_EXIT struct unit_exit x = UNIT_EXIT_INIT;
	CLEANUP_UNIT_EXIT struct unit_exit y = UNIT_EXIT_INIT;
	assert_int_equal(unit_exit_load(p->fd, &y, &e), -ENOENT);
	assert_int_equal(unit_exit_reserve(p->fd, &reserve, &e), 0);
	x.cause = CAUSE_STALLED;
	x.text = strdup("why");
	x.outcome = strdup("ok");
	x.exit_code = 3;
	x.usage = (struct unit_usage){1, 2, 3, 4, 0.25};
	x.contained = true;
	x.killed = 9;
	x.last_message = malloc(100001);
	memset(x.last_message, 1, 100000); /* six bytes each in JSON */
	x.last_message[100000] = '\0';
	assert_int_equal(unit_exit_commit(p->fd, reserve, &x, &e), 0);
	assert_int_equal(unit_exit_load(p->fd, &y, &e), 0);
	assert_int_equal(y.cause, CAUSE_STALLED);
	assert_string_equal(y.text, "why");
	assert_string_equal(y.outcome, "ok");
	assert_int_equal(y.exit_code, 3);
	assert_int_equal(y.usage.cache_write, 4);
	assert_true(y.usage.cost > 0.24 && y.usage.cost < 0.26);
	assert_true(y.contained);
	assert_int_equal(y.killed, 9);
	assert_int_equal(strlen(y.last_message), 4096);
	assert_false(file_exists(p->fd, "exit.json.tmp"));
	/* Without a reserve, and with text that is not UTF-8. */
	assert_int_equal(str_replace(&x.text, "\xff\xfe"), 0);
	assert_int_equal(unit_exit_commit(p->fd, -1, &x, &e), 0);
	CLEANUP_UNIT_EXIT struct unit_exit z = UNIT_EXIT_INIT;
	assert_int_equal(unit_exit_load(p->fd, &z, &e), 0);
	assert_true(utf8_is_valid(z.text, strlen(z.text)));
}

struct seen {
	int64_t count, last_seq, cuts, stop_at;
	char kind[16];
};

static int see(void *user, const struct journal_line *line)
{
	struct seen *seen = user;
	seen->count++;
	seen->cuts += line->cut;
	assert_int_equal(line->seq, seen->last_seq + 1);
	seen->last_seq = line->seq;
	snprintf(seen->kind, sizeof(seen->kind), "%s", line->kind);
	return seen->stop_at == line->seq ? 7 : 0;
}

static int append_text(struct journal *j, const char *kind, size_t len)
{
	char *text = malloc(len + 1);
	memset(text, 'x', len);
	text[len] = '\0';
	json_t *data = json_pack("{s:s}", "text", text);
	free(text);
	int r = journal_append(j, 1, kind, data);
	json_decref(data);
	return r;
}

static void test_journal(void **state)
{
	const struct place *p = *state;
	struct err e = ERR_INIT;
	struct journal j;
	struct seen seen = {0};
	int64_t offset = 0, bad = 0;
	assert_int_equal(journal_read(p->fd, &offset, 100, see, &seen, &bad, &e), 0);
	assert_int_equal(journal_open(p->fd, &j, &e), 0);
	assert_int_equal(append_text(&j, "message", 3), 0);
	assert_int_equal(append_text(&j, "message", 1000000), 0);
	assert_int_equal(journal_append(&j, 1, "started", NULL), 0);
	journal_close(&j);
	assert_int_equal(journal_read(p->fd, &offset, 1 << 20, see, &seen, &bad, &e), 0);
	assert_int_equal(seen.count, 3);
	assert_int_equal(seen.cuts, 1);
	assert_int_equal(bad, 0);
	assert_true(offset < 70000);
	assert_int_equal(journal_has_started(p->fd, &e), 0); /* it is the first line, or none */

	/* Half a line at the end is not read, and the next writer takes it away. */
	CLEANUP(closep) int fd = openat(p->fd, UNIT_FILE_JOURNAL, O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_int_equal(fd_write_all(fd, "{\"v\":1,", 7), 0);
	assert_int_equal(journal_read(p->fd, &offset, 1 << 20, see, &seen, &bad, &e), 0);
	assert_int_equal(seen.count, 3);
	assert_int_equal(journal_open(p->fd, &j, &e), 0);
	assert_int_equal(append_text(&j, "progress", 3), 0);
	assert_int_equal(append_text(&j, "finding", 3), 0);
	assert_int_equal(fd_write_all(fd, "garbage\n", 8), 0);
	seen.stop_at = 4;
	assert_int_equal(journal_read(p->fd, &offset, 1 << 20, see, &seen, &bad, &e), 7);
	assert_string_equal(seen.kind, "progress");
	assert_int_equal(journal_read(p->fd, &offset, 1 << 20, see, &seen, &bad, &e), 0);
	assert_string_equal(seen.kind, "finding");
	assert_int_equal(bad, 1);
	journal_close(&j);
}

static void test_journal_cuts_anything(void **state)
{
	const struct place *p = *state;
	struct err e = ERR_INIT;
	struct journal j;
	assert_int_equal(journal_open(p->fd, &j, &e), 0);
	/* Too many parts for a string by string cut, at the top and below. */
	json_t *wide = json_object(), *list = json_array(), *deep = json_object();
	for (int i = 0; i < 20000; i++) {
		char key[16];
		snprintf(key, sizeof(key), "k%d", i);
		json_object_set_new(wide, key, json_string("\xc3\xa9\xc3\xa9\xc3\xa9"));
		json_array_append_new(list, json_integer(i));
	}
	json_object_set_new(deep, "id", json_string("call-1"));
	json_object_set_new(deep, "input", list);
	assert_int_equal(journal_append(&j, 1, "tool_call", wide), 0);
	assert_int_equal(journal_append(&j, 1, "tool_call", deep), 0);
	json_decref(wide);
	json_decref(deep);
	journal_close(&j);
	struct seen seen = {0};
	int64_t offset = 0, bad = 0;
	CLEANUP_BUF struct buf text = BUF_INIT;
	assert_int_equal(journal_read(p->fd, &offset, 1 << 20, see, &seen, &bad, &e), 0);
	assert_int_equal(seen.count, 2);
	assert_int_equal(seen.cuts, 2);
	assert_int_equal(file_read(p->fd, UNIT_FILE_JOURNAL, 1 << 20, &text, &e), 0);
	assert_non_null(strstr(buf_cstr(&text), "\"id\":\"call-1\""));
}

/* A file size limit stands for the full disk: the write is short, then fails. */
static void test_journal_on_a_full_disk(void **state)
{
	const struct place *p = *state;
	struct err e = ERR_INIT;
	struct journal j;
	struct rlimit before, small;
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(journal_open(p->fd, &j, &e), 0);
	assert_int_equal(append_text(&j, "message", 1000), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = (struct rlimit){.rlim_cur = 2000, .rlim_max = before.rlim_max};
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	int r = append_text(&j, "message", 3000);
	int again = append_text(&j, "message", 10);
	int flushed = journal_flush(&j);
	int64_t size = j.size_bytes;
	struct stat st;
	int stated = fstatat(p->fd, UNIT_FILE_JOURNAL, &st, 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_int_equal(r, JOURNAL_BLOCKED);
	assert_int_equal(again, JOURNAL_BLOCKED);
	assert_int_equal(flushed, JOURNAL_BLOCKED);
	assert_int_equal(stated, 0);
	assert_int_equal(st.st_size, size); /* nothing of half a line is left */
	assert_int_equal(journal_flush(&j), 0);
	assert_int_equal(append_text(&j, "progress", 10), 0);
	journal_close(&j);
	struct seen seen = {0};
	int64_t offset = 0, bad = 0;
	assert_int_equal(journal_read(p->fd, &offset, 1 << 20, see, &seen, &bad, &e), 0);
	assert_int_equal(seen.count, 3);
	assert_int_equal(bad, 0);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_spec_round_trip),
		TEST(test_bad_specs),
		TEST(test_exit_round_trip),
		TEST(test_journal),
		TEST(test_journal_cuts_anything),
		TEST(test_journal_on_a_full_disk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
