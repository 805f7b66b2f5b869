/* SPDX-License-Identifier: MIT */
/* The promises, as assertions on what the engine does to the world. */
#include "world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

extern uint64_t sim_seed;

void check_fail(const struct world *w, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fprintf(stderr, "seed %llu, step %llu, time %lld: ", (unsigned long long)sim_seed,
		(unsigned long long)w->steps, (long long)w->now);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nreplay: orch-sim --seed %llu%s --trace\n", (unsigned long long)sim_seed,
		w->record ? " --replay" : "");
	exit(1);
}

/* How often it may be tried again. */
static void check_retries(struct world *w, uint32_t i, const struct engine_action *a)
{
	struct sim_task *t = &w->tasks[i];
	uint32_t n = a->task_after.attempt;
	if (a->to == TASK_FAILED) {
		bool lost = a->code == OUTCOME_LOST;
		bool machine =
			a->task_after.outcome == OUTCOME_SPAWN_FAILED && t->units[n].no_charge;
		t->lost_row = lost ? t->lost_row + 1 : 0;
		t->free = promise_is_free(a) || machine;
	}
	if (a->to != TASK_PENDING || a->from == TASK_ASSIGNED)
		return;
	if (w->told == EVENT_RETRY && w->engine_began) {
		t->charged = t->lost_row = 0;
		return;
	}
	t->charged += !t->free;
	if (t->charged > a->task_after.retry_max)
		check_fail(w, "task %u is tried again for the %uth time", i, t->charged);
	if (t->lost_row >= 3)
		check_fail(w, "task %u is tried again, lost %u times", i, t->lost_row);
	if (w->draining && a->task_after.outcome == OUTCOME_INTERRUPTED)
		check_fail(w, "task %u was interrupted and is pending before the next start", i);
}

void check_save(struct world *w, uint32_t i, const struct engine_action *a)
{
	struct sim_task *t = &w->tasks[i];
	const struct engine_task *after = &a->task_after;
	struct err err = ERR_INIT;
	if (promise_transition(w->worktrees, &t->db, a, &err) < 0)
		check_fail(w, "task %u: %s", i, err.msg);
	check_retries(w, i, a);
	if (t->db.row.attempt_open && !after->attempt_open) {
		t->closes[after->attempt]++;
		if (t->closes[after->attempt] > 1)
			check_fail(w, "task %u: attempt %u ended twice", i, after->attempt);
		if (t->units[after->attempt].no_charge && after->outcome == OUTCOME_SPAWN_FAILED &&
			(after->retries_used > t->db.row.retries_used || a->to == TASK_ESCALATED))
			check_fail(w, "task %u: attempt %u was held against it", i, after->attempt);
		/* What ran has left something, which is kept before anything is said of it. */
		if (w->worktrees && t->db.status == TASK_RUNNING && !t->committed[after->attempt] &&
			!t->uncommittable[after->attempt] && !t->units[after->attempt].no_charge)
			check_fail(w, "task %u: attempt %u was closed without its commit", i,
				after->attempt);
	}
	if (a->to == TASK_ASSIGNED && w->hold)
		check_fail(w, "task %u: started while nothing may start", i);
	w->started_this_run += a->to == TASK_ASSIGNED;
	w->started_this_run -= a->from == TASK_ASSIGNED && a->to == TASK_PENDING && w->engine_began;
	if (a->to == TASK_PASSED && w->worktrees && (!t->committed[after->attempt] || !t->merged))
		check_fail(w, "task %u: passed without commit or merge", i);
	if (a->to == TASK_ASSIGNED)
		t->accepted = false;
	if ((a->to == TASK_PASSED || a->to == TASK_INTEGRATING) && t->db.row.has_checks &&
		!t->green[after->attempt] && !t->accepted)
		check_fail(w, "task %u: attempt %u was not judged green", i, after->attempt);
	/* An agent that we asked to end is never judged, whatever it said at its end. */
	if (a->from == TASK_RUNNING && a->to == TASK_CHECKING &&
		t->units[after->attempt].killed_now)
		check_fail(w, "task %u: attempt %u was cut off and yet judged", i, after->attempt);
	if (after->attempt + 1 >= MAX_ATTEMPTS)
		check_fail(w, "task %u: attempts without end", i);
}

void check_start(struct world *w, uint32_t i)
{
	struct sim_task *t = &w->tasks[i];
	for (uint32_t k = 0; k < t->n_deps; k++) {
		const struct sim_task *dep = &w->tasks[t->deps[k]];
		if (dep->db.status != TASK_PASSED || (w->worktrees && !dep->merged))
			check_fail(w, "task %u started before its dependency %u passed", i,
				t->deps[k]);
	}
	if (t->db.status != TASK_ASSIGNED || !t->db.row.attempt_open)
		check_fail(w, "task %u started without a saved intent", i);
	if (++t->starts[t->db.row.attempt] > 1)
		check_fail(w, "task %u: attempt %u started twice", i, t->db.row.attempt);
	for (uint32_t k = 0; k < MAX_ATTEMPTS; k++)
		if (t->units[k].live)
			check_fail(w, "task %u: two agents at once", i);
	if (w->draining || w->faulted)
		check_fail(w, "task %u started after a cancel", i);
}

void check_live(struct world *w)
{
	uint32_t live = 0;
	for (uint32_t i = 0; i < w->n_tasks; i++)
		for (uint32_t k = 0; k < MAX_ATTEMPTS; k++)
			live += w->tasks[i].units[k].live;
	uint32_t limit =
		w->max_agents < w->config.max_agents ? w->max_agents : w->config.max_agents;
	if (live > limit)
		check_fail(w, "%u agents at once, the limit is %u", live, limit);
	if (w->cap && w->started_this_run > w->cap)
		check_fail(w, "%u starts, the cap is %u", w->started_this_run, w->cap);
}

/* The reason computed from the outside, by the contract's order, where the world can tell. */
void check_halt(struct world *w)
{
	struct halt_facts facts = {
		.halt = w->halt,
		.also = w->also,
		.interrupted = w->draining,
		.faulted = w->faulted,
		.cut = w->faulted,
	};
	for (uint32_t i = 0; i < w->n_tasks; i++) {
		facts.tasks[w->tasks[i].db.status]++;
		if (w->tasks[i].job != JOB_NONE)
			check_fail(w, "halted while task %u has something under way", i);
	}
	struct err err = ERR_INIT;
	if (promise_halt(&facts, &err) < 0)
		check_fail(w, "%s", err.msg);
	uint32_t all = w->also | (1U << w->halt);
	if (all & (1U << HALT_INTERNAL_ERROR))
		check_fail(w, "halted without a reason");
	if ((all & (1U << HALT_CAP_REACHED)) && w->started_this_run != w->cap)
		check_fail(w, "cap reached after %u of %u", w->started_this_run, w->cap);
	if (w->draining && w->now > w->cancelled_at + w->config.drain_ms + 10000)
		check_fail(w, "the end took %lld ms after the cancel",
			(long long)(w->now - w->cancelled_at));
}

void check_end(struct world *w)
{
	for (uint32_t i = 0; i < w->n_tasks; i++) {
		struct sim_task *t = &w->tasks[i];
		for (uint32_t k = 1; k < MAX_ATTEMPTS; k++)
			if (t->starts[k] && t->closes[k] != 1 &&
				!(t->db.row.attempt_open && t->db.row.attempt == k))
				check_fail(w, "task %u: attempt %u started but ended %d times", i,
					k, t->closes[k]);
	}
}
