/* SPDX-License-Identifier: MIT */
/*
 * The harness `claude`: Claude Code by its two-way stream, which, unlike a prompt on the command
 * line, lets us answer its questions for permission, hand over a person's words while it works, and
 * interrupt it so that it still says what it has used.
 */
#include "../common/drive.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct claude {
	/* Prompts handed over (guarded by the lock), and those that it has begun to work at. */
	uint32_t sent, begun;
	bool last_tool_failed;
	int64_t reset_at; /* of the limit that it met last */
	char error[64];   /* its word for an API error */
};

/* Writes a line to its standard input; consumes message. */
static int say(struct orch_agent *a, json_t *message)
{
	char *text = message ? json_dumps(message, JSON_COMPACT) : NULL;
	char *line = NULL;
	int r = text ? asprintf(&line, "%s\n", text) : -1;
	if (r >= 0)
		r = a->host->process_write(a->host, a->process, line, (size_t)r);
	else
		r = -ENOMEM;
	free(line);
	free(text);
	json_decref(message);
	return r;
}

static json_t *user_message(const char *text)
{
	return json_pack("{s:s, s:{s:s, s:s}, s:n, s:s}", "type", "user", "message", "role", "user",
		"content", text, "parent_tool_use_id", "session_id", "");
}

static int claude_prepare(struct orch_agent *a)
{
	struct claude *c = a->own;
	static const char *const flags[] = {"-p", "--input-format", "stream-json",
		"--output-format", "stream-json", "--verbose", "--permission-prompt-tool", "stdio",
		"--replay-user-messages"};
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++)
		words_add(&a->argv, flags[i]);
	words_add_option(&a->argv, "--permission-mode", drive_option(a, "permission_mode"));
	words_add_option(&a->argv, "--model", drive_option(a, "model"));
	words_add_option(&a->argv, "--max-turns", drive_option(a, "max_turns"));
	words_add_option(&a->argv, "--max-budget-usd", drive_option(a, "max_budget_usd"));
	words_add_option(&a->argv, "--resume", a->session);
	drive_add_args(a);
	words_add(&a->env, "DISABLE_AUTOUPDATER=1");
	if (drive_option(a, "retries"))
		words_addf(&a->env, "CLAUDE_CODE_MAX_RETRIES=%s", drive_option(a, "retries"));
	char *config = NULL;
	int r = place_directory(a->host, a->task, "config_dir", &config);
	if (config)
		words_addf(&a->env, "CLAUDE_CONFIG_DIR=%s", config);
	free(config);
	json_t *message = user_message(a->task->prompt);
	char *text = message ? json_dumps(message, JSON_COMPACT) : NULL;
	json_decref(message);
	if (r == 0 && (!text || asprintf(&a->first_input, "%s\n", text) < 0)) {
		a->first_input = NULL;
		r = -ENOMEM;
	}
	free(text);
	a->flags = ORCH_PROCESS_STDIN_OPEN;
	c->sent = 1;
	return r;
}

/* ---- what it asks ---- */

static void answer(struct orch_agent *a, const char *request, json_t *response)
{
	int r = say(a, json_pack("{s:s, s:{s:s, s:s, s:o}}", "type", "control_response", "response",
			       "subtype", "success", "request_id", request, "response", response));
	if (r < 0)
		a->host->log(a->host, ORCH_LOG_WARNING, "its question cannot be answered: %s",
			strerror(-r));
}

static void on_permission(struct orch_agent *a, const char *id, const json_t *request)
{
	const char *policy = drive_option(a, "permissions");
	const char *tool = line_text(request, "tool_name");
	const json_t *input = line_get(request, "input");
	if (tool && strcmp(tool, "AskUserQuestion") == 0)
		answer(a, id,
			json_pack("{s:s, s:s}", "behavior", "deny", "message",
				"Nobody is there to answer. Decide yourself."));
	else if (policy && strcmp(policy, "deny") == 0)
		answer(a, id,
			json_pack("{s:s, s:s}", "behavior", "deny", "message",
				"This is not permitted here. Do without it."));
	else
		answer(a, id,
			json_pack("{s:s, s:o}", "behavior", "allow", "updatedInput",
				input ? json_deep_copy(input) : json_object()));
}

static void on_control_request(struct orch_agent *a, const json_t *event)
{
	const char *id = line_text(event, "request_id");
	const char *subtype = line_text(event, "request.subtype");
	if (!id)
		return;
	if (subtype && strcmp(subtype, "can_use_tool") == 0) {
		on_permission(a, id, line_get(event, "request"));
		return;
	}
	/* Silence would hang it. */
	(void)say(a, json_pack("{s:s, s:{s:s, s:s, s:s}}", "type", "control_response", "response",
			     "subtype", "error", "request_id", id, "error", "not supported"));
}

/* ---- what it says ---- */

/* While a message grows its numbers come again, the output's is a placeholder. */
static void on_message_usage(struct orch_agent *a, const json_t *message)
{
	const json_t *u = line_get(message, "usage");
	if (!u)
		return;
	drive_usage(a, &(struct drive_usage){.id = line_text(message, "id"),
			       .input = line_int(u, "input_tokens"),
			       .output = line_int(u, "output_tokens"),
			       .cache_read = line_int(u, "cache_read_input_tokens"),
			       .cache_write = line_int(u, "cache_creation_input_tokens"),
			       .cost = -1});
}

static void on_block(struct orch_agent *a, const json_t *block)
{
	struct claude *c = a->own;
	const char *type = line_text(block, "type");
	if (!type)
		return;
	if (strcmp(type, "text") == 0) {
		drive_text(a, ORCH_EVENT_MESSAGE, line_text(block, "text"));
	} else if (strcmp(type, "tool_use") == 0) {
		drive_tool_call(a, line_text(block, "id"), line_text(block, "name"),
			line_get(block, "input"));
	} else if (strcmp(type, "tool_result") == 0) {
		c->last_tool_failed = line_true(block, "is_error");
		drive_tool_result(a, line_text(block, "tool_use_id"), !c->last_tool_failed,
			line_get(block, "content"));
	}
}

static void on_blocks(struct orch_agent *a, const json_t *event)
{
	const json_t *content = line_get(event, "message.content");
	size_t i;
	json_t *block;
	json_array_foreach(content, i, block)
		on_block(a, block);
}

static void on_assistant(struct orch_agent *a, const json_t *event)
{
	struct claude *c = a->own;
	const char *model = line_text(event, "message.model");
	const char *error = line_text(event, "error");
	if (error)
		(void)snprintf(c->error, sizeof(c->error), "%s", error);
	/* Words of its own, about an API that did not answer. */
	if (model && strcmp(model, "<synthetic>") == 0)
		return;
	a->answered = true;
	on_blocks(a, event);
	on_message_usage(a, line_get(event, "message"));
}

static void on_user(struct orch_agent *a, const json_t *event)
{
	struct claude *c = a->own;
	if (line_true(event, "isReplay"))
		c->begun++;
	else
		on_blocks(a, event);
}

static void on_retry(struct orch_agent *a, const json_t *event)
{
	char text[200];
	const char *error = line_text(event, "error");
	(void)snprintf(text, sizeof(text), "%s (status %lld), try %lld of %lld",
		error ? error : "no answer", (long long)line_int(event, "error_status"),
		(long long)line_int(event, "attempt"), (long long)line_int(event, "max_retries"));
	drive_waits(a, drive_now_ms() + line_int(event, "retry_delay_ms"), text);
}

static void on_rate_limit(struct orch_agent *a, const json_t *event)
{
	struct claude *c = a->own;
	const json_t *info = line_get(event, "rate_limit_info");
	const char *status = line_text(info, "status");
	int64_t at = line_int(info, "resetsAt");
	if (!status || strcmp(status, "rejected") != 0)
		return;
	if (at == 0)
		at = line_int(info, "resets_at");
	c->reset_at = at > 0 && at < 100000000000 ? at * 1000 : at;
	const char *type = line_text(info, "rateLimitType");
	drive_waits(a, c->reset_at, type ? type : "the limit of the account is reached");
}

/* ---- the end of a turn ---- */

/* Of this process, over all its turns and models. */
static void on_total(struct orch_agent *a, const json_t *event)
{
	struct drive_usage sum = {.total = true, .cost = -1};
	json_t *models = line_get(event, "modelUsage"), *m;
	const json_t *cost = line_get(event, "total_cost_usd");
	const char *model;
	json_object_foreach(models, model, m) {
		sum.input += line_int(m, "inputTokens");
		sum.output += line_int(m, "outputTokens");
		sum.cache_read += line_int(m, "cacheReadInputTokens");
		sum.cache_write += line_int(m, "cacheCreationInputTokens");
	}
	if (json_object_size(models) == 0) {
		const json_t *u = line_get(event, "usage");
		sum.input = line_int(u, "input_tokens");
		sum.output = line_int(u, "output_tokens");
		sum.cache_read = line_int(u, "cache_read_input_tokens");
		sum.cache_write = line_int(u, "cache_creation_input_tokens");
	}
	if (sum.input + sum.output + sum.cache_read + sum.cache_write == 0)
		return;
	if (json_is_number(cost))
		sum.cost = json_number_value(cost);
	drive_usage(a, &sum);
}

static const char *error_text(const json_t *event)
{
	const char *text = line_text(event, "result");
	if (text && text[0])
		return text;
	text = json_string_value(json_array_get(line_get(event, "errors"), 0));
	return text ? text : line_text(event, "subtype");
}

static void judge_error(struct orch_agent *a, const json_t *event)
{
	struct claude *c = a->own;
	const char *subtype = line_text(event, "subtype");
	if (subtype && strncmp(subtype, "error_max_", 10) == 0) {
		drive_verdict(a, ORCH_OUTCOME_OVER_BUDGET, "it stopped at a limit of its own: %s",
			subtype + strlen("error_"));
		return;
	}
	drive_error(a, (long)line_int(event, "api_error_status"), error_text(event));
	if (strcmp(c->error, "authentication_failed") == 0 ||
		strcmp(c->error, "billing_error") == 0)
		a->outcome = ORCH_OUTCOME_AUTH_FAILED;
	else if (strcmp(c->error, "rate_limit") == 0)
		a->outcome = ORCH_OUTCOME_RATE_LIMITED;
	if (a->outcome == ORCH_OUTCOME_RATE_LIMITED && c->reset_at)
		a->reset_at = c->reset_at;
}

/* A model that was refused a tool tends to end with `success` all the same. */
static bool was_refused(struct orch_agent *a, const json_t *event, const char **ret_tool)
{
	const struct claude *c = a->own;
	const json_t *denials = line_get(event, "permission_denials");
	*ret_tool = line_text(json_array_get(denials, 0), "tool_name");
	return json_array_size(denials) > 0 && c->last_tool_failed;
}

static void judge_result(struct orch_agent *a, const json_t *event)
{
	const char *subtype = line_text(event, "subtype"), *text = line_text(event, "result");
	const char *tool;
	if (line_true(event, "is_error") || !subtype || strcmp(subtype, "success") != 0)
		judge_error(a, event);
	else if (text && strncmp(text, "[API Error:", 11) == 0)
		drive_error(a, 0, text);
	else if (was_refused(a, event, &tool))
		drive_verdict(a, ORCH_OUTCOME_BLOCKED,
			"it was refused the tool %s, and ended; allow it in [harness:...]",
			tool ? tool : "it asked for");
	else
		drive_verdict(a, ORCH_OUTCOME_OK, "%s", "");
}

static void on_result(struct orch_agent *a, const json_t *event)
{
	struct claude *c = a->own;
	on_total(a, event);
	judge_result(a, event);
	(void)pthread_mutex_lock(&a->lock);
	/* What it has not begun with yet has a turn, and a result, of its own. */
	a->over = c->begun >= c->sent || a->asked || a->outcome != ORCH_OUTCOME_OK;
	if (a->over)
		(void)a->host->process_close_stdin(a->host, a->process); /* it may have ended */
	(void)pthread_mutex_unlock(&a->lock);
}

static void on_system(struct orch_agent *a, const json_t *event)
{
	const char *subtype = line_text(event, "subtype");
	if (subtype && strcmp(subtype, "init") == 0)
		drive_session(a, line_text(event, "session_id"));
	else if (subtype && strcmp(subtype, "api_retry") == 0)
		on_retry(a, event);
}

static void claude_event(struct orch_agent *a, json_t *event)
{
	static const struct {
		const char *type;
		void (*take)(struct orch_agent *a, const json_t *event);
	} table[] = {{"system", on_system}, {"assistant", on_assistant}, {"user", on_user},
		{"result", on_result}, {"control_request", on_control_request},
		{"rate_limit_event", on_rate_limit}};
	const char *type = line_text(event, "type");
	for (size_t i = 0; type && i < sizeof(table) / sizeof(table[0]); i++)
		if (strcmp(type, table[i].type) == 0)
			table[i].take(a, event);
}

/* ---- stop and send ---- */

static int claude_ask(struct orch_agent *a)
{
	return say(a, json_pack("{s:s, s:s, s:{s:s}}", "type", "control_request", "request_id",
			      "orch-interrupt", "request", "subtype", "interrupt"));
}

static int claude_send(struct orch_agent *a, const char *text)
{
	struct claude *c = a->own;
	if (a->over)
		return -ENOTSUP;
	int r = say(a, user_message(text));
	if (r == 0)
		c->sent++;
	return r;
}

static const char *const natives[] = {"claude-code-linux-%/claude",
	"node_modules/@anthropic-ai/claude-code-linux-%/claude", NULL};
static const char *const prefixes[] = {"ANTHROPIC_", "CLAUDE", NULL};
static const char *const keys[] = {
	"ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN", NULL};
static const char *const key_files[] = {".claude/.credentials.json", NULL};

static const struct dialect dialect = {
	.title = "Claude Code",
	.natives = natives,
	.own_prefixes = prefixes,
	.keys = keys,
	.key_files = key_files,
	.stop_signal = SIGINT,
	.own_size = sizeof(struct claude),
	.prepare = claude_prepare,
	.event = claude_event,
	.ask = claude_ask,
	.send = claude_send,
};

static int claude_spawn(
	const struct orch_host *host, const struct orch_task *task, struct orch_agent **ret)
{
	return drive_spawn(host, task, &dialect, ret);
}

static int claude_check(const struct orch_host *host, struct orch_report *report)
{
	return drive_check(host, &dialect, report);
}

static const struct orch_option options[] = {
	DRIVE_OPTIONS("claude"),
	ORCH_OPTION("model", ORCH_OPTION_STRING, NULL, "--model"),
	ORCH_OPTION("permission_mode", ORCH_OPTION_STRING, "acceptEdits", "--permission-mode"),
	ORCH_OPTION("permissions", ORCH_OPTION_STRING, "allow",
		"the answer when it asks for permission: allow, or deny"),
	ORCH_OPTION("max_turns", ORCH_OPTION_INT, NULL, "--max-turns"),
	ORCH_OPTION("max_budget_usd", ORCH_OPTION_STRING, NULL, "--max-budget-usd"),
	ORCH_OPTION("retries", ORCH_OPTION_INT, NULL,
		"how often it asks an API again that does not answer (10 unless set)"),
	ORCH_OPTION("config_dir", ORCH_OPTION_STRING, NULL, "its CLAUDE_CONFIG_DIR"),
	ORCH_OPTIONS_END,
};

ORCH_HARNESS_DEFINE(.name = "claude", .version = "1.0",
	.description = "Claude Code, by its stream of JSON", .options = options,
	.spawn = claude_spawn, .kill = drive_kill, .wait = drive_wait, .send = drive_send,
	.check = claude_check, .release = drive_release);
