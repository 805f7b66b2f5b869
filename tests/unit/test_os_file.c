/* SPDX-License-Identifier: MIT */
#include "os/file.h"
#include "os/lock.h"
#include "os/sock.h"

#include "base/clock.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

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
	assert_true(p->fd >= 0);
	*state = p;
	return 0;
}

static int teardown(void **state)
{
	struct place *p = *state;
	struct err e = ERR_INIT;
	close(p->fd);
	assert_int_equal(dir_remove_tree(AT_FDCWD, p->dir, &e), 0);
	assert_int_equal(access(p->dir, F_OK), -1);
	free(p);
	return 0;
}

static void write_file(int dirfd, const char *name, const char *text)
{
	struct err e = ERR_INIT;
	assert_int_equal(file_write_new(dirfd, name, text, strlen(text), 0600, &e), 0);
}

static void test_atomic_write(void **state)
{
	const struct place *p = *state;
	struct err e = ERR_INIT;
	CLEANUP_BUF struct buf text = BUF_INIT;
	assert_int_equal(file_write_atomic(p->fd, "a", "one", 3, 0600, &e), 0);
	assert_int_equal(file_write_atomic(p->fd, "a", "two!", 4, 0600, &e), 0);
	assert_int_equal(file_read(p->fd, "a", 100, &text, &e), 0);
	assert_string_equal(buf_cstr(&text), "two!");
	assert_int_equal(file_read(p->fd, "a", 3, &text, &e), -EFBIG);
	assert_int_equal(file_read(p->fd, "b", 3, &text, &e), -ENOENT);
	/* A name that cannot be replaced: the temporary file is gone, the old one is there. */
	assert_int_equal(mkdirat(p->fd, "d", 0700), 0);
	assert_int_equal(file_write_atomic(p->fd, "d", "x", 1, 0600, &e), -EISDIR);
	assert_int_equal(unlinkat(p->fd, "d", AT_REMOVEDIR), 0);
	assert_int_equal(unlinkat(p->fd, "a", 0), 0);
	assert_int_equal(rmdir(p->dir), 0);
	assert_int_equal(mkdir(p->dir, 0700), 0);
}

static void test_make_directories(void **state)
{
	const struct place *p = *state;
	struct err e = ERR_INIT;
	struct stat st;
	assert_int_equal(dir_make(p->fd, "x/y//z", 0700, &e), 0);
	assert_int_equal(dir_make(p->fd, "x/y/z", 0700, &e), 0);
	assert_int_equal(fstatat(p->fd, "x/y/z", &st, 0), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	write_file(p->fd, "x/f", "");
	assert_int_equal(dir_make(p->fd, "x/f", 0700, &e), -ENOTDIR);
	assert_true(dir_make(p->fd, "x/f/g", 0700, &e) < 0);
	assert_int_equal(symlinkat("x", p->fd, "link"), 0);
	int fd;
	assert_true(dir_open(p->fd, "link", &fd, &e) < 0);
}

static void test_remove_never_follows(void **state)
{
	const struct place *p = *state;
	struct err e = ERR_INIT;
	assert_int_equal(dir_make(p->fd, "keep", 0700, &e), 0);
	write_file(p->fd, "keep/file", "x");
	assert_int_equal(dir_make(p->fd, "tree/sub", 0700, &e), 0);
	assert_int_equal(symlinkat("../keep", p->fd, "tree/link"), 0);
	assert_int_equal(symlinkat("../../keep/file", p->fd, "tree/sub/link"), 0);
	assert_int_equal(mkdirat(p->fd, "tree/closed", 0700), 0);
	write_file(p->fd, "tree/closed/file", "x");
	assert_int_equal(fchmodat(p->fd, "tree/closed", 0, 0), 0);
	assert_int_equal(dir_remove_tree(p->fd, "tree", &e), 0);
	assert_false(file_exists(p->fd, "tree"));
	assert_true(file_exists(p->fd, "keep/file"));
	assert_int_equal(dir_remove_tree(p->fd, "tree", &e), 0);
	assert_int_equal(symlinkat("keep", p->fd, "alias"), 0);
	assert_int_equal(dir_remove_tree(p->fd, "alias", &e), 0);
	assert_true(file_exists(p->fd, "keep/file"));
}

static void test_remove_deep_tree(void **state)
{
	const struct place *p = *state;
	struct err e = ERR_INIT;
	int at = openat(p->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 1500; i++) {
		assert_int_equal(mkdirat(at, "deep", 0700), 0);
		write_file(at, "f", "x");
		int next = openat(at, "deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		assert_true(next >= 0);
		close(at);
		at = next;
	}
	close(at);
	assert_int_equal(dir_remove_tree(p->fd, "deep", &e), 0);
	assert_false(file_exists(p->fd, "deep"));
}

static void test_remove_stays_on_device(void **state)
{
	const struct place *p = *state;
	struct err e = ERR_INIT;
	assert_int_equal(dir_make(p->fd, "tree/mnt", 0700, &e), 0);
	char mnt[sizeof(p->dir) + sizeof("/tree/mnt")];
	snprintf(mnt, sizeof(mnt), "%s/tree/mnt", p->dir);
	if (mount("none", mnt, "tmpfs", 0, "size=64k") < 0) {
		print_message("cannot mount here: SKIPPED\n");
		skip();
	}
	write_file(p->fd, "tree/mnt/file", "x");
	int r = dir_remove_tree(p->fd, "tree", &e);
	bool kept = file_exists(p->fd, "tree/mnt/file");
	assert_int_equal(umount(mnt), 0);
	assert_true(r < 0);
	assert_true(kept);
}

static void test_lock(void **state)
{
	const struct place *p = *state;
	struct err e = ERR_INIT;
	int first = -1, second = -1;
	CLEANUP_BUF struct buf holder = BUF_INIT;
	assert_int_equal(lock_take_existing(p->fd, "lock", 0, &first, &e), -ENOENT);
	assert_int_equal(lock_take(p->fd, "lock", 0, &first, &e), 0);
	assert_int_equal(lock_write_holder(first, "a long holder", &e), 0);
	assert_int_equal(lock_write_holder(first, "me", &e), 0);
	assert_int_equal(lock_take(p->fd, "lock", 0, &second, &e), LOCK_HELD);
	int64_t begin = clock_mono_ms();
	assert_int_equal(lock_take(p->fd, "lock", deadline_after(50), &second, &e), LOCK_HELD);
	assert_true(clock_mono_ms() - begin >= 50);
	assert_int_equal(lock_read_holder(p->fd, "lock", &holder, &e), 0);
	assert_string_equal(buf_cstr(&holder), "me");
	close(first);
	assert_int_equal(lock_take_existing(p->fd, "lock", 0, &second, &e), 0);
	/* Whoever holds an unlinked file does not hold the lock. */
	assert_int_equal(unlinkat(p->fd, "lock", 0), 0);
	assert_int_equal(lock_take(p->fd, "lock", 0, &first, &e), 0);
	close(first);
	close(second);
}

static void test_lock_outlives_us_in_a_child(void **state)
{
	const struct place *p = *state;
	struct err e = ERR_INIT;
	int lock = -1, again = -1, fds[2];
	assert_int_equal(lock_take(p->fd, "lock", 0, &lock, &e), 0);
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	pid_t pid = fork();
	if (pid == 0) {
		char c;
		close(fds[1]);
		(void)!read(fds[0], &c, 1);
		_exit(0);
	}
	close(fds[0]);
	close(lock);
	assert_int_equal(lock_take(p->fd, "lock", 0, &again, &e), LOCK_HELD);
	close(fds[1]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(lock_take(p->fd, "lock", 0, &again, &e), 0);
	close(again);
}

static void test_socket_of_a_long_path(void **state)
{
	const struct place *p = *state;
	struct err e = ERR_INIT;
	char name[201];
	memset(name, 'n', 200);
	name[200] = '\0';
	assert_int_equal(dir_make(p->fd, name, 0700, &e), 0);
	CLEANUP(closep) int dirfd = openat(p->fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int server = -1, client = -1, conn = -1;
	assert_int_equal(sock_connect(dirfd, "s", &client, &e), -ENOENT);
	write_file(dirfd, "s", "stale");
	assert_int_equal(sock_connect(dirfd, "s", &client, &e), -ECONNREFUSED);
	assert_int_equal(sock_listen(dirfd, "s", 4, &server, &e), 0);
	struct stat st;
	assert_int_equal(fstatat(dirfd, "s", &st, 0), 0);
	assert_true(S_ISSOCK(st.st_mode));
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(sock_accept(server, &conn), -EAGAIN);
	CLEANUP_STR char *path = str_printf("%s/%s/s", p->dir, name);
	assert_int_equal(sock_connect_path(path, &client, &e), 0);
	assert_int_equal(sock_accept(server, &conn), 0);
	struct sock_peer peer;
	assert_int_equal(sock_peer(conn, &peer), 0);
	assert_int_equal(peer.pid, getpid());
	assert_int_equal(peer.uid, geteuid());
	assert_int_equal(fcntl(conn, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	close(conn);
	close(client);
	close(server);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_atomic_write),
		TEST(test_make_directories),
		TEST(test_remove_never_follows),
		TEST(test_remove_deep_tree),
		TEST(test_remove_stays_on_device),
		TEST(test_lock),
		TEST(test_lock_outlives_us_in_a_child),
		TEST(test_socket_of_a_long_path),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
