/* SPDX-License-Identifier: MIT */
#include "acp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

/* We read and write no files for it and run nothing: it does so itself, in its worktree. */
json_t *acp_initialize(void)
{
	return json_pack("{s:s, s:i, s:s, s:{s:i, s:{s:{s:b, s:b}, s:b}, s:{s:s, s:s}}}", "jsonrpc",
		"2.0", "id", 0, "method", "initialize", "params", "protocolVersion", 1,
		"clientCapabilities", "fs", "readTextFile", 0, "writeTextFile", 0, "terminal", 0,
		"clientInfo", "name", "orch", "version", "1");
}

void acp_request(struct orch_agent *a, enum acp_step step, const char *method, json_t *params)
{
	struct acp *acp = a->own;
	(void)pthread_mutex_lock(&a->lock);
	acp->step = step;
	(void)pthread_mutex_unlock(&a->lock);
	acp->begun_at = acp_now_ms();
	acp->last_id++;
	/* One that cannot be said is one that is never answered: its deadline ends that. */
	(void)say(a, json_pack("{s:s, s:I, s:s, s:o}", "jsonrpc", "2.0", "id", acp->last_id,
			     "method", method, "params", params));
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
