/* SPDX-License-Identifier: MIT */
#include "os/cgroup.h"
#include "os/proc.h"
#include "os/spawn.h"

#include "base/clock.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#define DEADLINE_MS 10000

static pid_t start(const char *script, int cgroup_fd, char *const *envp)
{
	char *argv[] = {"/bin/sh", "-c", (char *)(uintptr_t)script, NULL};
	struct spawn s = SPAWN_INIT;
	struct err e = ERR_INIT;
	pid_t pid = -1;
	s.argv = argv;
	s.envp = envp;
	s.cgroup_fd = cgroup_fd;
	if (spawn_process(&s, &pid, NULL, &e) < 0)
		fail_msg("%s", e.msg);
	return pid;
}

static bool has(const struct pids *list, pid_t pid)
{
	vec_foreach(p, list)
		if (*p == pid)
			return true;
	return false;
}

static void end(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void test_identity(void **state)
{
	(void)state;
	struct proc_id id;
	pid_t pid = start("sleep 100", -1, NULL);
	assert_int_equal(proc_identify(pid, &id), 0);
	assert_int_equal(strlen(id.boot_id), BOOT_ID_LEN);
	assert_true(proc_is_alive(&id));
	struct proc_id other = id;
	other.starttime++;
	assert_false(proc_is_alive(&other));
	assert_int_equal(proc_kill(&other, SIGKILL), -ESRCH);
	assert_int_equal(proc_kill(&id, SIGKILL), 0);
	siginfo_t info;
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_false(proc_is_alive(&id)); /* a zombie */
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(proc_kill(&id, SIGKILL), -ESRCH);
}

static void *sleep_long(void *arg)
{
	(void)arg;
	poll(NULL, 0, -1);
	return NULL;
}

/* A process lives on when its first thread has ended, although its state is Z then. */
static void test_first_thread_ended(void **state)
{
	(void)state;
	pid_t pid = fork();
	if (pid == 0) {
		pthread_t thread;
		if (pthread_create(&thread, NULL, sleep_long, NULL) != 0)
			_exit(1);
		pthread_exit(NULL);
	}
	struct proc_id id;
	char path[64], text[512] = "";
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	int64_t deadline = deadline_after(DEADLINE_MS);
	while (!strstr(text, ") Z ")) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = read(fd, text, sizeof(text) - 1);
		close(fd);
		assert_true(n > 0 && clock_mono_ms() < deadline);
		text[n] = '\0';
	}
	assert_int_equal(proc_identify(pid, &id), 0);
	assert_true(proc_is_alive(&id));
	struct pids list = {0};
	assert_int_equal(proc_descendants(getpid(), &list), 0);
	assert_true(has(&list, pid));
	VEC_FREE(&list);
	end(pid);
}

static void test_descendants(void **state)
{
	(void)state;
	int fds[2];
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		pid_t child = fork();
		if (child == 0) {
			setsid();
			poll(NULL, 0, -1);
		}
		(void)!write(fds[1], &child, sizeof(child));
		poll(NULL, 0, -1);
	}
	pid_t grandchild;
	assert_int_equal(read(fds[0], &grandchild, sizeof(grandchild)), sizeof(grandchild));
	struct pids list = {0};
	assert_int_equal(proc_descendants(getpid(), &list), 0);
	assert_int_equal(list.count, 2);
	assert_int_equal(list.items[0], pid);
	assert_int_equal(list.items[1], grandchild);
	VEC_FREE(&list);
	kill(grandchild, SIGKILL);
	end(pid);
	close(fds[0]);
	close(fds[1]);
}

static void test_find_by_environment(void **state)
{
	(void)state;
	char *env[] = {"A=1", "ORCH_UNIT=0123", "B=2", NULL};
	char *longer[] = {"ORCH_UNIT=01234", NULL};
	pid_t pid = start("sleep 100; true", -1, env);
	pid_t other = start("sleep 100; true", -1, longer);
	struct pids list = {0};
	assert_int_equal(proc_find_environ("ORCH_UNIT=0123", &list), 0);
	assert_true(has(&list, pid));
	assert_false(has(&list, other));
	vec_foreach(p, &list)
		kill(*p, SIGKILL); /* the shell and its sleep */
	VEC_FREE(&list);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(proc_find_environ("ORCH_UNIT=01234", &list), 0);
	vec_foreach(p, &list)
		kill(*p, SIGKILL);
	VEC_FREE(&list);
	assert_int_equal(waitpid(other, NULL, 0), other);
}

static void test_usage(void **state)
{
	(void)state;
	struct proc_usage usage = {0};
	int64_t deadline = deadline_after(DEADLINE_MS);
	pid_t pid = start("while :; do :; done", -1, NULL);
	while (usage.cpu_ms < 50) {
		assert_true(clock_mono_ms() < deadline);
		usage = (struct proc_usage){0};
		proc_usage_add(pid, &usage);
	}
	end(pid);
}

static void test_cgroup(void **state)
{
	(void)state;
	struct err e = ERR_INIT;
	CLEANUP(cgroup_deinit) struct cgroup c = CGROUP_INIT;
	if (cgroup_probe(&e) < 0) {
		print_message("no cgroup here (%s): SKIPPED\n", e.msg);
		skip();
	}
	char name[64];
	snprintf(name, sizeof(name), "orch-test-%ld", (long)getpid());
	assert_int_equal(cgroup_make(name, &c, &e), 0);
	assert_int_equal(cgroup_populated(&c), 0);
	pid_t pid = start("trap '' TERM; setsid sleep 100 & while :; do sleep 1; done", c.fd, NULL);
	assert_int_equal(cgroup_populated(&c), 1);
	struct pids list = {0};
	assert_int_equal(cgroup_pids(&c, &list), 0);
	assert_true(has(&list, pid));
	VEC_FREE(&list);
	assert_int_equal(cgroup_remove(&c), -EBUSY);
	assert_int_equal(cgroup_freeze(&c), 0);
	uint64_t cpu_ms;
	assert_int_equal(cgroup_cpu_ms(&c, &cpu_ms), 0);
	assert_int_equal(cgroup_kill(&c), 0); /* frozen or not */
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	int64_t deadline = deadline_after(DEADLINE_MS);
	while (cgroup_populated(&c) == 1)
		assert_true(clock_mono_ms() < deadline);
	CLEANUP_STR char *nested = path_join(c.path, "nested");
	assert_int_equal(mkdir(nested, 0755), 0);
	assert_int_equal(cgroup_remove(&c), 0);
	assert_int_equal(cgroup_remove(&c), 0);
	CLEANUP(cgroup_deinit) struct cgroup gone = CGROUP_INIT;
	assert_int_equal(cgroup_open(c.path, &gone, &e), -ENOENT);
	assert_int_equal(cgroup_open("/tmp", &gone, &e), -EINVAL);
}

static int report_descriptors(void *arg)
{
	(void)arg;
	char c = access("/proc/self/fd/5", F_OK) == 0 ? 'y' : 'n';
	if (access("/proc/self/fd/6", F_OK) == 0)
		c = 'x';
	(void)!write(5, &c, 1);
	return 42;
}

static void test_fork_without_exec(void **state)
{
	(void)state;
	int fds[2], status;
	pid_t pid;
	struct err e = ERR_INIT;
	struct spawn s = SPAWN_INIT;
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	struct spawn_fd out = {.fd = fds[1], .target = 5};
	s.fds = &out;
	s.n_fds = 1;
	s.new_session = true;
	s.death_signal = SIGKILL;
	assert_int_equal(spawn_fork(&s, report_descriptors, NULL, &pid, &e), 0);
	close(fds[1]);
	char c = '?';
	assert_int_equal(read(fds[0], &c, 1), 1);
	assert_int_equal(c, 'y');
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(spawn_shell_status(status), 42);
	close(fds[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_first_thread_ended),
		cmocka_unit_test(test_descendants),
		cmocka_unit_test(test_find_by_environment),
		cmocka_unit_test(test_usage),
		cmocka_unit_test(test_cgroup),
		cmocka_unit_test(test_fork_without_exec),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
