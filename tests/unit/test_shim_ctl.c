/* SPDX-License-Identifier: MIT */
/* A keeper's engine that does not read for a while: stopped by Ctrl+Z, or slow. */
#include "shim/keeper.h"

#include "base/str.h"
#include "os/file.h"
#include "unit/spec.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define HINTS 20000 /* as many as in half an hour, and more than the buffers hold */

/* What the loop of the keeper does for its connections. */
static void turn(struct keeper *k)
{
	k->polls.fds.count = k->polls.entries.count = 0;
	ctl_poll(k);
	(void)!poll(k->polls.fds.items, (nfds_t)k->polls.fds.count, 0);
	for (size_t i = 0; i < k->polls.fds.count; i++)
		if (k->polls.fds.items[i].revents)
			k->polls.entries.items[i].fn(
				k, k->polls.entries.items[i].user, k->polls.fds.items[i].revents);
}

static bool reads(int fd, struct buf *ret)
{
	char text[4096];
	ssize_t n = recv(fd, text, sizeof(text), MSG_DONTWAIT);
	assert_true(n != 0); /* it has not hung up */
	if (n > 0)
		buf_add(ret, text, (size_t)n);
	return n > 0;
}

static void test_an_engine_that_was_stopped_is_told_where_the_journal_is(void **state)
{
	(void)state;
	char dir[] = "/tmp/orch-test-XXXXXX";
	int socks[2];
	struct err e = ERR_INIT;
	static struct keeper k; /* as in a keeper, its connections are there until it ends */
	assert_non_null(mkdtemp(dir));
	assert_int_equal(dir_open(AT_FDCWD, dir, &k.dirfd, &e), 0);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, socks), 0);
	assert_int_equal(ctl_open(&k, socks[1], &e), 0);
	for (int i = 1; i <= HINTS; i++) {
		k.journal.size_bytes = i;
		ctl_hint(&k);
		turn(&k);
	}
	CLEANUP_BUF struct buf got = BUF_INIT;
	while (reads(socks[0], &got))
		turn(&k);
	CLEANUP_STR char *last = str_printf("{\"type\":\"journal\",\"bytes\":%d}\n", HINTS);
	assert_int_equal(buf_check(&got), 0);
	assert_true(str_ends(buf_cstr(&got), last));
	close(socks[0]);
	turn(&k);
	close(k.dirfd);
	assert_int_equal(dir_remove_tree(AT_FDCWD, dir, &e), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_engine_that_was_stopped_is_told_where_the_journal_is),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
