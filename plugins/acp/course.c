/* SPDX-License-Identifier: MIT */
/* From initialize to the answer to the prompt. */
#include "acp.h"

#include "../common/verdict.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AUTH_REQUIRED    (-32000)
#define METHOD_NOT_FOUND (-32601)

static const char *const step_names[ACP_STEP_COUNT] = {"initialize", "authenticate", "session/new",
	"the resuming of the session", "session/set_mode", "session/prompt", "the end"};

void acp_forget(void *own)
{
	struct acp *acp = own;
	json_decref(acp->initialized);
	free(acp->session);
	free(acp->queued);
	free(acp->message);
	for (size_t i = 0; i < ACP_CALLS_MAX; i++) {
		free(acp->calls[i].id);
		free(acp->calls[i].name);
	}
}

/* It has said all that it will: it ends when its standard input does. */
static void end(struct orch_agent *a)
{
	struct acp *acp = a->own;
	drive_pieces_end(a);
	(void)pthread_mutex_lock(&a->lock);
	acp->step = ACP_OVER;
	a->over = true;
	(void)a->host->process_close_stdin(a->host, a->process); /* it may have ended by itself */
	(void)pthread_mutex_unlock(&a->lock);
}

static int cancel(struct orch_agent *a)
{
	const struct acp *acp = a->own;
	return acp_notify(a, "session/cancel", json_pack("{s:s}", "sessionId", acp->session));
}

void acp_fail(struct orch_agent *a, const char *why)
{
	const struct acp *acp = a->own;
	drive_verdict(a, ORCH_OUTCOME_AGENT_ERROR, "%s: %s", step_names[acp->step], why);
	if (acp->step == ACP_PROMPT)
		(void)cancel(a); /* it is ended if it does not heed it */
	end(a);
}

/* ---- session ---- */

static void prompt(struct orch_agent *a, const char *text)
{
	struct acp *acp = a->own;
	acp_usage_begins(acp);
	acp->messages = 0;
	acp_request(a, ACP_PROMPT, "session/prompt",
		json_pack("{s:s, s:[{s:s, s:s}]}", "sessionId", acp->session, "prompt", "type",
			"text", "text", text));
}

static void new_session(struct orch_agent *a)
{
	acp_request(a, ACP_SESSION, "session/new",
		json_pack("{s:s, s:[]}", "cwd", a->task->cwd, "mcpServers"));
}

/* session/resume tells nothing of the past; NULL: neither is offered. */
static const char *resume_method(const struct acp *acp)
{
	const json_t *can = line_get(acp->initialized, "agentCapabilities");
	if (line_get(can, "sessionCapabilities.resume") && !acp->no_resume)
		return "session/resume";
	return line_true(can, "loadSession") ? "session/load" : NULL;
}

static void resume_session(struct orch_agent *a)
{
	const char *method = resume_method(a->own);
	if (!method) {
		a->host->log(a->host, ORCH_LOG_INFO, "the agent cannot resume a session");
		a->session = NULL;
		new_session(a);
		return;
	}
	acp_request(a, ACP_RESUME, method,
		json_pack("{s:s, s:s, s:[]}", "sessionId", a->session, "cwd", a->task->cwd,
			"mcpServers"));
}

static void begin_session(struct orch_agent *a)
{
	if (a->session)
		resume_session(a);
	else
		new_session(a);
}

/* The id of the way to authenticate: the one that was chosen, else one by a key. */
static const char *auth_method(const struct orch_agent *a)
{
	const struct acp *acp = a->own;
	const char *chosen = drive_option(a, "auth_method");
	const json_t *methods = line_get(acp->initialized, "authMethods");
	size_t i;
	json_t *method;
	if (chosen)
		return chosen;
	json_array_foreach(methods, i, method) {
		const char *id = line_text(method, "id");
		if (id && (strstr(id, "api-key") || strstr(id, "api_key")))
			return id;
	}
	return NULL;
}

/* Whether it can be tried. */
static bool authenticate(struct orch_agent *a)
{
	struct acp *acp = a->own;
	const char *method = auth_method(a);
	if (acp->authenticated || !method)
		return false;
	acp->authenticated = true;
	acp_request(a, ACP_AUTHENTICATE, "authenticate", json_pack("{s:s}", "methodId", method));
	return true;
}

static bool has_mode(const json_t *result, const char *id)
{
	const json_t *modes = line_get(result, "modes.availableModes");
	size_t i;
	json_t *mode;
	json_array_foreach(modes, i, mode) {
		const char *found = line_text(mode, "id");
		if (found && strcmp(found, id) == 0)
			return true;
	}
	return false;
}

static const char *wanted_mode(const struct orch_agent *a)
{
	const struct acp_preset *preset = acp_preset(a->host);
	const char *mode = drive_option(a, "mode");
	if (mode || !preset)
		return mode;
	return acp_denies(a->host) ? preset->deny_mode : preset->allow_mode;
}

static void begin_turn(struct orch_agent *a, const json_t *session)
{
	const struct acp *acp = a->own;
	const char *mode = wanted_mode(a);
	drive_session(a, acp->session);
	if (mode && has_mode(session, mode)) {
		acp_request(a, ACP_MODE, "session/set_mode",
			json_pack("{s:s, s:s}", "sessionId", acp->session, "modeId", mode));
		return;
	}
	if (mode && drive_option(a, "mode"))
		a->host->log(a->host, ORCH_LOG_WARNING, "the agent has no mode '%s'", mode);
	prompt(a, a->task->prompt);
}

/* ---- the answers to our requests ---- */

static void on_initialized(struct orch_agent *a, const json_t *result)
{
	struct acp *acp = a->own;
	if (line_int(result, "protocolVersion") != 1) {
		acp_fail(a, "it speaks another version of ACP");
		return;
	}
	acp->initialized = json_deep_copy(result);
	begin_session(a);
}

static void on_session(struct orch_agent *a, const json_t *result)
{
	struct acp *acp = a->own;
	const char *id = acp->step == ACP_RESUME ? a->session : line_text(result, "sessionId");
	free(acp->session);
	acp->session = id ? strdup(id) : NULL;
	if (acp->session)
		begin_turn(a, result);
	else
		acp_fail(a, "it gave no session");
}

/* A person's words that came meanwhile; owned. */
static char *take_queued(struct orch_agent *a)
{
	struct acp *acp = a->own;
	(void)pthread_mutex_lock(&a->lock);
	char *text = a->asked ? NULL : acp->queued;
	if (text)
		acp->queued = NULL;
	else
		acp->step = ACP_OVER; /* no more words are taken */
	(void)pthread_mutex_unlock(&a->lock);
	return text;
}

static void judge_stop(struct orch_agent *a, const char *reason)
{
	const struct acp *acp = a->own;
	if (strcmp(reason, "end_turn") == 0 && acp->refused && acp->last_tool_failed)
		drive_verdict(a, ORCH_OUTCOME_BLOCKED,
			"it was refused a tool, and ended; allow it in [harness:...]");
	else if (strcmp(reason, "end_turn") == 0)
		drive_verdict(a, ORCH_OUTCOME_OK, "%s", "");
	else if (strncmp(reason, "max_", 4) == 0)
		drive_verdict(a, ORCH_OUTCOME_OVER_BUDGET, "it stopped at a limit of its own: %s",
			reason);
	else
		drive_verdict(a, ORCH_OUTCOME_AGENT_ERROR, "it stopped: %s", reason);
}

/* codex-acp ends a turn that has failed as any other, and says here that it has. */
static bool judge_failure(struct orch_agent *a, const json_t *result)
{
	const json_t *failure = line_get(result, "_meta.jetbrains.air.sessionFailure");
	const char *category = line_text(failure, "category");
	const char *severity = line_text(failure, "severity");
	if (!severity || strcmp(severity, "error") != 0)
		return false;
	drive_error(a, 0, line_text(failure, "title"));
	if (category && strcmp(category, "access") == 0)
		a->outcome = ORCH_OUTCOME_AUTH_FAILED;
	return true;
}

static void on_turn_end(struct orch_agent *a, const json_t *result)
{
	const char *reason = line_text(result, "stopReason");
	drive_pieces_end(a);
	acp_usage_ends(a, result);
	if (!judge_failure(a, result))
		judge_stop(a, reason ? reason : "it did not say why");
	char *more = a->outcome == ORCH_OUTCOME_OK ? take_queued(a) : NULL;
	if (more)
		prompt(a, more);
	else
		end(a);
	free(more);
}

void acp_result(struct orch_agent *a, const json_t *result)
{
	const struct acp *acp = a->own;
	switch (acp->step) {
	case ACP_INITIALIZE:
		on_initialized(a, result);
		break;
	case ACP_AUTHENTICATE:
		begin_session(a);
		break;
	case ACP_SESSION:
	case ACP_RESUME:
		on_session(a, result);
		break;
	case ACP_MODE:
		prompt(a, a->task->prompt);
		break;
	case ACP_PROMPT:
		on_turn_end(a, result);
		break;
	case ACP_OVER:
	case ACP_STEP_COUNT:
		break;
	}
}

/* The details are in data, in a form of each agent's own. */
static void fail_with(struct orch_agent *a, const json_t *error)
{
	const struct acp *acp = a->own;
	const char *message = line_text(error, "message");
	const json_t *data = line_get(error, "data");
	char *more = json_is_string(data) ? strdup(json_string_value(data))
		     : data               ? json_dumps(data, JSON_COMPACT)
					  : NULL;
	char text[DRIVE_TEXT_MAX];
	(void)snprintf(text, sizeof(text), "%s: %s%s%s", step_names[acp->step],
		message ? message : "an error", more ? ": " : "", more ? more : "");
	free(more);
	drive_error(a, 0, text);
	if (line_int(error, "code") == AUTH_REQUIRED)
		a->outcome = ORCH_OUTCOME_AUTH_FAILED;
	end(a);
}

static void on_no_resume(struct orch_agent *a, const json_t *error)
{
	struct acp *acp = a->own;
	const char *why = line_text(error, "message");
	/* Qwen Code offers it all the same. */
	if (line_int(error, "code") == METHOD_NOT_FOUND && !acp->no_resume) {
		acp->no_resume = true;
		resume_session(a);
		return;
	}
	a->host->log(a->host, ORCH_LOG_WARNING,
		"session %s cannot be resumed, a new one is begun: %s", a->session,
		why ? why : "no reason");
	a->session = NULL;
	new_session(a);
}

void acp_error(struct orch_agent *a, const json_t *error)
{
	const struct acp *acp = a->own;
	bool wants_auth = line_int(error, "code") == AUTH_REQUIRED;
	if (acp->step == ACP_RESUME && !wants_auth) {
		on_no_resume(a, error);
		return;
	}
	if (acp->step == ACP_MODE) {
		a->host->log(a->host, ORCH_LOG_WARNING, "its mode cannot be set");
		prompt(a, a->task->prompt);
		return;
	}
	if (wants_auth && (acp->step == ACP_SESSION || acp->step == ACP_RESUME) && authenticate(a))
		return;
	fail_with(a, error);
}

/* ---- deadlines ---- */

void acp_look(struct orch_agent *a)
{
	struct acp *acp = a->own;
	int64_t limit = a->host->option_int(a->host, "start_timeout");
	if (acp->begun_at == 0)
		acp->begun_at = acp_now_ms();
	if (acp->step >= ACP_PROMPT || acp_now_ms() - acp->begun_at < limit)
		return;
	char why[64];
	(void)snprintf(why, sizeof(why), "no answer within %lld ms", (long long)limit);
	acp_fail(a, why);
	(void)a->host->process_kill(a->host, a->process, SIGTERM, ORCH_KILL_GROUP);
}

/* ---- the second thread; the lock is held ---- */

int acp_ask(struct orch_agent *a)
{
	const struct acp *acp = a->own;
	return acp->step == ACP_PROMPT ? cancel(a) : -ENOTSUP;
}

/* A turn takes one prompt: what comes meanwhile is the next one. */
int acp_send(struct orch_agent *a, const char *text)
{
	struct acp *acp = a->own;
	char *all = NULL;
	if (acp->step == ACP_OVER)
		return -ENOTSUP;
	if (asprintf(&all, "%s%s%s", acp->queued ? acp->queued : "", acp->queued ? "\n\n" : "",
		    text) < 0)
		return -ENOMEM;
	free(acp->queued);
	acp->queued = all;
	return 0;
}
