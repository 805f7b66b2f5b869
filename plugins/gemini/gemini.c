/* SPDX-License-Identifier: MIT */
/* The harness `gemini`: Gemini CLI by its stream of JSON. */
#include "../common/drive.h"

#include "../common/verdict.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct gemini {
	char error[DRIVE_TEXT_MAX]; /* the last that it reported */
};

static int gemini_prepare(struct orch_agent *a)
{
	words_add_option(&a->argv, "--output-format", "stream-json");
	words_add_option(&a->argv, "--approval-mode", drive_option(a, "approval_mode"));
	words_add_option(&a->argv, "-m", drive_option(a, "model"));
	words_add_option(&a->argv, "--resume", a->session);
	drive_add_args(a);
	/* Its launcher keeps signals from it. */
	words_add(&a->env, "GEMINI_CLI_NO_RELAUNCH=true");
	words_add(&a->env, "GEMINI_CLI_TRUST_WORKSPACE=true");
	char *home = NULL;
	int r = place_directory(a->host, a->task, "config_dir", &home);
	if (home)
		words_addf(&a->env, "GEMINI_CLI_HOME=%s", home);
	free(home);
	return r;
}

static void on_message(struct orch_agent *a, const json_t *event)
{
	const char *role = line_text(event, "role"), *text = line_text(event, "content");
	if (!text || !role || strcmp(role, "assistant") != 0)
		return;
	a->answered = true;
	drive_piece(a, text);
	if (!line_true(event, "delta"))
		drive_pieces_end(a);
}

static void on_tool_result(struct orch_agent *a, const json_t *event)
{
	const char *status = line_text(event, "status");
	const json_t *output = line_get(event, "output");
	drive_tool_result(a, line_text(event, "tool_id"), status && strcmp(status, "success") == 0,
		output ? output : line_get(event, "error"));
}

static void on_error(struct orch_agent *a, const json_t *event)
{
	struct gemini *g = a->own;
	const char *text = line_text(event, "message");
	(void)snprintf(g->error, sizeof(g->error), "%s", text ? text : "");
	drive_text(a, ORCH_EVENT_ERROR, text);
}

/* Of this process. What it thought is in the total only. */
static void on_stats(struct orch_agent *a, const json_t *s)
{
	int64_t in = line_int(s, "input_tokens"), out = line_int(s, "output_tokens");
	int64_t total = line_int(s, "total_tokens"), cached = line_int(s, "cached");
	if (total == 0)
		return;
	drive_usage(a, &(struct drive_usage){.total = true,
			       .input = in - cached,
			       .output = total - in > out ? total - in : out,
			       .cache_read = cached,
			       .cost = -1});
}

static void on_result(struct orch_agent *a, const json_t *event)
{
	struct gemini *g = a->own;
	const char *status = line_text(event, "status");
	const char *text = line_text(event, "error.message");
	on_stats(a, line_get(event, "stats"));
	if (status && strcmp(status, "success") == 0)
		drive_verdict(a, ORCH_OUTCOME_OK, "%s", "");
	else
		drive_error(a, 0, text ? text : g->error);
	a->over = true;
}

static void gemini_event(struct orch_agent *a, json_t *event)
{
	const char *type = line_text(event, "type");
	if (!type)
		return;
	if (strcmp(type, "message") != 0)
		drive_pieces_end(a);
	if (strcmp(type, "init") == 0) {
		drive_session(a, line_text(event, "session_id"));
	} else if (strcmp(type, "message") == 0) {
		on_message(a, event);
	} else if (strcmp(type, "tool_use") == 0) {
		drive_tool_call(a, line_text(event, "tool_id"), line_text(event, "tool_name"),
			line_get(event, "parameters"));
	} else if (strcmp(type, "tool_result") == 0) {
		on_tool_result(a, event);
	} else if (strcmp(type, "error") == 0) {
		on_error(a, event);
	} else if (strcmp(type, "result") == 0) {
		on_result(a, event);
	}
}

/* Its exit status is one of its own, or the HTTP status less 256. */
static void gemini_judge(struct orch_agent *a)
{
	enum { NO_AUTH = 41, TURN_LIMIT = 53 };
	int status = a->ended.exit_code;
	if (status == NO_AUTH)
		drive_verdict(a, ORCH_OUTCOME_AUTH_FAILED, "it is not logged in (exit status 41)");
	else if (status == TURN_LIMIT)
		drive_verdict(a, ORCH_OUTCOME_OVER_BUDGET, "it stopped at its limit of turns");
	else if (status >= 144 && a->outcome == ORCH_OUTCOME_UNSET)
		drive_error(a, status + 256, "it ended with the API's error (see output.log)");
	else if (status >= 144 && a->outcome == ORCH_OUTCOME_AGENT_ERROR)
		a->outcome = verdict_of_status(status + 256);
}

static const char *const natives[] = {NULL};
static const char *const prefixes[] = {"GEMINI_", "GOOGLE_", NULL};
static const char *const keys[] = {
	"GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_APPLICATION_CREDENTIALS", NULL};
static const char *const key_files[] = {".gemini/oauth_creds.json", NULL};

static const struct dialect dialect = {
	.title = "Gemini CLI",
	.natives = natives,
	.own_prefixes = prefixes,
	.keys = keys,
	.key_files = key_files,
	.stop_signal = SIGTERM,
	.own_size = sizeof(struct gemini),
	.prepare = gemini_prepare,
	.event = gemini_event,
	.judge = gemini_judge,
};

static int gemini_spawn(
	const struct orch_host *host, const struct orch_task *task, struct orch_agent **ret)
{
	return drive_spawn(host, task, &dialect, ret);
}

static int gemini_check(const struct orch_host *host, struct orch_report *report)
{
	return drive_check(host, &dialect, report);
}

static const struct orch_option options[] = {
	DRIVE_OPTIONS("gemini"),
	ORCH_OPTION("model", ORCH_OPTION_STRING, NULL, "-m"),
	ORCH_OPTION("approval_mode", ORCH_OPTION_STRING, "yolo", "--approval-mode"),
	ORCH_OPTION("config_dir", ORCH_OPTION_STRING, NULL, "its GEMINI_CLI_HOME"),
	ORCH_OPTIONS_END,
};

ORCH_HARNESS_DEFINE(.name = "gemini", .version = "1.0",
	.description = "Gemini CLI, by its stream of JSON", .options = options,
	.spawn = gemini_spawn, .kill = drive_kill, .wait = drive_wait, .check = gemini_check,
	.release = drive_release);
