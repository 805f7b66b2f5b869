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
	fprintf(stderr, "\nreplay: orch-sim --seed %llu --trace\n", (unsigned long long)sim_seed);
	exit(1);
}

/* The arrows of the state diagram; anything else is a hole in the table. */
static bool arrow_exists(bool worktrees, enum task_status from, enum task_status to)
{
#define TO(s) (1U << TASK_##s)
	static const unsigned arrows[TASK_STATUS_COUNT] = {
		[TASK_PENDING] = TO(ASSIGNED),
		[TASK_ASSIGNED] = TO(RUNNING) | TO(FAILED) | TO(PENDING),
		[TASK_RUNNING] = TO(CHECKING) | TO(FAILED),
		[TASK_CHECKING] = TO(INTEGRATING) | TO(AWAITING_REVIEW) | TO(FAILED),
		[TASK_AWAITING_REVIEW] = TO(INTEGRATING) | TO(FAILED),
		[TASK_INTEGRATING] = TO(PASSED) | TO(FAILED),
		[TASK_FAILED] = TO(PENDING) | TO(ESCALATED) | TO(INTEGRATING),
		[TASK_ESCALATED] = TO(PENDING) | TO(INTEGRATING),
	};
	if (!worktrees && to == TASK_PASSED)
		return from == TASK_CHECKING || from == TASK_AWAITING_REVIEW ||
		       from == TASK_ESCALATED || from == TASK_FAILED;
	return arrows[from] & (1U << to);
#undef TO
}

void check_save(struct world *w, uint32_t i, const struct engine_action *a)
{
	struct sim_task *t = &w->tasks[i];
	const struct engine_task *after = &a->task_after;
	if (a->from != t->status)
		check_fail(w, "task %u: saved from %s but the database says %s", i,
			task_status_name(a->from), task_status_name(t->status));
	if (!arrow_exists(w->worktrees, a->from, a->to))
		check_fail(w, "task %u: no arrow %s -> %s", i, task_status_name(a->from),
			task_status_name(a->to));
	if (after->attempt < t->row.attempt || after->attempt > t->row.attempt + 1)
		check_fail(w, "task %u: attempt %u after %u", i, after->attempt, t->row.attempt);
	if (t->row.attempt_open && !after->attempt_open) {
		t->closes[after->attempt]++;
		if (t->closes[after->attempt] > 1)
			check_fail(w, "task %u: attempt %u ended twice", i, after->attempt);
		if (after->outcome == OUTCOME_NONE)
			check_fail(
				w, "task %u: attempt %u ended without outcome", i, after->attempt);
	}
	w->started_this_run += a->to == TASK_ASSIGNED;
	w->started_this_run -= a->from == TASK_ASSIGNED && a->to == TASK_PENDING && w->engine_began;
	if (a->to == TASK_PASSED && w->worktrees && (!t->committed[after->attempt] || !t->merged))
		check_fail(w, "task %u: passed without commit or merge", i);
	/* An agent that we asked to end is never judged, whatever it said at its end. */
	if (a->from == TASK_RUNNING && a->to == TASK_CHECKING &&
		t->units[after->attempt].killed_now)
		check_fail(w, "task %u: attempt %u was cut off and yet judged", i, after->attempt);
	if (a->to == TASK_PASSED && after->outcome != OUTCOME_OK &&
		after->outcome != OUTCOME_NOT_NEEDED && !after->approved)
		check_fail(w, "task %u: passed with outcome %s", i, outcome_name(after->outcome));
	if (after->retries_used > after->retry_max)
		check_fail(w, "task %u: more retries than allowed", i);
	if (after->attempt + 1 >= MAX_ATTEMPTS)
		check_fail(w, "task %u: attempts without end", i);
}

void check_start(struct world *w, uint32_t i)
{
	struct sim_task *t = &w->tasks[i];
	for (uint32_t k = 0; k < t->n_deps; k++) {
		const struct sim_task *dep = &w->tasks[t->deps[k]];
		if (dep->status != TASK_PASSED || (w->worktrees && !dep->merged))
			check_fail(w, "task %u started before its dependency %u passed", i,
				t->deps[k]);
	}
	if (t->status != TASK_ASSIGNED || !t->row.attempt_open)
		check_fail(w, "task %u started without a saved intent", i);
	if (++t->starts[t->row.attempt] > 1)
		check_fail(w, "task %u: attempt %u started twice", i, t->row.attempt);
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
	uint32_t n[TASK_STATUS_COUNT] = {0};
	for (uint32_t i = 0; i < w->n_tasks; i++) {
		n[w->tasks[i].status]++;
		if (w->tasks[i].job != JOB_NONE)
			check_fail(w, "halted while task %u has something under way", i);
	}
	uint32_t all = w->also | (1U << w->halt);
	if (w->also && (uint32_t)__builtin_ctz(w->also) < (uint32_t)w->halt)
		check_fail(w, "halt %s is not the first of its reasons", halt_reason_name(w->halt));
	if (w->faulted != !!(all & (1U << HALT_IO_ERROR)))
		check_fail(w, "fault: %d, halt reasons %x", w->faulted, all);
	if (w->draining != !!(all & (1U << HALT_INTERRUPTED)))
		check_fail(w, "interrupted: %d, halt reasons %x", w->draining, all);
	if ((n[TASK_AWAITING_REVIEW] > 0) != !!(all & (1U << HALT_REVIEW_REQUIRED)))
		check_fail(
			w, "review: %u tasks wait, halt reasons %x", n[TASK_AWAITING_REVIEW], all);
	if ((n[TASK_ESCALATED] + n[TASK_FAILED] > 0) != !!(all & (1U << HALT_FAILED)))
		check_fail(w, "failed: %u escalated, halt reasons %x", n[TASK_ESCALATED], all);
	if ((n[TASK_PASSED] == w->n_tasks) != !!(all & (1U << HALT_COMPLETED)))
		check_fail(w, "completed: %u passed of %u, halt reasons %x", n[TASK_PASSED],
			w->n_tasks, all);
	if (all & (1U << HALT_INTERNAL_ERROR))
		check_fail(w, "halted without a reason");
	if ((all & (1U << HALT_CAP_REACHED)) && w->started_this_run != w->cap)
		check_fail(w, "cap reached after %u of %u", w->started_this_run, w->cap);
	if (w->draining && w->now > w->cancelled_at + w->config.drain_ms + 10000)
		check_fail(w, "the end took %lld ms after the cancel",
			(long long)(w->now - w->cancelled_at));
	if (!w->draining && !w->faulted && (n[TASK_CHECKING] || n[TASK_INTEGRATING]))
		check_fail(w, "halted with work to judge or to merge");
	if ((n[TASK_RUNNING] && !w->faulted) || n[TASK_ASSIGNED])
		check_fail(w, "halted with running tasks");
}

void check_end(struct world *w)
{
	for (uint32_t i = 0; i < w->n_tasks; i++) {
		struct sim_task *t = &w->tasks[i];
		for (uint32_t k = 1; k < MAX_ATTEMPTS; k++)
			if (t->starts[k] && t->closes[k] != 1 &&
				!(t->row.attempt_open && t->row.attempt == k))
				check_fail(w, "task %u: attempt %u started but ended %d times", i,
					k, t->closes[k]);
	}
}
