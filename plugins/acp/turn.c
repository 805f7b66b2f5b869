/* SPDX-License-Identifier: MIT */
/* What an agent does in a turn, as events; and what it asks. */
#include "acp.h"

#include "../common/verdict.h"

#include <stdlib.h>
#include <string.h>

/* ---- tool calls ---- */

/* The entry of a call, taken into the table when it is new; the oldest gives way. */
static struct acp_call *call_of(struct acp *acp, const json_t *update)
{
	const char *id = line_text(update, "toolCallId");
	const char *name = line_text(update, "_meta.claudeCode.toolName");
	if (!id)
		return NULL;
	for (size_t i = 0; i < ACP_CALLS_MAX; i++)
		if (acp->calls[i].id && strcmp(acp->calls[i].id, id) == 0)
			return &acp->calls[i];
	struct acp_call *call = &acp->calls[acp->next_call++ % ACP_CALLS_MAX];
	free(call->id);
	free(call->name);
	if (!name)
		name = line_text(update, "title");
	if (!name)
		name = line_text(update, "kind");
	*call = (struct acp_call){.id = strdup(id), .name = strdup(name ? name : "tool")};
	return call;
}

static const json_t *input_of(const json_t *update)
{
	const json_t *input = line_get(update, "rawInput");
	if (input && (!json_is_object(input) || json_object_size(input) > 0))
		return input;
	const json_t *other = line_get(update, "content");
	if (json_array_size(other) == 0)
		other = line_get(update, "locations");
	return json_array_size(other) > 0 ? other : NULL;
}

/* Told once: with its input, or when it runs without one. */
static void tell_call(struct orch_agent *a, struct acp_call *call, const json_t *update)
{
	const json_t *input = input_of(update);
	const char *status = line_text(update, "status");
	if (call->told || (!input && (!status || strcmp(status, "pending") == 0)))
		return;
	call->told = true;
	drive_tool_call(a, call->id, call->name, input);
}

static void on_call(struct orch_agent *a, const json_t *update)
{
	struct acp *acp = a->own;
	struct acp_call *call = call_of(acp, update);
	const char *status = line_text(update, "status");
	if (!call)
		return;
	acp->messages = 0;
	tell_call(a, call, update);
	bool done = status && strcmp(status, "completed") == 0;
	if (!done && !(status && strcmp(status, "failed") == 0))
		return;
	const json_t *output = line_get(update, "rawOutput");
	acp->last_tool_failed = !done;
	drive_tool_result(a, call->id, done, output ? output : line_get(update, "content"));
}

/* ---- updates ---- */

/* Whether a new message begins. */
static bool is_new(struct acp *acp, const char *id)
{
	if (!id || (acp->message && strcmp(acp->message, id) == 0))
		return false;
	free(acp->message);
	acp->message = strdup(id);
	return true;
}

static void on_message(struct orch_agent *a, const json_t *update)
{
	struct acp *acp = a->own;
	const char *text = line_text(update, "content.text");
	const json_t *usage = line_get(update, "_meta.usage");
	a->answered = true;
	if (is_new(acp, line_text(update, "messageId"))) {
		drive_pieces_end(a);
		acp->messages++;
	}
	drive_piece(a, text ? text : "");
	if (usage)
		acp_usage_step(a, usage);
	if (acp->messages > ACP_MESSAGES_MAX)
		acp_fail(a, "it says one thing after the other and does nothing");
}

/* Not of a conversation that the agent has with another one. */
static bool is_ours(const struct acp *acp, const json_t *params)
{
	const char *session = line_text(params, "sessionId");
	return !session || strcmp(session, acp->session) == 0;
}

/* Codex: it tries again by itself, or has something to say of its configuration. */
static void on_session_info(struct orch_agent *a, const json_t *update)
{
	const json_t *failure = line_get(update, "_meta.jetbrains.air.sessionFailure");
	const char *text = line_text(failure, "title"), *category = line_text(failure, "category");
	if (!text)
		return;
	if (category && strcmp(category, "unknown") != 0)
		drive_waits(a, verdict_reset_in(text, drive_now_ms()), text);
	else
		drive_text(a, ORCH_EVENT_PROGRESS, text);
}

void acp_update(struct orch_agent *a, const json_t *params)
{
	const json_t *update = line_get(params, "update");
	const char *kind = line_text(update, "sessionUpdate");
	if (!kind)
		return;
	if (strcmp(kind, "agent_message_chunk") == 0) {
		on_message(a, update);
		return;
	}
	if (strcmp(kind, "usage_update") == 0) {
		if (is_ours(a->own, params))
			acp_usage_context(a, update);
		return;
	}
	drive_pieces_end(a);
	if (strcmp(kind, "tool_call") == 0 || strcmp(kind, "tool_call_update") == 0)
		on_call(a, update);
	else if (strcmp(kind, "session_info_update") == 0)
		on_session_info(a, update);
}

/* ---- permission ---- */

/* The option of one of two kinds, the first rather. */
static const char *option_of(const json_t *options, const char *kind, const char *other)
{
	const char *found = NULL;
	size_t i;
	json_t *option;
	json_array_foreach(options, i, option) {
		const char *k = line_text(option, "kind"), *id = line_text(option, "optionId");
		if (k && id && strcmp(k, kind) == 0)
			return id;
		if (k && id && strcmp(k, other) == 0)
			found = id;
	}
	return found;
}

void acp_permission(struct orch_agent *a, const json_t *id, const json_t *params)
{
	struct acp *acp = a->own;
	const json_t *options = line_get(params, "options"), *update = line_get(params, "toolCall");
	bool denies = acp_denies(a->host);
	struct acp_call *call = call_of(acp, update);
	drive_pieces_end(a);
	if (call)
		tell_call(a, call, update);
	(void)pthread_mutex_lock(&a->lock);
	bool asked = a->asked;
	(void)pthread_mutex_unlock(&a->lock);
	const char *chosen = asked    ? NULL
			     : denies ? option_of(options, "reject_once", "reject_always")
				      : option_of(options, "allow_once", "allow_always");
	acp->refused |= denies || !chosen;
	if (chosen)
		acp_respond(a, id,
			json_pack("{s:{s:s, s:s}}", "outcome", "outcome", "selected", "optionId",
				chosen));
	else
		acp_respond(a, id, json_pack("{s:{s:s}}", "outcome", "outcome", "cancelled"));
}
