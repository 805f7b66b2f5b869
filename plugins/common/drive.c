/* SPDX-License-Identifier: MIT */
#include "../common/drive.h"

#include "../common/verdict.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* From the last word to the end of the process: after that it is ended, and its word counts. */
#define LAST_WORD_MS 10000
/* process_wait comes back this often, to see whether there was a last word. */
#define LOOK_MS 2000

int64_t drive_now_ms(void)
{
	struct timespec now;
	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

const char *drive_option(const struct orch_agent *a, const char *key)
{
	return a->host->option(a->host, key);
}

void drive_add_args(struct orch_agent *a)
{
	words_add_line(&a->argv, drive_option(a, "args"));
}

/* ---- reading ---- */

/* Keeps the end of what it says on standard error. */
static void keep_error(struct orch_agent *a, const char *line, size_t len)
{
	const size_t max = sizeof(a->errors) - 1;
	size_t have = strlen(a->errors);
	len = strnlen(line, len > max / 2 ? max / 2 : len);
	if (len == 0)
		return;
	if (have + len + 1 > max) {
		size_t drop = have + len + 1 - max;
		memmove(a->errors, a->errors + drop, have - drop + 1);
		have -= drop;
	}
	memcpy(a->errors + have, line, len);
	a->errors[have + len] = '\n';
	a->errors[have + len + 1] = '\0';
}

/* Whether there was an event to hand on. An array is a batch of them. */
static bool hand_on(struct orch_agent *a, json_t *json, bool is_cut)
{
	size_t i, taken = 0;
	json_t *event;
	if (is_cut)
		return json && a->dialect->cut && a->dialect->cut(a, json);
	if (json_is_object(json)) {
		a->dialect->event(a, json);
		return true;
	}
	json_array_foreach(json, i, event) {
		if (!json_is_object(event))
			continue;
		a->dialect->event(a, event);
		taken++;
	}
	return taken > 0;
}

static void on_line(void *user, int stream, const char *line, size_t len, unsigned int line_flags)
{
	struct orch_agent *a = user;
	if (stream == ORCH_STREAM_STDERR) {
		keep_error(a, line, len);
		return;
	}
	bool is_cut = line_flags & ORCH_LINE_CUT;
	json_t *json = is_cut ? line_parse_cut(line, len) : line_parse(line, len);
	if (len > 0 && !hand_on(a, json, is_cut))
		a->host->log(a->host, ORCH_LOG_WARNING, "%s printed what is no event%s: %.200s",
			a->dialect->title, is_cut ? " (too long)" : "", line);
	json_decref(json);
}

/* ---- starting ---- */

static void reset_start(struct orch_agent *a)
{
	words_deinit(&a->argv);
	words_deinit(&a->env);
	free(a->first_input);
	free(a->home);
	a->first_input = a->home = NULL;
	a->flags = ORCH_PROCESS_STDIN_PROMPT;
}

int drive_command(const struct orch_host *host, const struct dialect *dialect, struct words *argv)
{
	if (dialect->command)
		return dialect->command(host, argv);
	const char *name = host->option(host, "program");
	char *program = place_native(place_program(name), dialect->natives);
	if (!program)
		return host->fail(host, -ENOENT, "there is no program '%s'", name ? name : "");
	words_add(argv, program);
	free(program);
	return 0;
}

static int prepare(struct orch_agent *a)
{
	int r = drive_command(a->host, a->dialect, &a->argv);
	if (r < 0)
		return r;
	place_scrub(&a->env, a->dialect->own_prefixes);
	r = place_home(a->host, a->task, &a->env, &a->home);
	if (r == 0)
		r = a->dialect->prepare(a);
	if (r == 0 && (words_failed(&a->argv) || words_failed(&a->env)))
		r = -ENOMEM;
	return r;
}

static int start(struct orch_agent *a)
{
	reset_start(a);
	int r = prepare(a);
	if (r < 0)
		return r;
	struct orch_process_spec spec = ORCH_PROCESS_SPEC_INIT;
	spec.flags = a->flags;
	spec.argv = words_list(&a->argv);
	spec.env = words_list(&a->env);
	spec.stdin_data = a->first_input;
	spec.stdin_len = a->first_input ? strlen(a->first_input) : 0;
	spec.on_line = on_line;
	spec.user = a;
	struct orch_process *process = NULL;
	r = a->host->process_start(a->host, &spec, &process);
	if (r < 0)
		return a->host->fail(
			a->host, r, "cannot start %s: %s", a->argv.list[0], strerror(-r));
	(void)pthread_mutex_lock(&a->lock);
	a->process = process;
	(void)pthread_mutex_unlock(&a->lock);
	return 0;
}

int drive_spawn(const struct orch_host *host, const struct orch_task *task,
	const struct dialect *dialect, struct orch_agent **ret)
{
	struct orch_agent *a = calloc(1, sizeof(*a));
	if (!a)
		return -ENOMEM;
	a->host = host;
	a->task = task;
	a->dialect = dialect;
	a->session = host->option_int(host, "resume") ? task->session : NULL;
	a->ended = (struct orch_exit)ORCH_EXIT_INIT;
	a->own = calloc(1, dialect->own_size + 1);
	int r = a->own ? -pthread_mutex_init(&a->lock, NULL) : -ENOMEM;
	if (r < 0) {
		free(a->own);
		free(a);
		return r;
	}
	r = start(a);
	if (r < 0) {
		drive_release(a);
		return r;
	}
	*ret = a;
	return 0;
}

static void forget(struct orch_agent *a)
{
	if (a->dialect->forget)
		a->dialect->forget(a->own);
	memset(a->own, 0, a->dialect->own_size);
}

void drive_release(struct orch_agent *a)
{
	a->host->process_free(a->host, a->process);
	reset_start(a);
	forget(a);
	free(a->session_id);
	free(a->own);
	(void)pthread_mutex_destroy(&a->lock);
	free(a);
}

/* ---- stopping, sending ---- */

int drive_kill(struct orch_agent *a, int term_signal)
{
	(void)pthread_mutex_lock(&a->lock);
	bool first = !a->asked;
	a->asked = true;
	/* Between two processes there is none: the second is ended as soon as it has begun. */
	int r = a->process ? -ENOTSUP : 0;
	if (a->process && term_signal == SIGTERM && first && a->dialect->ask)
		r = a->dialect->ask(a);
	if (r < 0) {
		int sig = term_signal == SIGTERM && first ? a->dialect->stop_signal : term_signal;
		r = a->host->process_kill(a->host, a->process, sig, ORCH_KILL_GROUP);
	}
	(void)pthread_mutex_unlock(&a->lock);
	return r == -ESRCH ? 0 : r;
}

int drive_send(struct orch_agent *a, const char *text)
{
	(void)pthread_mutex_lock(&a->lock);
	int r = a->asked || !a->process || !a->dialect->send ? -ENOTSUP : a->dialect->send(a, text);
	(void)pthread_mutex_unlock(&a->lock);
	return r;
}

/* ---- the end ---- */

void drive_verdict(struct orch_agent *a, int outcome, const char *format, ...)
{
	a->outcome = outcome;
	va_list args;
	va_start(args, format);
	(void)vsnprintf(a->text, sizeof(a->text), format, args);
	va_end(args);
}

void drive_error(struct orch_agent *a, long http_status, const char *text)
{
	int64_t now = drive_now_ms();
	int outcome = http_status ? verdict_of_status(http_status) : verdict_of_text(text);
	drive_verdict(a, outcome, "%s", text && text[0] ? text : "it reported an error");
	a->reset_at = outcome == ORCH_OUTCOME_RATE_LIMITED ? verdict_reset_in(text, now) : 0;
}

static void describe_end(const struct orch_agent *a, char *out, size_t size)
{
	if (a->ended.term_signal)
		(void)snprintf(out, size, "was ended by signal %d (%s)", a->ended.term_signal,
			strsignal(a->ended.term_signal));
	else
		(void)snprintf(out, size, "exited with status %d", a->ended.exit_code);
}

/* The last words on standard error, on one line. */
static const char *error_tail(struct orch_agent *a)
{
	size_t len = strlen(a->errors);
	while (len > 0 && a->errors[len - 1] == '\n')
		a->errors[--len] = '\0';
	const char *tail = len > 500 ? a->errors + len - 500 : a->errors;
	while ((*tail & 0xc0) == 0x80) /* not from within a character */
		tail++;
	return tail;
}

/* It ended and did not say how. */
static void judge_silence(struct orch_agent *a)
{
	char how[96];
	const char *tail = error_tail(a);
	describe_end(a, how, sizeof(how));
	int outcome = ORCH_OUTCOME_CRASHED;
	if (!a->ended.term_signal && a->ended.exit_code != 0)
		outcome = verdict_of_text(tail);
	drive_verdict(a, outcome, "%s %s without a last word%s%s", a->dialect->title, how,
		tail[0] ? ": " : "", tail);
	a->reset_at =
		outcome == ORCH_OUTCOME_RATE_LIMITED ? verdict_reset_in(tail, drive_now_ms()) : 0;
}

static void judge(struct orch_agent *a, bool overstayed)
{
	char how[96];
	drive_pieces_end(a);
	if (a->dialect->judge)
		a->dialect->judge(a);
	if (a->outcome == ORCH_OUTCOME_UNSET) {
		judge_silence(a);
		return;
	}
	if (a->outcome != ORCH_OUTCOME_OK || overstayed || a->dialect->word_is_final ||
		(a->ended.exit_code == 0 && !a->ended.term_signal))
		return;
	describe_end(a, how, sizeof(how));
	drive_verdict(a, ORCH_OUTCOME_AGENT_ERROR, "%s said that it is done, and %s",
		a->dialect->title, how);
}

/* Waits for the end of the process, not for ever once the agent has had its last word. */
static int wait_for_end(struct orch_agent *a, bool *ret_overstayed)
{
	int64_t left_ms = LAST_WORD_MS;
	*ret_overstayed = false;
	for (;;) {
		int r = a->host->process_wait(a->host, a->process, LOOK_MS, &a->ended);
		if (r != -ETIMEDOUT)
			return r;
		if (a->dialect->look)
			a->dialect->look(a);
		if (!a->over || (left_ms -= LOOK_MS) > 0)
			continue;
		*ret_overstayed = true;
		(void)a->host->process_kill(a->host, a->process,
			left_ms > -LOOK_MS ? SIGTERM : SIGKILL, ORCH_KILL_GROUP);
	}
}

static bool was_asked(struct orch_agent *a)
{
	(void)pthread_mutex_lock(&a->lock);
	bool asked = a->asked;
	(void)pthread_mutex_unlock(&a->lock);
	return asked;
}

/* Whether it failed before a model was asked, for what else than the session it was to resume? */
static bool session_is_gone(struct orch_agent *a)
{
	return a->session && !a->answered && a->outcome != ORCH_OUTCOME_OK &&
	       a->outcome != ORCH_OUTCOME_AUTH_FAILED && a->outcome != ORCH_OUTCOME_RATE_LIMITED &&
	       !was_asked(a);
}

static int start_anew(struct orch_agent *a)
{
	a->host->log(a->host, ORCH_LOG_WARNING,
		"session %s cannot be resumed, a new one is begun: %s", a->session, a->text);
	(void)pthread_mutex_lock(&a->lock);
	struct orch_process *old = a->process;
	a->process = NULL;
	(void)pthread_mutex_unlock(&a->lock);
	a->host->process_free(a->host, old);
	a->session = NULL;
	a->over = false;
	a->outcome = ORCH_OUTCOME_UNSET;
	a->text[0] = a->errors[0] = '\0';
	forget(a);
	int r = start(a);
	if (r == 0 && was_asked(a))
		(void)a->host->process_kill(a->host, a->process, SIGTERM, ORCH_KILL_GROUP);
	return r;
}

int drive_wait(struct orch_agent *a, struct orch_result *result)
{
	bool overstayed;
	int r = wait_for_end(a, &overstayed);
	if (r == 0)
		judge(a, overstayed);
	if (r == 0 && session_is_gone(a)) {
		r = start_anew(a);
		if (r == 0)
			r = wait_for_end(a, &overstayed);
		if (r == 0)
			judge(a, overstayed);
	}
	if (r < 0)
		return r;
	if (a->outcome != ORCH_OUTCOME_OK && !was_asked(a))
		drive_text(a, ORCH_EVENT_ERROR, a->text);
	result->outcome = a->outcome;
	result->exit_code = a->ended.exit_code;
	result->term_signal = a->ended.term_signal;
	result->text = a->text[0] ? a->text : NULL;
	result->session = a->session_id;
	result->reset_at = a->reset_at;
	return 0;
}
