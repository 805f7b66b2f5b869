/* SPDX-License-Identifier: MIT */
#include "server/client.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/json_text.h"
#include "base/str.h"
#include "os/file.h"
#include "os/sock.h"
#include "server/server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_LIMIT (10 << 20)

int client_connect(const char *state_dir, int *ret_fd, struct err *e)
{
	CLEANUP(closep) int dir = open(state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = dir < 0 ? -errno : sock_connect(dir, SERVER_SOCKET, ret_fd, e);
	if (r < 0)
		return err_exit(e, EXIT_UNAVAILABLE, "no engine runs here");
	return 0;
}

static int read_line(int fd, int64_t deadline_ms, struct buf *line, struct err *e)
{
	for (;;) {
		char *end = line->len ? memchr(line->data, '\n', line->len) : NULL;
		if (end) {
			buf_truncate(line, (size_t)(end - line->data));
			return 0;
		}
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int n = poll(&p, 1, deadline_poll_ms(deadline_ms));
		if (n == 0)
			return err_exit(e, EXIT_UNAVAILABLE, "the engine does not answer");
		if (n < 0 && errno != EINTR)
			return err_errno(e, -errno, "cannot wait for the engine");
		char chunk[65536];
		ssize_t got = n > 0 ? read(fd, chunk, sizeof(chunk)) : -1;
		if (got == 0)
			return err_exit(e, EXIT_UNAVAILABLE, "the engine ended without an answer");
		if (got < 0 && n > 0 && errno != EINTR && errno != EAGAIN)
			return err_errno(e, -errno, "cannot read from the engine");
		if (got > 0)
			buf_add(line, chunk, (size_t)got);
		if (line->len > ANSWER_LIMIT || buf_check(line) < 0)
			return err_set(e, -EMSGSIZE, "the engine's answer is too long");
	}
}

int client_call(int fd, const char *method, json_t *params, int64_t deadline_ms,
	json_t **ret_result, struct err *e)
{
	CLEANUP_BUF struct buf line = BUF_INIT;
	json_t *request = json_pack("{s:s, s:i, s:s, s:o}", "jsonrpc", "2.0", "id", 1, "method",
		method, "params", params ? params : json_object());
	CLEANUP(freep) char *text = request ? json_text_dump(request, JSON_COMPACT) : NULL;
	json_decref(request);
	if (!text)
		return err_nomem(e);
	int r = fd_write_all(fd, text, strlen(text));
	if (r == 0)
		r = fd_write_all(fd, "\n", 1);
	if (r < 0)
		return err_exit(e, EXIT_UNAVAILABLE, "the engine is gone");
	for (;;) {
		buf_reset(&line);
		r = read_line(fd, deadline_ms, &line, e);
		if (r < 0)
			return r;
		json_t *answer = NULL;
		if (json_text_parse(buf_cstr(&line), line.len, JSON_REJECT_DUPLICATES, &answer,
			    NULL) == -ENOMEM)
			return err_nomem(e);
		json_t *result = json_object_get(answer, "result");
		json_t *error = json_object_get(answer, "error");
		if (result)
			*ret_result = json_incref(result);
		else if (error)
			err_exit(e, EXIT_UNAVAILABLE, "the engine says: %s",
				json_string_value(json_object_get(error, "message")));
		bool done = result || error;
		json_decref(answer);
		if (done)
			return error ? e->code : 0;
	}
}
