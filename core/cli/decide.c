/* SPDX-License-Identifier: MIT */
#include "cli/decide.h"
#include "cli/import.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "run/json_text.h"

#include <poll.h>
#include <string.h>

#define LOOK_EVERY_MS 100

static int note_task(void *ctx, const struct task_row *row)
{
	struct decide *d = ctx;
	d->to = row->status;
	free(d->text);
	d->text = str_dup(row->reason);
	return 0;
}

static int note_plan(void *ctx, const struct plan_row *row)
{
	struct decide *d = ctx;
	d->plan = row->status;
	d->worktrees = row->worktrees;
	return 0;
}

static int read_state(struct decide *d)
{
	struct err e = ERR_INIT;
	int r = store_task(d->at.store, d->task.task_id, note_task, d, &e);
	if (r >= 0)
		r = store_plan(d->at.store, d->task.plan_id, note_plan, d, &e);
	return r < 0 ? cli_error(d->cli, &e) : 0;
}

int decide_open(struct decide *d, const char *name)
{
	int status = cli_site_open_change(d->cli, &d->at);
	if (status == 0)
		status = cli_find_task(d->cli, d->at.store, name, &d->task);
	if (status == 0)
		status = read_state(d);
	d->from = d->to;
	return status;
}

void decide_close(struct decide *d)
{
	free(d->text);
	d->text = NULL;
	cli_site_close(&d->at);
}

/* The name by which the engine that runs knows the request. */
static const char *kind_name(enum engine_event_kind kind)
{
	switch (kind) {
	case EVENT_APPROVE:
		return "approve";
	case EVENT_OVERRIDE:
		return "override";
	case EVENT_REJECT:
		return "reject";
	case EVENT_RETRY:
		return "retry";
	case EVENT_PAUSE:
		return "pause";
	default:
		return "resume";
	}
}

/* Asks the engine that runs, then waits until what follows at once (a merge) has come to its end.
 */
static int decide_ask(struct decide *d, enum engine_event_kind kind, const char *text, bool carry)
{
	struct err e = ERR_INIT;
	json_t *result = NULL;
	json_t *params = json_pack("{s:s, s:I, s:I, s:s?, s:b}", "kind", kind_name(kind), "plan_id",
		(json_int_t)d->task.plan_id, "task_id", (json_int_t)d->task.task_id, "text", text,
		"carry", carry);
	if (import_ask(&d->at, "operate", params, &result, NULL, &e) < 0) {
		json_decref(result);
		return cli_error(d->cli, &e);
	}
	const char *refused = json_string_value(json_object_get(result, "refused"));
	int status = read_state(d);
	if (status == 0 && refused) {
		d->refused = true;
		free(d->text);
		d->text = str_dup(refused);
	}
	json_decref(result);
	while (status == 0 && !d->refused && d->to == TASK_INTEGRATING && !d->interrupted) {
		struct pollfd p[] = {
			{.fd = d->cli->signal_fd, .events = POLLIN},
			{.fd = d->at.engine, .events = POLLIN},
		};
		if (poll(p, 2, LOOK_EVERY_MS) > 0) {
			d->interrupted = p[0].revents != 0;
			if (p[1].revents)
				return read_state(d); /* the engine has ended: it is as it is */
		}
		status = read_state(d);
	}
	return status;
}

/* What the stored state does not allow begins nothing. */
static int refuses(struct decide *d, const struct run_request *request)
{
	struct err e = ERR_INIT;
	CLEANUP_STR char *refused = NULL;
	if (run_refuses(d->at.store, request, &refused, &e) < 0)
		return cli_error(d->cli, &e);
	if (refused) {
		d->refused = true;
		free(d->text);
		d->text = TAKE(refused);
	}
	return 0;
}

int decide_run(struct decide *d, enum engine_event_kind kind, const char *text, bool carry,
	enum engine_admit admit)
{
	if (d->at.engine >= 0)
		return decide_ask(d, kind, text, carry);
	struct err e = ERR_INIT;
	CLEANUP(run_freep) struct run *run = NULL;
	CLEANUP_STR char *refused = NULL;
	struct run_options options = {
		.site = d->at.site,
		.store = d->at.store,
		.drain_timeout_ms = -1,
		.signal_fd = d->cli->signal_fd,
	};
	struct run_request request = {
		.kind = kind, .task_id = d->task.task_id, .text = text, .carry = carry};
	int status = refuses(d, &request);
	if (status || d->refused)
		return status;
	int r = run_new(&options, &run, &e);
	if (r == 0)
		r = run_add_plan(run, d->task.plan_id, admit, 0, &e);
	if (r == 0) {
		run_set_request(run, &request);
		r = run_execute(run, &refused, &e);
	}
	if (r < 0)
		return cli_error(d->cli, &e);
	d->interrupted = run_interrupted(run);
	status = read_state(d);
	if (status == 0 && refused) {
		d->refused = true;
		free(d->text);
		d->text = TAKE(refused);
	}
	return status;
}

int decide_report(struct decide *d, int status)
{
	struct err e = ERR_INIT;
	if (d->refused) {
		err_exit(&e, 1, "task '%s/%s' is left as it is: %s", d->task.plan, d->task.task,
			d->text ? d->text : "no reason");
		status = cli_error(d->cli, &e);
	} else if (status == 0 && d->interrupted) {
		status = EXIT_INTERRUPTED;
	}
	if (!d->json)
		return cli_flush(status);
	int code = cli_print_json(json_pack("{s:i, s:s, s:s, s:s, s:s, s:b, s:o, s:s}", "version",
		1, "plan", d->task.plan, "task", d->task.task, "from", task_status_name(d->from),
		"to", task_status_name(d->to), "refused", d->refused, "reason", json_text(d->text),
		"plan_status", plan_status_name(d->plan)));
	return status ? status : code;
}

bool decide_reason_is_empty(const char *reason)
{
	return !reason || reason[strspn(reason, " \t\r\n")] == '\0';
}
