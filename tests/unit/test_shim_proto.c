/* SPDX-License-Identifier: MIT */
#include "shim/proto.h"

#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

struct pair {
	int a, b;
};

static struct pair pair_open(void)
{
	int fds[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	return (struct pair){fds[0], fds[1]};
}

static void pair_close(struct pair *p)
{
	close(p->a);
	if (p->b >= 0)
		close(p->b);
}

static void test_frames_arrive_whole_however_they_are_cut(void **state)
{
	(void)state;
	struct pair p = pair_open();
	CLEANUP(proto_writer_deinit) struct proto_writer w = PROTO_WRITER_INIT;
	assert_int_equal(proto_write(&w, PROTO_PROC_OUTPUT, 2, 7, "abc\0d", 5), 0);
	assert_int_equal(proto_write(&w, PROTO_DONE, 0, 0, NULL, 0), 0);
	assert_int_equal(proto_write_json(&w, PROTO_EVENT, 0, json_pack("{s:s}", "kind", "x")), 0);
	CLEANUP(proto_reader_deinit) struct proto_reader r = PROTO_READER_INIT;
	struct proto_frame f, got[3];
	struct err e = ERR_INIT;
	size_t n = 0;
	for (size_t i = 0; i < w.out.len; i++) {
		assert_int_equal(send(p.a, w.out.data + i, 1, 0), 1);
		assert_int_equal(proto_reader_feed(&r, p.b), 1);
		while (proto_reader_next(&r, &f, &e) == 1) {
			assert_true(n < 3);
			got[n] = f;
			if (n == 0)
				assert_memory_equal(f.data, "abc\0d", 6);
			if (n == 2) {
				json_t *json = NULL;
				assert_int_equal(proto_frame_json(&f, &json, &e), 0);
				assert_string_equal(
					json_string_value(json_object_get(json, "kind")), "x");
				json_decref(json);
			}
			n++;
		}
	}
	assert_int_equal(n, 3);
	assert_int_equal(got[0].type, PROTO_PROC_OUTPUT);
	assert_int_equal(got[0].flags, 2);
	assert_int_equal(got[0].id, 7);
	assert_int_equal(got[0].len, 5);
	assert_int_equal(got[1].type, PROTO_DONE);
	assert_int_equal(got[1].len, 0);
	assert_int_equal(got[2].type, PROTO_EVENT);
	pair_close(&p);
}

static void test_many_frames_in_one_read(void **state)
{
	(void)state;
	struct pair p = pair_open();
	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(proto_send(p.a, PROTO_LOG, 1, i, "0123456789", i % 11), 0);
	CLEANUP(proto_reader_deinit) struct proto_reader r = PROTO_READER_INIT;
	struct proto_frame f;
	struct err e = ERR_INIT;
	uint32_t n = 0;
	while (n < 100) {
		assert_int_equal(proto_reader_feed(&r, p.b), 1);
		while (proto_reader_next(&r, &f, &e) == 1) {
			assert_int_equal(f.id, n);
			assert_int_equal(f.len, n % 11);
			assert_memory_equal(f.data, "0123456789", f.len);
			assert_int_equal(f.data[f.len], 0);
			n++;
		}
	}
	pair_close(&p);
}

static void test_nonsense_is_an_error(void **state)
{
	(void)state;
	struct pair p = pair_open();
	char junk[64];
	memset(junk, 0xff, sizeof(junk));
	assert_int_equal(send(p.a, junk, sizeof(junk), 0), sizeof(junk));
	CLEANUP(proto_reader_deinit) struct proto_reader r = PROTO_READER_INIT;
	struct proto_frame f = {0};
	struct err e = ERR_INIT;
	assert_int_equal(proto_reader_feed(&r, p.b), 1);
	assert_int_equal(proto_reader_next(&r, &f, &e), -EPROTO);
	assert_non_null(strstr(e.msg, "4294967295"));
	pair_close(&p);
}

static void test_end_within_a_frame_is_an_error(void **state)
{
	(void)state;
	struct pair p = pair_open();
	CLEANUP(proto_reader_deinit) struct proto_reader r = PROTO_READER_INIT;
	struct proto_frame f = {0};
	struct err e = ERR_INIT;
	assert_int_equal(send(p.a, "\5\0\0\0", 4, 0), 4);
	assert_int_equal(proto_reader_feed(&r, p.b), 1);
	assert_int_equal(proto_reader_next(&r, &f, &e), 0);
	close(p.a);
	assert_int_equal(proto_reader_feed(&r, p.b), -EPROTO);
	close(p.b);

	p = pair_open();
	proto_reader_deinit(&r);
	assert_int_equal(proto_send(p.a, PROTO_DONE, 0, 0, NULL, 0), 0);
	close(p.a);
	assert_int_equal(proto_reader_feed(&r, p.b), 1);
	assert_int_equal(proto_reader_next(&r, &f, &e), 1);
	assert_int_equal(proto_reader_feed(&r, p.b), 0);
	close(p.b);
}

static void test_payload_must_be_an_object(void **state)
{
	(void)state;
	static const char *const bad[] = {"", "[1]", "{", "{\"a\":1,\"a\":2}", "\xff"};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct proto_frame f = {
			.type = PROTO_RESULT, .data = bad[i], .len = strlen(bad[i])};
		json_t *json = NULL;
		struct err e = ERR_INIT;
		assert_int_equal(proto_frame_json(&f, &json, &e), -EPROTO);
		assert_non_null(strstr(e.msg, "RESULT"));
		assert_null(json);
	}
}

static void test_writer_is_bounded_and_resumes(void **state)
{
	(void)state;
	struct pair p = pair_open();
	CLEANUP(proto_writer_deinit) struct proto_writer w = PROTO_WRITER_INIT;
	CLEANUP_STR char *big = calloc(1, PROTO_PAYLOAD_MAX + 1);
	assert_non_null(big);
	assert_int_equal(proto_write(&w, PROTO_LOG, 0, 0, big, PROTO_PAYLOAD_MAX + 1), -EMSGSIZE);
	int r = 0;
	size_t frames = 0;
	while ((r = proto_write(&w, PROTO_LOG, 0, (uint32_t)frames, big, PROTO_PAYLOAD_MAX)) == 0)
		frames++;
	assert_int_equal(r, -ENOBUFS);
	assert_true(frames >= 2 && frames < 10);
	CLEANUP(proto_reader_deinit) struct proto_reader in = PROTO_READER_INIT;
	struct proto_frame f;
	struct err e = ERR_INIT;
	size_t got = 0;
	while (got < frames) {
		assert_true(proto_writer_flush(&w, p.a) >= 0);
		assert_int_equal(proto_reader_feed(&in, p.b), 1);
		while (proto_reader_next(&in, &f, &e) == 1) {
			assert_int_equal(f.len, PROTO_PAYLOAD_MAX);
			assert_int_equal(f.id, got++);
		}
	}
	assert_int_equal(proto_writer_pending(&w), 0);
	close(p.b);
	p.b = -1;
	assert_int_equal(proto_write(&w, PROTO_LOG, 0, 0, "x", 1), 0);
	assert_int_equal(proto_writer_flush(&w, p.a), -EPIPE); /* and no SIGPIPE */
	assert_int_equal(proto_send(p.a, PROTO_LOG, 0, 0, "x", 1), -EPIPE);
	pair_close(&p);
}

static void test_names(void **state)
{
	(void)state;
	assert_string_equal(proto_call_name(PROTO_CALL_SPAWN), "spawn");
	assert_string_equal(proto_call_name(0), "?");
	assert_string_equal(proto_call_name(UINT32_MAX), "?");
	assert_string_equal(proto_type_name(PROTO_PROC_START), "PROC_START");
	assert_string_equal(proto_type_name(20), "?");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_frames_arrive_whole_however_they_are_cut),
		cmocka_unit_test(test_many_frames_in_one_read),
		cmocka_unit_test(test_nonsense_is_an_error),
		cmocka_unit_test(test_end_within_a_frame_is_an_error),
		cmocka_unit_test(test_payload_must_be_an_object),
		cmocka_unit_test(test_writer_is_bounded_and_resumes),
		cmocka_unit_test(test_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
