/* SPDX-License-Identifier: MIT */
/*
 * orch-sim [--seed N] [--steps N] [--replay] [--trace]
 * Runs simulated dispatches until so many engine steps were made, each from a seed of its own. With
 * --seed exactly that one run is made again. With --replay each engine is recorded, and replayed
 * when it ends or crashes.
 */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t sim_seed;

#define DISPATCHES 60 /* of one plan, before its remaining failures are taken as they are */

/* Something a person or the machine does, between two things that happen by themselves. */
static bool disturb(struct world *w)
{
	struct engine_event ev = {.plan = ENGINE_NONE, .text = "sim"};
	uint32_t i = (uint32_t)(world_random(w) % w->n_tasks);
	ev.task = i;
	switch (world_random(w) % 15) {
	case 0:
		if (w->draining || !world_chance(w, 20))
			return true;
		w->draining = true;
		w->cancelled_at = w->now;
		ev.kind = EVENT_CANCEL;
		break;
	case 1:
		if (!w->draining)
			return true;
		ev.kind = EVENT_KILL;
		break;
	case 2:
		ev.kind = EVENT_APPROVE;
		break;
	case 3:
		ev.kind = EVENT_REJECT;
		break;
	case 4:
		ev.kind = EVENT_RETRY;
		ev.carry = world_chance(w, 50);
		break;
	case 5:
		ev.kind = EVENT_PAUSE;
		break;
	case 6:
	case 7:
		ev.kind = EVENT_RESUME;
		break;
	case 8:
		ev.kind = EVENT_HOLD;
		w->hold = true;
		break;
	case 9:
		ev.kind = EVENT_RELEASE;
		w->hold = false;
		break;
	case 10:
		ev.kind = EVENT_USAGE;
		ev.tokens = 100;
		break;
	case 12:
		ev.kind = EVENT_PLAN_PAUSE;
		w->plan_paused = true;
		break;
	case 13:
		ev.kind = EVENT_PLAN_RESUME;
		w->plan_paused = false;
		break;
	case 11:
		if (w->faulted || !world_chance(w, 10))
			return true;
		w->faulted = true;
		ev.kind = EVENT_FAULT;
		ev.halt = HALT_IO_ERROR;
		break;
	default:
		ev.kind = EVENT_OVERRIDE;
		break;
	}
	return world_step(w, ev);
}

/* Nothing will happen by itself: a person must have paused something, or memory is short. */
static bool wake(struct world *w)
{
	bool woken = w->hold || w->plan_paused;
	w->hold = w->plan_paused = false;
	if (!world_step(w, (struct engine_event){.kind = EVENT_RELEASE, .plan = ENGINE_NONE}))
		return false;
	if (!world_step(w, (struct engine_event){.kind = EVENT_PLAN_RESUME, .plan = ENGINE_NONE}))
		return false;
	for (uint32_t i = 0; w->engine && i < w->n_tasks; i++) {
		if (!engine_task(w->engine, i)->paused)
			continue;
		woken = true;
		struct engine_event ev = {.kind = EVENT_RESUME, .task = i, .plan = ENGINE_NONE};
		if (!world_step(w, ev))
			return false;
	}
	if (!woken && !engine_is_done(w->engine))
		check_fail(w, "stuck: nothing under way and not done");
	return true;
}

static void dispatch_once(struct world *w)
{
	world_boot(w);
	while (!engine_is_done(w->engine)) {
		if (world_chance(w, 10) && !disturb(w)) {
			world_crash(w);
		} else if (w->engine && !world_advance(w) && !wake(w)) {
			world_crash(w);
		}
		if (!w->engine)
			world_boot(w);
	}
	world_close(w);
}

static struct world run(uint64_t seed, struct buf *record, bool trace)
{
	static struct world w;
	sim_seed = seed;
	world_init(&w, seed);
	w.trace = trace;
	w.record = record;
	int n = 0;
	do {
		dispatch_once(&w);
	} while (w.plan_status == PLAN_HALTED && ++n < DISPATCHES && world_chance(&w, 95));
	check_end(&w);
	return w;
}

static uint64_t argument(int argc, char **argv, const char *name, uint64_t otherwise)
{
	for (int i = 1; i + 1 < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return strtoull(argv[i + 1], NULL, 10);
	return otherwise;
}

static bool flag(int argc, char **argv, const char *name)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return true;
	return false;
}

int main(int argc, char **argv)
{
	CLEANUP_BUF struct buf lines = BUF_INIT;
	struct buf *record = flag(argc, argv, "--replay") ? &lines : NULL;
	uint64_t seed = argument(argc, argv, "--seed", 0);
	if (seed) {
		struct world w = run(seed, record, flag(argc, argv, "--trace"));
		printf("seed %llu: %llu steps, %llu crashes, ended %s\n", (unsigned long long)seed,
			(unsigned long long)w.steps, (unsigned long long)w.crashes,
			plan_status_name(w.plan_status));
		return 0;
	}
	uint64_t wanted = argument(argc, argv, "--steps", 100000), steps = 0, crashes = 0, runs = 0;
	uint64_t first = (uint64_t)time(NULL) * 1000003;
	printf("seeds from %llu\n", (unsigned long long)first);
	fflush(stdout);
	while (steps < wanted) {
		struct world w = run(first + runs++, record, false);
		steps += w.steps;
		crashes += w.crashes;
	}
	printf("%llu runs, %llu steps, %llu crashes: all promises held\n", (unsigned long long)runs,
		(unsigned long long)steps, (unsigned long long)crashes);
	return 0;
}
