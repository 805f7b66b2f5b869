/* SPDX-License-Identifier: MIT */
/*
 * A seeded world around the engine: agents that fail, hang and get lost, merges that conflict,
 * operators, and crashes between any two steps. Nothing in it looks at a clock; one seed is one
 * run.
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "base/buf.h"
#include "engine/engine.h"
#include "promise.h"

#include <stdbool.h>
#include <stdint.h>

#define MAX_TASKS    40
#define MAX_ATTEMPTS 64

/* What is under way outside of the engine for one task. */
enum job_kind {
	JOB_NONE,
	JOB_PREPARE,
	JOB_AGENT, /* survives a crash of the engine; all others die with it */
	JOB_COMMIT,
	JOB_GATE,
	JOB_MERGE,
};

/* An attempt's process, as its keeper would have recorded it. */
struct unit {
	bool exists;
	bool live;
	bool told_started; /* this engine has heard of the start */
	bool told_ended;
	bool no_charge; /* spawn_failed, by the machine's fault */
	bool has_host;  /* spawn_failed, and yet something of it was started */
	enum outcome outcome;
	enum outcome killed_for; /* OUTCOME_NONE: nobody asked it to end */
	bool killed_now;         /* by the engine that lives now */
	bool ignores_term;
	int64_t ends_at;
	int64_t kill_at;
};

struct sim_task {
	/* What never changes. */
	uint32_t deps[8];
	uint32_t n_deps;
	int fail_percent;
	bool cursed; /* its keepers die */
	/* The database. */
	struct saved db;
	/* The world. */
	struct unit units[MAX_ATTEMPTS];
	enum job_kind job;
	int64_t job_ends_at;
	bool job_cancelled;
	bool committed[MAX_ATTEMPTS];
	bool uncommittable[MAX_ATTEMPTS]; /* said so, by git */
	bool green[MAX_ATTEMPTS];         /* judged so */
	bool accepted;                    /* by a person, since its last attempt began */
	bool merged;                      /* the integration branch holds it */
	/* What the checks count. */
	int starts[MAX_ATTEMPTS];
	int closes[MAX_ATTEMPTS];
	int opens;
	/* Since a person had it tried again. */
	unsigned charged; /* so many retries */
	unsigned lost_row;
	bool free; /* its last failure used no retry */
};

struct world {
	uint64_t random;
	int64_t now;
	struct sim_task tasks[MAX_TASKS];
	uint32_t n_tasks;
	bool one_credential; /* of both harnesses */
	bool worktrees;
	uint32_t max_agents;
	uint32_t cap;
	struct engine_config config;
	enum plan_status plan_status;
	bool halted;
	enum halt_reason halt;
	uint32_t also;
	uint32_t started_this_run;
	struct engine *engine;
	bool engine_began;
	bool draining;
	bool faulted;
	bool plan_paused;
	bool hold;
	int64_t cancelled_at;
	enum engine_event_kind told; /* what the engine was told last */
	uint64_t steps;
	uint64_t crashes;
	bool trace;
	/* What the engine was told, to be replayed when it ends; NULL: it is not recorded. */
	struct buf *record;
};

uint64_t world_random(struct world *w);
bool world_chance(struct world *w, int percent);

void world_init(struct world *w, uint64_t seed);
/* A new engine over what the database and the keepers hold. */
void world_boot(struct world *w);
void world_crash(struct world *w);
/* The engine ends; one that was recorded is replayed, and must do the same again. */
void world_close(struct world *w);
/* Hands one event to the engine and carries its answer out, or crashes while doing so (returns
 * false). */
bool world_step(struct world *w, struct engine_event ev);
/* The next thing that happens by itself, at its time. False: nothing ever will. */
bool world_advance(struct world *w);

/* check.c: each aborts with the seed when a promise is broken. */
void check_fail(const struct world *w, const char *fmt, ...) PRINTF_LIKE(2, 3);
void check_save(struct world *w, uint32_t i, const struct engine_action *a);
void check_start(struct world *w, uint32_t i);
void check_live(struct world *w);
void check_halt(struct world *w);
void check_end(struct world *w);

#endif
