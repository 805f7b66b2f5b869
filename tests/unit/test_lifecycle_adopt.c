/* SPDX-License-Identifier: MIT */
/* What a later engine finds: the starter closed its connection, or the keeper was killed. */
#include "units_fixture.h"

#include "os/cgroup.h"
#include "os/lock.h"
#include "os/sock.h"

static const char waits[] =
	"echo up > up; while [ ! -e go ]; do sleep 0.01; done; echo went; exit 6";

/* Leaves sessions and a double fork behind that ignore SIGTERM. */
static const char spreads[] =
	"trap '' TERM; setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' & "
	"(setsid sh -c 'trap \"\" TERM; while :; do sleep 1; done' &) ; echo up > up; "
	"while :; do sleep 1; done";

static void let_go(struct world *w)
{
	struct err e = ERR_INIT;
	CLEANUP_STR char *go = path_join(w->dir, "go");
	assert_int_equal(file_write_new(AT_FDCWD, go, "x", 1, 0600, &e), 0);
}

static struct unit *adopt(struct world *w, const char *id, enum unit_found expected)
{
	struct unit *u = NULL;
	enum unit_found found;
	struct err e = ERR_INIT;
	if (unit_adopt(w->lc, id, &u, &found, &e) < 0)
		fail_msg("%s", e.msg);
	assert_int_equal(found, expected);
	assert_true((u != NULL) == (expected == UNIT_FOUND_LIVE));
	return u;
}

static void test_adopted_after_starter_left(void **state)
{
	struct world *w = *state;
	struct unit_event event;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, w, waits);
	unit_free(start(w, &s));
	await_file(w, "up");
	struct unit *u = adopt(w, s.id, UNIT_FOUND_LIVE);
	assert_true(unit_keeper_pid(u) > 0);
	assert_true(await_event(u, UNIT_EVENT_STARTED, &event));
	assert_true(event.pid > 0);
	let_go(w);
	CLEANUP_UNIT_EXIT struct unit_exit x = finish(u);
	assert_int_equal(x.cause, CAUSE_EXITED);
	assert_int_equal(x.exit_code, 6);
	assert_null(adopt(w, s.id, UNIT_FOUND_ENDED));
}

static void test_adopted_unit_is_killed(void **state)
{
	struct world *w = *state;
	struct err e = ERR_INIT;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, w, spreads);
	unit_free(start(w, &s));
	await_file(w, "up");
	struct unit *u = adopt(w, s.id, UNIT_FOUND_LIVE);
	assert_int_equal(unit_kill(u, UNIT_KILL_TERM, "enough", 200, &e), 0);
	CLEANUP_UNIT_EXIT struct unit_exit x = finish(u);
	assert_int_equal(x.cause, CAUSE_KILLED);
	assert_string_equal(x.text, "enough");
	assert_true(x.contained);
}

/* As an agent might, by ORCH_SOCKET. */
static void test_adopted_however_many_connections_there_are(void **state)
{
	enum { CONNECTIONS = 40 };
	struct world *w = *state;
	int fds[CONNECTIONS], dirfd;
	struct err e = ERR_INIT;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, w, waits);
	unit_free(start(w, &s));
	await_file(w, "up");
	assert_int_equal(lifecycle_unit_dir(w->lc, s.id, &dirfd, &e), 0);
	for (int i = 0; i < CONNECTIONS; i++) {
		int r;
		while ((r = sock_connect(dirfd, UNIT_FILE_SOCKET, &fds[i], &e)) == -EAGAIN)
			poll(NULL, 0, 5);
		assert_int_equal(r, 0);
	}
	alarm(60); /* it was asked for ever */
	struct unit *u = adopt(w, s.id, UNIT_FOUND_LIVE);
	alarm(0);
	struct unit_event event;
	assert_true(await_event(u, UNIT_EVENT_STARTED, &event)); /* the keeper has heard it */
	let_go(w);
	CLEANUP_UNIT_EXIT struct unit_exit x = finish(u);
	assert_int_equal(x.exit_code, 6);
	for (int i = 0; i < CONNECTIONS; i++)
		close(fds[i]);
	close(dirfd);
}

static bool is_living(pid_t pid)
{
	struct proc_stat st;
	return proc_stat_read(pid, &st) == 0 && !st.dead;
}

/* Whoever freed a unit that has ended may say that nothing is left of it. */
static void test_no_keeper_outlives_its_unit(void **state)
{
	struct world *w = *state;
	for (int i = 0; i < 20; i++) {
		struct unit_event event;
		struct err e = ERR_INIT;
		CLEANUP_UNIT_SPEC struct unit_spec s;
		spec_command(&s, w, "exec sleep 60");
		unit_free(start(w, &s));
		struct unit *u = adopt(w, s.id, UNIT_FOUND_LIVE);
		pid_t keeper = unit_keeper_pid(u);
		assert_int_equal(unit_kill(u, UNIT_KILL_KILL, "enough", 0, &e), 0);
		assert_true(await_event(u, UNIT_EVENT_ENDED, &event));
		unit_free(u);
		assert_false(is_living(keeper));
	}
}

/* An engine that dies when it has asked for a unit, before anybody got to it. */
static _Noreturn void die_asking(struct world *w, const struct unit_spec specs[3])
{
	struct lifecycle *lc;
	struct pids below = {0};
	struct err e = ERR_INIT;
	if (lifecycle_open(w->dir, ORCH_SHIM, NULL, &lc, &e) < 0)
		_exit(1);
	for (int i = 0; i < 3; i++) {
		struct unit *u;
		if (i == 2 && proc_descendants(getpid(), &below) < 0)
			_exit(1);
		vec_foreach(pid, &below)
			if (is_nursery(*pid))
				kill(*pid, SIGSTOP);
		if (unit_start(lc, &specs[i], environ, &u, &e) < 0)
			_exit(1);
		/* The first is forked without a nursery; a young keeper looks like one. */
		struct unit_event event = {0};
		while (i < 2 && event.type != UNIT_EVENT_GONE)
			if (unit_read(u, &event, &e) < 0)
				_exit(1);
	}
	_exit(0);
}

static void test_nobody_starts_what_a_dead_engine_asked_for(void **state)
{
	struct world *w = *state;
	CLEANUP_UNIT_SPEC struct unit_spec first, second, third;
	spec_command(&first, w, "true");
	spec_command(&second, w, "true");
	spec_command(&third, w, "echo up > up; exec sleep 60");
	const struct unit_spec specs[] = {first, second, third};
	pid_t engine = fork();
	if (engine == 0)
		die_asking(w, specs);
	int status;
	assert_int_equal(waitpid(engine, &status, 0), engine);
	assert_int_equal(status, 0);
	struct pids below = {0};
	size_t nurseries = 0;
	assert_int_equal(proc_descendants(getpid(), &below), 0);
	vec_foreach(pid, &below) {
		if (!is_nursery(*pid))
			continue;
		nurseries++;
		kill(*pid, SIGCONT);
	}
	VEC_FREE(&below);
	assert_int_equal(nurseries, 1);
	assert_null(adopt(w, third.id, UNIT_FOUND_NEVER_RAN));
	assert_nothing_left();
	CLEANUP_STR char *up = path_join(w->dir, "up");
	assert_false(file_exists(AT_FDCWD, up));
}

static void test_ended_while_nobody_looked(void **state)
{
	struct world *w = *state;
	struct err e = ERR_INIT;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, w, "exit 8");
	unit_free(start(w, &s));
	assert_nothing_left();
	assert_null(adopt(w, s.id, UNIT_FOUND_ENDED));
	CLEANUP_UNIT_EXIT struct unit_exit x = UNIT_EXIT_INIT;
	assert_int_equal(lifecycle_exit_read(w->lc, s.id, &x, &e), 0);
	assert_int_equal(x.exit_code, 8);
}

static void check_lost(struct world *w, const struct unit_spec *s, bool contained)
{
	struct err e = ERR_INIT;
	CLEANUP_UNIT_EXIT struct unit_exit x = UNIT_EXIT_INIT;
	assert_int_equal(lifecycle_exit_read(w->lc, s->id, &x, &e), 0);
	assert_int_equal(x.cause, CAUSE_LOST);
	assert_true(x.started_at > 0);
	assert_int_equal(x.contained, contained);
	assert_false(file_exists(AT_FDCWD, s->tmpdir));
	assert_nothing_left();
}

static void lose_keeper(struct world *w, enum unit_containment containment)
{
	struct unit_event event;
	struct err e = ERR_INIT;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, w, spreads);
	s.containment = containment;
	struct unit *u = start(w, &s);
	await_file(w, "up");
	CLEANUP_UNIT_EXIT struct unit_exit early = UNIT_EXIT_INIT;
	assert_int_equal(unit_exit_read(u, &early, &e), -EBUSY);
	kill(unit_keeper_pid(u), SIGKILL);
	assert_false(await_event(u, UNIT_EVENT_ENDED, &event));
	CLEANUP_UNIT_EXIT struct unit_exit x = UNIT_EXIT_INIT;
	assert_int_equal(unit_exit_read(u, &x, &e), 0);
	assert_int_equal(x.cause, CAUSE_LOST);
	unit_free(u);
	check_lost(w, &s, containment != CONTAINMENT_SUBREAPER);
	assert_null(adopt(w, s.id, UNIT_FOUND_ENDED));
}

static void test_keeper_killed_cgroup(void **state)
{
	struct world *w = *state;
	if (lifecycle_containment(w->lc) != CONTAINMENT_CGROUP) {
		print_message("no cgroup can be made here: SKIPPED\n");
		skip();
	}
	lose_keeper(w, CONTAINMENT_CGROUP);
}

static void test_keeper_killed_subreaper(void **state)
{
	lose_keeper(*state, CONTAINMENT_SUBREAPER);
}

static void test_keeper_killed_pidns(void **state)
{
	need_pidns();
	lose_keeper(*state, CONTAINMENT_PIDNS);
}

static void test_found_lost_by_a_later_engine(void **state)
{
	struct world *w = *state;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, w, spreads);
	s.containment = CONTAINMENT_SUBREAPER;
	struct unit *u = start(w, &s);
	await_file(w, "up");
	kill(unit_keeper_pid(u), SIGKILL);
	unit_free(u);
	assert_null(adopt(w, s.id, UNIT_FOUND_LOST));
	check_lost(w, &s, false);
}

static void test_stopped_keeper_is_woken(void **state)
{
	struct world *w = *state;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, w, waits);
	struct unit *first = start(w, &s);
	await_file(w, "up");
	kill(unit_keeper_pid(first), SIGSTOP);
	unit_free(first);
	struct unit *u = adopt(w, s.id, UNIT_FOUND_LIVE);
	struct unit_event event;
	assert_true(await_event(u, UNIT_EVENT_STARTED, &event));
	let_go(w);
	CLEANUP_UNIT_EXIT struct unit_exit x = finish(u);
	assert_int_equal(x.exit_code, 6);
}

static void test_abandon(void **state)
{
	struct world *w = *state;
	struct unit_event event;
	struct err e = ERR_INIT;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, w, spreads);
	struct unit *u = start(w, &s);
	await_file(w, "up");
	kill(unit_keeper_pid(u), SIGSTOP);
	assert_int_equal(unit_abandon(u, &e), 0);
	assert_false(await_event(u, UNIT_EVENT_ENDED, &event));
	unit_free(u);
	check_lost(w, &s, lifecycle_containment(w->lc) == CONTAINMENT_CGROUP);
}

static void test_never_ran(void **state)
{
	struct world *w = *state;
	struct err e = ERR_INIT;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, w, "true");
	/* no directory */
	assert_null(adopt(w, s.id, UNIT_FOUND_NEVER_RAN));
	/* a directory with a spec, then with a lock that is free, then with half a line */
	CLEANUP_STR char *dir = str_printf("%s/units/%s", w->dir, s.id);
	assert_int_equal(mkdir(dir, 0700), 0);
	CLEANUP(closep) int dirfd = -1;
	assert_int_equal(dir_open(AT_FDCWD, dir, &dirfd, &e), 0);
	assert_int_equal(unit_spec_write(dirfd, &s, &e), 0);
	assert_null(adopt(w, s.id, UNIT_FOUND_NEVER_RAN));
	int lock;
	assert_int_equal(lock_take(dirfd, UNIT_FILE_LOCK, 0, &lock, &e), 0);
	close(lock);
	assert_null(adopt(w, s.id, UNIT_FOUND_NEVER_RAN));
	static const char half[] = "{\"v\":1,\"seq\":1,\"at\":1,\"kind\":\"started\",\"da";
	assert_int_equal(
		file_write_new(dirfd, UNIT_FILE_JOURNAL, half, sizeof(half) - 1, 0600, &e), 0);
	assert_null(adopt(w, s.id, UNIT_FOUND_NEVER_RAN));
	/* and it may be started again under the same id */
	CLEANUP_UNIT_EXIT struct unit_exit x = run(w, &s);
	assert_int_equal(x.cause, CAUSE_EXITED);
	assert_int_equal(x.exit_code, 0);
}

static void test_on_crash_kill(void **state)
{
	struct world *w = *state;
	struct err e = ERR_INIT;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, w, spreads);
	s.on_crash = ON_CRASH_KILL;
	int64_t begin = clock_mono_ms();
	unit_free(start(w, &s));
	pid_t pid;
	while ((pid = waitpid(-1, NULL, 0)) > 0)
		; /* the keeper is ours to reap: it ends by itself */
	assert_true(clock_mono_ms() - begin >= 9500);
	CLEANUP_UNIT_EXIT struct unit_exit x = UNIT_EXIT_INIT;
	assert_int_equal(lifecycle_exit_read(w->lc, s.id, &x, &e), 0);
	assert_int_equal(x.cause, CAUSE_KILLED);
	assert_non_null(strstr(x.text, "on_crash"));
}

static void test_tidy(void **state)
{
	struct world *w = *state;
	struct err e = ERR_INIT;
	CLEANUP_UNIT_SPEC struct unit_spec s;
	spec_command(&s, w, "true");
	CLEANUP_UNIT_EXIT struct unit_exit x = run(w, &s);
	assert_int_equal(mkdir(s.tmpdir, 0700), 0);
	int removed = 0;
	assert_int_equal(lifecycle_tidy(w->lc, &removed, &e), 0);
	assert_int_equal(removed, 1);
	assert_false(file_exists(AT_FDCWD, s.tmpdir));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, world_setup, world_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_adopted_after_starter_left),
		TEST(test_adopted_however_many_connections_there_are),
		TEST(test_adopted_unit_is_killed),
		TEST(test_no_keeper_outlives_its_unit),
		TEST(test_nobody_starts_what_a_dead_engine_asked_for),
		TEST(test_ended_while_nobody_looked),
		TEST(test_keeper_killed_cgroup),
		TEST(test_keeper_killed_subreaper),
		TEST(test_keeper_killed_pidns),
		TEST(test_found_lost_by_a_later_engine),
		TEST(test_stopped_keeper_is_woken),
		TEST(test_abandon),
		TEST(test_never_ran),
		TEST(test_on_crash_kill),
		TEST(test_tidy),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
