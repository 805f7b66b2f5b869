/* SPDX-License-Identifier: MIT */
#include "cli/agent.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/json_text.h"
#include "base/str.h"
#include "os/file.h"
#include "os/sock.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ANSWER_MS 10000

bool agent_inside_unit(void)
{
	return getenv("ORCH_UNIT") != NULL;
}

const char *agent_variable(struct cli *cli, const char *name)
{
	const char *value = getenv(name);
	struct err e = ERR_INIT;
	if (value && value[0])
		return value;
	err_exit(&e, EXIT_USAGE, "%s is not set: this is for an agent at work, inside its unit",
		name);
	IGNORE(cli_error(cli, &e)); /* the caller returns 64 */
	return NULL;
}

/* One line, or an error when none comes in time. */
static int read_answer(int fd, struct buf *line, struct err *e)
{
	int64_t deadline = deadline_after(ANSWER_MS);
	while (line->len == 0 || line->data[line->len - 1] != '\n') {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		char chunk[512];
		if (poll(&p, 1, deadline_poll_ms(deadline)) <= 0)
			return err_exit(e, EXIT_UNAVAILABLE, "the keeper does not answer");
		ssize_t n = read(fd, chunk, sizeof(chunk));
		if (n <= 0)
			return err_exit(e, EXIT_UNAVAILABLE, "the keeper is gone");
		buf_add(line, chunk, (size_t)n);
		if (line->len > 65536 || buf_check(line) < 0)
			return err_exit(e, EXIT_UNAVAILABLE, "the keeper's answer is too long");
	}
	return 0;
}

static int send_request(int fd, json_t *request, struct err *e)
{
	CLEANUP(freep) char *text = json_text_dump(request, JSON_COMPACT);
	if (!text)
		return err_nomem(e);
	int r = fd_write_all(fd, text, strlen(text));
	if (r == 0)
		r = fd_write_all(fd, "\n", 1);
	return r < 0 ? err_exit(e, EXIT_UNAVAILABLE, "the keeper is gone") : 0;
}

int agent_tell(struct cli *cli, const char *type, json_t *data)
{
	struct err e = ERR_INIT;
	CLEANUP(closep) int fd = -1;
	CLEANUP_BUF struct buf line = BUF_INIT;
	const char *path = agent_variable(cli, "ORCH_SOCKET");
	const char *token = path ? agent_variable(cli, "ORCH_AGENT_TOKEN") : NULL;
	json_t *request = json_pack("{s:s, s:s?, s:o}", "type", type, "token", token, "data",
		data ? data : json_object());
	if (!token || !request) {
		json_decref(request);
		return token ? cli_no_memory(cli) : EXIT_USAGE;
	}
	int r = sock_connect_path(path, &fd, &e);
	if (r < 0)
		e.status = EXIT_UNAVAILABLE;
	if (r == 0)
		r = send_request(fd, request, &e);
	if (r == 0)
		r = read_answer(fd, &line, &e);
	json_decref(request);
	if (r < 0)
		return cli_error(cli, &e);
	json_t *answer = NULL;
	if (json_text_parse(buf_cstr(&line), line.len, JSON_DISABLE_EOF_CHECK, &answer, NULL) ==
		-ENOMEM)
		return cli_no_memory(cli);
	const char *said = json_string_value(json_object_get(answer, "type"));
	int status = 0;
	if (!str_eq(said, "ok")) {
		const char *why = json_string_value(json_object_get(answer, "text"));
		err_exit(&e, EXIT_USAGE, "refused: %s", why ? why : "no reason given");
		status = cli_error(cli, &e);
	}
	json_decref(answer);
	return status;
}
