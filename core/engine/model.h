/* SPDX-License-Identifier: MIT */
/* What the parts of the engine share; nobody else includes this. See engine.h. */
#ifndef ENGINE_MODEL_H
#define ENGINE_MODEL_H

#include "engine/engine.h"

/* A binary heap: the smallest key first, of equal keys the smallest index. The key is kept with the
 * task, so that what becomes of the task meanwhile does not upset the order. */
struct heap_entry {
	int64_t key;
	uint32_t task;
};
struct task_heap VEC(struct heap_entry);

struct engine_plan {
	struct engine_plan_init init;
	enum plan_status status;
	struct task_heap
		ready; /* pending, dependencies held, not waiting for a time or a harness */
	struct VEC(uint32_t)
		merge_queue; /* MERGEABLE, first come first served; entries may be stale */
	size_t merge_next;
	struct VEC(uint32_t) gate_queue; /* CHECKABLE */
	size_t gate_next;
	uint32_t *waiting; /* per harness: how many of the plan's tasks are in its chain */
	uint64_t *spent;   /* per harness: tokens */
	size_t n_waiting;
	uint32_t tasks[TASK_STATUS_COUNT];
	uint32_t candidates[TASK_STATUS_COUNT];
	uint32_t n_tasks;
	uint32_t n_candidates;
	uint32_t delayed; /* in the delay queue */
	uint32_t broke;   /* could start, had their harness not spent its budget in this plan */
	uint32_t stage;   /* of the targets, the one whose turn it is */
	uint32_t parked;  /* pending candidates that are paused and could start otherwise */
	uint32_t in_flight;
	uint32_t slots;
	uint32_t started; /* attempts, for the cap */
	uint32_t failed_row;
	uint64_t tokens;
	int64_t drain_deadline; /* TIME_NEVER: not draining, or already past */
	bool draining;
	bool interrupted; /* draining because somebody asked, not because of a fault */
	bool merging;
	bool over_budget;
	bool halted;
};

struct engine_breaker {
	uint32_t probe;     /* the one task that tries whether the limit is over, or ENGINE_NONE */
	uint32_t level;     /* how often in a row it was limited without being told until when */
	int64_t open_until; /* 0 closed; TIME_NEVER: until a person acts */
	bool half_open;     /* the time has come: one probe may start */
};

struct engine_harness {
	uint32_t breaker;
	uint32_t max_agents;
	uint64_t token_budget;
	uint32_t slots;
	uint32_t waiting_head, waiting_tail; /* chain of tasks, first come first served */
	uint32_t waiting;
};

struct edge {
	uint32_t task;
	uint32_t next;
};

struct engine {
	struct engine_config config;
	struct VEC(struct engine_task) tasks;
	struct VEC(struct edge) edges;
	struct VEC(struct engine_plan) plans;
	struct VEC(struct engine_breaker) breakers;
	struct VEC(struct engine_harness) harnesses;
	struct VEC(uint32_t) flight;
	struct task_heap delay;
	size_t plans_begun, tasks_begun; /* what engine_begin has seen */
	uint32_t slots;
	uint32_t next_plan; /* round robin */
	uint64_t random;
	int64_t now;
	bool hold;
	bool killing;
	bool faulted;
	enum halt_reason fault;
	bool out_of_memory;             /* set by whoever could not append an action */
	struct engine_actions *actions; /* during a step */
};

/* One counter per harness in a plan; harnesses may have been added since. */
int plan_grow(struct engine *e, struct engine_plan *p) MUST_CHECK;

/* heap.c; to pop, the heap must not be empty. */
int heap_push(struct task_heap *h, int64_t key, uint32_t task) MUST_CHECK;
uint32_t heap_pop(struct task_heap *h);

/* engine.c */
static inline struct engine_plan *task_plan(struct engine *e, const struct engine_task *t)
{
	return &e->plans.items[t->plan];
}
static inline uint32_t task_index(const struct engine *e, const struct engine_task *t)
{
	return (uint32_t)(t - e->tasks.items);
}
static inline struct engine_breaker *task_breaker(struct engine *e, const struct engine_task *t)
{
	return &e->breakers.items[e->harnesses.items[t->harness].breaker];
}
/* A new action of the step; a scratch one (and out_of_memory set) when memory is out. */
struct engine_action *action_add(struct engine *e, enum engine_action_kind kind);
struct engine_action *action_add_task(
	struct engine *e, enum engine_action_kind kind, const struct engine_task *t);
/* Returns the action, valid until the next one. */
struct engine_action *plan_save(struct engine *e, struct engine_plan *p);
/* Gives the action a copy of the text. */
void action_say(struct engine *e, struct engine_action *a, const char *text);

/* Changes the mode; where the status changes too, saves it with the reason. */
struct reason {
	enum outcome code;
	enum verdict verdict;
	const char *text;
	bool no_charge; /* nothing is held against the task */
};
#define NO_REASON ((struct reason){.code = OUTCOME_NONE})
void task_enter(struct engine *e, struct engine_task *t, enum engine_mode mode, struct reason why);

/* sched.c */
void task_make_ready(struct engine *e, struct engine_task *t);
bool harness_is_spent(
	const struct engine *e, const struct engine_plan *p, const struct engine_task *t);
void harness_freed(struct engine *e, struct engine_harness *h);
void breaker_limited(struct engine *e, struct engine_task *t, int64_t until);
void breaker_worked(struct engine *e, struct engine_task *t);
void breaker_unproven(struct engine *e, struct engine_task *t);
bool harness_is_down(const struct engine *e, const struct engine_harness *h);
bool plan_may_start(const struct engine *e, const struct engine_plan *p);
bool plan_cap_reached(const struct engine_plan *p);
bool plan_breaker_open(const struct engine *e, const struct engine_plan *p);
void engine_schedule(struct engine *e);
void engine_release_due(struct engine *e);

/* policy.c: what follows a failed attempt, and our own requests to stop. */
void task_fail(struct engine *e, struct engine_task *t, struct reason why, int64_t until);
void plan_cancel(struct engine *e, struct engine_plan *p);
void plan_kill(struct engine *e, struct engine_plan *p);
void plan_check_drain(struct engine *e, struct engine_plan *p);
void task_add_usage(struct engine *e, struct engine_task *t, int64_t tokens);
void task_kill(struct engine *e, struct engine_task *t, enum outcome why, bool hard);

/* table.c */
int table_dispatch(struct engine *e, struct engine_task *t, const struct engine_event *ev,
	struct err *err) MUST_CHECK;

/* halt.c */
void engine_settle(struct engine *e);

#endif
