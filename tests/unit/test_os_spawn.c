/* SPDX-License-Identifier: MIT */
#include "os/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

/* Runs `sh -c script` with its standard output captured; returns the shell status. */
static int run_script(const char *script, const struct spawn *base, char *ret_out, size_t size)
{
	int fds[2];
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	struct spawn s = *base;
	char *argv[] = {"sh", "-c", (char *)script, NULL};
	s.argv = argv;
	s.stdio[1] = fds[1];
	pid_t pid;
	struct err e = ERR_INIT;
	assert_int_equal(spawn_process(&s, &pid, NULL, &e), 0);
	close(fds[1]);
	size_t len = 0;
	ssize_t n;
	while ((n = read(fds[0], ret_out + len, size - 1 - len)) > 0)
		len += (size_t)n;
	ret_out[len] = '\0';
	close(fds[0]);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return spawn_shell_status(status);
}

static void test_only_named_descriptors_arrive(void **state)
{
	(void)state;
	int leak = open("/dev/null", O_RDONLY); /* deliberately without CLOEXEC */
	struct spawn_fd extra = {.fd = leak, .target = 7};
	struct spawn s = SPAWN_INIT;
	s.fds = &extra;
	s.n_fds = 1;
	char out[256];
	/* What the shell opens to expand the pattern is gone when it looks again. */
	static const char list[] = "for fd in /proc/$$/fd/*; do "
				   "[ ! -e $fd ] || printf '%s ' ${fd##*/}; done";
	assert_int_equal(run_script(list, &s, out, sizeof(out)), 0);
	assert_string_equal(out, "0 1 2 7 ");
	close(leak);
}

static void test_signals_are_given_back(void **state)
{
	(void)state;
	struct spawn_origin origin;
	spawn_origin_save(&origin);
	sigset_t block;
	sigemptyset(&block);
	sigaddset(&block, SIGTERM);
	sigprocmask(SIG_BLOCK, &block, NULL);
	signal(SIGPIPE, SIG_IGN);
	struct spawn s = SPAWN_INIT;
	s.origin = &origin;
	char out[256];
	assert_int_equal(run_script("grep -E '^Sig(Blk|Ign)' /proc/$$/status | tr -d '\\n\\t'", &s,
				 out, sizeof(out)),
		0);
	assert_string_equal(out, "SigBlk:0000000000000000SigIgn:0000000000000000");
	signal(SIGPIPE, SIG_DFL);
	sigprocmask(SIG_UNBLOCK, &block, NULL);
}

static void test_missing_program_is_an_error(void **state)
{
	(void)state;
	char *argv[] = {"orch-no-such-program", NULL};
	struct spawn s = SPAWN_INIT;
	s.argv = argv;
	pid_t pid = -1;
	int pidfd = -1;
	struct err e = ERR_INIT;
	assert_int_equal(spawn_process(&s, &pid, &pidfd, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "orch-no-such-program"));
	assert_int_equal(pidfd, -1);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

static void test_missing_directory_is_named(void **state)
{
	(void)state;
	char *argv[] = {"true", NULL};
	struct spawn s = SPAWN_INIT;
	s.argv = argv;
	s.cwd = "/nonexistent/dir";
	pid_t pid;
	struct err e = ERR_INIT;
	assert_int_equal(spawn_process(&s, &pid, NULL, &e), -ENOENT);
	assert_non_null(strstr(e.msg, "/nonexistent/dir"));
}

static void test_new_session_and_pidfd(void **state)
{
	(void)state;
	char *argv[] = {"sleep", "100", NULL};
	struct spawn s = SPAWN_INIT;
	s.argv = argv;
	s.new_session = true;
	pid_t pid;
	int pidfd = -1;
	struct err e = ERR_INIT;
	assert_int_equal(spawn_process(&s, &pid, &pidfd, &e), 0);
	assert_int_equal(getsid(pid), pid);
	assert_true(pidfd >= 0);
	kill(pid, SIGKILL);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(spawn_shell_status(status), 128 + SIGKILL);
	close(pidfd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_only_named_descriptors_arrive),
		cmocka_unit_test(test_signals_are_given_back),
		cmocka_unit_test(test_missing_program_is_an_error),
		cmocka_unit_test(test_missing_directory_is_named),
		cmocka_unit_test(test_new_session_and_pidfd),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
