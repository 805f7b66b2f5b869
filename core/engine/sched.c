/* SPDX-License-Identifier: MIT */
/* Which task starts next: ready queues, times to wait for, slots and breakers. */
#include "engine/model.h"

#include <assert.h>

#define BREAKER_WAIT_FIRST_MS 60000
#define BREAKER_WAIT_MAX_MS   1800000

/* ---- harnesses ---- */

bool harness_is_spent(
	const struct engine *e, const struct engine_plan *p, const struct engine_task *t)
{
	uint64_t budget = e->harnesses.items[t->harness].token_budget;
	return budget > 0 && p->spent[t->harness] >= budget;
}

bool harness_is_down(const struct engine *e, const struct engine_harness *h)
{
	const struct engine_breaker *b = &e->breakers.items[h->breaker];
	if (b->open_until == 0 || b->half_open)
		return false;
	return b->open_until == TIME_NEVER || b->open_until - e->now > e->config.max_wait_ms;
}

static bool harness_has_slot(const struct engine_harness *h)
{
	return h->max_agents == 0 || h->slots < h->max_agents;
}

static bool harness_accepts(const struct engine *e, const struct engine_harness *h)
{
	const struct engine_breaker *b = &e->breakers.items[h->breaker];
	if (b->open_until != 0 && !(b->half_open && b->probe == ENGINE_NONE))
		return false;
	return harness_has_slot(h);
}

static void harness_wait(struct engine *e, struct engine_harness *h, struct engine_task *t)
{
	uint32_t i = task_index(e, t);
	t->next_waiting = ENGINE_NONE;
	t->queued = true;
	if (h->waiting_tail == ENGINE_NONE)
		h->waiting_head = i;
	else
		e->tasks.items[h->waiting_tail].next_waiting = i;
	h->waiting_tail = i;
	h->waiting++;
	task_plan(e, t)->waiting[t->harness]++;
}

/* One that was taken out of its plan makes room for the next; false: all of them were. */
static bool harness_release_one(struct engine *e, struct engine_harness *h)
{
	struct engine_task *t;
	do {
		t = &e->tasks.items[h->waiting_head];
		h->waiting_head = t->next_waiting;
		if (h->waiting_head == ENGINE_NONE)
			h->waiting_tail = ENGINE_NONE;
		h->waiting--;
		t->next_waiting = ENGINE_NONE;
		t->queued = false;
		task_plan(e, t)->waiting[t->harness]--;
	} while (t->gone && h->waiting > 0);
	task_make_ready(e, t);
	return !t->gone;
}

void harness_freed(struct engine *e, struct engine_harness *h)
{
	if (h->waiting > 0 && harness_accepts(e, h))
		IGNORE(harness_release_one(e, h));
}

/* ---- breakers: of a credential, whichever harnesses use it ---- */

/* What is known of it is known to the next engine, too. */
static void breaker_save(struct engine *e, const struct engine_breaker *b)
{
	struct engine_action *a = action_add(e, ACT_SAVE_BREAKER);
	a->breaker = (uint32_t)(b - e->breakers.items);
	a->open_until = b->open_until;
	a->level = b->level;
}

static bool is_behind(
	const struct engine *e, const struct engine_harness *h, const struct engine_breaker *b)
{
	return h->waiting > 0 && &e->breakers.items[h->breaker] == b;
}

/* A probe, of a harness that can start one: where none can, its next free slot does. */
static void breaker_release_one(struct engine *e, const struct engine_breaker *b)
{
	vec_foreach(h, &e->harnesses)
		if (is_behind(e, h, b) && harness_has_slot(h) && harness_release_one(e, h))
			return;
}

void breaker_limited(struct engine *e, struct engine_task *t, int64_t until)
{
	struct engine_breaker *b = task_breaker(e, t);
	/* A time that has come is none: whoever names such a one would be tried for ever. */
	if (until <= e->now) {
		int64_t wait = BREAKER_WAIT_FIRST_MS;
		for (uint32_t i = 0; i < b->level && wait < BREAKER_WAIT_MAX_MS; i++)
			wait *= 2;
		if (wait > BREAKER_WAIT_MAX_MS)
			wait = BREAKER_WAIT_MAX_MS;
		b->level++;
		until = e->now + wait;
	}
	if (until > b->open_until || b->half_open)
		b->open_until = until;
	b->half_open = false;
	if (b->probe == task_index(e, t))
		b->probe = ENGINE_NONE;
	breaker_save(e, b);
}

/* An attempt ended for a reason that is not a limit: the credential works. */
void breaker_worked(struct engine *e, struct engine_task *t)
{
	struct engine_breaker *b = task_breaker(e, t);
	if (b->open_until == 0 || b->probe != task_index(e, t))
		return;
	b->open_until = 0;
	b->half_open = false;
	b->level = 0;
	b->probe = ENGINE_NONE;
	breaker_save(e, b);
	vec_foreach(h, &e->harnesses)
		while (is_behind(e, h, b))
			IGNORE(harness_release_one(e, h));
}

/* The probe ended, or never ran, for a reason that says nothing of the credential: another one
 * tries.
 */
void breaker_unproven(struct engine *e, struct engine_task *t)
{
	struct engine_breaker *b = task_breaker(e, t);
	if (b->probe != task_index(e, t))
		return;
	b->probe = ENGINE_NONE;
	if (b->half_open)
		breaker_release_one(e, b);
}

/* ---- ready and delayed tasks ---- */

void task_make_ready(struct engine *e, struct engine_task *t)
{
	struct engine_plan *p = task_plan(e, t);
	if (t->mode != MODE_PENDING || t->deps_left > 0 || t->queued || !t->candidate ||
		p->init.admit != ADMIT_ALL)
		return;
	if (t->paused) {
		p->parked += !t->parked;
		t->parked = true; /* until EVENT_RESUME */
		return;
	}
	bool later = t->not_before > e->now;
	struct task_heap *queue = later ? &e->delay : &p->ready;
	if (heap_push(queue, later ? t->not_before : -(int64_t)t->priority, task_index(e, t)) < 0) {
		e->out_of_memory = true;
		return;
	}
	t->queued = true;
	if (later)
		p->delayed++;
}

/* Moves what has waited long enough: tasks in backoff, and harnesses whose limit is over. */
void engine_release_due(struct engine *e)
{
	while (e->delay.count > 0 && e->delay.items[0].key <= e->now) {
		struct engine_task *t = &e->tasks.items[heap_pop(&e->delay)];
		task_plan(e, t)->delayed--;
		t->queued = false;
		task_make_ready(e, t);
	}
	vec_foreach(b, &e->breakers) {
		if (b->open_until == 0 || b->half_open || b->open_until > e->now)
			continue;
		b->half_open = true;
		breaker_release_one(e, b);
	}
}

int64_t engine_next_time(const struct engine *e)
{
	int64_t next = TIME_NEVER;
	if (e->delay.count > 0)
		next = e->delay.items[0].key;
	vec_foreach(h, &e->harnesses) {
		const struct engine_breaker *b = &e->breakers.items[h->breaker];
		if (h->waiting > 0 && b->open_until != 0 && !b->half_open && b->open_until < next)
			next = b->open_until;
	}
	vec_foreach(p, &e->plans)
		if (p->drain_deadline < next)
			next = p->drain_deadline;
	return next;
}

/* ---- starting ---- */

bool plan_cap_reached(const struct engine_plan *p)
{
	return p->init.cap > 0 && p->started >= p->init.cap;
}

bool plan_breaker_open(const struct engine *e, const struct engine_plan *p)
{
	return e->config.breaker > 0 && p->failed_row >= e->config.breaker;
}

bool plan_may_start(const struct engine *e, const struct engine_plan *p)
{
	return p->init.admit == ADMIT_ALL && !p->halted && !p->draining && !e->faulted &&
	       !plan_cap_reached(p) && !plan_breaker_open(e, p) && !p->over_budget;
}

static bool slot_free(const struct engine *e, const struct engine_plan *p)
{
	return e->slots < e->config.max_agents &&
	       (p->init.max_agents == 0 || p->slots < p->init.max_agents);
}

static void task_start(struct engine *e, struct engine_task *t)
{
	struct engine_plan *p = task_plan(e, t);
	struct engine_breaker *b = task_breaker(e, t);
	if (b->half_open)
		b->probe = task_index(e, t);
	if (!t->attempt_open) {
		t->attempt++;
		t->attempt_open = true;
	}
	t->outcome = OUTCOME_NONE;
	t->kill_why = OUTCOME_NONE;
	t->has_commit = false;
	t->unchanged_ok = false;
	p->started++;
	enum engine_mode mode = p->init.worktrees ? MODE_PREPARING : MODE_STARTING;
	task_enter(e, t, mode, NO_REASON);
	struct engine_action *a =
		action_add_task(e, p->init.worktrees ? ACT_PREPARE : ACT_START, t);
	a->carry = t->carry;
}

/* The next task of the plan that can start now, or ENGINE_NONE. */
static uint32_t plan_next_task(struct engine *e, struct engine_plan *p)
{
	while (p->ready.count > 0) {
		uint32_t i = heap_pop(&p->ready);
		struct engine_task *t = &e->tasks.items[i];
		t->queued = false;
		if (t->mode != MODE_PENDING || t->deps_left > 0 || t->gone)
			continue; /* moved on while it waited */
		if (harness_is_spent(e, p, t)) {
			p->broke += !t->broke;
			t->broke = true;
			continue;
		}
		if (t->paused) {
			task_make_ready(e, t); /* parks it */
			continue;
		}
		struct engine_harness *h = &e->harnesses.items[t->harness];
		if (!harness_accepts(e, h)) {
			harness_wait(e, h, t);
			continue;
		}
		return i;
	}
	return ENGINE_NONE;
}

static uint32_t queue_next(
	struct engine *e, const uint32_t *items, size_t count, size_t *next, enum engine_mode mode)
{
	while (*next < count) {
		uint32_t i = items[*next];
		if (e->tasks.items[i].mode == mode)
			return i;
		(*next)++; /* moved on while it waited */
	}
	return ENGINE_NONE;
}

static void plan_merge_next(struct engine *e, struct engine_plan *p)
{
	if (p->merging || p->draining || p->init.paused || p->init.admit == ADMIT_NONE ||
		e->faulted)
		return;
	for (;;) {
		uint32_t i = queue_next(e, p->merge_queue.items, p->merge_queue.count,
			&p->merge_next, MODE_MERGEABLE);
		if (i == ENGINE_NONE) {
			p->merge_queue.count = p->merge_next = 0;
			return;
		}
		p->merge_next++;
		struct engine_task *t = &e->tasks.items[i];
		p->merging = true;
		task_enter(e, t, MODE_MERGING, NO_REASON);
		action_add_task(e, ACT_MERGE, t);
		return;
	}
}

static void plan_gate_next(struct engine *e, struct engine_plan *p)
{
	while (!p->draining && !p->init.paused && p->init.admit != ADMIT_NONE && !e->faulted &&
		slot_free(e, p)) {
		uint32_t i = queue_next(
			e, p->gate_queue.items, p->gate_queue.count, &p->gate_next, MODE_CHECKABLE);
		if (i == ENGINE_NONE) {
			p->gate_queue.count = p->gate_next = 0;
			return;
		}
		p->gate_next++;
		struct engine_task *t = &e->tasks.items[i];
		task_enter(e, t, MODE_GATING, NO_REASON);
		action_add_task(e, ACT_GATE, t);
	}
}

void engine_schedule(struct engine *e)
{
	uint32_t n = (uint32_t)e->plans.count;
	for (uint32_t k = 0; k < n; k++) {
		struct engine_plan *p = &e->plans.items[k];
		plan_merge_next(e, p);
		plan_gate_next(e, p);
	}
	/* One task a plan in turn, so that no plan starves another. */
	uint32_t idle = 0;
	while (!e->hold && idle < n) {
		struct engine_plan *p = &e->plans.items[e->next_plan++ % n];
		uint32_t i = ENGINE_NONE;
		if (plan_may_start(e, p) && !p->init.paused && slot_free(e, p))
			i = plan_next_task(e, p);
		if (i == ENGINE_NONE) {
			idle++;
			continue;
		}
		idle = 0;
		task_start(e, &e->tasks.items[i]);
	}
}
