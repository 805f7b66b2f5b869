/* SPDX-License-Identifier: MIT */
/*
 * The harness `opencode`: OpenCode by `opencode run --format json`. It has no last word: a run that
 * went well ends behind a step that stopped by itself.
 */
#include "../common/drive.h"

#include "../common/verdict.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Steps in a row that ended neither in a tool nor of their own accord: it asks for ever. */
#define CUT_STEPS_MAX 10

struct opencode {
	char reason[40]; /* of the last step's end */
	uint32_t cut_steps;
};

static int opencode_prepare(struct orch_agent *a)
{
	const char *permissions = drive_option(a, "permissions");
	words_add(&a->argv, "run");
	words_add_option(&a->argv, "--format", "json");
	words_add_option(&a->argv, "-m", drive_option(a, "model"));
	words_add_option(&a->argv, "--agent", drive_option(a, "agent"));
	words_add_option(&a->argv, "--session", a->session);
	if (!permissions || strcmp(permissions, "deny") != 0)
		words_add(&a->argv, "--auto");
	drive_add_args(a);
	words_add(&a->env, "OPENCODE_DISABLE_AUTOUPDATE=1");
	return 0;
}

static void on_tool(struct orch_agent *a, const json_t *part)
{
	const char *id = line_text(part, "callID"), *status = line_text(part, "state.status");
	const json_t *output = line_get(part, "state.output");
	drive_tool_call(a, id, line_text(part, "tool"), line_get(part, "state.input"));
	drive_tool_result(a, id, status && strcmp(status, "completed") == 0,
		output ? output : line_get(part, "state.error"));
}

/* The numbers are those of the step. */
static void on_step_usage(struct orch_agent *a, const json_t *part)
{
	const json_t *t = line_get(part, "tokens"), *cost = line_get(part, "cost");
	drive_usage(a, &(struct drive_usage){.id = line_text(part, "id"),
			       .input = line_int(t, "input"),
			       .output = line_int(t, "output") + line_int(t, "reasoning"),
			       .cache_read = line_int(t, "cache.read"),
			       .cache_write = line_int(t, "cache.write"),
			       .cost = json_is_number(cost) ? json_number_value(cost) : -1});
}

static void end_loop(struct orch_agent *a)
{
	drive_verdict(a, ORCH_OUTCOME_AGENT_ERROR,
		"%d answers in a row were cut off, and it goes on asking", CUT_STEPS_MAX);
	a->over = true;
	(void)a->host->process_kill(a->host, a->process, SIGKILL, ORCH_KILL_GROUP);
}

static void on_step_finish(struct orch_agent *a, const json_t *part)
{
	struct opencode *o = a->own;
	const char *reason = line_text(part, "reason");
	(void)snprintf(o->reason, sizeof(o->reason), "%s", reason ? reason : "");
	on_step_usage(a, part);
	bool whole = strcmp(o->reason, "stop") == 0 || strcmp(o->reason, "tool-calls") == 0;
	o->cut_steps = whole ? 0 : o->cut_steps + 1;
	if (o->cut_steps == CUT_STEPS_MAX)
		end_loop(a);
}

static void on_error(struct orch_agent *a, const json_t *error)
{
	const char *text = line_text(error, "data.message");
	int64_t now = drive_now_ms();
	if (!text)
		text = line_text(error, "name");
	drive_error(a, (long)line_int(error, "data.statusCode"), text);
	if (a->outcome == ORCH_OUTCOME_RATE_LIMITED && a->reset_at == 0)
		a->reset_at = verdict_retry_after(
			line_text(error, "data.responseHeaders.retry-after"), now);
}

static void opencode_event(struct orch_agent *a, json_t *event)
{
	const char *type = line_text(event, "type");
	const json_t *part = line_get(event, "part");
	drive_session(a, line_text(event, "sessionID"));
	if (!type)
		return;
	if (strcmp(type, "error") == 0) {
		on_error(a, line_get(event, "error"));
		return;
	}
	a->answered = true;
	if (strcmp(type, "text") == 0)
		drive_text(a, ORCH_EVENT_MESSAGE, line_text(part, "text"));
	else if (strcmp(type, "tool_use") == 0)
		on_tool(a, part);
	else if (strcmp(type, "step_finish") == 0)
		on_step_finish(a, part);
}

static void opencode_judge(struct orch_agent *a)
{
	const struct opencode *o = a->own;
	if (a->outcome != ORCH_OUTCOME_UNSET || a->ended.term_signal || a->ended.exit_code != 0)
		return;
	if (strcmp(o->reason, "stop") == 0)
		drive_verdict(a, ORCH_OUTCOME_OK, "%s", "");
	else if (o->reason[0])
		drive_verdict(
			a, ORCH_OUTCOME_AGENT_ERROR, "its last answer ended by: %s", o->reason);
}

static const char *const natives[] = {
	"opencode-linux-%/bin/opencode", "node_modules/opencode-linux-%/bin/opencode", NULL};
/* It works with any vendor's models, and so with any vendor's variables. */
static const char *const prefixes[] = {
	"OPENCODE", "ANTHROPIC_", "OPENAI_", "GEMINI_", "GOOGLE_", "QWEN_", NULL};
static const char *const keys[] = {"OPENCODE_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY",
	"OPENROUTER_API_KEY", "GEMINI_API_KEY", "GOOGLE_GENERATIVE_AI_API_KEY", NULL};
static const char *const key_files[] = {".local/share/opencode/auth.json", NULL};

static const struct dialect dialect = {
	.title = "OpenCode",
	.natives = natives,
	.own_prefixes = prefixes,
	.keys = keys,
	.key_files = key_files,
	.stop_signal = SIGTERM,
	.own_size = sizeof(struct opencode),
	.prepare = opencode_prepare,
	.event = opencode_event,
	.judge = opencode_judge,
};

static int opencode_spawn(
	const struct orch_host *host, const struct orch_task *task, struct orch_agent **ret)
{
	return drive_spawn(host, task, &dialect, ret);
}

static int opencode_check(const struct orch_host *host, struct orch_report *report)
{
	return drive_check(host, &dialect, report);
}

static const struct orch_option options[] = {
	DRIVE_OPTIONS("opencode"),
	ORCH_OPTION("model", ORCH_OPTION_STRING, NULL, "-m, as provider/model"),
	ORCH_OPTION("agent", ORCH_OPTION_STRING, NULL, "--agent"),
	ORCH_OPTION("permissions", ORCH_OPTION_STRING, "allow",
		"allow: what its configuration does not deny; deny: what it does not allow is "
		"refused"),
	ORCH_OPTIONS_END,
};

ORCH_HARNESS_DEFINE(.name = "opencode", .version = "1.0",
	.description = "OpenCode, by opencode run --format json", .options = options,
	.spawn = opencode_spawn, .kill = drive_kill, .wait = drive_wait, .check = opencode_check,
	.release = drive_release);
