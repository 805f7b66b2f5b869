/* SPDX-License-Identifier: MIT */
/* One turn: events in, one transaction, actions out. The order is the promise; see engine.h. */
#include "run/state.h"

#include "base/log.h"
#include "run/record.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* A transaction that no action waits for is committed this much later, with whatever joined it. */
#define FLUSH_MS 50

static void on_timer(uv_timer_t *handle)
{
	struct run *r = handle->data;
	run_post(r, (struct engine_event){.kind = EVENT_TICK, .plan = ENGINE_NONE}, NULL);
}

static void on_flush(uv_timer_t *handle)
{
	run_flush(handle->data);
}

static int note_reason(void *ctx, const struct task_row *row)
{
	char **ret = ctx;
	*ret = str_dup(row->reason);
	return row->reason && !*ret ? -ENOMEM : 0;
}

/* Of a task that passes: what the person said when it was approved. */
static char *approval_text(struct run *r, const struct engine_action *a)
{
	CLEANUP_STR char *said = NULL;
	if (store_task(r->store, a->task_after.id, note_reason, &said, NULL) < 0)
		return NULL;
	return said && str_starts(said, "approved: ") ? TAKE(said)
						      : str_dup("approved: by a person");
}

/* *ret: "<code>: <text>", or NULL where there is none. 0 or -ENOMEM. */
static int reason_text(struct run *r, const struct engine_action *a, char **ret)
{
	const char *code =
		a->code != OUTCOME_NONE ? outcome_name(a->code) : verdict_name(a->verdict);
	const char *text = a->text && a->text[0] ? a->text : NULL;
	if (!code[0]) {
		*ret = str_dup(a->text);
		return a->text && !*ret ? -ENOMEM : 0;
	}
	if (!text && a->code == OUTCOME_OVER_BUDGET)
		text = "its token budget is spent";
	if (!text && a->code == OUTCOME_NONE && a->verdict == VERDICT_APPROVED)
		*ret = approval_text(r, a);
	else
		*ret = text ? str_printf("%s: %s", code, text) : str_dup(code);
	return *ret ? 0 : -ENOMEM;
}

/* ---- saving ---- */

static int save_task(struct run *r, struct engine_action *a, struct err *e)
{
	const struct engine_task *t = &a->task_after;
	struct live *l = live_get(r, a->task);
	CLEANUP_STR char *reason = NULL;
	int code = reason_text(r, a, &reason);
	if (code < 0)
		return err_nomem(e);
	if (a->to == TASK_ASSIGNED) {
		/* A new attempt, perhaps right after the last one failed: nothing of that is under
		 * way. */
		r->live.items[a->task] = NULL;
		live_free(l);
		l = live_new(r, a->task, e);
		if (!l)
			return e->code;
		l->attempt = t->attempt;
		code = store_attempt_open(r->store, l->plan->id, l->id, t->attempt,
			l->harness ? l->harness : "", l->unit_id, r->boot_id, run_now(r), e);
		if (code < 0)
			return code;
	}
	/* It never ran: who looks for living agents need not look for this one. */
	if (a->from == TASK_ASSIGNED && a->to != TASK_RUNNING && l) {
		code = store_unit_end(r->store, l->unit_id, run_now(r), e);
		if (code < 0)
			return code;
	}
	struct task_save save = {
		.id = t->id,
		.plan_id = r->plans.items[t->plan]->id,
		.from = a->from,
		.to = a->to,
		.outcome = a->outcome,
		.reason = reason,
		.attempt = t->attempt,
		.attempt_open = t->attempt_open,
		.retries_used = t->retries_used,
		.lost_row = t->lost_row,
		.conflict_row = t->conflict_row,
		.unchanged_row = t->unchanged_row,
		.not_before = t->not_before,
		.paused = t->paused,
		.approved = t->approved,
		.carry = t->carry,
		.has_commit = t->has_commit,
	};
	return store_save_task(r->store, &save, run_now(r), e);
}

static int save_plan(struct run *r, const struct engine_action *a, struct err *e)
{
	int64_t id = r->plans.items[a->plan]->id;
	if (a->halted)
		return store_plan_set_halt(
			r->store, id, a->plan_status, a->halt, a->also, run_now(r), e);
	return store_plan_set_status(r->store, id, a->plan_status, run_now(r), e);
}

static int save_breaker(struct run *r, const struct engine_action *a, struct err *e)
{
	for (size_t i = 0; i < r->breakers.count; i++) {
		const struct map_entry *b = &r->breakers.entries[i];
		if ((uintptr_t)b->value == (uintptr_t)a->breaker + 1)
			return store_breaker_set(r->store, b->key, a->open_until, a->level, e);
	}
	return 0;
}

static bool is_save(const struct engine_action *a)
{
	return a->kind == ACT_SAVE_TASK || a->kind == ACT_SAVE_PLAN || a->kind == ACT_SAVE_BREAKER;
}

static int save_one(struct run *r, struct engine_action *a, struct err *e)
{
	switch (a->kind) {
	case ACT_SAVE_TASK:
		return save_task(r, a, e);
	case ACT_SAVE_PLAN:
		return save_plan(r, a, e);
	default:
		return save_breaker(r, a, e);
	}
}

/* Writes the step's saves into the turn's transaction. Returns whether something waits for the
 * commit. */
static bool save_all(struct run *r)
{
	bool waits = false;
	vec_foreach(a, &r->actions.list) {
		if (!is_save(a)) {
			waits = true;
			continue;
		}
		struct err err = ERR_INIT;
		int code = run_tx(r);
		if (code == 0)
			code = save_one(r, a, &err);
		if (code < 0) {
			r->failed = code;
			if (err.code)
				r->err = err;
			return false;
		}
		waits |= a->kind == ACT_SAVE_PLAN;
	}
	return waits;
}

/* ---- telling ---- */

static int copy_name(void *ctx, const struct task_row *row)
{
	char **ret = ctx;
	*ret = str_dup(row->name);
	return 0;
}

static void tell_change(struct run *r, const struct engine_action *a)
{
	CLEANUP_STR char *reason = NULL;
	CLEANUP_STR char *fetched = NULL;
	if (reason_text(r, a, &reason) < 0)
		reason = NULL; /* it is saved, and read from there */
	struct live *l = live_get(r, a->task);
	if (!l)
		IGNORE(store_task(
			r->store, a->task_after.id, copy_name, &fetched, NULL)); /* shown as ? */
	struct run_change change = {
		.plan = r->plans.items[a->plan]->name,
		.task = l ? l->name : (fetched ? fetched : "?"),
		.from = task_status_name(a->from),
		.to = task_status_name(a->to),
		.attempt = a->task_after.attempt,
		.outcome = outcome_name(a->outcome),
		.reason = reason,
	};
	if (r->options.listener.change)
		r->options.listener.change(r->options.listener.ctx, &change);
	hook_change(r, &change);
}

static void discard_worktree(struct run *r, const struct engine_action *a)
{
	struct live *l = live_get(r, a->task);
	if (tidy_is_unwanted(r, a->to, a->outcome) && l && l->worktree && !l->job)
		work_discard(l);
}

/* Commits; what was saved is told to the listener only now. */
static bool commit(struct run *r)
{
	uv_timer_stop(&r->flush);
	bool committed = store_in_transaction(r->store);
	if (committed) {
		struct err err = ERR_INIT;
		int code = store_commit(r->store, &err);
		if (code < 0) {
			r->failed = code;
			r->err = err;
			engine_actions_reset(&r->unsaved); /* rolled back: it never happened */
			return false;
		}
	}
	vec_foreach(a, &r->unsaved.list) {
		if (a->kind != ACT_SAVE_TASK)
			continue;
		tell_change(r, a);
		discard_worktree(r, a);
	}
	/* Only now: a task may have gone two ways at once (failed, escalated). */
	vec_foreach(a, &r->unsaved.list)
		if (a->kind == ACT_SAVE_TASK)
			live_drop_if_idle(r, a->task);
	engine_actions_reset(&r->unsaved);
	if (committed && r->observer)
		r->observer(r->observer_ctx);
	return true;
}

void run_flush(struct run *r)
{
	if (r->failed) {
		/* As after a crash: half a turn is no state. */
		store_rollback(r->store);
		engine_actions_reset(&r->unsaved);
		return;
	}
	(void)commit(r); /* a failure is in r->failed */
}

/* ---- acting ---- */

static void tell_halt(struct run *r, const struct engine_action *a)
{
	struct run_halt halt = {
		.plan_id = r->plans.items[a->plan]->id,
		.plan = r->plans.items[a->plan]->name,
		.reason = a->halt,
		.also = a->also,
	};
	if (r->options.listener.halt)
		r->options.listener.halt(r->options.listener.ctx, &halt);
}

static void cancel(struct live *l, bool hard)
{
	assert(l); /* the engine names a task with each of these */
	l->cancel = true;
	l->hard |= hard;
	if (l->command_unit || command_waits(l))
		command_cancel(l);
	if (l->job)
		job_cancel(l->job);
	bench_cancel(l);
}

static void freeze(struct live *l, void (*what)(struct watch *w))
{
	assert(l);
	if (l->agent)
		what(l->agent);
	if (l->command_unit)
		what(l->command_unit);
}

static void act(struct run *r, struct engine_action *a)
{
	struct live *l = NULL;
	if (a->task != ENGINE_NONE && a->kind != ACT_REFUSE) {
		struct err err = ERR_INIT;
		l = live_get(r, a->task);
		if (!l)
			l = live_new(r, a->task, &err);
		if (!l) {
			run_fail(r, err_nomem(&err),
				&err); /* the engine would wait for its answer */
			return;
		}
	}
	switch (a->kind) {
	case ACT_PREPARE:
		work_prepare(l, a->carry);
		break;
	case ACT_START:
		agent_start(l);
		break;
	case ACT_KILL:
		if (!run_is_beside(r, a->task))
			agent_kill(l, a);
		break;
	case ACT_COMMIT:
		work_commit(l, a->outcome, a->why);
		break;
	case ACT_GATE:
		gate_start(l);
		break;
	case ACT_MERGE:
		merge_start(l);
		break;
	case ACT_CANCEL:
		if (!run_is_beside(r, a->task))
			cancel(l, a->hard);
		break;
	case ACT_FREEZE:
		freeze(l, watch_pause);
		break;
	case ACT_THAW:
		freeze(l, watch_resume);
		break;
	case ACT_HALT:
		r->plans.items[a->plan]->halted = true;
		r->plans.items[a->plan]->halt = a->halt;
		tell_halt(r, a);
		if (a->plan_status == PLAN_COMPLETED &&
			r->config->orch.keep_worktrees != CONFIG_KEEP_WORKTREES_ALL)
			tidy_plan(r, r->plans.items[a->plan]);
		break;
	case ACT_REFUSE:
		free(r->refused);
		r->refused = TAKE(a->text);
		break;
	default:
		break;
	}
}

/* Moves the saves of this step to those that wait for the commit, leaving the rest. */
static void set_aside(struct run *r)
{
	vec_foreach(a, &r->actions.list) {
		if (!is_save(a))
			continue;
		struct engine_action *kept = VEC_PUSH(&r->unsaved.list);
		if (!kept)
			continue; /* only the telling is lost */
		*kept = *a;
		a->text = NULL;
	}
}

static void step_all(struct run *r)
{
	for (size_t i = 0; i < r->inbox.count; i++) {
		struct engine_event ev = r->inbox.items[i];
		struct err err = ERR_INIT;
		ev.now = run_now(r);
		if (engine_step(r->engine, &ev, &r->actions, &err) == 0)
			continue;
		log_error("%s", err.msg);
		if (ev.kind == EVENT_FAULT || err.code == -ENOMEM) {
			r->failed = err.code;
			r->err = err;
			return;
		}
		run_fault(r, &err);
	}
	r->inbox.count = 0;
	vec_foreach(text, &r->inbox_texts)
		free(*text);
	r->inbox_texts.count = 0;
}

/* Before anything is decided upon what is saved: a plan that has completed in a database that is
 * not there has not. */
void turn_check_database(struct run *r)
{
	if (r->database_gone || !store_has_moved(r->store))
		return;
	struct err err = ERR_INIT;
	r->database_gone = true;
	err_set(&err, -EIO,
		"the database '%s/orch.db' was removed or replaced while it was in use: what is "
		"saved is lost; the work itself is in refs/orch/ and in the branches orch/",
		r->site->state_dir);
	run_fault(r, &err);
	if (r->inbox.count < 2)
		return;
	struct engine_event fault = r->inbox.items[r->inbox.count - 1];
	memmove(r->inbox.items + 1, r->inbox.items, (r->inbox.count - 1) * sizeof(fault));
	r->inbox.items[0] = fault;
}

static void flush_record(struct run *r)
{
	struct err err = ERR_INIT;
	if (record_flush(r->record, &err) < 0)
		run_warn(r, "%s", err.msg);
}

static void arm_timer(struct run *r)
{
	int64_t next = engine_next_time(r->engine);
	if (next == TIME_NEVER) {
		uv_timer_stop(&r->timer);
		return;
	}
	int64_t wait = next - run_now(r);
	uv_update_time(&r->loop);
	uv_timer_start(&r->timer, on_timer, wait > 0 ? (uint64_t)wait : 0, 0);
}

void run_turn(struct run *r)
{
	if (!r->begun)
		return;
	if (r->inbox.count > 0)
		turn_check_database(r);
	/* Acting may bring events at once (a start that fails); they are the next round. */
	while (!r->failed && (r->inbox.count > 0 || r->actions.list.count > 0)) {
		step_all(r);
		if (r->failed)
			break;
		bool waits = save_all(r);
		if (r->failed)
			break;
		set_aside(r);
		if (waits && !commit(r))
			break;
		flush_record(r);
		struct engine_actions now = r->actions;
		r->actions = ENGINE_ACTIONS_INIT;
		vec_foreach(a, &now.list)
			if (!is_save(a))
				act(r, a);
		engine_actions_deinit(&now);
		arm_timer(r);
	}
	if (store_in_transaction(r->store) && !uv_is_active((uv_handle_t *)&r->flush))
		uv_timer_start(&r->flush, on_flush, FLUSH_MS, 0);
	if (r->failed)
		uv_stop(&r->loop);
}
