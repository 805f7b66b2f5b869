/* SPDX-License-Identifier: MIT */
/* What follows a failed attempt, a spent budget, and our own wish to stop. */
#include "engine/model.h"

#define DRAIN_SLACK_MS \
	3000      /* what the keepers may take longer than the drain, to kill and to record */
#define ROW_MAX 3 /* attempts lost, or in conflict, in a row before a person must look */

/* splitmix64: http://prng.di.unimi.it/splitmix64.c, public domain by its authors */
static uint64_t engine_random(struct engine *e)
{
	uint64_t z = (e->random += 0x9e3779b97f4a7c15ULL);
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
	return z ^ (z >> 31);
}

/* Doubles with each retry, then between three quarters and all of it, so that a fleet spreads out.
 */
static int64_t backoff_ms(struct engine *e, uint32_t retry)
{
	int64_t wait = e->config.backoff_ms;
	for (uint32_t i = 1; i < retry && wait < e->config.backoff_max_ms; i++)
		wait *= 2;
	if (wait > e->config.backoff_max_ms)
		wait = e->config.backoff_max_ms;
	if (wait <= 0)
		return 0;
	return wait - (int64_t)(engine_random(e) % (uint64_t)(wait / 4 + 1));
}

/*
 * Every way an attempt can fail and what follows, one row each. `uses_retry` and `at_once` are the
 * contract's; `waits`: waiting may help (the agent or the machine was at fault), where a judged
 * attempt is tried again with its feedback as soon as a slot is free. `counts`: it speaks against
 * the plan's breaker; a broken harness speaks against itself alone. `proves`: the harness answered,
 * so a limit that it had announced is over.
 */
struct rule {
	bool uses_retry;
	bool at_once; /* escalates at once */
	bool waits;
	bool counts;
	bool proves;
};

static const struct rule outcome_rules[OUTCOME_COUNT] = {
	[OUTCOME_NONE] = {0},
	[OUTCOME_OK] = {.uses_retry = true,
		.counts = true,
		.proves = true}, /* judged: gate_failed, rejected, merge_red */
	[OUTCOME_AGENT_ERROR] = {.uses_retry = true, .waits = true, .counts = true, .proves = true},
	[OUTCOME_CRASHED] = {.uses_retry = true, .waits = true, .counts = true, .proves = true},
	[OUTCOME_TIMED_OUT] = {.uses_retry = true, .waits = true, .counts = true, .proves = true},
	[OUTCOME_STALLED] = {.uses_retry = true, .waits = true, .counts = true, .proves = true},
	[OUTCOME_RUNAWAY] = {.uses_retry = true, .waits = true, .counts = true, .proves = true},
	[OUTCOME_CANCELLED] = {.uses_retry = true, .at_once = true},
	[OUTCOME_INTERRUPTED] = {0},
	[OUTCOME_NO_CHANGE] = {.uses_retry = true, .counts = true, .proves = true},
	[OUTCOME_BLOCKED] = {.uses_retry = true, .at_once = true, .proves = true},
	[OUTCOME_NOT_NEEDED] = {.uses_retry = true, .proves = true},
	[OUTCOME_OVER_BUDGET] = {.uses_retry = true, .proves = true},
	[OUTCOME_RATE_LIMITED] = {0},
	[OUTCOME_AUTH_FAILED] = {0},
	[OUTCOME_UNCOMMITTABLE] = {.uses_retry = true, .counts = true, .proves = true},
	[OUTCOME_SPAWN_FAILED] = {.uses_retry = true, .waits = true, .counts = true},
	[OUTCOME_HARNESS_MISSING] = {.uses_retry = true, .at_once = true},
	[OUTCOME_HARNESS_INVALID] = {.uses_retry = true, .at_once = true},
	[OUTCOME_HARNESS_CRASHED] = {.uses_retry = true, .waits = true},
	[OUTCOME_HARNESS_HUNG] = {.uses_retry = true, .waits = true},
	[OUTCOME_LOST] = {.waits = true},
};

static bool row_is_full(struct engine_task *t, struct reason why)
{
	t->lost_row = why.code == OUTCOME_LOST ? (uint8_t)(t->lost_row + 1) : 0;
	t->conflict_row = why.verdict == VERDICT_CONFLICT ? (uint8_t)(t->conflict_row + 1) : 0;
	t->unchanged_row = why.code == OUTCOME_NO_CHANGE ? (uint8_t)(t->unchanged_row + 1) : 0;
	/* Two attempts in a row that changed nothing: a third would not either. */
	return t->lost_row >= ROW_MAX || t->conflict_row >= ROW_MAX || t->unchanged_row >= 2;
}

static bool task_budget_spent(const struct engine_task *t)
{
	return t->token_budget > 0 && t->tokens >= t->token_budget;
}

/* The attempt is over and did not pass: failed, and from there pending, escalated, or nothing for
 * now. */
void task_fail(struct engine *e, struct engine_task *t, struct reason why, int64_t until)
{
	struct engine_plan *p = task_plan(e, t);
	struct rule rule = outcome_rules[t->outcome];
	if (why.verdict == VERDICT_CONFLICT)
		rule = (struct rule){.proves = true};
	if (why.no_charge)
		rule = (struct rule){
			0}; /* when there is room again its caller decides: EVENT_HOLD */
	bool escalate = row_is_full(t, why) || rule.at_once || task_budget_spent(t);
	if (rule.uses_retry && !escalate) {
		if (t->retries_used >= t->retry_max)
			escalate = true;
		else
			t->retries_used++;
	}
	if (rule.counts)
		p->failed_row++;
	if (t->outcome == OUTCOME_RATE_LIMITED)
		breaker_limited(e, t, until);
	else if (t->outcome == OUTCOME_AUTH_FAILED)
		breaker_limited(e, t, TIME_NEVER);
	else if (rule.proves)
		breaker_worked(e, t);
	else
		breaker_unproven(e, t);
	/* What a person approved is carried on, a conflict or a red merge notwithstanding. */
	t->carry = t->approved;
	t->not_before = 0;
	task_enter(e, t, MODE_FAILED, why);
	/* Tried again by the next start; which is this one when the interrupt was in an earlier
	 * life. */
	if (t->outcome == OUTCOME_INTERRUPTED && p->draining)
		return;
	if (escalate) {
		task_enter(e, t, MODE_ESCALATED, why);
		return;
	}
	if (rule.waits) {
		uint32_t retry = t->retries_used ? t->retries_used : t->lost_row;
		t->not_before = e->now + backoff_ms(e, retry);
	}
	task_enter(e, t, MODE_PENDING, why);
	task_make_ready(e, t);
}

void task_kill(struct engine *e, struct engine_task *t, enum outcome why, bool hard)
{
	if (t->kill_why == OUTCOME_NONE)
		t->kill_why = (uint8_t)why;
	struct engine_action *a = action_add_task(e, ACT_KILL, t);
	a->hard = hard;
	a->why = t->kill_why;
	a->kill_after_ms = e->config.drain_ms;
}

/* For each task under way of the plan. Actions only: no mode changes, so the list stays as it is.
 */
static void plan_end_flights(struct engine *e, struct engine_plan *p, bool hard)
{
	for (size_t k = 0; k < e->flight.count; k++) {
		struct engine_task *t = &e->tasks.items[e->flight.items[k]];
		if (task_plan(e, t) != p)
			continue;
		switch ((enum engine_mode)t->mode) {
		case MODE_STARTING:
		case MODE_RUNNING:
			task_kill(e, t, OUTCOME_INTERRUPTED, hard);
			break;
		case MODE_PREPARING:
		case MODE_GATING:
		case MODE_MERGING:
			action_add_task(e, ACT_CANCEL, t)->hard = hard;
			break;
		default:
			break;
		}
	}
}

void plan_cancel(struct engine *e, struct engine_plan *p)
{
	if (p->draining)
		return;
	p->draining = true;
	p->drain_deadline = e->now + e->config.drain_ms + DRAIN_SLACK_MS;
	plan_end_flights(e, p, false);
}

void plan_kill(struct engine *e, struct engine_plan *p)
{
	p->draining = true;
	p->drain_deadline = TIME_NEVER;
	plan_end_flights(e, p, true);
}

/* The keepers end their trees themselves when the drain is over; this stands behind them. */
void plan_check_drain(struct engine *e, struct engine_plan *p)
{
	if (p->drain_deadline > e->now)
		return;
	p->drain_deadline = TIME_NEVER;
	plan_end_flights(e, p, true);
}

/* harness ENGINE_NONE: of any. */
static void plan_end_spenders(struct engine *e, struct engine_plan *p, uint32_t harness)
{
	for (size_t k = 0; k < e->flight.count; k++) {
		struct engine_task *t = &e->tasks.items[e->flight.items[k]];
		if (task_plan(e, t) == p && t->kill_why == OUTCOME_NONE &&
			(harness == ENGINE_NONE || t->harness == harness) &&
			(t->mode == MODE_RUNNING || t->mode == MODE_STARTING))
			task_kill(e, t, OUTCOME_OVER_BUDGET, false);
	}
}

static uint64_t add_signed(uint64_t sum, int64_t more)
{
	uint64_t less = more < 0 ? (uint64_t)-more : 0;
	if (more >= 0 && __builtin_add_overflow(sum, (uint64_t)more, &sum))
		return UINT64_MAX;
	return more >= 0 ? sum : less < sum ? sum - less : 0;
}

void task_add_usage(struct engine *e, struct engine_task *t, int64_t tokens)
{
	struct engine_plan *p = task_plan(e, t);
	t->tokens = add_signed(t->tokens, tokens);
	p->tokens = add_signed(p->tokens, tokens);
	p->spent[t->harness] = add_signed(p->spent[t->harness], tokens);
	if (task_budget_spent(t) && t->mode == MODE_RUNNING && t->kill_why == OUTCOME_NONE)
		task_kill(e, t, OUTCOME_OVER_BUDGET, false);
	if (harness_is_spent(e, p, t))
		plan_end_spenders(e, p, t->harness);
	if (p->over_budget || p->init.token_budget == 0 || p->tokens < p->init.token_budget)
		return;
	p->over_budget = true;
	plan_end_spenders(e, p, ENGINE_NONE);
}
