/* SPDX-License-Identifier: MIT */
/*
 * engine_bench TASKS: the pure engine alone. Builds a plan in which each task depends on up to two
 * earlier ones, lets every attempt succeed, and prints one JSON line: bytes of memory a task and
 * nanoseconds an event. Nothing is started and nothing is saved.
 */
#include "base/clock.h"
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SLOTS 64

struct queue {
	struct VEC(struct engine_event) events;
	size_t next;
};

static void fail(const char *what)
{
	fprintf(stderr, "engine_bench: %s\n", what);
	exit(1);
}

static int64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static struct engine *build(uint32_t tasks)
{
	const struct engine_config config = {
		.max_agents = SLOTS, .backoff_ms = 1, .backoff_max_ms = 1, .seed = 1};
	const struct engine_plan_init plan = {
		.id = 1, .status = PLAN_APPROVED, .admit = ADMIT_ALL, .max_agents = SLOTS};
	struct engine *e = engine_new(&config);
	uint32_t breaker, harness, plan_index, task;
	if (!e || engine_add_breaker(e, &(struct engine_breaker_init){0}, &breaker) < 0 ||
		engine_add_harness(e, &(struct engine_harness_init){.breaker = breaker}, &harness) <
			0 ||
		engine_add_plan(e, &plan, &plan_index) < 0)
		fail("out of memory");
	for (uint32_t i = 0; i < tasks; i++) {
		const struct engine_task_init init = {.id = i + 1,
			.plan = plan_index,
			.harness = harness,
			.mode = MODE_PENDING,
			.priority = (int32_t)(i % 7),
			.candidate = true};
		if (engine_add_task(e, &init, &task) < 0)
			fail("out of memory");
	}
	/* Two streams of work that meet: wide enough to keep the ready queue long. */
	for (uint32_t i = tasks / 2; i < tasks; i++)
		if (engine_add_dependency(e, i, i - tasks / 2) < 0 ||
			(i > tasks / 2 && engine_add_dependency(e, i, i - tasks / 2 - 1) < 0))
			fail("out of memory");
	return e;
}

static void expect(struct queue *q, enum engine_event_kind kind, uint32_t task)
{
	struct engine_event *ev = VEC_PUSH(&q->events);
	if (!ev)
		fail("out of memory");
	*ev = (struct engine_event){
		.kind = kind, .task = task, .plan = ENGINE_NONE, .outcome = OUTCOME_OK};
}

/* What the world answers to each action. */
static void answer(struct queue *q, const struct engine_actions *actions)
{
	vec_foreach(a, &actions->list) {
		if (a->kind == ACT_PREPARE) {
			expect(q, EVENT_PREPARED, a->task);
		} else if (a->kind == ACT_START) {
			expect(q, EVENT_STARTED, a->task);
			expect(q, EVENT_ENDED, a->task);
		} else if (a->kind == ACT_COMMIT) {
			expect(q, EVENT_COMMITTED, a->task);
		} else if (a->kind == ACT_GATE) {
			expect(q, EVENT_GATED, a->task);
		} else if (a->kind == ACT_MERGE) {
			expect(q, EVENT_MERGED, a->task);
		}
	}
}

int main(int argc, char **argv)
{
	uint32_t tasks = argc == 2 ? (uint32_t)strtoul(argv[1], NULL, 10) : 0;
	if (tasks < 2) {
		fprintf(stderr, "usage: engine_bench TASKS\n");
		return 64;
	}
	struct engine *e = build(tasks);
	struct engine_actions actions = ENGINE_ACTIONS_INIT;
	struct queue q = {0};
	struct err err = ERR_INIT;
	uint64_t events = 0;
	size_t peak = engine_memory(e);
	int64_t spent = 0, clock = 1000;

	if (engine_begin(e, clock, &actions) < 0)
		fail("out of memory");
	answer(&q, &actions);
	engine_actions_reset(&actions);
	while (q.next < q.events.count) {
		struct engine_event ev = q.events.items[q.next++];
		ev.now = ++clock;
		int64_t begin = now_ns();
		int r = engine_step(e, &ev, &actions, &err);
		spent += now_ns() - begin;
		if (r < 0)
			fail(err.msg);
		events++;
		answer(&q, &actions);
		engine_actions_reset(&actions);
		if (engine_memory(e) > peak)
			peak = engine_memory(e);
		if (q.next == q.events.count)
			q.next = q.events.count = 0;
	}
	if (!engine_is_done(e) || engine_plan_count(e, 0, TASK_PASSED) != tasks)
		fail("the plan did not come to its end");
	printf("{\"tasks\": %u, \"bytes_per_task\": %.1f, \"events\": %llu, \"ns_per_event\": "
	       "%.1f}\n",
		tasks, (double)peak / tasks, (unsigned long long)events,
		(double)spent / (double)events);
	VEC_FREE(&q.events);
	engine_actions_deinit(&actions);
	engine_free(e);
	return 0;
}
