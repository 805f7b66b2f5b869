/* SPDX-License-Identifier: MIT */
/* How git is run: environment, deadlines, cancellation, bounds, the inherited lock. */
#include "git_fixture.h"

#include "git/guard.h"
#include "git/reader.h"
#include "os/proc.h"

#include <sys/file.h>

static int setup(void **state)
{
	if (fixture_setup(state) < 0)
		return -1;
	struct fixture *f = *state;
	make_repo(f, "repo", "");
	open_repo(f, "repo");
	return 0;
}

/* A git that hands over to sh, by an alias given for this command alone. */
static int run_script(struct fixture *f, const char *script, struct git_output *o)
{
	CLEANUP_STR char *alias = str_printf("alias.x=!%s", script);
	const char *const argv[] = {"-c", alias, "x", NULL};
	return git_run(&f->ctx, &(struct git_cmd){.argv = argv, .dir = f->dir}, o, &f->e);
}

static void test_environment(void **state)
{
	struct fixture *f = *state;
	struct git_output o = GIT_OUTPUT_INIT;
	setenv("GIT_SSH_COMMAND", "evil", 1);
	setenv("GIT_CONFIG_PARAMETERS", "'core.hooksPath'='/evil'", 1);
	assert_done(f, run_script(f,
			       "echo $GIT_SSH_COMMAND $LC_ALL $GIT_TERMINAL_PROMPT $GIT_EDITOR "
			       "$GIT_OPTIONAL_LOCKS; git config core.hooksPath; git config "
			       "commit.gpgSign; git var GIT_COMMITTER_IDENT | cut -d\\> -f1",
			       &o));
	unsetenv("GIT_SSH_COMMAND");
	unsetenv("GIT_CONFIG_PARAMETERS");
	assert_string_equal(
		buf_cstr(&o.out), "C 0 true 0\n/dev/null\nfalse\norch <orch@localhost\n");
	/* A session of its own, and no descriptor of ours. */
	assert_done(f,
		run_script(f,
			"ps -o sid= -p $$ | tr -d ' '; "
			"for fd in /proc/$$/fd/*; do [ ! -e $fd ] || printf '%s ' ${fd##*/}; done",
			&o));
	char ours[32];
	snprintf(ours, sizeof(ours), "%d\n", (int)getsid(0));
	assert_false(str_starts(buf_cstr(&o.out), ours));
	assert_non_null(strstr(buf_cstr(&o.out), "\n0 1 2 "));
	git_output_deinit(&o);
}

static void test_status_and_words(void **state)
{
	struct fixture *f = *state;
	struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {"rev-parse", "--verify", "nonsense", NULL};
	assert_done(f, git_run(&f->ctx, &(struct git_cmd){.argv = argv}, &o, &f->e));
	assert_int_equal(o.status, 128);
	assert_int_equal(
		git_run_ok(&f->ctx, &(struct git_cmd){.argv = argv}, &o, &f->e), GIT_FAILED);
	assert_non_null(strstr(f->e.msg, "git rev-parse failed (status 128): fatal:"));
	assert_done(f, run_script(f, "kill -9 $$", &o));
	assert_int_not_equal(o.status, 0);
	git_output_deinit(&o);
}

static void test_deadline_ends_what_ignores_sigterm(void **state)
{
	struct fixture *f = *state;
	struct git_output o = GIT_OUTPUT_INIT;
	int64_t begin = clock_mono_ms();
	f->ctx.deadline_ms = deadline_after(100);
	assert_int_equal(run_script(f, "trap '' TERM; while :; do sleep 1; done", &o), -ETIMEDOUT);
	assert_true(clock_mono_ms() - begin >= 2000);
	assert_true(clock_mono_ms() - begin < 10000);
	/* One that is past before the start starts nothing. */
	sh(f->dir, "rm -f started");
	assert_int_equal(run_script(f, "touch started", &o), -ETIMEDOUT);
	sh(f->dir, "test ! -e started");
	git_output_deinit(&o);
}

static void test_cancel(void **state)
{
	struct fixture *f = *state;
	struct git_output o = GIT_OUTPUT_INIT;
	int fds[2];
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	f->ctx.cancel_fd = fds[0];
	f->ctx.deadline_ms = deadline_after(60000);
	assert_done(f, run_script(f, "echo fine", &o));
	assert_int_equal(write(fds[1], "x", 1), 1);
	assert_int_equal(run_script(f, "sleep 100", &o), -ECANCELED);
	close(fds[0]);
	close(fds[1]);
	git_output_deinit(&o);
}

static void test_stopped_git_removes_its_locks(void **state)
{
	struct fixture *f = *state;
	/* A filter keeps `git add` busy while it holds index.lock. */
	sh(f->dir, "mkfifo go; git config --global filter.slow.clean 'echo >%s/go; sleep 100'",
		f->dir);
	sh(f->repo->toplevel, "echo 'slow filter=slow' >.git/info/attributes; echo x >slow");
	int fds[2];
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t helper = fork();
	if (helper == 0) {
		char *go = path_join(f->dir, "go");
		int fd = open(go, O_RDONLY);
		char c;
		_exit(read(fd, &c, 1) == 1 && write(fds[1], "x", 1) == 1 ? 0 : 1);
	}
	f->ctx.cancel_fd = fds[0];
	const char *const argv[] = {"add", "slow", NULL};
	struct git_output o = GIT_OUTPUT_INIT;
	struct git_cmd cmd = {.argv = argv, .dir = f->repo->toplevel};
	assert_int_equal(git_run(&f->ctx, &cmd, &o, &f->e), -ECANCELED);
	sh(f->repo->toplevel, "test ! -e .git/index.lock");
	int status;
	assert_int_equal(waitpid(helper, &status, 0), helper);
	assert_int_equal(status, 0);
	close(fds[0]);
	close(fds[1]);
	git_output_deinit(&o);
}

static void test_output_is_bounded(void **state)
{
	struct fixture *f = *state;
	struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {"-c", "alias.x=!yes", "x", NULL};
	struct git_cmd cmd = {.argv = argv, .dir = f->dir, .max_output = 100000};
	assert_int_equal(git_run(&f->ctx, &cmd, &o, &f->e), -E2BIG);
	assert_true(o.out.len <= 100000);
	assert_done(f, run_script(f, "yes err | head -c 1000000 >&2; echo done", &o));
	assert_string_equal(buf_cstr(&o.out), "done\n");
	assert_int_equal(o.err.len, 16 << 10);
	git_output_deinit(&o);
}

static void test_background_process_does_not_hold_us(void **state)
{
	struct fixture *f = *state;
	struct git_output o = GIT_OUTPUT_INIT;
	f->ctx.deadline_ms = deadline_after(30000);
	assert_done(f, run_script(f, "sleep 100 & echo $!", &o));
	pid_t pid = (pid_t)atol(buf_cstr(&o.out)); /* holds both pipes open */
	struct proc_stat st;
	assert_true(pid > 1);
	assert_true(proc_stat_read(pid, &st) < 0 || st.dead);
	git_output_deinit(&o);
}

static void test_large_input_that_nobody_reads(void **state)
{
	struct fixture *f = *state;
	struct git_output o = GIT_OUTPUT_INIT;
	size_t len = 1 << 20;
	char *data = calloc(1, len);
	const char *const argv[] = {"version", NULL};
	struct git_cmd cmd = {.argv = argv, .input = data, .input_len = len};
	assert_done(f, git_run(&f->ctx, &cmd, &o, &f->e));
	const char *const hash[] = {"hash-object", "--stdin", NULL};
	cmd.argv = hash;
	assert_done(f, git_run(&f->ctx, &cmd, &o, &f->e));
	assert_string_equal(buf_cstr(&o.out), "9e0f96a2a253b173cb45b41868209a5d043e1437\n");
	free(data);
	git_output_deinit(&o);
}

static void test_git_inherits_the_lock(void **state)
{
	struct fixture *f = *state;
	char *dir = fixture_path(f, "repo/.git/orch");
	assert_int_equal(mkdir(dir, 0700), 0);
	const char *const argv[] = {"-c", "alias.x=!sleep 100", "x", NULL};
	const struct git_cmd cmd = {.argv = argv, .dir = f->dir};
	const int fds[] = {-1, -1, -1, -1};
	int fd = -1, again = -1, pidfd = -1;
	pid_t git;
	assert_done(f, git_lock_take(dir, 0, &fd, &f->e));
	f->ctx.lock_fd = fd;
	assert_done(f, git_start(&f->ctx, &cmd, fds, &git, &pidfd, &f->e));
	close(fd); /* as when the engine dies */
	f->ctx.lock_fd = -1;
	assert_int_equal(git_lock_take(dir, 100, &again, &f->e), -EBUSY);
	char pid[32];
	snprintf(pid, sizeof(pid), "%ld", (long)git);
	assert_non_null(strstr(f->e.msg, pid));
	assert_int_equal(err_status(&f->e), EXIT_UNAVAILABLE);
	assert_int_equal(kill(-git, SIGKILL), 0);
	assert_int_equal(waitpid(git, NULL, 0), git);
	assert_done(f, git_lock_take(dir, 5000, &again, &f->e));
	close(again);
	close(pidfd);
	free(dir);
}

static void test_old_and_missing_git(void **state)
{
	struct fixture *f = *state;
	char *path = strdup(getenv("PATH"));
	struct git_repo *repo = NULL;
	sh(f->dir, "mkdir bin; printf '#!/bin/sh\\necho git version 2.30.1\\n' >bin/git; chmod +x "
		   "bin/git");
	CLEANUP_STR char *old = str_printf("%s/bin:%s", f->dir, path);
	setenv("PATH", old, 1);
	assert_int_equal(git_check_version(&f->ctx, f->repo, &f->e), -ENOSYS);
	assert_non_null(strstr(f->e.msg, "2.30.1 is too old"));
	setenv("PATH", "/nonexistent", 1);
	assert_int_equal(git_open(&f->ctx, f->dir, &repo, &f->e), -ENOSYS);
	assert_non_null(strstr(f->e.msg, "not installed"));
	setenv("PATH", path, 1);
	free(path);
}

static pid_t reader_pid(void)
{
	struct pids children = {0};
	assert_int_equal(proc_descendants(getpid(), &children), 0);
	pid_t pid = children.count == 1 ? children.items[0] : 0;
	VEC_FREE(&children);
	return pid;
}

static void test_reader(void **state)
{
	struct fixture *f = *state;
	struct git_oid first, second, none[2];
	struct git_reader *reader = git_reader_new();
	assert_non_null(reader);
	f->ctx.reader = reader;
	sh(f->repo->toplevel, "git commit -q --allow-empty -m one");
	assert_done(f, git_resolve(&f->ctx, "HEAD", &first, &f->e));
	pid_t pid = reader_pid();
	assert_true(pid > 0);
	/* It sees what others move. */
	sh(f->repo->toplevel, "git commit -q --allow-empty -m two; git pack-refs --all");
	assert_done(f, git_resolve(&f->ctx, "HEAD", &second, &f->e));
	assert_false(git_oid_eq(&first, &second));
	assert_int_equal(reader_pid(), pid);
	assert_done(f, git_resolve_many(&f->ctx, (const char *const[]){"nowhere", "HEAD:x"}, 2,
			       none, &f->e));
	assert_string_equal(none[0].hex, "");
	assert_string_equal(none[1].hex, "");
	/* Killed, it is not missed. */
	kill(pid, SIGKILL);
	assert_done(f, git_resolve(&f->ctx, "HEAD~1", &second, &f->e));
	assert_true(git_oid_eq(&first, &second));
	/* Stopped, it is held to the deadline, and given up. */
	assert_done(f, git_resolve(&f->ctx, "HEAD", &second, &f->e));
	pid = reader_pid();
	assert_true(pid > 0);
	kill(pid, SIGSTOP);
	f->ctx.deadline_ms = deadline_after(200);
	assert_int_equal(git_resolve(&f->ctx, "HEAD", &second, &f->e), -ETIMEDOUT);
	assert_int_equal(reader_pid(), 0);
	f->ctx.deadline_ms = DEADLINE_NONE;
	assert_done(f, git_resolve(&f->ctx, "HEAD", &second, &f->e));
	git_reader_free(reader);
	assert_int_equal(reader_pid(), 0);
	f->ctx.reader = NULL;
}

#define test(t) cmocka_unit_test_setup_teardown(t, setup, fixture_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		test(test_environment),
		test(test_status_and_words),
		test(test_deadline_ends_what_ignores_sigterm),
		test(test_cancel),
		test(test_stopped_git_removes_its_locks),
		test(test_output_is_bounded),
		test(test_background_process_does_not_hold_us),
		test(test_large_input_that_nobody_reads),
		test(test_git_inherits_the_lock),
		test(test_old_and_missing_git),
		test(test_reader),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
