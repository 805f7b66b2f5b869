/* SPDX-License-Identifier: MIT */
/* When a plan's part of the dispatch is over, and for which reasons. */
#include "engine/model.h"

#include <errno.h>

static bool plan_all_passed(const struct engine_plan *p)
{
	return p->tasks[TASK_PASSED] == p->n_tasks;
}

/* Tasks of the plan that wait for a harness, counted by whether that harness will come back in
 * time. */
static void plan_count_waiting(const struct engine *e, const struct engine_plan *p,
	uint32_t *ret_waiting, uint32_t *ret_down)
{
	*ret_waiting = *ret_down = 0;
	for (size_t i = 0; i < e->harnesses.count; i++) {
		if (p->waiting[i] == 0)
			continue;
		if (harness_is_down(e, &e->harnesses.items[i]))
			*ret_down += p->waiting[i];
		else
			*ret_waiting += p->waiting[i];
	}
}

/* Whether the plan waits for something that will happen without anybody's doing. */
static bool plan_is_busy(const struct engine *e, const struct engine_plan *p)
{
	if (p->in_flight > 0)
		return true;
	if (p->draining || e->faulted)
		return false;
	uint32_t waiting, down;
	plan_count_waiting(e, p, &waiting, &down);
	if (p->merge_next < p->merge_queue.count || p->gate_next < p->gate_queue.count)
		return p->init.admit != ADMIT_NONE;
	if (!plan_may_start(e, p))
		return false;
	return p->ready.count > 0 || p->delayed > 0 || waiting > 0 || p->parked > 0;
}

static bool plan_stage_passed(const struct engine_plan *p)
{
	return p->candidates[TASK_PASSED] == p->n_candidates;
}

static bool plan_last_stage(const struct engine_plan *p)
{
	return p->stage + 1 >= p->init.stages;
}

/*
 * The next target's turn, with what it needs: the one before it has passed, or is blocked and does
 * not keep the others. Returns whether there was one.
 */
static bool plan_advance(struct engine *e, struct engine_plan *p)
{
	if (p->init.select != SELECT_TARGETS || plan_last_stage(p) || p->draining || e->faulted ||
		(!plan_stage_passed(p) && !p->init.auto_advance))
		return false;
	p->stage++;
	vec_foreach(t, &e->tasks) {
		if (task_plan(e, t) != p || !t->chosen || t->candidate || t->stage > p->stage)
			continue;
		t->candidate = true;
		p->n_candidates++;
		p->candidates[engine_mode_status((enum engine_mode)t->mode)]++;
		task_make_ready(e, t);
	}
	return true;
}

static uint32_t plan_halt_reasons(const struct engine *e, const struct engine_plan *p)
{
	uint32_t waiting, down, set = 0;
	plan_count_waiting(e, p, &waiting, &down);
	bool could_start = p->ready.count + p->delayed + waiting + p->parked + p->broke > 0;
	/* TASK_FAILED was cut off, and goes on with the next start: nothing has failed for good. */
	uint32_t broken = p->candidates[TASK_ESCALATED];
	bool targets = p->init.select == SELECT_TARGETS;
	bool done = p->n_candidates > 0 && plan_stage_passed(p) && plan_last_stage(p);

	if (p->interrupted)
		set |= 1U << HALT_INTERRUPTED;
	if (e->faulted)
		set |= 1U << e->fault;
	if ((p->over_budget && !plan_all_passed(p)) || p->broke > 0)
		set |= 1U << HALT_BUDGET_EXCEEDED;
	if (down > 0 || (plan_breaker_open(e, p) && could_start))
		set |= 1U << HALT_CIRCUIT_BREAKER;
	if (plan_cap_reached(p) && could_start)
		set |= 1U << HALT_CAP_REACHED;
	if (p->candidates[TASK_AWAITING_REVIEW] > 0)
		set |= 1U << HALT_REVIEW_REQUIRED;
	if (broken > 0)
		set |= 1U << (targets ? HALT_TARGET_BLOCKED : HALT_FAILED);
	if (plan_all_passed(p))
		set |= 1U << HALT_COMPLETED;
	if (targets && done)
		set |= 1U << HALT_TARGET_COMPLETED;
	if (p->n_candidates == 0 && p->n_tasks > 0)
		set |= 1U << HALT_NO_MATCHING_TASKS;
	else if (p->init.select == SELECT_FILTER)
		set |= 1U << HALT_FILTER_EXHAUSTED;
	/* Nothing can run and nothing says why: the table has a hole, and hiding it would not help.
	 */
	if (set == 0)
		set |= 1U << HALT_INTERNAL_ERROR;
	return set;
}

static enum plan_status halt_plan_status(const struct engine_plan *p, enum halt_reason reason)
{
	if (plan_all_passed(p))
		return PLAN_COMPLETED;
	if (reason == HALT_FAILED || reason == HALT_TARGET_BLOCKED)
		return PLAN_FAILED;
	return PLAN_HALTED;
}

static void plan_halt(struct engine *e, struct engine_plan *p)
{
	uint32_t set = plan_halt_reasons(e, p);
	enum halt_reason reason = (enum halt_reason)__builtin_ctz(set);
	p->halted = true;
	p->drain_deadline = TIME_NEVER;
	p->status = halt_plan_status(p, reason);
	struct engine_action *save = plan_save(e, p);
	save->halted = true;
	save->halt = reason;
	save->also = set & ~(1U << reason);
	struct engine_action *a = action_add(e, ACT_HALT);
	a->plan = (uint32_t)(p - e->plans.items);
	a->plan_status = p->status;
	a->halt = reason;
	a->also = set & ~(1U << reason);
}

void engine_settle(struct engine *e)
{
	vec_foreach(p, &e->plans) {
		while (p->init.admit == ADMIT_ALL && !p->halted && !plan_is_busy(e, p) &&
			plan_advance(e, p))
			engine_schedule(e);
		if (p->halted || plan_is_busy(e, p))
			continue;
		if (p->init.admit == ADMIT_ALL) {
			plan_halt(e, p);
			continue;
		}
		/* Not asked for; but its last task may just have passed by an approval. */
		if (p->status != PLAN_COMPLETED && p->n_tasks > 0 && plan_all_passed(p)) {
			p->status = PLAN_COMPLETED;
			plan_save(e, p);
		}
	}
}

static bool plan_is_over(const struct engine *e, const struct engine_plan *p)
{
	return p->init.admit == ADMIT_ALL ? p->halted : !plan_is_busy(e, p);
}

bool engine_plan_is_over(const struct engine *e, uint32_t plan)
{
	return plan_is_over(e, &e->plans.items[plan]);
}

bool engine_is_done(const struct engine *e)
{
	vec_foreach(p, &e->plans)
		if (!plan_is_over(e, p))
			return false;
	return true;
}
