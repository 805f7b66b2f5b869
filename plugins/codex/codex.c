/* SPDX-License-Identifier: MIT */
/* The harness `codex`: OpenAI Codex by `codex exec --json`. */
#include "../common/drive.h"

#include "../common/verdict.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int add_home(struct orch_agent *a)
{
	char *home = NULL;
	int r = place_directory(a->host, a->task, "config_dir", &home);
	if (r < 0)
		return r;
	/* It wants the directory to be there. */
	if (!home && a->home && asprintf(&home, "%s/.codex", a->home) < 0)
		return -ENOMEM;
	if (home) {
		r = place_make(home);
		words_addf(&a->env, "CODEX_HOME=%s", home);
	}
	if (r < 0)
		(void)a->host->fail(a->host, r, "cannot make %s: %s", home, strerror(-r));
	free(home);
	return r;
}

static int codex_prepare(struct orch_agent *a)
{
	words_add(&a->argv, "exec");
	words_add(&a->argv, "--json");
	words_add(&a->argv, "--skip-git-repo-check");
	words_add_option(&a->argv, "-s", drive_option(a, "sandbox"));
	words_add_option(&a->argv, "-m", drive_option(a, "model"));
	drive_add_args(a);
	if (a->session) {
		words_add(&a->argv, "resume");
		words_add(&a->argv, a->session);
	}
	words_add(&a->argv, "-"); /* the prompt is its standard input */
	return add_home(a);
}

/* ---- items ---- */

static void tool_begins(struct orch_agent *a, const char *type, const json_t *item)
{
	const char *id = line_text(item, "id");
	if (strcmp(type, "command_execution") == 0)
		drive_tool_call(a, id, "shell", line_get(item, "command"));
	else if (strcmp(type, "file_change") == 0)
		drive_tool_call(a, id, "apply_patch", line_get(item, "changes"));
	else if (strcmp(type, "mcp_tool_call") == 0)
		drive_tool_call(a, id, line_text(item, "tool"), line_get(item, "arguments"));
	else if (strcmp(type, "web_search") == 0)
		drive_tool_call(a, id, "web_search", line_get(item, "query"));
}

static void tool_ends(struct orch_agent *a, const char *type, const json_t *item)
{
	const char *status = line_text(item, "status");
	const json_t *output = strcmp(type, "command_execution") == 0
				       ? line_get(item, "aggregated_output")
				       : line_get(item, "result");
	drive_tool_result(a, line_text(item, "id"), status && strcmp(status, "completed") == 0,
		output ? output : line_get(item, "error"));
}

static bool is_tool(const char *type)
{
	static const char *const tools[] = {
		"command_execution", "file_change", "mcp_tool_call", "web_search"};
	for (size_t i = 0; i < sizeof(tools) / sizeof(tools[0]); i++)
		if (strcmp(type, tools[i]) == 0)
			return true;
	return false;
}

static void on_item(struct orch_agent *a, const json_t *item, bool ends)
{
	const char *type = line_text(item, "type");
	if (!type)
		return;
	if (is_tool(type)) {
		a->answered = true;
		if (ends)
			tool_ends(a, type, item);
		else
			tool_begins(a, type, item);
	} else if (ends && strcmp(type, "agent_message") == 0) {
		a->answered = true;
		drive_text(a, ORCH_EVENT_MESSAGE, line_text(item, "text"));
	} else if (ends && strcmp(type, "error") == 0) {
		/* A notice: runs that succeed have them, too. */
		drive_text(a, ORCH_EVENT_PROGRESS, line_text(item, "message"));
	}
}

/* ---- turns ---- */

/*
 * It counts for the whole thread, cached input as part of the input. What earlier attempts in this
 * session were counted for is taken off.
 */
static void on_usage(struct orch_agent *a, const json_t *u)
{
	const struct orch_task *t = a->task;
	const int64_t none[4] = {0};
	const int64_t *before =
		a->session && ORCH_HAS(t, session_tokens) ? t->session_tokens : none;
	struct drive_usage sum = {.total = true,
		.input = line_int(u, "input_tokens") - line_int(u, "cached_input_tokens") -
			 before[0],
		.output = line_int(u, "output_tokens") - before[1],
		.cache_read = line_int(u, "cached_input_tokens") - before[2],
		.cache_write = line_int(u, "cache_write_input_tokens") - before[3],
		.cost = -1};
	int64_t *const counts[] = {&sum.input, &sum.output, &sum.cache_read, &sum.cache_write};
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		if (*counts[i] < 0)
			*counts[i] = 0;
	drive_usage(a, &sum);
}

/* "Reconnecting... 2/5 (why)": it tries again by itself. */
static void on_error(struct orch_agent *a, const char *text)
{
	if (text && strncmp(text, "Reconnecting", 12) == 0)
		drive_waits(a, verdict_reset_in(text, drive_now_ms()), text);
	else
		drive_text(a, ORCH_EVENT_ERROR, text);
}

static void codex_event(struct orch_agent *a, json_t *event)
{
	const char *type = line_text(event, "type");
	if (!type)
		return;
	if (strcmp(type, "thread.started") == 0) {
		drive_session(a, line_text(event, "thread_id"));
	} else if (strcmp(type, "item.started") == 0) {
		on_item(a, line_get(event, "item"), false);
	} else if (strcmp(type, "item.completed") == 0) {
		on_item(a, line_get(event, "item"), true);
	} else if (strcmp(type, "turn.completed") == 0) {
		on_usage(a, line_get(event, "usage"));
		drive_verdict(a, ORCH_OUTCOME_OK, "%s", "");
		a->over = true;
	} else if (strcmp(type, "turn.failed") == 0) {
		drive_error(a, 0, line_text(event, "error.message"));
		a->over = true;
	} else if (strcmp(type, "error") == 0) {
		on_error(a, line_text(event, "message"));
	}
}

static const char *const natives[] = {"codex-linux-%/vendor/$-unknown-linux-musl/bin/codex",
	"@openai/codex-linux-%/vendor/$-unknown-linux-musl/bin/codex",
	"node_modules/@openai/codex-linux-%/vendor/$-unknown-linux-musl/bin/codex", NULL};
static const char *const prefixes[] = {"OPENAI_", "CODEX_", NULL};
static const char *const keys[] = {"CODEX_API_KEY", "OPENAI_API_KEY", NULL};
static const char *const key_files[] = {".codex/auth.json", NULL};

static const struct dialect dialect = {
	.title = "Codex",
	.natives = natives,
	.own_prefixes = prefixes,
	.keys = keys,
	.key_files = key_files,
	/* By SIGTERM it leaves what its tools have started, by SIGINT it does not. */
	.stop_signal = SIGINT,
	.prepare = codex_prepare,
	.event = codex_event,
};

static int codex_spawn(
	const struct orch_host *host, const struct orch_task *task, struct orch_agent **ret)
{
	return drive_spawn(host, task, &dialect, ret);
}

static int codex_check(const struct orch_host *host, struct orch_report *report)
{
	return drive_check(host, &dialect, report);
}

static const struct orch_option options[] = {
	DRIVE_OPTIONS("codex"),
	ORCH_OPTION("model", ORCH_OPTION_STRING, NULL, "-m"),
	ORCH_OPTION("sandbox", ORCH_OPTION_STRING, "danger-full-access",
		"-s: read-only, workspace-write or danger-full-access"),
	ORCH_OPTION("config_dir", ORCH_OPTION_STRING, NULL, "its CODEX_HOME"),
	ORCH_OPTIONS_END,
};

ORCH_HARNESS_DEFINE(.name = "codex", .version = "1.0",
	.description = "OpenAI Codex, by codex exec --json", .options = options,
	.spawn = codex_spawn, .kill = drive_kill, .wait = drive_wait, .check = codex_check,
	.release = drive_release);
