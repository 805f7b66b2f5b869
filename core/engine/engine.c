/* SPDX-License-Identifier: MIT */
#include "engine/model.h"

#include "base/str.h"
#include "engine/call.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

static const enum task_status mode_status[MODE_COUNT] = {
#define X(mode, status) [MODE_##mode] = TASK_##status,
	ENGINE_MODE_LIST(X)
#undef X
};

static const char *const mode_names[MODE_COUNT] = {
#define X(mode, status) [MODE_##mode] = #mode,
	ENGINE_MODE_LIST(X)
#undef X
};

enum engine_mode engine_mode_found(enum task_status saved, bool ran)
{
	static const enum engine_mode found[TASK_STATUS_COUNT] = {
		[TASK_PENDING] = MODE_PENDING,
		[TASK_ASSIGNED] = MODE_PREPARING,
		[TASK_RUNNING] = MODE_RUNNING,
		[TASK_CHECKING] = MODE_CHECKABLE,
		[TASK_INTEGRATING] = MODE_MERGEABLE,
		[TASK_AWAITING_REVIEW] = MODE_REVIEW,
		[TASK_PASSED] = MODE_PASSED,
		[TASK_FAILED] = MODE_FAILED,
		[TASK_ESCALATED] = MODE_ESCALATED,
	};
	return saved == TASK_ASSIGNED && ran ? MODE_STARTING : found[saved];
}

enum task_status engine_mode_status(enum engine_mode mode)
{
	return mode_status[mode];
}

const char *engine_mode_name(enum engine_mode mode)
{
	return mode_names[mode];
}

/* ---- actions ---- */

void engine_actions_reset(struct engine_actions *a)
{
	vec_foreach(it, &a->list)
		free(it->text);
	a->list.count = 0;
}

void engine_actions_deinit(struct engine_actions *a)
{
	engine_actions_reset(a);
	VEC_FREE(&a->list);
}

struct engine_action *action_add(struct engine *e, enum engine_action_kind kind)
{
	struct engine_action *a = VEC_PUSH(&e->actions->list);
	if (!a) {
		static _Thread_local struct engine_action scratch;
		e->out_of_memory = true;
		a = &scratch;
		memset(a, 0, sizeof(*a));
	}
	a->kind = kind;
	a->task = a->plan = ENGINE_NONE;
	return a;
}

struct engine_action *action_add_task(
	struct engine *e, enum engine_action_kind kind, const struct engine_task *t)
{
	struct engine_action *a = action_add(e, kind);
	a->task = task_index(e, t);
	a->plan = t->plan;
	return a;
}

void action_say(struct engine *e, struct engine_action *a, const char *text)
{
	/* What stands in for an action that found no room is not freed with the others. */
	a->text = e->out_of_memory ? NULL : strdup(text);
	if (!a->text)
		e->out_of_memory = true;
}

struct engine_action *plan_save(struct engine *e, struct engine_plan *p)
{
	struct engine_action *a = action_add(e, ACT_SAVE_PLAN);
	a->plan = (uint32_t)(p - e->plans.items);
	a->plan_status = p->status;
	return a;
}

/* ---- the one place that changes a mode ---- */

/* Modes in which something is under way, and those that hold an agent slot. */
static bool mode_in_flight(enum engine_mode m)
{
	return m == MODE_PREPARING || m == MODE_STARTING || m == MODE_RUNNING ||
	       m == MODE_COMMITTING || m == MODE_GATING || m == MODE_MERGING;
}

static bool mode_holds_slot(enum engine_mode m)
{
	return mode_in_flight(m) && m != MODE_MERGING;
}

static void flight_add(struct engine *e, struct engine_task *t)
{
	uint32_t *slot = VEC_PUSH(&e->flight);
	if (!slot) {
		e->out_of_memory = true;
		return;
	}
	*slot = task_index(e, t);
	t->flight = (uint32_t)(e->flight.count - 1);
	task_plan(e, t)->in_flight++;
}

static void flight_remove(struct engine *e, struct engine_task *t)
{
	if (t->flight == ENGINE_NONE)
		return;
	uint32_t last = e->flight.items[--e->flight.count];
	e->flight.items[t->flight] = last;
	e->tasks.items[last].flight = t->flight;
	t->flight = ENGINE_NONE;
	task_plan(e, t)->in_flight--;
}

static void count_mode(struct engine *e, struct engine_task *t, enum engine_mode mode)
{
	struct engine_plan *p = task_plan(e, t);
	p->tasks[mode_status[t->mode]]--;
	p->tasks[mode_status[mode]]++;
	if (t->candidate) {
		p->candidates[mode_status[t->mode]]--;
		p->candidates[mode_status[mode]]++;
	}
	bool held = mode_holds_slot(t->mode), holds = mode_holds_slot(mode);
	struct engine_harness *h = &e->harnesses.items[t->harness];
	if (held && !holds) {
		p->slots--;
		e->slots--;
		h->slots--;
	} else if (!held && holds) {
		p->slots++;
		e->slots++;
		h->slots++;
	}
	bool flew = mode_in_flight(t->mode), flies = mode_in_flight(mode);
	if (flew && !flies)
		flight_remove(e, t);
	else if (!flew && flies)
		flight_add(e, t);
	t->mode = (uint8_t)mode;
	if (held && !holds)
		harness_freed(e, h);
}

void task_enter(struct engine *e, struct engine_task *t, enum engine_mode mode, struct reason why)
{
	enum engine_mode from = t->mode;
	count_mode(e, t, mode);
	/* What is over cannot be resumed, and needs no mark. */
	if (mode == MODE_PASSED || mode == MODE_ESCALATED || mode == MODE_REVIEW)
		t->paused = false;
	if (mode_status[from] == mode_status[mode])
		return;
	struct engine_action *a = action_add_task(e, ACT_SAVE_TASK, t);
	a->from = mode_status[from];
	a->to = mode_status[mode];
	a->outcome = t->attempt_open ? OUTCOME_NONE : t->outcome;
	a->code = why.code;
	a->verdict = why.verdict;
	if (why.text)
		action_say(e, a, why.text);
	a->task_after = *t;
}

/* ---- telling of calls ---- */

#define TELL(e, ...) \
	do { \
		if ((e)->config.tap) \
			(e)->config.tap((e)->config.tap_ctx, &(struct engine_call){__VA_ARGS__}); \
	} while (0)

/* What was appended since `first`, and how it went. */
static int answer(
	const struct engine *e, int code, const struct engine_actions *actions, size_t first)
{
	TELL(e, .kind = CALL_ANSWER, .code = code, .actions = actions, .first = first);
	return code;
}

/* ---- building ---- */

struct engine *engine_new(const struct engine_config *config)
{
	struct engine *e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	e->config = *config;
	e->random = config->seed;
	e->faulted = config->winding_down;
	e->fault = config->fault;
	e->hold = config->hold;
	TELL(e, .kind = CALL_NEW, .config = config);
	return e;
}

void engine_free(struct engine *e)
{
	if (!e)
		return;
	vec_foreach(p, &e->plans) {
		free(p->ready.items);
		free(p->waiting);
		free(p->spent);
		VEC_FREE(&p->merge_queue);
		VEC_FREE(&p->gate_queue);
	}
	VEC_FREE(&e->plans);
	VEC_FREE(&e->tasks);
	VEC_FREE(&e->edges);
	VEC_FREE(&e->breakers);
	VEC_FREE(&e->harnesses);
	VEC_FREE(&e->flight);
	free(e->delay.items);
	free(e);
}

int engine_add_breaker(struct engine *e, const struct engine_breaker_init *init, uint32_t *ret)
{
	TELL(e, .kind = CALL_BREAKER, .new_breaker = init);
	struct engine_breaker *b = VEC_PUSH(&e->breakers);
	if (!b)
		return -ENOMEM;
	b->open_until = init->open_until;
	b->level = init->level;
	/* A person dispatches after a login was refused: one task tries whether it works now. */
	b->half_open = init->open_until == TIME_NEVER;
	b->probe = ENGINE_NONE;
	*ret = (uint32_t)(e->breakers.count - 1);
	return 0;
}

int engine_add_harness(struct engine *e, const struct engine_harness_init *init, uint32_t *ret)
{
	TELL(e, .kind = CALL_HARNESS, .new_harness = init);
	struct engine_harness *h = VEC_PUSH(&e->harnesses);
	assert(init->breaker < e->breakers.count);
	if (!h)
		return -ENOMEM;
	h->breaker = init->breaker;
	h->max_agents = init->max_agents;
	h->token_budget = init->token_budget;
	h->waiting_head = h->waiting_tail = ENGINE_NONE;
	*ret = (uint32_t)(e->harnesses.count - 1);
	return 0;
}

int engine_add_plan(struct engine *e, const struct engine_plan_init *init, uint32_t *ret)
{
	TELL(e, .kind = CALL_PLAN, .new_plan = init);
	struct engine_plan *p = VEC_PUSH(&e->plans);
	if (!p)
		return -ENOMEM;
	p->init = *init;
	p->status = init->status;
	p->tokens = init->tokens;
	p->over_budget = init->token_budget > 0 && init->tokens >= init->token_budget;
	p->drain_deadline = TIME_NEVER;
	*ret = (uint32_t)(e->plans.count - 1);
	return 0;
}

int engine_add_task(struct engine *e, const struct engine_task_init *init, uint32_t *ret)
{
	TELL(e, .kind = CALL_TASK, .new_task = init);
	struct engine_task *t = VEC_PUSH(&e->tasks);
	if (!t)
		return -ENOMEM;
	*t = (struct engine_task){
		.id = init->id,
		.not_before = init->not_before,
		.tokens = init->tokens,
		.token_budget = init->token_budget,
		.plan = init->plan,
		.harness = init->harness,
		.attempt = init->attempt,
		.first_successor = ENGINE_NONE,
		.flight = ENGINE_NONE,
		.next_waiting = ENGINE_NONE,
		.priority = init->priority,
		.retry_max = init->retry_max,
		.retries_used = init->retries_used,
		.mode = MODE_PENDING,
		.outcome = (uint8_t)init->outcome,
		.gate = (uint8_t)init->gate,
		.lost_row = init->lost_row,
		.conflict_row = init->conflict_row,
		.unchanged_row = init->unchanged_row,
		.attempt_open = init->attempt_open,
		.has_checks = init->has_checks,
		.allow_empty = init->allow_empty,
		.chosen = init->candidate,
		.stage = init->stage,
		.paused = init->paused,
		.approved = init->approved,
		.carry = init->carry,
		.has_commit = init->has_commit,
	};
	struct engine_plan *p = task_plan(e, t);
	t->candidate = t->chosen && t->stage <= p->stage;
	p->n_tasks++;
	p->tasks[TASK_PENDING]++;
	if (t->candidate) {
		p->n_candidates++;
		p->candidates[TASK_PENDING]++;
	}
	count_mode(e, t, init->mode);
	*ret = task_index(e, t);
	return e->out_of_memory ? -ENOMEM : 0;
}

int engine_add_dependency(struct engine *e, uint32_t task, uint32_t dependency)
{
	TELL(e, .kind = CALL_DEPENDENCY, .task = task, .dependency = dependency);
	struct engine_task *dep = &e->tasks.items[dependency];
	struct edge *edge = VEC_PUSH(&e->edges);
	if (!edge)
		return -ENOMEM;
	*edge = (struct edge){.task = task, .next = dep->first_successor};
	dep->first_successor = (uint32_t)(e->edges.count - 1);
	if (dep->mode != MODE_PASSED)
		e->tasks.items[task].deps_left++;
	return 0;
}

/* ---- running ---- */

static int step_end(struct engine *e)
{
	engine_release_due(e);
	engine_schedule(e);
	engine_settle(e);
	e->actions = NULL;
	return e->out_of_memory ? -ENOMEM : 0;
}

/* What a task that was saved in some status needs to go on. */
static void task_begin(struct engine *e, struct engine_task *t)
{
	struct engine_plan *p = task_plan(e, t);
	switch ((enum engine_mode)t->mode) {
	case MODE_PREPARING:
		/* The caller found no unit: the attempt never ran and keeps its number. */
		task_enter(e, t, MODE_PENDING, NO_REASON);
		break;
	case MODE_FAILED:
		if (p->init.admit == ADMIT_ALL)
			task_enter(e, t, MODE_PENDING, NO_REASON);
		break;
	case MODE_CHECKABLE: {
		uint32_t *slot = VEC_PUSH(&p->gate_queue);
		if (slot)
			*slot = task_index(e, t);
		else
			e->out_of_memory = true;
		break;
	}
	case MODE_MERGEABLE: {
		uint32_t *slot = VEC_PUSH(&p->merge_queue);
		if (slot)
			*slot = task_index(e, t);
		else
			e->out_of_memory = true;
		break;
	}
	default:
		break;
	}
	if (t->mode == MODE_PENDING)
		task_make_ready(e, t);
}

int plan_grow(struct engine *e, struct engine_plan *p)
{
	size_t n = e->harnesses.count ? e->harnesses.count : 1;
	uint32_t *waiting = realloc(p->waiting, n * sizeof(*waiting));
	if (!waiting)
		return -ENOMEM;
	p->waiting = waiting;
	uint64_t *spent = realloc(p->spent, n * sizeof(*spent));
	if (!spent)
		return -ENOMEM;
	p->spent = spent;
	for (size_t i = p->n_waiting; i < n; i++) {
		waiting[i] = 0;
		spent[i] = 0;
	}
	if (n > p->n_waiting)
		p->n_waiting = n;
	return 0;
}

int engine_add_spent(struct engine *e, uint32_t plan, uint32_t harness, uint64_t tokens)
{
	TELL(e, .kind = CALL_SPENT, .plan = plan, .harness = harness, .tokens = tokens);
	struct engine_plan *p = &e->plans.items[plan];
	if (plan_grow(e, p) < 0)
		return -ENOMEM;
	p->spent[harness] += tokens;
	return 0;
}

void engine_drop_task(struct engine *e, uint32_t task)
{
	TELL(e, .kind = CALL_DROP, .task = task);
	struct engine_task *t = &e->tasks.items[task];
	struct engine_plan *p = task_plan(e, t);
	if (t->gone || t->mode != MODE_PENDING)
		return;
	p->n_tasks--;
	p->tasks[TASK_PENDING]--;
	if (t->candidate) {
		p->n_candidates--;
		p->candidates[TASK_PENDING]--;
	}
	p->parked -= t->parked;
	p->broke -= t->broke;
	/* A queue that holds it lets it fall when its turn comes. */
	t->gone = true;
	t->candidate = t->chosen = t->parked = t->broke = false;
	t->id = 0;
}

static void plan_start(struct engine *e, struct engine_plan *p)
{
	if (p->init.admit != ADMIT_ALL || p->status == PLAN_RUNNING)
		return;
	p->status = PLAN_RUNNING;
	plan_save(e, p);
}

static int begin(struct engine *e, int64_t now, struct engine_actions *actions)
{
	e->actions = actions;
	e->now = now;
	vec_foreach(p, &e->plans)
		if (plan_grow(e, p) < 0)
			e->out_of_memory = true;
	if (e->out_of_memory)
		return -ENOMEM;
	for (; e->plans_begun < e->plans.count; e->plans_begun++)
		plan_start(e, &e->plans.items[e->plans_begun]);
	for (; e->tasks_begun < e->tasks.count; e->tasks_begun++)
		task_begin(e, &e->tasks.items[e->tasks_begun]);
	if (!e->config.stopping)
		return step_end(e);
	e->config.stopping = false;
	e->actions = NULL;
	return e->out_of_memory ? -ENOMEM : 0;
}

int engine_begin(struct engine *e, int64_t now, struct engine_actions *actions)
{
	size_t first = actions->list.count;
	TELL(e, .kind = CALL_BEGIN, .now = now);
	return answer(e, begin(e, now, actions), actions, first);
}

static int admit_more(struct engine *e, uint32_t plan, enum engine_admit admit, uint32_t cap,
	int64_t now, struct engine_actions *actions)
{
	struct engine_plan *p = &e->plans.items[plan];
	e->actions = actions;
	e->now = now;
	if (admit > p->init.admit)
		p->init.admit = admit;
	p->init.cap = cap;
	p->started = p->failed_row = 0;
	p->halted = p->draining = p->interrupted = false;
	plan_start(e, p);
	vec_foreach(t, &e->tasks) {
		if (t->plan != plan)
			continue;
		if (t->mode == MODE_FAILED && p->init.admit == ADMIT_ALL)
			task_enter(e, t, MODE_PENDING, NO_REASON);
		task_make_ready(e, t);
	}
	return step_end(e);
}

int engine_admit(struct engine *e, uint32_t plan, enum engine_admit admit, uint32_t cap,
	int64_t now, struct engine_actions *actions)
{
	size_t first = actions->list.count;
	TELL(e, .kind = CALL_ADMIT, .plan = plan, .admit = admit, .cap = cap, .now = now);
	return answer(e, admit_more(e, plan, admit, cap, now, actions), actions, first);
}

void engine_change_task(struct engine *e, uint32_t task, const struct engine_task_change *change)
{
	TELL(e, .kind = CALL_CHANGE_TASK, .task = task, .change = change);
	struct engine_task *t = &e->tasks.items[task];
	t->gate = (uint8_t)change->gate;
	t->priority = change->priority; /* counts when it is queued next */
	t->retry_max = change->retry_max;
	t->token_budget = change->token_budget;
	t->has_checks = change->has_checks;
}

void engine_change_plan(struct engine *e, uint32_t plan, uint32_t max_agents, uint64_t token_budget)
{
	TELL(e, .kind = CALL_CHANGE_PLAN, .plan = plan, .max_agents = max_agents,
		.tokens = token_budget);
	struct engine_plan *p = &e->plans.items[plan];
	p->init.max_agents = max_agents;
	p->init.token_budget = token_budget;
	p->over_budget = token_budget > 0 && p->tokens >= token_budget;
}

static void plan_interrupt(struct engine *e, struct engine_plan *p, bool hard)
{
	p->interrupted = true;
	if (hard)
		plan_kill(e, p);
	else
		plan_cancel(e, p);
}

/* Its agents and checks stand still, tools included; a task that is paused by itself stays so. */
static void plan_pause(struct engine *e, struct engine_plan *p, enum engine_action_kind what)
{
	bool pause = what == ACT_FREEZE;
	if (p->init.paused == pause)
		return;
	p->init.paused = pause;
	vec_foreach(i, &e->flight) {
		struct engine_task *t = &e->tasks.items[*i];
		if (task_plan(e, t) == p && !t->paused)
			action_add_task(e, what, t);
	}
}

static void step_global(struct engine *e, const struct engine_event *ev)
{
	vec_foreach(p, &e->plans) {
		bool meant = ev->plan == ENGINE_NONE || ev->plan == (uint32_t)(p - e->plans.items);
		if (ev->kind == EVENT_TICK)
			plan_check_drain(e, p);
		else if (ev->kind == EVENT_CANCEL && meant)
			plan_interrupt(e, p, false);
		else if (ev->kind == EVENT_KILL && meant)
			plan_interrupt(e, p, true);
		else if (ev->kind == EVENT_PLAN_PAUSE && meant)
			plan_pause(e, p, ACT_FREEZE);
		else if (ev->kind == EVENT_PLAN_RESUME && meant)
			plan_pause(e, p, ACT_THAW);
		else if (ev->kind == EVENT_FAULT)
			plan_cancel(e, p);
	}
	switch (ev->kind) {
	case EVENT_HOLD:
		e->hold = true;
		break;
	case EVENT_RELEASE:
		e->hold = false;
		break;
	case EVENT_FAULT:
		if (!e->faulted || ev->halt < e->fault)
			e->fault = ev->halt;
		e->faulted = true;
		break;
	case EVENT_KILL:
		e->killing = true;
		break;
	case EVENT_USAGE:
		task_add_usage(e, &e->tasks.items[ev->task], ev->tokens);
		break;
	default:
		break;
	}
}

static int step(struct engine *e, const struct engine_event *ev, struct engine_actions *actions,
	struct err *err)
{
	if (e->out_of_memory)
		return err_nomem(err);
	assert(ev->now >= e->now);
	e->actions = actions;
	e->now = ev->now;
	if (ev->kind < EVENT_TASK_COUNT) {
		int r = table_dispatch(e, &e->tasks.items[ev->task], ev, err);
		if (r < 0) {
			e->actions = NULL;
			return r;
		}
	} else {
		step_global(e, ev);
	}
	return step_end(e) < 0 ? err_nomem(err) : 0;
}

int engine_step(struct engine *e, const struct engine_event *ev, struct engine_actions *actions,
	struct err *err)
{
	size_t first = actions->list.count;
	TELL(e, .kind = CALL_STEP, .event = ev);
	return answer(e, step(e, ev, actions, err), actions, first);
}

/* ---- views ---- */

const struct engine_task *engine_task(const struct engine *e, uint32_t task)
{
	return &e->tasks.items[task];
}

uint32_t engine_task_count(const struct engine *e)
{
	return (uint32_t)e->tasks.count;
}

bool engine_is_paused(const struct engine *e, uint32_t task)
{
	const struct engine_task *t = &e->tasks.items[task];
	return t->paused || e->plans.items[t->plan].init.paused;
}

uint32_t engine_in_flight(const struct engine *e)
{
	return (uint32_t)e->flight.count;
}

uint32_t engine_parked(const struct engine *e)
{
	uint32_t parked = 0;
	vec_foreach(p, &e->plans)
		if (p->init.admit != ADMIT_NONE)
			parked += p->init.paused ? p->tasks[TASK_PENDING] : p->parked;
	return parked;
}

uint32_t engine_slots_used(const struct engine *e)
{
	return e->slots;
}

uint32_t engine_plan_count(const struct engine *e, uint32_t plan, enum task_status status)
{
	return e->plans.items[plan].tasks[status];
}

size_t engine_memory(const struct engine *e)
{
	size_t bytes = sizeof(*e) + e->tasks.cap * sizeof(struct engine_task) +
		       e->edges.cap * sizeof(struct edge) + e->flight.cap * sizeof(uint32_t) +
		       e->delay.cap * sizeof(struct heap_entry);
	vec_foreach(p, &e->plans)
		bytes += sizeof(*p) + p->ready.cap * sizeof(struct heap_entry) +
			 (p->merge_queue.cap + p->gate_queue.cap) * sizeof(uint32_t);
	return bytes;
}
