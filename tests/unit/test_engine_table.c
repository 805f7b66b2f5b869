/* SPDX-License-Identifier: MIT */
/*
 * Every cell of the state table, from outside: an engine is brought into each mode, each event is
 * sent, and the answer must be of the kind that stands here. x: our own error, refused with
 * -EPROTO; r: the operator is refused; '.': too late, nothing changes; '>': something follows.
 */
#include "engine/engine.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const struct {
	enum engine_mode mode;
	const char *cells; /* in the order of ENGINE_TASK_EVENT_LIST */
} expected[] = {
	/*                  PSECGMAORYpr: PREPARED STARTED ENDED COMMITTED GATED MERGED APPROVE
	 * OVERRIDE REJECT RETRY PAUSE RESUME */
	{MODE_PENDING, "x..xxxrrrr>>"},
	{MODE_PREPARING, ">xxxxxrrrr>>"},
	{MODE_STARTING, "x>>xxxrrrr>>"},
	{MODE_RUNNING, "x.>xxxrrrr>>"},
	{MODE_COMMITTING, "x..>xxrrrr>>"},
	{MODE_UNCOMMITTED, "x..xxxrrrr>>"},
	{MODE_GATING, "x..x>xrrrr>>"},
	{MODE_REVIEW, "x..xxx>r>rrr"},
	{MODE_MERGING, "x..xx>rrrr>>"},
	{MODE_PASSED, "x..xxxrrrrrr"},
	{MODE_ESCALATED, "x..xxxr>r>rr"},
};

struct world {
	struct engine *engine;
	struct engine_actions actions;
	int64_t now;
};

static int step(struct world *w, struct engine_event ev)
{
	struct err e = ERR_INIT;
	ev.now = ++w->now;
	ev.plan = ENGINE_NONE;
	engine_actions_reset(&w->actions);
	return engine_step(w->engine, &ev, &w->actions, &e);
}

static void start(struct world *w, enum engine_mode saved, uint32_t attempt)
{
	struct engine_config config = {
		.max_agents = 4, .drain_ms = 1000, .backoff_ms = 1000, .backoff_max_ms = 1000};
	struct engine_plan_init plan = {
		.status = PLAN_RUNNING, .admit = ADMIT_ALL, .worktrees = true};
	struct engine_task_init task = {
		.id = 1,
		.mode = saved,
		.gate = GATE_AUTO,
		.attempt = attempt,
		.attempt_open = saved == MODE_STARTING || saved == MODE_RUNNING,
		.has_checks = true,
		.candidate = true,
		.has_commit = true,
		.retry_max = 1,
	};
	uint32_t index;
	*w = (struct world){.engine = engine_new(&config)};
	assert_non_null(w->engine);
	assert_int_equal(
		engine_add_breaker(w->engine, &(struct engine_breaker_init){0}, &index), 0);
	assert_int_equal(
		engine_add_harness(w->engine, &(struct engine_harness_init){0}, &index), 0);
	assert_int_equal(engine_add_plan(w->engine, &plan, &index), 0);
	assert_int_equal(engine_add_task(w->engine, &task, &index), 0);
	assert_int_equal(engine_begin(w->engine, 0, &w->actions), 0);
}

/* An engine whose one task is in that mode. */
static void reach(struct world *w, enum engine_mode mode)
{
	switch (mode) {
	case MODE_PENDING:
		/* Waits for the time after a failure. */
		start(w, MODE_RUNNING, 1);
		assert_int_equal(step(w, (struct engine_event){.kind = EVENT_ENDED,
						 .outcome = OUTCOME_CRASHED}),
			0);
		assert_int_equal(step(w, (struct engine_event){.kind = EVENT_COMMITTED}), 0);
		break;
	case MODE_PREPARING:
		start(w, MODE_PENDING, 0);
		break;
	case MODE_COMMITTING:
	case MODE_UNCOMMITTED:
		start(w, MODE_RUNNING, 1);
		assert_int_equal(
			step(w, (struct engine_event){.kind = EVENT_ENDED, .outcome = OUTCOME_OK}),
			0);
		if (mode == MODE_UNCOMMITTED)
			assert_int_equal(step(w, (struct engine_event){.kind = EVENT_COMMITTED,
							 .result = RESULT_CANCELLED}),
				0);
		break;
	case MODE_GATING:
		start(w, MODE_CHECKABLE, 1);
		break;
	case MODE_MERGING:
		start(w, MODE_MERGEABLE, 1);
		break;
	default:
		start(w, mode, 1);
		break;
	}
	assert_string_equal(engine_mode_name((enum engine_mode)engine_task(w->engine, 0)->mode),
		engine_mode_name(mode));
}

static char answer(struct world *w, enum engine_event_kind kind)
{
	struct engine_task before = *engine_task(w->engine, 0);
	int r = step(w, (struct engine_event){.kind = kind, .outcome = OUTCOME_OK, .text = "test"});
	struct engine_task after = *engine_task(w->engine, 0);
	vec_foreach(a, &w->actions.list)
		if (a->kind == ACT_REFUSE)
			return memcmp(&before, &after, sizeof(before)) == 0 ? 'r' : '?';
	if (r == -EPROTO)
		return memcmp(&before, &after, sizeof(before)) == 0 ? 'x' : '?';
	if (r < 0)
		return '!';
	bool changed = memcmp(&before, &after, sizeof(before)) != 0 || w->actions.list.count > 0;
	/* A resume of what is not paused changes nothing, but it is taken. */
	return changed || kind == EVENT_RESUME ? '>' : '.';
}

static void test_every_cell(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++) {
		assert_int_equal(strlen(expected[i].cells), EVENT_TASK_COUNT);
		for (int kind = 0; kind < EVENT_TASK_COUNT; kind++) {
			struct world w;
			reach(&w, expected[i].mode);
			char got = answer(&w, (enum engine_event_kind)kind);
			if (got != expected[i].cells[kind])
				fail_msg("mode %s, event %d: expected '%c', got '%c'",
					engine_mode_name(expected[i].mode), kind,
					expected[i].cells[kind], got);
			engine_actions_deinit(&w.actions);
			engine_free(w.engine);
		}
	}
}

static void test_a_saved_status_goes_on_somewhere(void **state)
{
	(void)state;
	for (int s = 0; s < TASK_STATUS_COUNT; s++) {
		enum engine_mode mode = engine_mode_found((enum task_status)s, true);
		assert_int_equal(engine_mode_status(mode), s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_cell),
		cmocka_unit_test(test_a_saved_status_goes_on_somewhere),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
