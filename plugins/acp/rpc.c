/* SPDX-License-Identifier: MIT */
/* Messages of JSON-RPC 2.0. A batch is taken apart before it gets here; its answers go singly. */
#include "acp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define INVALID_REQUEST  (-32600)
#define METHOD_NOT_FOUND (-32601)

int64_t acp_now_ms(void)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Consumes message. */
static int say(struct orch_agent *a, json_t *message)
{
	char *text = message ? json_dumps(message, JSON_COMPACT) : NULL;
	char *line = NULL;
	int r = text ? asprintf(&line, "%s\n", text) : -1;
	r = r < 0 ? -ENOMEM : a->host->process_write(a->host, a->process, line, (size_t)r);
	free(line);
	free(text);
	json_decref(message);
	if (r < 0)
		a->host->log(
			a->host, ORCH_LOG_WARNING, "the agent cannot be told: %s", strerror(-r));
	return r;
}

/*
 * We read and write no files for it and run nothing: it does so itself, in its worktree. The
 * extension is codex-acp's: without it an error is text of the model, and the turn a good one.
 */
static json_t *capabilities(void)
{
	return json_pack("{s:{s:b, s:b}, s:b, s:{s:{s:{s:i, s:[s]}}}}", "fs", "readTextFile", 0,
		"writeTextFile", 0, "terminal", 0, "_meta", "jetbrains", "air", "version", 1,
		"capabilities", "sessionFailure");
}

json_t *acp_initialize(void)
{
	return json_pack("{s:s, s:i, s:s, s:{s:i, s:o, s:{s:s, s:s}}}", "jsonrpc", "2.0", "id", 0,
		"method", "initialize", "params", "protocolVersion", 1, "clientCapabilities",
		capabilities(), "clientInfo", "name", "orch", "version", "1");
}

void acp_request(struct orch_agent *a, enum acp_step step, const char *method, json_t *params)
{
	struct acp *acp = a->own;
	(void)pthread_mutex_lock(&a->lock);
	acp->step = step;
	(void)pthread_mutex_unlock(&a->lock);
	acp->begun_at = acp_now_ms();
	acp->last_id++;
	int r = say(a, json_pack("{s:s, s:I, s:s, s:o}", "jsonrpc", "2.0", "id", acp->last_id,
			       "method", method, "params", params));
	/* One that has ended (-EPIPE) has a better reason: its own. */
	if (r < 0 && r != -EPIPE)
		acp_fail(a, "it cannot be told");
}

int acp_notify(struct orch_agent *a, const char *method, json_t *params)
{
	return say(a,
		json_pack("{s:s, s:s, s:o}", "jsonrpc", "2.0", "method", method, "params", params));
}

static json_t *copy_id(const json_t *id)
{
	return id ? json_deep_copy(id) : json_null();
}

void acp_respond(struct orch_agent *a, const json_t *id, json_t *result)
{
	(void)say(a, json_pack("{s:s, s:o, s:o}", "jsonrpc", "2.0", "id", copy_id(id), "result",
			     result));
}

void acp_refuse(struct orch_agent *a, const json_t *id, int code, const char *message)
{
	(void)say(a, json_pack("{s:s, s:o, s:{s:i, s:s}}", "jsonrpc", "2.0", "id", copy_id(id),
			     "error", "code", code, "message", message));
}

/* ---- what comes ---- */

static void on_request(struct orch_agent *a, const char *method, const json_t *message)
{
	const json_t *id = line_get(message, "id");
	if (strcmp(method, "session/request_permission") == 0)
		acp_permission(a, id, line_get(message, "params"));
	else /* at once: it may wait for the answer */
		acp_refuse(a, id, METHOD_NOT_FOUND, "orch does not offer this method");
}

/* What comes before our prompt is the past of a session that was loaded. */
static void on_notification(struct orch_agent *a, const char *method, const json_t *message)
{
	const struct acp *acp = a->own;
	if (strcmp(method, "session/update") == 0 && acp->step == ACP_PROMPT)
		acp_update(a, line_get(message, "params"));
}

static bool is_answer(const struct acp *acp, const json_t *id)
{
	return acp->step != ACP_OVER && json_is_integer(id) &&
	       json_integer_value(id) == acp->last_id;
}

/* An error without an id is about a message of ours that it could not read. */
static void on_answer(struct orch_agent *a, const json_t *message)
{
	const struct acp *acp = a->own;
	const json_t *id = line_get(message, "id"), *error = line_get(message, "error");
	if (error && json_is_null(id) && acp->step != ACP_OVER)
		acp_error(a, error);
	else if (!is_answer(acp, id))
		a->host->log(a->host, ORCH_LOG_DEBUG, "what the agent said answers nothing");
	else if (error)
		acp_error(a, error);
	else
		acp_result(a, line_get(message, "result"));
}

void acp_event(struct orch_agent *a, json_t *message)
{
	const char *method = line_text(message, "method");
	if (method && line_get(message, "id"))
		on_request(a, method, message);
	else if (method)
		on_notification(a, method, message);
	else
		on_answer(a, message);
}

/* Nobody is to wait for the answer to what could not be read. */
bool acp_cut(struct orch_agent *a, const json_t *message)
{
	const struct acp *acp = a->own;
	const json_t *id = line_get(message, "id");
	if (id && line_get(message, "method"))
		acp_refuse(a, id, INVALID_REQUEST, "the message is too long");
	else if (is_answer(acp, id))
		acp_fail(a, "its answer is too long");
	else
		return false;
	return true;
}
