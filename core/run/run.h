/* SPDX-License-Identifier: MIT */
/*
 * The edge: carries out what the engine decides. One thread with a libuv loop; git runs on worker
 * threads, agents and invariants under their keepers. Per turn of the loop: every event to the
 * engine, one transaction with all it wants saved, then its actions.
 *
 * Use: run_new, run_add_plan for each plan, run_execute (blocks until everything asked for has
 * ended), run_free.
 */
#ifndef RUN_RUN_H
#define RUN_RUN_H

#include "base/err.h"
#include "engine/engine.h"
#include "run/select.h"
#include "run/site.h"
#include "store/store.h"

#include <stdbool.h>
#include <stdint.h>

struct run;

/* A transition that is durable now. Strings are borrowed during the call. */
struct run_change {
	const char *plan;
	const char *task;
	const char *from;
	const char *to;
	int64_t attempt;
	const char *outcome; /* "" while the attempt is open */
	const char *reason;  /* NULL: none */
};

struct run_halt {
	int64_t plan_id;
	const char *plan;
	enum halt_reason reason;
	uint32_t also;
};

/* What a front end wants to hear; each may be NULL. Called on the loop's thread. */
struct run_listener {
	void *ctx;
	void (*change)(void *ctx, const struct run_change *change);
	/* The newest thing the agent said or did, for a live display. */
	void (*activity)(void *ctx, const char *plan, const char *task, const char *text);
	void (*halt)(void *ctx, const struct run_halt *halt);
	void (*warning)(void *ctx, const char *text);
	void (*tick)(void *ctx); /* every tick_ms */
	uint64_t tick_ms;
};

struct run_options {
	const struct site *site;
	struct store *store;             /* opened STORE_WRITE, the lock held; borrowed */
	const char *harness;             /* overrides every task's; NULL: no override */
	int64_t max_agents;              /* 0: as configured */
	int64_t task_timeout_ms;         /* 0: as the tasks and the configuration say */
	int64_t drain_timeout_ms;        /* < 0: as configured */
	const struct run_select *select; /* of the plans that are dispatched; NULL: all tasks */
	int signal_fd;                   /* signalfd of the stop signals; -1: none */
	/* After a run that failed: adopt what it left, end it, save what came of it, halt for that
	 * reason. */
	bool wind_down;
	enum halt_reason wind_down_for;
	struct run_listener listener;
};

/* An operator's request. */
struct run_request {
	enum engine_event_kind kind; /* EVENT_APPROVE, EVENT_RETRY, EVENT_PLAN_PAUSE, ... */
	int64_t plan_id;
	int64_t task_id; /* 0: the plan as a whole; plan_id 0 too: every plan */
	const char *text;
	bool carry;
};

int run_new(const struct run_options *options, struct run **ret, struct err *e) MUST_CHECK;
void run_free(struct run *r);
DEFINE_FREEP(run_freep, struct run, run_free)

/* Plans with units under way are taken along with ADMIT_NONE whether or not they are added. */
int run_add_plan(struct run *r, int64_t plan_id, enum engine_admit admit, uint32_t cap,
	struct err *e) MUST_CHECK;
/* The first event of the run. */
void run_set_request(struct run *r, const struct run_request *request);

/*
 * 0 when the engine came to its end (ask run_halt_status); negative for an error of ours.
 * *ret_refused (may be NULL; owned): why the operator's request was refused, or NULL.
 */
int run_execute(struct run *r, char **ret_refused, struct err *e) MUST_CHECK;

/*
 * Whether what is stored of the task refuses the request: then nothing begins, and all is left as
 * it is. *ret_refused (owned): why, NULL: it may be asked.
 */
int run_refuses(struct store *s, const struct run_request *request, char **ret_refused,
	struct err *e) MUST_CHECK;

/*
 * For a server on the run's loop, between two turns: each is durable when it returns.
 * run_operate carries a request out, loading its plan first where that is not under way.
 * *ret_refused (owned) says why the state does not allow it, NULL: done. run_submit dispatches a
 * further plan.
 */
int run_operate(struct run *r, const struct run_request *request, char **ret_refused,
	struct err *e) MUST_CHECK;
/*
 * A person's words for the agent that works at the task. *ret_refused (static) says why there is
 * none to hear them, NULL: they are handed over.
 */
int run_send(struct run *r, int64_t task_id, const char *text, const char **ret_refused,
	struct err *e) MUST_CHECK;
/* `plan set` on a plan that may be under way: stored, and taken up by the engine. See change_set.
 */
int run_set(struct run *r, int64_t plan_id, const char *task, char *const *settings,
	char ***ret_refused, struct err *e) MUST_CHECK;
/* `plan import`, `plan remove`, `plan reset` likewise; see change.h. */
int run_import(struct run *r, const struct plan *plan, enum plan_status status, int64_t *ret_id,
	char ***ret_refused, struct err *e) MUST_CHECK;
int run_remove(struct run *r, int64_t plan_id, const char *task, char ***ret_refused,
	struct err *e) MUST_CHECK;
int run_reset(struct run *r, int64_t plan_id, size_t *ret_count, struct err *e) MUST_CHECK;
/* Forgets a plan that is not under way (status 1 when it is). */
int run_forget(struct run *r, int64_t plan_id, struct err *e) MUST_CHECK;
int run_approve(struct run *r, int64_t plan_id, struct err *e) MUST_CHECK;
/* Status 1 while anything is, or may yet be, done for the plan; *ret_soon: only its worktrees are
 * being removed. */
int run_check_idle(const struct run *r, int64_t plan_id, bool *ret_soon, struct err *e) MUST_CHECK;
/* After a cleanup of a plan that is idle; see cleanup_forget. */
int run_clear(struct run *r, int64_t plan_id, struct err *e) MUST_CHECK;
/* Somebody of ours is about to move a ref that is not orch's own: no agent will have done it. */
int run_ref_moves(struct run *r, const struct git_ref_update *move, struct err *e) MUST_CHECK;
/* Whether every unit under way of the task (0: of the plan) stands still, as its keeper says. */
bool run_is_frozen(const struct run *r, int64_t plan_id, int64_t task_id);
int run_submit(struct run *r, int64_t plan_id, uint32_t cap, struct err *e) MUST_CHECK;
/* fn is called on the loop whenever something was committed; NULL: nobody any more. */
void run_observe(struct run *r, void (*fn)(void *ctx), void *ctx);
/* As a stop signal does: the first drains, the second ends everything at once. */
void run_stop(struct run *r);
struct uv_loop_s *run_loop(struct run *r);
struct store *run_store(struct run *r);
/* The engine has been started (before, everything waits for the units of an earlier one). */
bool run_is_up(const struct run *r);
/* Everything has halted and is saved; only hooks still run. */
bool run_is_over(const struct run *r);
/* Units under way. */
uint32_t run_unit_count(const struct run *r);

/*
 * The last resort, without a database: ends every unit of this state directory with its keeper.
 * Their ends are written beside them, so that the next start takes them up. Blocks, some seconds at
 * most a unit.
 */
int run_abandon_units(const struct site *site, struct err *e) MUST_CHECK;

/* Whether a stop signal was accepted, and whether a second one cut the drain short. */
bool run_interrupted(const struct run *r);
bool run_killed(const struct run *r);

#endif
