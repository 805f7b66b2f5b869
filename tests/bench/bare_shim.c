/* SPDX-License-Identifier: MIT */
/*
 * bare_shim COUNT JOBS DIR: the least that a keeper can do for a command with the durability of
 * ours, as the reference that the benchmark compares with. For each command: a directory, a
 * session of its own, spec.json written and fsynced, a journal line appended and fdatasynced, then
 * `sh -c true`, then exit.json written, fsynced and renamed, and the directory fsynced. No JSON
 * library, no exec of a second program, no database, no plugin, no containment, no socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME_SIZE 32

static void must(int r, const char *what)
{
	if (r >= 0)
		return;
	fprintf(stderr, "bare_shim: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static int write_new(int dirfd, const char *name, const char *text, int flags)
{
	int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0600);
	must(fd, name);
	must(write(fd, text, strlen(text)) == (ssize_t)strlen(text) ? 0 : -1, name);
	return fd;
}

static int run_true(void)
{
	pid_t pid = fork();
	must(pid, "fork");
	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", "true", (char *)NULL);
		_exit(127);
	}
	int status;
	must(waitpid(pid, &status, 0), "waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static _Noreturn void keep(int root, unsigned number)
{
	char name[NAME_SIZE], text[128];
	snprintf(name, sizeof(name), "%08u", number);
	setsid();
	must(mkdirat(root, name, 0700), name);
	int dirfd = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(dirfd, name);

	snprintf(text, sizeof(text), "{\"v\":1,\"id\":\"%s\",\"command\":\"true\"}\n", name);
	int fd = write_new(dirfd, "spec.json", text, O_EXCL);
	must(fsync(fd), "fsync spec.json");
	close(fd);

	snprintf(
		text, sizeof(text), "{\"v\":1,\"kind\":\"started\",\"pid\":%ld}\n", (long)getpid());
	fd = write_new(dirfd, "events.jsonl", text, O_APPEND);
	must(fdatasync(fd), "fdatasync events.jsonl");
	close(fd);

	int status = run_true();

	snprintf(text, sizeof(text), "{\"v\":1,\"exit_code\":%d}\n", status);
	fd = write_new(dirfd, "exit.json.tmp", text, O_EXCL);
	must(fsync(fd), "fsync exit.json");
	close(fd);
	must(renameat(dirfd, "exit.json.tmp", dirfd, "exit.json"), "rename exit.json");
	must(fsync(dirfd), "fsync the directory");
	_exit(status);
}

static int await_one(void)
{
	int status;
	must(wait(&status), "wait");
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 1;
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: bare_shim COUNT JOBS DIR\n");
		return 64;
	}
	unsigned count = (unsigned)strtoul(argv[1], NULL, 10);
	unsigned jobs = (unsigned)strtoul(argv[2], NULL, 10);
	int root = open(argv[3], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(root, argv[3]);
	int failed = 0;
	unsigned running = 0;
	for (unsigned i = 0; i < count; i++) {
		if (running == jobs) {
			failed |= await_one();
			running--;
		}
		pid_t pid = fork();
		must(pid, "fork");
		if (pid == 0)
			keep(root, i);
		running++;
	}
	for (; running > 0; running--)
		failed |= await_one();
	return failed;
}
