/* SPDX-License-Identifier: MIT */
/* Agent units: the keeper with a host and a plugin, good and broken ones. */
#include "units_fixture.h"

#include "os/sock.h"

#include <sys/socket.h>

static void spec_agent(
	struct unit_spec *s, struct world *w, const char *harness, const char *command)
{
	struct err e = ERR_INIT;
	unit_spec_init(s, UNIT_AGENT);
	assert_int_equal(unit_spec_new_id(s, &e), 0);
	s->plan = strdup("plan");
	s->task = strdup("task");
	s->attempt = 3;
	s->cwd = strdup(w->dir);
	s->command = strdup(command);
	s->harness = strdup(harness);
	s->plugin_path = strdup(ORCH_PLUGINS ":" ORCH_TEST_PLUGINS);
	s->prompt = strdup("Do the thing.\n");
	s->kill_grace_ms = 300;
	s->callback_timeout_ms = 10000;
}

/* The journal as one text, "kind: data" a line. */
static int add_line(void *user, const struct journal_line *line)
{
	CLEANUP_STR char *data = json_dumps(line->data, JSON_COMPACT | JSON_SORT_KEYS);
	buf_addf(user, "%s: %s%s\n", line->kind, data, line->cut ? " (cut)" : "");
	return 0;
}

static void read_journal(struct world *w, const char *id, struct buf *ret)
{
	struct err e = ERR_INIT;
	CLEANUP(closep) int dirfd = -1;
	int64_t offset = 0, before, bad = 0;
	assert_int_equal(lifecycle_unit_dir(w->lc, id, &dirfd, &e), 0);
	do {
		before = offset;
		assert_int_equal(journal_read(dirfd, &offset, 1 << 20, add_line, ret, &bad, &e), 0);
		assert_int_equal(bad, 0);
	} while (offset != before);
}

static void test_good_agent(void **state)
{
	struct world *w = *state;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_agent(&s, w, "shell",
		"cat; cat \"$ORCH_PROMPT_FILE\"; echo $ORCH_PLAN $ORCH_TASK $ORCH_ATTEMPT "
		"$ORCH_UNIT; "
		"echo problem >&2; "
		"echo '{\"kind\":\"usage\",\"data\":{\"id\":\"a\",\"input\":10,\"output\":1}}' "
		">&$ORCH_EVENT_FD; "
		"echo '{\"kind\":\"usage\",\"data\":{\"id\":\"a\",\"input\":20,\"output\":2}}' "
		">&$ORCH_EVENT_FD; "
		"echo '{\"kind\":\"usage\",\"data\":{\"input\":5,\"output\":3,\"cost\":0.5}}' "
		">&$ORCH_EVENT_FD; "
		"echo '{\"kind\":\"session\",\"data\":{\"id\":\"s-1\"}}' >&$ORCH_EVENT_FD; "
		"printf 'last words'");
	CLEANUP_UNIT_EXIT struct unit_exit x = run(w, &s);
	assert_string_equal(x.text, "");
	assert_int_equal(x.cause, CAUSE_EXITED);
	assert_string_equal(x.outcome, "ok");
	assert_int_equal(x.exit_code, 0);
	assert_string_equal(x.session, "s-1");
	assert_int_equal(x.usage.input, 25);
	assert_int_equal(x.usage.output, 5);
	assert_true(x.usage.cost > 0.49 && x.usage.cost < 0.51);
	assert_string_equal(x.last_message, "last words");
	assert_int_equal(x.killed, 0);
	assert_true(x.contained);
	CLEANUP_BUF struct buf journal = BUF_INIT;
	read_journal(w, s.id, &journal);
	assert_true(str_starts(buf_cstr(&journal), "started: {"));
	const char *prompt = strstr(buf_cstr(&journal), "message: {\"text\":\"Do the thing.\"}\n");
	assert_non_null(prompt);
	assert_non_null(strstr(prompt + 1, "message: {\"text\":\"Do the thing.\"}\n"));
	CLEANUP_STR char *names = str_printf("message: {\"text\":\"plan task 3 %s\"}\n", s.id);
	assert_non_null(strstr(buf_cstr(&journal), names));
	CLEANUP_BUF struct buf output = BUF_INIT;
	read_file(w, s.id, UNIT_FILE_OUTPUT, &output);
	assert_non_null(strstr(buf_cstr(&output), "problem\n"));
	assert_non_null(strstr(buf_cstr(&output), "last words"));
}

static void test_failing_agent(void **state)
{
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_agent(&s, *state, "shell", "echo 'no luck' >&2; exit 3");
	CLEANUP_UNIT_EXIT struct unit_exit x = run(*state, &s);
	assert_int_equal(x.cause, CAUSE_EXITED);
	assert_string_equal(x.outcome, "agent_error");
	assert_int_equal(x.exit_code, 3);
	assert_non_null(strstr(x.text, "no luck"));
}

static const char stubborn[] =
	"trap '' TERM; setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' & "
	"(setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' &) ; echo up > up; "
	"while :; do sleep 1; done";

static void kill_stubborn(struct world *w, enum unit_containment containment)
{
	struct err e = ERR_INIT;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_agent(&s, w, "shell", stubborn);
	s.containment = containment;
	struct unit *u = start(w, &s);
	await_file(w, "up");
	assert_int_equal(unit_kill(u, UNIT_KILL_TERM, "interrupted", 400, &e), 0);
	CLEANUP_UNIT_EXIT struct unit_exit x = finish(u);
	assert_int_equal(x.cause, CAUSE_KILLED);
	assert_string_equal(x.text, "interrupted");
	assert_true(x.contained);
	assert_true(x.killed >= 3);
	assert_nothing_left();
	CLEANUP_STR char *up = path_join(w->dir, "up");
	unlink(up);
}

static void test_kill_stubborn(void **state)
{
	kill_stubborn(*state, CONTAINMENT_AUTO);
	kill_stubborn(*state, CONTAINMENT_SUBREAPER);
}

static void test_kill_polite(void **state)
{
	struct err e = ERR_INIT;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_agent(&s, *state, "shell",
		"trap 'echo saved; exit 0' TERM; echo up > up; while :; do sleep 0.02; done");
	struct unit *u = start(*state, &s);
	await_file(*state, "up");
	assert_int_equal(unit_kill(u, UNIT_KILL_TERM, "interrupted", 20000, &e), 0);
	CLEANUP_UNIT_EXIT struct unit_exit x = finish(u);
	assert_int_equal(x.cause, CAUSE_KILLED);
	assert_string_equal(x.outcome, "ok");
	assert_string_equal(x.last_message, "saved");
	assert_true(x.duration_ms < 15000);
}

static void test_timeout_keeps_output(void **state)
{
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_agent(&s, *state, "shell", "echo begun; sleep 100");
	s.timeout_ms = 800;
	CLEANUP_UNIT_EXIT struct unit_exit x = run(*state, &s);
	assert_int_equal(x.cause, CAUSE_TIMED_OUT);
	assert_string_equal(x.text, "timed out after 0.800s");
	assert_string_equal(x.last_message, "begun");
}

static void test_big_output(void **state)
{
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_agent(&s, *state, "shell",
		"head -c 50000000 /dev/zero | tr '\\0' x >&2; echo >&2; echo done");
	s.output_cap_bytes = 1 << 20;
	CLEANUP_UNIT_EXIT struct unit_exit x = run(*state, &s);
	assert_string_equal(x.outcome, "ok");
	assert_string_equal(x.last_message, "done");
	assert_int_equal(x.bytes, 50000006);
	CLEANUP_BUF struct buf output = BUF_INIT;
	read_file(*state, s.id, UNIT_FILE_OUTPUT, &output);
	assert_true(output.len <= (1 << 20) + 100);
	assert_non_null(strstr(buf_cstr(&output), "bytes cut here"));
}

static void test_long_line_is_cut(void **state)
{
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_agent(&s, *state, "shell", "head -c 30000000 /dev/zero | tr '\\0' y");
	CLEANUP_UNIT_EXIT struct unit_exit x = run(*state, &s);
	assert_string_equal(x.outcome, "ok");
	CLEANUP_BUF struct buf journal = BUF_INIT;
	read_journal(*state, s.id, &journal);
	assert_true(journal.len < 80000);
	assert_non_null(strstr(buf_cstr(&journal), "yyyy"));
	assert_non_null(strstr(buf_cstr(&journal), "cut"));
}

static void test_broken_plugins(void **state)
{
	static const struct {
		const char *name;
		enum unit_cause cause;
		const char *text;
	} cases[] = {
		{"absent", CAUSE_HARNESS_MISSING, "orch-harness-absent.so"},
		{"not-elf", CAUSE_HARNESS_INVALID, "orch-harness-not-elf.so"},
		{"no-symbol", CAUSE_HARNESS_INVALID, "orch-harness-no-symbol.so"},
		{"wrong-magic", CAUSE_HARNESS_INVALID, "wrong-magic"},
		{"wrong-major", CAUSE_HARNESS_INVALID, "wrong-major"},
		{"short-struct", CAUSE_HARNESS_INVALID, "short-struct"},
		{"null-spawn", CAUSE_HARNESS_INVALID, "spawn"},
		{"null-kill", CAUSE_HARNESS_INVALID, "kill"},
		{"null-wait", CAUSE_HARNESS_INVALID, "wait"},
		{"ctor-crash", CAUSE_HARNESS_CRASHED, "crashed with SIGABRT in load"},
		{"ctor-exit", CAUSE_HARNESS_CRASHED, "exit status 0 in load"},
		{"ctor-hang", CAUSE_HARNESS_HUNG, "did not return within 700 ms in load"},
		{"ctor-daemon", CAUSE_HARNESS_HUNG, "in load"},
		{"spawn-crash", CAUSE_HARNESS_CRASHED, "crashed with SIGABRT in spawn"},
		{"spawn-exit", CAUSE_HARNESS_CRASHED, "exit status 0 in spawn"},
		{"spawn-hang", CAUSE_HARNESS_HUNG, "in spawn"},
		{"wait-crash", CAUSE_HARNESS_CRASHED, "crashed with SIGABRT in wait"},
		{"wait-exit", CAUSE_HARNESS_CRASHED, "exit status 0 in wait"},
		{"wait-hang", CAUSE_TIMED_OUT, "timed out after 2s"},
		{"release-crash", CAUSE_HARNESS_CRASHED, "crashed with SIGABRT in release"},
		{"release-exit", CAUSE_HARNESS_CRASHED, "exit status 0 in release"},
		{"release-hang", CAUSE_HARNESS_HUNG, "in release"},
		{"good", CAUSE_EXITED, ""},
		{"old-minor", CAUSE_EXITED, ""},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CLEANUP_UNIT_SPEC struct unit_spec s;
		spec_agent(&s, *state, cases[i].name, "true");
		s.callback_timeout_ms = 700;
		s.timeout_ms = 2000;
		CLEANUP_UNIT_EXIT struct unit_exit x = run(*state, &s);
		if (x.cause != cases[i].cause || !strstr(x.text, cases[i].text))
			fail_msg("%s: %s, %s", cases[i].name, unit_cause_name(x.cause), x.text);
		if (x.cause != CAUSE_EXITED && x.cause != CAUSE_TIMED_OUT)
			assert_non_null(strstr(x.text, cases[i].name));
		assert_true(x.contained);
		assert_nothing_left();
	}
}

static void test_broken_kill(void **state)
{
	static const struct {
		const char *name;
		enum unit_cause cause;
	} cases[] = {
		{"kill-crash", CAUSE_HARNESS_CRASHED},
		{"kill-exit", CAUSE_HARNESS_CRASHED},
		{"kill-hang", CAUSE_HARNESS_HUNG},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct world *w = *state;
		struct err e = ERR_INIT;
		CLEANUP_UNIT_SPEC struct unit_spec s;
		spec_agent(&s, w, cases[i].name, stubborn);
		s.callback_timeout_ms = 500;
		struct unit *u = start(w, &s);
		await_file(w, "up");
		assert_int_equal(unit_kill(u, UNIT_KILL_TERM, "interrupted", 10000, &e), 0);
		CLEANUP_UNIT_EXIT struct unit_exit x = finish(u);
		assert_int_equal(x.cause, cases[i].cause);
		assert_non_null(strstr(x.text, "in kill"));
		assert_non_null(strstr(x.text, "interrupted"));
		CLEANUP_STR char *up = path_join(w->dir, "up");
		unlink(up);
		assert_nothing_left();
	}
}

static void test_send(void **state)
{
	struct err e = ERR_INIT;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_agent(
		&s, *state, "good", "read prompt; echo up > up; read words; echo \"heard $words\"");
	struct unit *u = start(*state, &s);
	await_file(*state, "up");
	assert_int_equal(unit_send(u, "hello there", &e), 0);
	CLEANUP_UNIT_EXIT struct unit_exit x = finish(u);
	assert_string_equal(x.outcome, "ok");
	assert_string_equal(x.last_message, "heard hello there");
}

static void test_secrets_are_masked(void **state)
{
	struct world *w = *state;
	struct unit *u = NULL;
	struct err e = ERR_INIT;
	char *env[] = {"PATH=/usr/bin:/bin", "KEY=s3cr3t-value", "SHORT=ab", NULL};
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_agent(&s, w, "shell",
		"echo \"the $KEY is $KEY, $SHORT\"; printf s3cr >&2; sleep 0.1; echo 3t-value >&2; "
		"printf s3cr3 >&2; exit 1");
	assert_int_equal(strv_add(&s.mask_env, "KEY"), 0);
	assert_int_equal(strv_add(&s.mask_env, "SHORT"), 0);
	assert_int_equal(unit_start(w->lc, &s, env, &u, &e), 0);
	CLEANUP_UNIT_EXIT struct unit_exit x = finish(u);
	assert_string_equal(x.last_message, "the *** is ***, ab");
	CLEANUP_BUF struct buf journal = BUF_INIT;
	CLEANUP_BUF struct buf output = BUF_INIT;
	CLEANUP_BUF struct buf spec = BUF_INIT;
	read_journal(w, s.id, &journal);
	read_file(w, s.id, UNIT_FILE_OUTPUT, &output);
	read_file(w, s.id, UNIT_FILE_SPEC, &spec);
	assert_null(strstr(buf_cstr(&journal), "s3cr3t-value"));
	assert_null(strstr(buf_cstr(&output), "s3cr3t-value"));
	assert_null(strstr(buf_cstr(&spec), "s3cr3t-value"));
	assert_non_null(strstr(buf_cstr(&journal), "the *** is ***, ab"));
	assert_non_null(strstr(buf_cstr(&output), "***\n"));
	assert_true(str_ends(buf_cstr(&output), "s3cr3")); /* the beginning of one is none */
}

static void test_stalled(void **state)
{
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_agent(&s, *state, "shell", "echo thinking; sleep 100");
	s.silence_ms = 1000;
	CLEANUP_UNIT_EXIT struct unit_exit x = run(*state, &s);
	assert_int_equal(x.cause, CAUSE_STALLED);
	assert_true(x.duration_ms >= 1000);
}

static void test_busy_is_not_stalled(void **state)
{
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_agent(&s, *state, "shell",
		"end=$(($(date +%s) + 3)); while [ $(date +%s) -lt $end ]; do :; done");
	s.silence_ms = 1000;
	CLEANUP_UNIT_EXIT struct unit_exit x = run(*state, &s);
	assert_int_equal(x.cause, CAUSE_EXITED);
	assert_string_equal(x.outcome, "ok");
}

static void test_runaway(void **state)
{
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_agent(&s, *state, "shell", "while :; do echo spam; done");
	s.runaway_events = 50;
	s.timeout_ms = 60000;
	CLEANUP_UNIT_EXIT struct unit_exit x = run(*state, &s);
	assert_int_equal(x.cause, CAUSE_RUNAWAY);
	assert_non_null(strstr(x.text, "events a second"));
}

static void test_adopted(void **state)
{
	struct world *w = *state;
	struct unit *u = NULL;
	enum unit_found found;
	struct err e = ERR_INIT;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_agent(&s, w, "shell",
		"echo up > up; while [ ! -e go ]; do sleep 0.01; done; echo went on");
	unit_free(start(w, &s));
	await_file(w, "up");
	assert_int_equal(unit_adopt(w->lc, s.id, &u, &found, &e), 0);
	assert_int_equal(found, UNIT_FOUND_LIVE);
	CLEANUP_STR char *go = path_join(w->dir, "go");
	assert_int_equal(file_write_new(AT_FDCWD, go, "x", 1, 0600, &e), 0);
	CLEANUP_UNIT_EXIT struct unit_exit x = finish(u);
	assert_string_equal(x.outcome, "ok");
	assert_string_equal(x.last_message, "went on");
}

static void lose_keeper(struct world *w, enum unit_containment containment)
{
	struct unit_event event;
	struct err e = ERR_INIT;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_agent(&s, w, "shell", stubborn);
	s.containment = containment;
	struct unit *u = start(w, &s);
	await_file(w, "up");
	kill(unit_keeper_pid(u), SIGKILL);
	assert_false(await_event(u, UNIT_EVENT_ENDED, &event));
	CLEANUP_UNIT_EXIT struct unit_exit x = UNIT_EXIT_INIT;
	assert_int_equal(unit_exit_read(u, &x, &e), 0);
	assert_int_equal(x.cause, CAUSE_LOST);
	unit_free(u);
	assert_nothing_left();
	CLEANUP_STR char *up = path_join(w->dir, "up");
	unlink(up);
}

static void test_keeper_killed(void **state)
{
	lose_keeper(*state, CONTAINMENT_AUTO);
	lose_keeper(*state, CONTAINMENT_SUBREAPER);
}

static void say(int fd, const char *line, const char *expected)
{
	char answer[512];
	assert_int_equal(send(fd, line, strlen(line), 0), strlen(line));
	struct pollfd p = {.fd = fd, .events = POLLIN};
	assert_int_equal(poll(&p, 1, DEADLINE_MS), 1);
	ssize_t n = recv(fd, answer, sizeof(answer) - 1, 0);
	assert_true(n > 0);
	answer[n] = '\0';
	assert_non_null(strstr(answer, expected));
}

static void test_agents_own_words(void **state)
{
	struct world *w = *state;
	struct unit *u = NULL;
	struct err e = ERR_INIT;
	char *env[] = {"PATH=/usr/bin:/bin", "ORCH_AGENT_TOKEN=sesame", NULL};
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_agent(&s, w, "shell",
		"echo \"$ORCH_SOCKET\" > up; while [ ! -e go ]; do sleep 0.01; done");
	assert_int_equal(unit_start(w->lc, &s, env, &u, &e), 0);
	await_file(w, "up");
	CLEANUP_BUF struct buf path = BUF_INIT;
	CLEANUP_STR char *up = path_join(w->dir, "up");
	assert_int_equal(file_read(AT_FDCWD, up, 4096, &path, &e), 0);
	buf_truncate(&path, path.len - 1);
	CLEANUP(closep) int fd = -1;
	assert_int_equal(sock_connect_path(path.data, &fd, &e), 0);
	say(fd, "{\"type\":\"progress\",\"token\":\"wrong\",\"data\":{\"text\":\"x\"}}\n", "error");
	say(fd, "{\"type\":\"progress\",\"token\":\"sesame\",\"data\":{\"text\":\"half way\"}}\n",
		"ok");
	say(fd, "not json\n", "error");
	CLEANUP_STR char *go = path_join(w->dir, "go");
	assert_int_equal(file_write_new(AT_FDCWD, go, "x", 1, 0600, &e), 0);
	CLEANUP_UNIT_EXIT struct unit_exit x = finish(u);
	assert_string_equal(x.outcome, "ok");
	CLEANUP_BUF struct buf journal = BUF_INIT;
	read_journal(w, s.id, &journal);
	assert_non_null(strstr(buf_cstr(&journal), "progress: {\"text\":\"half way\"}"));
	assert_null(strstr(buf_cstr(&journal), "\"x\""));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_good_agent),
		TEST(test_failing_agent),
		TEST(test_kill_stubborn),
		TEST(test_kill_polite),
		TEST(test_timeout_keeps_output),
		TEST(test_big_output),
		TEST(test_long_line_is_cut),
		TEST(test_broken_plugins),
		TEST(test_broken_kill),
		TEST(test_send),
		TEST(test_secrets_are_masked),
		TEST(test_stalled),
		TEST(test_busy_is_not_stalled),
		TEST(test_runaway),
		TEST(test_adopted),
		TEST(test_keeper_killed),
		TEST(test_agents_own_words),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
