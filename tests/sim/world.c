/* SPDX-License-Identifier: MIT */
#include "world.h"

#include "engine/call.h"
#include "replay.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* splitmix64 */
uint64_t world_random(struct world *w)
{
	uint64_t z = (w->random += 0x9e3779b97f4a7c15ULL);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

static uint32_t below(struct world *w, uint32_t n)
{
	return (uint32_t)(world_random(w) % n);
}

bool world_chance(struct world *w, int percent)
{
	return below(w, 100) < (uint32_t)percent;
}

void world_init(struct world *w, uint64_t seed)
{
	memset(w, 0, sizeof(*w));
	w->random = seed;
	w->now = 1000;
	w->one_credential = seed % 2;
	w->worktrees = world_chance(w, 70);
	w->max_agents = 1 + below(w, 5);
	w->cap = world_chance(w, 10) ? 1 + below(w, 6) : 0;
	w->plan_status = PLAN_APPROVED;
	w->config = (struct engine_config){
		.max_agents = 1 + below(w, 6),
		.drain_ms = 10000,
		.backoff_ms = 10000,
		.backoff_max_ms = 300000,
		.max_wait_ms = 21600000,
		.breaker = world_chance(w, 50) ? 5 : 0,
		.seed = seed,
	};
	w->n_tasks = 1 + below(w, MAX_TASKS);
	for (uint32_t i = 0; i < w->n_tasks; i++) {
		struct sim_task *t = &w->tasks[i];
		uint32_t want = i ? below(w, 4) : 0;
		for (uint32_t k = 0; k < want; k++) {
			uint32_t dep = below(w, i);
			bool known = false;
			for (uint32_t m = 0; m < t->n_deps; m++)
				known |= t->deps[m] == dep;
			if (!known)
				t->deps[t->n_deps++] = dep;
		}
		t->fail_percent = world_chance(w, 50) ? 0 : (int)below(w, 90);
		t->cursed = world_chance(w, 2);
		t->db.row = (struct engine_task){
			.retry_max = (uint16_t)below(w, 4),
			.priority = (int32_t)below(w, 3),
			.gate = (uint8_t)(world_chance(w, 80) ? GATE_AUTO : 1 + below(w, 2)),
			.has_checks = world_chance(w, 60),
			.allow_empty = world_chance(w, 10),
			.token_budget = world_chance(w, 5) ? 1000 : 0,
			.harness = below(w, 2),
			.candidate = true,
		};
		t->db.status = TASK_PENDING;
	}
}

static struct unit *current_unit(struct sim_task *t)
{
	return &t->units[t->db.row.attempt];
}

/* ---- starting an engine ---- */

static bool apply(struct world *w, struct engine_actions *actions, bool may_crash);

static void note_call(void *ctx, const struct engine_call *call)
{
	engine_call_write(ctx, call);
}

static struct engine *new_engine(struct world *w)
{
	struct engine_config config = w->config;
	config.hold = w->hold;
	if (w->record) {
		buf_reset(w->record);
		engine_call_write_head(w->record, "sim");
		config.tap = note_call;
		config.tap_ctx = w->record;
	}
	return engine_new(&config);
}

void world_close(struct world *w)
{
	engine_free(w->engine);
	w->engine = NULL;
	if (w->record && (buf_check(w->record) < 0 || !replay_text("sim", buf_cstr(w->record))))
		check_fail(w, "the replay is not the run");
}

void world_boot(struct world *w)
{
	w->hold = world_chance(w, 5);
	w->engine = new_engine(w);
	w->halted = w->draining = w->faulted = false;
	w->started_this_run = 0;
	uint32_t index, plan, one, two;
	const struct engine_breaker_init closed = {0};
	if (!w->engine || engine_add_breaker(w->engine, &closed, &one) < 0 ||
		engine_add_breaker(w->engine, &closed, &two) < 0 ||
		engine_add_harness(
			w->engine, &(struct engine_harness_init){.breaker = one}, &index) < 0 ||
		engine_add_harness(w->engine,
			&(struct engine_harness_init){
				.breaker = w->one_credential ? one : two, .max_agents = 2},
			&index) < 0)
		abort();
	struct engine_plan_init init = {
		.status = w->plan_status,
		.admit = ADMIT_ALL,
		.max_agents = w->max_agents,
		.cap = w->cap,
		.worktrees = w->worktrees,
		.paused = w->plan_paused,
	};
	if (engine_add_plan(w->engine, &init, &plan) < 0)
		abort();
	for (uint32_t i = 0; i < w->n_tasks; i++) {
		struct sim_task *t = &w->tasks[i];
		struct engine_task_init ti = {
			.id = i,
			.plan = plan,
			.harness = t->db.row.harness,
			.mode = engine_mode_found(
				t->db.status, t->db.row.attempt_open && current_unit(t)->exists),
			.outcome = (enum outcome)t->db.row.outcome,
			.gate = (enum gate)t->db.row.gate,
			.priority = t->db.row.priority,
			.attempt = t->db.row.attempt,
			.retry_max = t->db.row.retry_max,
			.retries_used = t->db.row.retries_used,
			.lost_row = t->db.row.lost_row,
			.conflict_row = t->db.row.conflict_row,
			.unchanged_row = t->db.row.unchanged_row,
			.not_before = t->db.row.not_before,
			.tokens = t->db.row.tokens,
			.token_budget = t->db.row.token_budget,
			.attempt_open = t->db.row.attempt_open,
			.has_checks = t->db.row.has_checks,
			.allow_empty = t->db.row.allow_empty,
			.candidate = true,
			.paused = t->db.row.paused,
			.approved = t->db.row.approved,
			.carry = t->db.row.carry,
			.has_commit = t->db.row.has_commit,
		};
		if (engine_add_task(w->engine, &ti, &index) < 0)
			abort();
		struct unit *u = current_unit(t);
		u->told_started = u->told_ended = u->killed_now = false;
		t->job = t->db.status == TASK_ASSIGNED || t->db.status == TASK_RUNNING ? JOB_AGENT
										       : JOB_NONE;
		if (t->job == JOB_AGENT && !u->exists)
			t->job = JOB_NONE;
	}
	for (uint32_t i = 0; i < w->n_tasks; i++)
		for (uint32_t k = 0; k < w->tasks[i].n_deps; k++)
			if (engine_add_dependency(w->engine, i, w->tasks[i].deps[k]) < 0)
				abort();
	struct engine_actions actions = ENGINE_ACTIONS_INIT;
	if (engine_begin(w->engine, w->now, &actions) < 0)
		abort();
	/* What the last engine had assigned was not this one's. */
	w->engine_began = false;
	(void)apply(w, &actions, false);
	w->engine_began = true;
	engine_actions_deinit(&actions);
}

/* Everything of ours is gone; keepers and their agents go on, unless it was the machine. */
void world_crash(struct world *w)
{
	bool machine = world_chance(w, 10);
	w->crashes++;
	world_close(w);
	for (uint32_t i = 0; i < w->n_tasks; i++) {
		struct sim_task *t = &w->tasks[i];
		/* A git command that was under way may have had its effect before it died. */
		if (t->job == JOB_MERGE && !t->job_cancelled && world_chance(w, 30))
			t->merged = true;
		if (t->job == JOB_COMMIT && world_chance(w, 50))
			t->committed[t->db.row.attempt] = true;
		t->job = JOB_NONE;
		t->job_cancelled = false;
		struct unit *u = current_unit(t);
		if (u->live && (machine || world_chance(w, 5))) {
			u->live = false; /* the keeper died too */
			u->outcome = OUTCOME_LOST;
		}
	}
}

/* ---- carrying out ---- */

static void start_agent(struct world *w, uint32_t i)
{
	static const enum outcome failures[] = {
		OUTCOME_AGENT_ERROR,
		OUTCOME_CRASHED,
		OUTCOME_TIMED_OUT,
		OUTCOME_STALLED,
		OUTCOME_RUNAWAY,
		OUTCOME_BLOCKED,
		OUTCOME_NOT_NEEDED,
		OUTCOME_RATE_LIMITED,
		OUTCOME_AUTH_FAILED,
		OUTCOME_SPAWN_FAILED,
		OUTCOME_SPAWN_FAILED,
		OUTCOME_HARNESS_MISSING,
		OUTCOME_HARNESS_INVALID,
		OUTCOME_HARNESS_CRASHED,
		OUTCOME_HARNESS_HUNG,
		OUTCOME_LOST,
	};
	struct sim_task *t = &w->tasks[i];
	struct unit *u = current_unit(t);
	check_start(w, i);
	*u = (struct unit){
		.exists = true,
		.live = true,
		.outcome = OUTCOME_OK,
		.ignores_term = world_chance(w, 20),
		.ends_at = w->now + 1 + below(w, world_chance(w, 5) ? 3600000 : 20000),
		.kill_at = TIME_NEVER,
	};
	if (world_chance(w, t->fail_percent)) {
		uint32_t n = sizeof(failures) / sizeof(failures[0]);
		u->outcome = failures[world_chance(w, 70) ? below(w, 5) : below(w, n)];
		u->no_charge = u->outcome == OUTCOME_SPAWN_FAILED && world_chance(w, 50);
		u->has_host = world_chance(w, 50);
	}
	if (t->cursed)
		u->outcome = OUTCOME_LOST;
	t->job = JOB_AGENT;
}

static void kill_agent(struct world *w, struct sim_task *t, const struct engine_action *a)
{
	struct unit *u = current_unit(t);
	if (!u->exists)
		return;
	u->killed_for = a->why;
	u->killed_now = true;
	int64_t at = w->now + (a->hard ? 1 : u->ignores_term ? a->kill_after_ms : 50);
	if (at < u->ends_at) {
		u->ends_at = at;
	}
}

static void begin_job(struct world *w, uint32_t i, enum job_kind kind, int64_t longest)
{
	struct sim_task *t = &w->tasks[i];
	if (t->job != JOB_NONE)
		check_fail(w, "task %u: a second job %d while %d is under way", i, kind, t->job);
	for (uint32_t k = 0; kind == JOB_MERGE && k < w->n_tasks; k++)
		if (w->tasks[k].job == JOB_MERGE)
			check_fail(w, "task %u is merged while task %u is", i, k);
	t->job = kind;
	t->job_cancelled = false;
	t->job_ends_at = w->now + 1 + below(w, (uint32_t)longest);
}

static void act(struct world *w, const struct engine_action *a)
{
	struct sim_task *t = a->task == ENGINE_NONE ? NULL : &w->tasks[a->task];
	switch (a->kind) {
	case ACT_PREPARE:
		begin_job(w, a->task, JOB_PREPARE, 500);
		break;
	case ACT_START:
		start_agent(w, a->task);
		break;
	case ACT_COMMIT:
		begin_job(w, a->task, JOB_COMMIT, 200);
		break;
	case ACT_GATE:
		begin_job(w, a->task, JOB_GATE, 5000);
		break;
	case ACT_MERGE:
		begin_job(w, a->task, JOB_MERGE, 5000);
		break;
	case ACT_CANCEL:
		t->job_cancelled = true;
		t->job_ends_at = w->now + 10;
		break;
	case ACT_KILL:
		kill_agent(w, t, a);
		break;
	case ACT_HALT:
		w->halted = true;
		w->halt = a->halt;
		w->also = a->also;
		check_halt(w);
		break;
	default:
		break;
	}
}

static void save(struct world *w, const struct engine_action *a)
{
	if (a->kind == ACT_SAVE_PLAN) {
		w->plan_status = a->plan_status;
		return;
	}
	if (a->kind != ACT_SAVE_TASK)
		return;
	struct sim_task *t = &w->tasks[a->task];
	check_save(w, a->task, a);
	if (w->trace)
		promise_trace(w->now, a);
	t->db.row = a->task_after;
	t->db.status = a->to;
}

/* Saves in one transaction, then acts; a crash may come before, between, or after any of them. */
static bool apply(struct world *w, struct engine_actions *actions, bool may_crash)
{
	bool crash = may_crash && world_chance(w, 1);
	size_t n = actions->list.count;
	size_t at = crash ? below(w, (uint32_t)n + 2) : SIZE_MAX;
	if (at == 0)
		return false;
	for (size_t i = 0; i < n; i++)
		save(w, &actions->list.items[i]);
	for (size_t i = 0; i < n; i++) {
		if (i + 1 == at)
			return false;
		act(w, &actions->list.items[i]);
	}
	check_live(w);
	return at != n + 1;
}

bool world_step(struct world *w, struct engine_event ev)
{
	w->steps++;
	ev.now = w->now;
	w->told = ev.kind;
	/* A person may accept what awaits review, and override what has failed for good. */
	if (ev.kind == EVENT_APPROVE || ev.kind == EVENT_OVERRIDE)
		w->tasks[ev.task].accepted |=
			w->tasks[ev.task].db.status ==
			(ev.kind == EVENT_APPROVE ? TASK_AWAITING_REVIEW : TASK_ESCALATED);
	struct engine_actions actions = ENGINE_ACTIONS_INIT;
	struct err err = ERR_INIT;
	if (engine_step(w->engine, &ev, &actions, &err) < 0)
		check_fail(w, "%s", err.msg);
	bool alive = apply(w, &actions, true);
	engine_actions_deinit(&actions);
	return alive;
}

/* ---- what happens by itself ---- */

static struct engine_event task_event(uint32_t i, enum engine_event_kind kind)
{
	return (struct engine_event){.kind = kind, .task = i, .plan = ENGINE_NONE, .text = "sim"};
}

static bool finish_job(struct world *w, uint32_t i)
{
	struct sim_task *t = &w->tasks[i];
	enum job_kind job = t->job;
	bool cancelled = t->job_cancelled;
	t->job = JOB_NONE;
	t->job_cancelled = false;
	struct engine_event ev = task_event(i, EVENT_PREPARED);
	switch (job) {
	case JOB_PREPARE:
		/* It may have been done just before it was cancelled. */
		cancelled &= world_chance(w, 80);
		ev.result = cancelled ? RESULT_CANCELLED : RESULT_DONE;
		if (!cancelled && world_chance(w, 3)) {
			ev.result = RESULT_FAILED;
			ev.outcome = OUTCOME_SPAWN_FAILED;
		}
		break;
	case JOB_COMMIT:
		ev.kind = EVENT_COMMITTED;
		if (w->faulted && world_chance(w, 50)) {
			ev.result =
				RESULT_CANCELLED; /* the disk is full: no commit can be made now */
			break;
		}
		ev.result = world_chance(w, 90)
				    ? RESULT_DONE
				    : (world_chance(w, 50) ? RESULT_UNCHANGED : RESULT_FAILED);
		t->committed[t->db.row.attempt] |= ev.result != RESULT_FAILED;
		t->uncommittable[t->db.row.attempt] |= ev.result == RESULT_FAILED;
		break;
	case JOB_GATE:
		ev.kind = EVENT_GATED;
		ev.result = cancelled ? RESULT_CANCELLED
				      : (world_chance(w, 85) ? RESULT_DONE : RESULT_FAILED);
		t->green[t->db.row.attempt] = ev.result == RESULT_DONE;
		break;
	default:
		ev.kind = EVENT_MERGED;
		ev.result = cancelled ? RESULT_CANCELLED : RESULT_DONE;
		/* A crash may have left it merged already; then it is found so. */
		if (!cancelled && !t->merged && world_chance(w, 15))
			ev.result = world_chance(w, 50) ? RESULT_CONFLICT : RESULT_FAILED;
		if (ev.result == RESULT_DONE)
			t->merged = true;
		break;
	}
	return world_step(w, ev);
}

static bool report_agent(struct world *w, uint32_t i)
{
	struct sim_task *t = &w->tasks[i];
	struct unit *u = current_unit(t);
	if (!u->told_started && (u->outcome != OUTCOME_SPAWN_FAILED || u->has_host)) {
		u->told_started = true;
		return world_step(w, task_event(i, EVENT_STARTED));
	}
	u->told_started = true;
	if (u->live) {
		u->live = false;
	}
	t->job = JOB_NONE;
	u->told_ended = true;
	struct engine_event ev = task_event(i, EVENT_ENDED);
	/* An agent may have ended by itself in the moment before our kill reached it. */
	bool obeyed = u->killed_for != OUTCOME_NONE && world_chance(w, 70);
	ev.outcome = obeyed ? u->killed_for : u->outcome;
	ev.until = world_chance(w, 50) ? w->now + 90000 : 0;
	ev.no_charge = !obeyed && u->no_charge;
	return world_step(w, ev);
}

static int64_t job_time(const struct sim_task *t)
{
	const struct unit *u = &t->units[t->db.row.attempt];
	if (t->job == JOB_NONE)
		return TIME_NEVER;
	if (t->job != JOB_AGENT)
		return t->job_ends_at;
	if (!u->told_started || !u->live)
		return 0;
	return u->ends_at;
}

bool world_advance(struct world *w)
{
	int64_t best = engine_next_time(w->engine);
	uint32_t who = ENGINE_NONE;
	uint32_t first = below(w, w->n_tasks);
	for (uint32_t k = 0; k < w->n_tasks; k++) {
		uint32_t i = (first + k) % w->n_tasks;
		int64_t at = job_time(&w->tasks[i]);
		if (at < best) {
			best = at;
			who = i;
		}
	}
	if (best == TIME_NEVER)
		return false;
	if (best > w->now)
		w->now = best;
	if (who == ENGINE_NONE) {
		if (!world_step(w, (struct engine_event){.kind = EVENT_TICK, .plan = ENGINE_NONE}))
			world_crash(w);
		return true;
	}
	bool alive = w->tasks[who].job == JOB_AGENT ? report_agent(w, who) : finish_job(w, who);
	if (!alive)
		world_crash(w);
	return true;
}
