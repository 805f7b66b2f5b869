/* SPDX-License-Identifier: MIT */
#include "units_fixture.h"

/* A tree that does its best to stay: sessions of its own, double forks, SIGTERM ignored, stopped.
 */
#define STUBBORN \
	"trap '' TERM HUP INT; " \
	"setsid sh -c 'trap \"\" TERM; echo $$ >> pids; while :; do sleep 1; done' & " \
	"(setsid sh -c 'trap \"\" TERM; (sh -c \"trap : TERM; echo \\$\\$ >> pids; " \
	"while :; do sleep 1; done\" &) ; exit 0' &) ; " \
	"sh -c 'echo $$ >> pids; kill -STOP $$' & " \
	"while [ $(wc -l < pids 2>/dev/null || echo 0) -lt 3 ]; do sleep 0.01; done; echo ready " \
	"> ready; "

static void test_exit_code(void **state)
{
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, *state, "echo out; echo err >&2; exit 7");
	CLEANUP_UNIT_EXIT struct unit_exit x = run(*state, &s);
	assert_int_equal(x.cause, CAUSE_EXITED);
	assert_int_equal(x.exit_code, 7);
	assert_int_equal(x.signal, 0);
	assert_int_equal(x.left, 0);
	assert_int_equal(x.killed, 0);
	assert_true(x.contained);
	assert_true(x.started_at > 0 && x.ended_at >= x.started_at);
	assert_int_equal(x.bytes, 8);
	CLEANUP_BUF struct buf out = BUF_INIT;
	CLEANUP_BUF struct buf err = BUF_INIT;
	read_file(*state, s.id, UNIT_FILE_STDOUT, &out);
	read_file(*state, s.id, UNIT_FILE_STDERR, &err);
	assert_string_equal(buf_cstr(&out), "out\n");
	assert_string_equal(buf_cstr(&err), "err\n");
	assert_false(file_exists(AT_FDCWD, s.tmpdir));
}

static void test_signal(void **state)
{
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, *state, "kill -SEGV $$");
	CLEANUP_UNIT_EXIT struct unit_exit x = run(*state, &s);
	assert_int_equal(x.cause, CAUSE_EXITED);
	assert_int_equal(x.exit_code, -1);
	assert_int_equal(x.signal, SIGSEGV);
}

static void test_no_such_command(void **state)
{
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, *state, "orch-no-such-command");
	CLEANUP_UNIT_EXIT struct unit_exit x = run(*state, &s);
	assert_int_equal(x.cause, CAUSE_EXITED);
	assert_int_equal(x.exit_code, 127);

	CLEANUP_UNIT_SPEC struct unit_spec v;
	spec_command(&v, *state, "");
	assert_int_equal(strv_add(&v.argv, "orch-no-such-command"), 0);
	CLEANUP_UNIT_EXIT struct unit_exit y = run(*state, &v);
	assert_int_equal(y.cause, CAUSE_EXITED);
	assert_int_equal(y.exit_code, 127);
	CLEANUP_BUF struct buf err = BUF_INIT;
	read_file(*state, v.id, UNIT_FILE_STDERR, &err);
	assert_non_null(strstr(buf_cstr(&err), "orch-no-such-command"));
}

static void test_missing_directory(void **state)
{
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, *state, "true");
	assert_int_equal(str_replace(&s.cwd, "/nonexistent/place"), 0);
	CLEANUP_UNIT_EXIT struct unit_exit x = run(*state, &s);
	assert_int_equal(x.cause, CAUSE_SPAWN_FAILED);
	assert_non_null(strstr(x.text, "/nonexistent/place"));
	assert_false(file_exists(AT_FDCWD, s.tmpdir));
}

static void test_environment(void **state)
{
	struct world *w = *state;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, w,
		"echo \"$ORCH_UNIT $TMPDIR\"; stat -c %a \"$TMPDIR\"; touch \"$TMPDIR/x\"; "
		"cat /proc/$$/oom_score_adj; "
		"for fd in /proc/$$/fd/*; do [ ! -e $fd ] || printf '%s ' ${fd##*/}; done");
	CLEANUP_UNIT_EXIT struct unit_exit x = run(w, &s);
	assert_int_equal(x.exit_code, 0);
	CLEANUP_BUF struct buf out = BUF_INIT;
	CLEANUP_BUF struct buf own = BUF_INIT;
	struct err e = ERR_INIT;
	read_file(w, s.id, UNIT_FILE_STDOUT, &out);
	assert_int_equal(file_read(AT_FDCWD, "/proc/self/oom_score_adj", 64, &own, &e), 0);
	int64_t score;
	buf_truncate(&own, own.len - 1);
	assert_int_equal(parse_int64(own.data, -1000, 1000, &score), 0);
	CLEANUP_STR char *expected = str_printf("%s %s\n700\n%d\n0 1 2 ", s.id, s.tmpdir,
		score + 500 > 1000 ? 1000 : (int)score + 500);
	assert_string_equal(buf_cstr(&out), expected);
	assert_false(file_exists(AT_FDCWD, s.tmpdir));
}

static void end_stubborn(struct world *w, enum unit_containment containment)
{
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, w, STUBBORN "while :; do sleep 1; done");
	s.containment = containment;
	s.timeout_ms = 1500;
	s.kill_grace_ms = 200;
	CLEANUP_UNIT_EXIT struct unit_exit x = run(w, &s);
	assert_int_equal(x.cause, CAUSE_TIMED_OUT);
	assert_string_equal(x.containment, unit_containment_name(containment));
	assert_true(x.contained);
	assert_true(x.killed >= 3);
	assert_true(x.sweep_ms < 5000);
	CLEANUP_BUF struct buf err = BUF_INIT;
	read_file(w, s.id, UNIT_FILE_STDERR, &err);
	assert_true(str_ends(buf_cstr(&err), "timed out after 1.500s\n"));
	CLEANUP_STR char *pids = path_join(w->dir, "pids");
	unlink(pids);
	assert_nothing_left();
}

static void test_timeout_cgroup(void **state)
{
	struct world *w = *state;
	if (lifecycle_containment(w->lc) != CONTAINMENT_CGROUP) {
		print_message("no cgroup can be made here: SKIPPED\n");
		skip();
	}
	end_stubborn(w, CONTAINMENT_CGROUP);
}

static void test_timeout_subreaper(void **state)
{
	end_stubborn(*state, CONTAINMENT_SUBREAPER);
}

static void test_timeout_pidns(void **state)
{
	need_pidns();
	end_stubborn(*state, CONTAINMENT_PIDNS);
}

static void leave_behind(struct world *w, enum unit_containment containment)
{
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, w, STUBBORN "exit 0");
	s.containment = containment;
	CLEANUP_UNIT_EXIT struct unit_exit x = run(w, &s);
	assert_int_equal(x.cause, CAUSE_EXITED);
	assert_int_equal(x.exit_code, 0);
	assert_true(x.left >= 3);
	assert_true(x.killed >= 3);
	assert_true(x.contained);
	CLEANUP_STR char *pids = path_join(w->dir, "pids");
	unlink(pids);
	assert_nothing_left();
}

static void test_left_behind_auto(void **state)
{
	leave_behind(*state, CONTAINMENT_AUTO);
}

static void test_left_behind_subreaper(void **state)
{
	leave_behind(*state, CONTAINMENT_SUBREAPER);
}

static void test_left_behind_pidns(void **state)
{
	need_pidns();
	leave_behind(*state, CONTAINMENT_PIDNS);
}

static void test_big_output_is_bounded(void **state)
{
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(
		&s, *state, "echo first; head -c 50000000 /dev/zero | tr '\\0' x; echo; echo last");
	CLEANUP_UNIT_EXIT struct unit_exit x = run(*state, &s);
	assert_int_equal(x.cause, CAUSE_EXITED);
	assert_int_equal(x.exit_code, 0);
	assert_int_equal(x.bytes, 50000000 + 6 + 1 + 5);
	CLEANUP_BUF struct buf out = BUF_INIT;
	read_file(*state, s.id, UNIT_FILE_STDOUT, &out);
	assert_true(out.len <= (1U << 20) + 100);
	assert_true(str_starts(buf_cstr(&out), "first\nxxx"));
	assert_true(str_ends(buf_cstr(&out), "xxx\nlast\n"));
	const char *mark = strstr(buf_cstr(&out), "bytes cut here");
	assert_non_null(mark);
	CLEANUP_STR char *count = str_printf("%lld bytes cut", (long long)(x.bytes - (1 << 20)));
	assert_non_null(strstr(buf_cstr(&out), count));
}

static void test_timeout_without_newline(void **state)
{
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, *state, "printf half >&2; sleep 100");
	s.timeout_ms = 1000;
	CLEANUP_UNIT_EXIT struct unit_exit x = run(*state, &s);
	assert_int_equal(x.cause, CAUSE_TIMED_OUT);
	assert_int_equal(x.signal, SIGTERM);
	assert_true(x.duration_ms >= 1000 && x.duration_ms < 5000);
	CLEANUP_BUF struct buf err = BUF_INIT;
	read_file(*state, s.id, UNIT_FILE_STDERR, &err);
	assert_string_equal(buf_cstr(&err), "half\ntimed out after 1s\n");
}

static void test_kill_with_reason(void **state)
{
	struct unit_event event;
	struct err e = ERR_INIT;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, *state,
		"trap 'echo bye; exit 3' TERM; echo up > up; while :; do sleep 0.05; done");
	struct unit *u = start(*state, &s);
	assert_true(await_event(u, UNIT_EVENT_STARTED, &event));
	assert_true(event.pid > 0);
	await_file(*state, "up");
	assert_int_equal(unit_kill(u, UNIT_KILL_TERM, "a person said so", 20000, &e), 0);
	CLEANUP_UNIT_EXIT struct unit_exit x = finish(u);
	assert_int_equal(x.cause, CAUSE_KILLED);
	assert_string_equal(x.text, "a person said so");
	assert_int_equal(x.exit_code, 3);
	CLEANUP_BUF struct buf out = BUF_INIT;
	read_file(*state, s.id, UNIT_FILE_STDOUT, &out);
	assert_string_equal(buf_cstr(&out), "bye\n");
}

static void test_kill_at_once(void **state)
{
	struct unit_event event;
	struct err e = ERR_INIT;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, *state, "trap '' TERM; echo up > up; while :; do sleep 1; done");
	struct unit *u = start(*state, &s);
	await_file(*state, "up");
	assert_int_equal(unit_kill(u, UNIT_KILL_TERM, "first", 60000, &e), 0);
	assert_int_equal(unit_kill(u, UNIT_KILL_KILL, "second", 0, &e), 0);
	assert_true(await_event(u, UNIT_EVENT_STARTED, &event));
	CLEANUP_UNIT_EXIT struct unit_exit x = finish(u);
	assert_int_equal(x.cause, CAUSE_KILLED);
	assert_string_equal(x.text, "first");
	assert_int_equal(x.signal, SIGKILL);
}

static void pause_and_resume(struct world *w, enum unit_containment containment)
{
	struct unit_event event;
	struct err e = ERR_INIT;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, w, "echo up > up; while [ ! -e go ]; do sleep 0.01; done; exit 5");
	s.containment = containment;
	s.timeout_ms = 2000;
	struct unit *u = start(w, &s);
	await_file(w, "up");
	assert_int_equal(unit_pause(u, &e), 0);
	assert_true(await_event(u, UNIT_EVENT_PAUSED, &event));
	CLEANUP_STR char *go = path_join(w->dir, "go");
	assert_int_equal(file_write_new(AT_FDCWD, go, "x", 1, 0600, &e), 0);
	/* Longer than its time limit: neither does it go on nor does it time out. */
	struct pollfd p = {.fd = unit_fd(u), .events = POLLIN};
	assert_int_equal(poll(&p, 1, 2500), 0);
	assert_int_equal(unit_resume(u, &e), 0);
	CLEANUP_UNIT_EXIT struct unit_exit x = finish(u);
	assert_int_equal(x.cause, CAUSE_EXITED);
	assert_int_equal(x.exit_code, 5);
	assert_true(x.duration_ms < 2000);
	unlink(go);
	CLEANUP_STR char *up = path_join(w->dir, "up");
	unlink(up);
}

static void test_pause(void **state)
{
	pause_and_resume(*state, CONTAINMENT_AUTO);
	pause_and_resume(*state, CONTAINMENT_SUBREAPER);
}

static void test_kill_while_paused(void **state)
{
	struct unit_event event;
	struct err e = ERR_INIT;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, *state, "trap 'exit 4' TERM; echo up > up; while :; do sleep 0.01; done");
	struct unit *u = start(*state, &s);
	await_file(*state, "up");
	assert_int_equal(unit_pause(u, &e), 0);
	assert_true(await_event(u, UNIT_EVENT_PAUSED, &event));
	assert_int_equal(unit_kill(u, UNIT_KILL_TERM, "stop", 20000, &e), 0);
	CLEANUP_UNIT_EXIT struct unit_exit x = finish(u);
	assert_int_equal(x.cause, CAUSE_KILLED);
	assert_int_equal(x.exit_code, 4);
}

static void test_same_id_twice(void **state)
{
	struct world *w = *state;
	struct err e = ERR_INIT;
	struct unit *again = NULL;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, w, "true");
	CLEANUP_UNIT_EXIT struct unit_exit x = run(w, &s);
	assert_int_equal(unit_start(w->lc, &s, environ, &again, &e), -EEXIST);
	assert_null(again);
	assert_int_equal(lifecycle_remove(w->lc, s.id, &e), 0);
	int fd;
	assert_int_equal(lifecycle_unit_dir(w->lc, s.id, &fd, &e), -ENOENT);
}

static void test_many_at_once(void **state)
{
	enum { UNITS = 20 };
	struct unit *units[UNITS];
	for (int i = 0; i < UNITS; i++) {
		CLEANUP_UNIT_SPEC struct unit_spec s;
		spec_command(&s, *state, "sleep 0.1; exit 9");
		units[i] = start(*state, &s);
	}
	for (int i = 0; i < UNITS; i++) {
		CLEANUP_UNIT_EXIT struct unit_exit x = finish(units[i]);
		assert_int_equal(x.exit_code, 9);
	}
}

/* More than a socket holds of the nursery's answers, which are read only when somebody asks. */
static void test_more_at_once_than_answers_fit(void **state)
{
	enum { UNITS = 400 };
	static struct unit *units[UNITS];
	alarm(100); /* it never ended */
	for (int i = 0; i < UNITS; i++) {
		CLEANUP_UNIT_SPEC struct unit_spec s;
		spec_command(&s, *state, "exit 9");
		units[i] = start(*state, &s);
	}
	for (int i = 0; i < UNITS; i++) {
		CLEANUP_UNIT_EXIT struct unit_exit x = finish(units[i]);
		assert_int_equal(x.exit_code, 9);
	}
	alarm(0);
}

static pid_t nursery_pid(void)
{
	struct pids all = {0};
	pid_t pid = 0;
	assert_int_equal(proc_descendants(getpid(), &all), 0);
	vec_foreach(p, &all)
		if (is_nursery(*p))
			pid = *p;
	VEC_FREE(&all);
	return pid;
}

static int exit_of(struct world *w, const char *command)
{
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, w, command);
	CLEANUP_UNIT_EXIT struct unit_exit x = run(w, &s);
	return x.exit_code;
}

static void test_a_nursery_that_does_not_answer_is_given_up(void **state)
{
	struct unit_event event;
	alarm(100);
	assert_int_equal(exit_of(*state, "exit 7"), 7); /* the first unit goes without */
	assert_int_equal(exit_of(*state, "exit 8"), 8);
	pid_t nursery = nursery_pid();
	assert_true(nursery > 0);
	kill(nursery, SIGSTOP);
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, *state, "exit 9");
	struct unit *u = start(*state, &s);
	assert_int_equal(unit_keeper_pid(u), 0); /* it was never born, */
	assert_false(await_event(u, UNIT_EVENT_STARTED, &event));
	unit_free(u);
	assert_int_equal(nursery_pid(), 0);
	assert_int_equal(exit_of(*state, "exit 6"), 6); /* and the next one is */
	alarm(0);
}

/* Each has a nursery, which ends while it waits for work. */
static void test_closed_again_and_again(void **state)
{
	(void)state;
	for (int i = 0; i < 30; i++) {
		void *world = NULL;
		assert_int_equal(world_setup(&world), 0);
		assert_int_equal(exit_of(world, "exit 7"), 7);
		assert_int_equal(exit_of(world, "exit 8"), 8);
		assert_int_equal(world_teardown(&world), 0);
	}
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_exit_code),
		TEST(test_more_at_once_than_answers_fit),
		TEST(test_a_nursery_that_does_not_answer_is_given_up),
		TEST(test_signal),
		TEST(test_no_such_command),
		TEST(test_missing_directory),
		TEST(test_environment),
		TEST(test_timeout_cgroup),
		TEST(test_timeout_subreaper),
		TEST(test_timeout_pidns),
		TEST(test_left_behind_auto),
		TEST(test_left_behind_subreaper),
		TEST(test_left_behind_pidns),
		TEST(test_big_output_is_bounded),
		TEST(test_timeout_without_newline),
		TEST(test_kill_with_reason),
		TEST(test_kill_at_once),
		TEST(test_pause),
		TEST(test_kill_while_paused),
		TEST(test_same_id_twice),
		TEST(test_many_at_once),
		cmocka_unit_test(test_closed_again_and_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
