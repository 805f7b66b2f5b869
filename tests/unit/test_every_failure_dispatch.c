/* SPDX-License-Identifier: MIT */
/*
 * The whole of `orch dispatch` (command line, engine's loop, socket) while its own calls fail; its
 * keepers' and agents' do not. See failing.h. Whatever fails, the command ends by itself, says why
 * unless it went on, leaves no process and nothing marked as done that is not; the same command
 * then brings the plan to its end.
 */
#include "failing.h"

#include "units_fixture.h"

#include "cli/commands.h"
#include "store/store.h"

#include <sys/mman.h>
#include <uv.h>

/* a speaks twice to the engine by its socket while it works; b is judged, and follows a. */
static const char plan_text[] =
	"[plan]\n"
	"name = demo\n"
	"isolation = none\n"
	"[invariant:made]\n"
	"command = test -s ran-a\n"
	"[task:a]\n"
	"command = echo x >> ran-a; for n in 2 3; do"
	" env -u ORCH_UNIT \"$ORCH\" plan set demo b priority=$n || :; done\n"
	"[task:b]\n"
	"command = test -s ran-a && echo x >> ran-b\n"
	"depends_on = a\n"
	"invariants = made\n";

int __real_uv_poll_init(uv_loop_t *loop, uv_poll_t *poll, int fd);
int __wrap_uv_poll_init(uv_loop_t *loop, uv_poll_t *poll, int fd);

int __wrap_uv_poll_init(uv_loop_t *loop, uv_poll_t *poll, int fd)
{
	return failing_call("uv_poll_init") ? UV_ENOMEM : __real_uv_poll_init(loop, poll, fd);
}

static int call(struct failing *f, cli_fn verb, char **argv)
{
	struct cli cli = {
		.program = "orch", .verb = argv[0], .dir = f->dir, .quiet = true, .signal_fd = -1};
	int argc = 0;
	while (argv[argc])
		argc++;
	spawn_origin_save(&cli.origin);
	optind = 0;
	return verb(&cli, argc, argv);
}

static int dispatch(struct failing *f)
{
	char *argv[] = {(char[]){"dispatch"}, (char[]){"plan.ini"}, NULL};
	return call(f, cmd_dispatch, argv);
}

static void retry(struct failing *f, char *task)
{
	char *argv[] = {(char[]){"retry"}, task, NULL};
	(void)call(f, cmd_retry, argv); /* 1: it is not the one that has failed */
}

/* What is said on standard output and standard error between these two goes to a file. */
struct voice {
	int kept[2], file;
};

static void voice_open(struct voice *v)
{
	fflush(NULL);
	v->file = memfd_create("said", MFD_CLOEXEC);
	assert_true(v->file >= 0);
	for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++) {
		v->kept[fd - 1] = fcntl(fd, F_DUPFD_CLOEXEC, 3);
		assert_true(v->kept[fd - 1] >= 0);
		assert_int_equal(dup2(v->file, fd), fd);
	}
}

static void voice_close(struct voice *v, char *ret, size_t size)
{
	fflush(NULL);
	for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++) {
		assert_int_equal(dup2(v->kept[fd - 1], fd), fd);
		close(v->kept[fd - 1]);
	}
	ssize_t n = pread(v->file, ret, size - 1, 0);
	ret[n > 0 ? n : 0] = '\0';
	close(v->file);
}

struct seen {
	size_t passed, open, attempts[2];
};

static int note_task(void *ctx, const struct task_row *row)
{
	struct seen *seen = ctx;
	seen->passed += row->status == TASK_PASSED;
	seen->open += row->attempt_open;
	seen->attempts[str_eq(row->name, "b")] = (size_t)row->attempt;
	return 0;
}

/* How often the command of a task has run. */
static size_t runs(struct failing *f, const char *name)
{
	CLEANUP(freep) char *text = failing_read(f, name);
	return text ? strlen(text) / 2 : 0;
}

static void read_database(struct failing *f, struct seen *ret)
{
	struct err e = ERR_INIT;
	int64_t id = 0;
	CLEANUP(store_closep) struct store *s = NULL;
	CLEANUP_STR char *dir = path_join(f->dir, ".orch");
	CLEANUP_STR char *why = NULL;
	*ret = (struct seen){0};
	if (store_open(dir, STORE_READ, &s, &e) < 0)
		return; /* it never came to one */
	if (store_check(s, &why, &e) < 0 || !str_eq(why, "ok"))
		fail_msg("the database: %s", why ? why : e.msg);
	if (store_plan_id(s, "demo", &id, &e) < 0 || store_each_task(s, id, note_task, ret, &e) < 0)
		fail_msg("%s", e.msg);
}

/* What is marked as done has been done. */
static void look(struct failing *f, struct seen *ret)
{
	read_database(f, ret);
	assert_true(ret->passed < 1 || runs(f, "ran-a") > 0);
	assert_true(ret->passed < 2 || runs(f, "ran-b") > 0);
	assert_true(runs(f, "ran-a") <= ret->attempts[0]);
	assert_true(runs(f, "ran-b") <= ret->attempts[1]);
	assert_nothing_left();
}

static int dispatched(struct failing *f, struct err *e)
{
	struct voice voice;
	struct seen seen;
	char said[4096], again[4096] = "";
	(void)e;
	failing_write(f, "plan.ini", plan_text);
	voice_open(&voice);
	int ended = 0, status = failing_process(f, dispatch, f->arg, &ended);
	voice_close(&voice, said, sizeof(said));
	/* libuv cannot go on without memory for its table of descriptors; the keepers do. */
	if (status == -ECHILD && ended != EXIT_IO)
		fail_msg("the process ended with %d: %s", ended, said);
	if (status == -ECHILD)
		status = ended;
	else
		look(f, &seen);
	if (status != 0 && !said[0])
		fail_msg("status %d without a word", status);
	for (int n = 0, now = status; now != 0; n++) {
		voice_open(&voice);
		/* What never ceases to fail uses the attempts up; it says to retry then. */
		if (now == 1) {
			retry(f, (char[]){"demo/a"});
			retry(f, (char[]){"demo/b"});
		}
		now = dispatch(f);
		voice_close(&voice, again, sizeof(again));
		look(f, &seen);
		if (n == 4)
			fail_msg("status %d: %s\nthen %d: %s", status, said, now, again);
	}
	if (seen.passed != 2 || seen.open != 0)
		fail_msg("%zu passed, %zu open; status %d: %s\n%s", seen.passed, seen.open, status,
			said, again);
	return -status;
}

int main(void)
{
	/* The engine asks who a client is before it hears it. */
	static char first_client[] = "getsockopt";
	const unsigned flags = FAILING_QUIET | FAILING_ANY_CODE | FAILING_MANY;
	const struct failing_scenario scenarios[] = {
		{"dispatch", dispatched, 0, flags, 811, NULL, 97},
		{"client", dispatched, 0, flags, 97, first_client, 29},
	};
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
	setenv("GIT_CEILING_DIRECTORIES", "/tmp", 1);
	setenv("ORCH", ORCH_BIN, 1);
	setenv("ORCH_PLUGIN_PATH", ORCH_PLUGINS, 1);
	setenv("ORCH_SYSTEM_CONFIG", "/nonexistent", 1);
	setenv("XDG_CONFIG_HOME", "/nonexistent", 1);
	setenv("ORCH_RETRY_BACKOFF", "1ms", 1);
	setenv("ORCH_MIN_FREE_MEMORY", "0", 1);
	setenv("ORCH_MIN_FREE_DISK", "0", 1);
	failing_sqlite();
	/* What libuv keeps from its first loop on is no leak. */
	uv_loop_t loop;
	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(uv_loop_close(&loop), 0);
	return failing_run(scenarios, sizeof(scenarios) / sizeof(scenarios[0]));
}
