/* SPDX-License-Identifier: MIT */
#include "run/state.h"

#include "base/log.h"
#include "run/check.h"

#include <errno.h>
#include <string.h>

/* How often one is run whose keeper dies, or cannot start it: that is neither the command's doing
 * nor the task's. */
#define RUNS_MAX 3

struct command {
	struct live *live;
	enum unit_kind kind;
	const char *name, *command, *cwd; /* borrowed until done */
	int64_t timeout_ms;
	unsigned runs;
	bool waits; /* for a shortage to end */
	command_fn done;
};

static void command_try(struct command *c);

static void command_result_drop(struct command_result *result)
{
	free(result->out);
	free(result->errout);
	result->out = result->errout = NULL;
}

static void command_finish(struct command *c, struct command_result *result)
{
	struct live *l = c->live;
	command_fn done = c->done;
	free(TAKE(l->in_hand));
	l->command_unit = NULL;
	result->cancelled = l->cancel;
	done(l, result);
	command_result_drop(result);
}

/* It cannot be run; for now, where the machine is short of something. */
static void command_failed(struct command *c, struct command_result *result)
{
	struct live *l = c->live;
	if (l->cancel || !err_is_shortage(result->err.code)) {
		command_finish(c, result);
		return;
	}
	command_result_drop(result);
	l->command_unit = NULL;
	c->waits = true;
	run_machine_failed(l->run, &result->err);
}

static void command_over(struct watch *w, struct unit_exit *x)
{
	struct command *c = w->ctx;
	struct command_result result = {.exit = *x};
	result.out = check_output(unit_dirfd(w->unit), UNIT_FILE_STDOUT);
	result.errout = check_output(unit_dirfd(w->unit), UNIT_FILE_STDERR);
	if (x->cause == CAUSE_SPAWN_FAILED || x->cause == CAUSE_LOST) {
		result.failed_to_run = true;
		err_set(&result.err, x->error ? (int)x->error : -ECHILD, "%s",
			x->text ? x->text : "its keeper was lost");
	}
	/* What was worth keeping is in the result; a directory that stays is tidied later. */
	struct err err = ERR_INIT;
	if (lifecycle_remove(w->run->lifecycle, unit_id(w->unit), &err) < 0)
		log_debug("%s", err.msg);
	if (!result.failed_to_run) {
		w->run->short_row = 0;
		command_finish(c, &result);
	} else if (c->runs < RUNS_MAX && !err_is_shortage(result.err.code)) {
		command_result_drop(&result);
		command_try(c);
	} else {
		command_failed(c, &result);
	}
}

static int command_spec(struct live *l, enum unit_kind kind, const char *name, const char *command,
	const char *cwd, int64_t timeout_ms, struct unit_spec *s, struct err *e)
{
	int code = check_spec(l->run->site, kind, name, command, cwd, timeout_ms, s, e);
	if (code < 0)
		return code;
	s->plan = str_dup(l->plan->name);
	s->task = str_dup(l->name);
	s->attempt = l->attempt;
	return s->plan && s->task ? 0 : err_nomem(e);
}

static int command_start(struct command *c, struct err *e)
{
	struct live *l = c->live;
	CLEANUP_UNIT_SPEC struct unit_spec spec = {0};
	struct watch callbacks = {.over = command_over, .ctx = c};
	int code = command_spec(l, c->kind, c->name, c->command, c->cwd, c->timeout_ms, &spec, e);
	c->runs++;
	return code < 0 ? code
			: watch_start(l->run, l, &spec, l->run->unit_env, &callbacks,
				  &l->command_unit, e);
}

static void command_try(struct command *c)
{
	struct command_result result = {.exit = UNIT_EXIT_INIT};
	if (!c->live->cancel && command_start(c, &result.err) == 0)
		return;
	result.failed_to_run = true;
	command_failed(c, &result);
}

void command_run(struct live *l, enum unit_kind kind, const char *name, const char *command,
	const char *cwd, int64_t timeout_ms, command_fn done)
{
	struct command_result result = {.exit = UNIT_EXIT_INIT};
	struct command *c = calloc(1, sizeof(*c));
	if (!c) {
		/* Without memory for the call, the answer comes without it. */
		result.failed_to_run = true;
		err_nomem(&result.err);
		done(l, &result);
		return;
	}
	*c = (struct command){
		.live = l,
		.kind = kind,
		.name = name,
		.command = command,
		.cwd = cwd,
		.timeout_ms = timeout_ms,
		.done = done,
	};
	l->in_hand = c;
	command_try(c);
}

bool command_waits(const struct live *l)
{
	return l->in_hand && l->in_hand->waits;
}

void command_resume(struct live *l)
{
	l->in_hand->waits = false;
	command_try(l->in_hand);
}

void command_cancel(struct live *l)
{
	if (command_waits(l))
		command_resume(l); /* which finds that it is cancelled */
	else
		watch_kill(
			l->command_unit, l->hard, "cancelled", l->run->config->orch.kill_grace_ms);
}
