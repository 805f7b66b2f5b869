/* SPDX-License-Identifier: MIT */
/*
 * The engine decides and does nothing else: it is told what happened (struct engine_event) and
 * answers what is to be done (struct engine_action). It holds no clock, no descriptor, no database;
 * time comes in with each event. The same sequence of calls gives the same answers, so that a run
 * can be simulated and replayed.
 *
 * Order at the edge, for every step: all ACT_SAVE_* of the step are made durable in one
 * transaction, then the other actions are carried out. A crash between any two steps therefore has
 * one meaning, and an engine that is built anew from what was saved goes on where the old one was.
 *
 * Costs: every event is O(log n) in the number of tasks, or less; a task takes under 200 bytes.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "base/cleanup.h"
#include "base/err.h"
#include "base/vec.h"
#include "plan/plan.h"
#include "plan/words.h"

#include <stdbool.h>
#include <stdint.h>

#define ENGINE_NONE UINT32_MAX
#define TIME_NEVER  INT64_MAX

/* ---- what the engine knows of a task ------------------------------------------------------------
 */

/*
 * A mode is a task's status plus the one thing that is under way for it. The status is what is
 * saved; the rest is found out again after a crash.
 */
#define ENGINE_MODE_LIST(X) \
	X(PENDING, PENDING)        /* waits for dependencies, a slot, a time or a harness */ \
	X(PREPARING, ASSIGNED)     /* ACT_PREPARE is under way */ \
	X(STARTING, ASSIGNED)      /* ACT_START is under way */ \
	X(RUNNING, RUNNING)        /* the agent runs */ \
	X(COMMITTING, RUNNING)     /* the agent has ended, ACT_COMMIT is under way */ \
	X(UNCOMMITTED, RUNNING)    /* its commit could not be made; the next start makes it */ \
	X(CHECKABLE, CHECKING)     /* waits to be gated (after a restart or a cancel) */ \
	X(GATING, CHECKING)        /* ACT_GATE is under way */ \
	X(REVIEW, AWAITING_REVIEW) /* waits for a person */ \
	X(MERGEABLE, INTEGRATING)  /* waits for its turn to be merged */ \
	X(MERGING, INTEGRATING)    /* ACT_MERGE is under way */ \
	X(PASSED, PASSED) \
	X(FAILED, FAILED)       /* cut off by an interrupt; the next start tries again */ \
	X(ESCALATED, ESCALATED) /* a person must decide */

enum engine_mode {
#define X(mode, status) MODE_##mode,
	ENGINE_MODE_LIST(X)
#undef X
		MODE_COUNT,
};

/*
 * The mode in which a task of a saved status goes on in a new engine. `ran`: a process of its
 * newest attempt has existed (for assigned; the caller then sends STARTED).
 */
enum engine_mode engine_mode_found(enum task_status saved, bool ran);
enum task_status engine_mode_status(enum engine_mode mode);
const char *engine_mode_name(enum engine_mode mode);

struct engine_task {
	int64_t id;         /* the caller's own number; the engine only hands it back */
	int64_t not_before; /* ms: no new attempt before this time */
	uint64_t tokens;
	uint64_t token_budget; /* 0: none */
	uint32_t plan;
	uint32_t harness;
	uint32_t attempt; /* number of the newest attempt, 0: none yet */
	uint32_t deps_left;
	uint32_t first_successor; /* into the engine's list of edges */
	uint32_t flight;          /* position in the list of tasks under way, or ENGINE_NONE */
	uint32_t next_waiting;    /* chain of tasks that wait for one harness */
	int32_t priority;
	uint16_t retry_max;
	uint16_t retries_used;
	uint8_t mode;     /* enum engine_mode */
	uint8_t outcome;  /* enum outcome of the newest attempt */
	uint8_t kill_why; /* enum outcome to record because we asked the agent to end, or
			     OUTCOME_NONE */
	uint8_t gate;     /* enum gate */
	uint8_t lost_row; /* attempts lost in a row */
	uint8_t conflict_row;
	uint8_t unchanged_row;
	uint16_t stage;        /* SELECT_TARGETS: of the first target that needs it */
	bool attempt_open : 1; /* the newest attempt has a number but has not ended */
	bool has_checks : 1;   /* it has invariants */
	bool allow_empty : 1;
	bool candidate : 1; /* may be started by this dispatch, now */
	bool chosen : 1;    /* may be, in this stage or a later one */
	bool gone : 1;      /* taken out of the plan before it ever started */
	bool broke : 1;     /* its harness has spent what it may in this plan */
	bool paused : 1;
	bool approved : 1;     /* a person said yes; its work is never started over from zero */
	bool carry : 1;        /* the next attempt goes on from the last one's tree */
	bool has_commit : 1;   /* the newest attempt's tree is committed */
	bool queued : 1;       /* in its plan's ready queue, the delay queue or a harness's chain */
	bool parked : 1;       /* paused, and could start otherwise */
	bool unchanged_ok : 1; /* the newest attempt may be empty: the agent said there is nothing
				  to do */
};

/* ---- setting up ---------------------------------------------------------------------------------
 */

struct engine_call;

struct engine_config {
	uint32_t max_agents; /* over all plans */
	int64_t drain_ms;
	int64_t backoff_ms;
	int64_t backoff_max_ms;
	int64_t max_wait_ms; /* the longest announced wait for a harness that is worth waiting for
			      */
	uint32_t breaker;    /* attempts failed in a row in a plan, 0: no limit */
	uint64_t seed;       /* for the jitter of backoffs */
	/* Nothing starts; what is under way is to be wound down for this reason (send EVENT_FAULT).
	 */
	bool winding_down;
	enum halt_reason fault;
	/* engine_begin starts nothing: EVENT_CANCEL follows at once. */
	bool stopping;
	/* It starts nothing before EVENT_RELEASE. */
	bool hold;
	/* Is told of each call that changes the engine, and of its answer (call.h). NULL: nobody.
	 */
	void (*tap)(void *ctx, const struct engine_call *call);
	void *tap_ctx;
};

/* What this engine may do for a plan. */
enum engine_admit {
	ADMIT_NONE,   /* agents under way run to their end and are committed; nothing else starts */
	ADMIT_FINISH, /* also gates and merges */
	ADMIT_ALL,    /* also new attempts */
};

enum engine_select {
	SELECT_ALL,
	SELECT_TARGETS, /* candidates are targets and what they depend on */
	SELECT_FILTER,
};

struct engine_plan_init {
	int64_t id;
	enum plan_status status;
	enum engine_admit admit;
	enum engine_select select;
	uint32_t max_agents; /* 0: only the engine's own limit */
	uint32_t cap;        /* attempts this dispatch may start, 0: no limit */
	uint64_t tokens;
	uint64_t token_budget;
	/* SELECT_TARGETS: how many targets there are, one after the other; 0 is 1. */
	uint16_t stages;
	bool auto_advance; /* a target that is blocked does not keep the next from its turn */
	bool worktrees;    /* isolation = worktree: attempts are committed and merged */
	bool paused;
};

struct engine_task_init {
	int64_t id;
	uint32_t plan;
	uint32_t harness;
	enum engine_mode mode; /* one of the modes of the saved status; PREPARING and GATING,
				  MERGING are not */
	enum outcome outcome;
	enum gate gate;
	int32_t priority;
	uint32_t attempt;
	uint16_t retry_max;
	uint16_t retries_used;
	uint8_t lost_row;
	uint8_t conflict_row;
	uint8_t unchanged_row;
	int64_t not_before;
	uint64_t tokens;
	uint64_t token_budget;
	bool attempt_open;
	bool has_checks;
	bool allow_empty;
	bool candidate; /* chosen; before its stage it waits */
	uint16_t stage;
	bool paused;
	bool approved;
	bool carry;
	bool has_commit;
};

/* What a limit or a refused login holds for: a credential, which several harnesses may have in
 * common. As it was saved: until when it is open (0: closed; TIME_NEVER: a person has to act, and
 * dispatching again is that), and how often in a row it was opened unasked. */
struct engine_breaker_init {
	int64_t open_until;
	uint32_t level;
};

struct engine_harness_init {
	uint32_t breaker;
	uint32_t max_agents;   /* 0: only the engine's own limit */
	uint64_t token_budget; /* of one plan through this harness, 0: none */
};

struct engine;

struct engine *engine_new(const struct engine_config *config);
void engine_free(struct engine *e);
DEFINE_FREEP(engine_freep, struct engine, engine_free)

/* Each returns the index of the new thing (from 0) in *ret, or -ENOMEM. All before engine_begin().
 */
int engine_add_breaker(
	struct engine *e, const struct engine_breaker_init *init, uint32_t *ret) MUST_CHECK;
int engine_add_harness(
	struct engine *e, const struct engine_harness_init *init, uint32_t *ret) MUST_CHECK;
int engine_add_plan(
	struct engine *e, const struct engine_plan_init *init, uint32_t *ret) MUST_CHECK;
int engine_add_task(
	struct engine *e, const struct engine_task_init *init, uint32_t *ret) MUST_CHECK;
/* `task` waits for `dependency`; both are of one plan and the graph has no cycle. */
int engine_add_dependency(struct engine *e, uint32_t task, uint32_t dependency) MUST_CHECK;

/* ---- events -------------------------------------------------------------------------------------
 */

/* Events about one task; the rows and columns of the state table. */
#define ENGINE_TASK_EVENT_LIST(X) \
	X(PREPARED)  /* DONE; FAILED with outcome and text; CANCELLED */ \
	X(STARTED)   /* the agent's first process exists */ \
	X(ENDED)     /* with outcome and text; CANCELLED: it never ran */ \
	X(COMMITTED) /* CANCELLED: could not be done now; DONE; UNCHANGED: no difference from the \
			start commit; FAILED: uncommittable */ \
	X(GATED)     /* DONE: green; FAILED: red, with text; CANCELLED */ \
	X(MERGED)    /* DONE; CONFLICT; FAILED: red, with text; CANCELLED */ \
	X(APPROVE)   /* operator; text: who and why, may be NULL */ \
	X(OVERRIDE)  /* operator: take an escalated task's last commit as it is */ \
	X(REJECT)    /* operator; text: the reason; carry: as with RETRY */ \
	X(RETRY) /* operator: try an escalated or failed task again; carry: from its last tree */ \
	X(PAUSE) \
	X(RESUME)

enum engine_event_kind {
#define X(event) EVENT_##event,
	ENGINE_TASK_EVENT_LIST(X)
#undef X
		EVENT_TASK_COUNT,
	EVENT_TICK = EVENT_TASK_COUNT, /* a time that engine_next_time() asked for has come */
	EVENT_CANCEL, /* stop: first signal, `orch stop`; plan ENGINE_NONE: all plans */
	EVENT_KILL,   /* stop at once: second signal */
	EVENT_USAGE,  /* `tokens` more (or fewer) were used by `task` */
	EVENT_PLAN_PAUSE,
	EVENT_PLAN_RESUME,
	EVENT_HOLD,    /* the machine is short of something: nothing starts */
	EVENT_RELEASE, /* it is there again */
	EVENT_FAULT,   /* our own error; halt: HALT_IO_ERROR or HALT_INTERNAL_ERROR */
};

enum engine_result {
	RESULT_DONE,
	RESULT_UNCHANGED,
	RESULT_CONFLICT,
	RESULT_FAILED,
	RESULT_CANCELLED,
};

struct engine_event {
	enum engine_event_kind kind;
	int64_t now; /* ms, on the clock of not_before: never goes back */
	uint32_t task;
	uint32_t plan;
	enum engine_result result;
	enum outcome outcome;
	enum halt_reason halt;
	const char *text; /* borrowed during the step */
	int64_t until;    /* ENDED with rate_limited: when the limit ends, 0: not told */
	int64_t tokens;   /* fewer when a total corrects what was counted before */
	bool carry;
	bool no_charge; /* ENDED with spawn_failed: the machine was at fault, no process ran */
};

/* ---- actions ------------------------------------------------------------------------------------
 */

enum engine_action_kind {
	ACT_SAVE_TASK, /* a transition: one row of history, the task's row, the attempt's row */
	ACT_SAVE_PLAN,
	ACT_SAVE_BREAKER, /* open_until, level */
	ACT_PREPARE, /* worktree, files to copy, set-up command; carry: from the last attempt's tree
		      */
	ACT_START,   /* the agent */
	ACT_KILL,    /* the agent; hard: SIGKILL of the tree, else through its harness */
	ACT_COMMIT,  /* the attempt's tree, with its outcome */
	ACT_GATE,    /* run the invariants in the task's worktree */
	ACT_MERGE,   /* merge, judge the merged tree, publish */
	ACT_CANCEL,  /* what is under way for the task (prepare, gate, merge): its event says
			CANCELLED */
	ACT_FREEZE,  /* pause the task's processes */
	ACT_THAW,
	ACT_HALT,   /* the plan's part of this dispatch is over */
	ACT_REFUSE, /* the operator's event does not fit the task's state; text says why */
};

struct engine_action {
	enum engine_action_kind kind;
	uint32_t task;
	uint32_t plan;
	/* ACT_SAVE_TASK: the values to store */
	enum task_status from;
	enum task_status to;
	enum outcome outcome; /* of the attempt; OUTCOME_NONE while it is open */
	enum outcome code;    /* the reason's code if it is an outcome, else OUTCOME_NONE and */
	enum verdict verdict; /* this one, else VERDICT_NONE: no reason */
	char *text;           /* owned; NULL: none */
	struct engine_task task_after; /* a copy, as of this transition */
	/* ACT_SAVE_PLAN, ACT_HALT */
	enum plan_status plan_status;
	bool halted;
	enum halt_reason halt;
	uint32_t also; /* bit mask of further halt reasons that hold */
	/* ACT_SAVE_BREAKER */
	uint32_t breaker;
	uint32_t level;
	int64_t open_until;
	/* ACT_KILL; ACT_COMMIT: the outcome where the tree is as it was at the start */
	bool hard;
	enum outcome why;
	int64_t kill_after_ms;
	/* ACT_PREPARE */
	bool carry;
};

struct engine_actions {
	struct VEC(struct engine_action) list;
};

#define ENGINE_ACTIONS_INIT ((struct engine_actions){0})
void engine_actions_deinit(struct engine_actions *a);
/* Frees the texts and empties the list, keeping its memory. */
void engine_actions_reset(struct engine_actions *a);

/* ---- running ------------------------------------------------------------------------------------
 */

/*
 * Starts what was added since the last call (a plan is added as a whole, between two steps).
 * Appends to *actions what is to be done first (failed tasks of interrupted runs become pending
 * where new attempts are admitted, assigned ones that never ran in any case; gates and merges are
 * done anew).
 */
int engine_begin(struct engine *e, int64_t now, struct engine_actions *actions) MUST_CHECK;
/*
 * One step. 0; -EPROTO when the event cannot happen in the task's mode (our own error: the message
 * names both; the engine's state is unchanged); -ENOMEM: what was appended must not be carried out,
 * and every further step says the same. An engine built anew from what was saved goes on.
 */
int engine_step(struct engine *e, const struct engine_event *event, struct engine_actions *actions,
	struct err *err) MUST_CHECK;

/*
 * Changes what the engine may do for a plan: an approval needs ADMIT_FINISH, a dispatch of a plan
 * that was loaded for its units ADMIT_ALL. A plan that had halted goes on. Only ever more is
 * admitted.
 */
int engine_admit(struct engine *e, uint32_t plan, enum engine_admit admit, uint32_t cap,
	int64_t now, struct engine_actions *actions) MUST_CHECK;

/* What may change of a task and a plan that have started (from the next attempt on, or at once). */
struct engine_task_change {
	enum gate gate;
	int32_t priority;
	uint16_t retry_max;
	uint64_t token_budget;
	bool has_checks;
};
void engine_change_task(struct engine *e, uint32_t task, const struct engine_task_change *change);
/* A budget that is raised lets the plan go on; take it up with EVENT_TICK. */
void engine_change_plan(
	struct engine *e, uint32_t plan, uint32_t max_agents, uint64_t token_budget);

/*
 * Takes a task out that never started (pending, no attempt) and that nothing depends on any more,
 * or whose dependents are taken out, too. A changed one is taken out and added again; what was
 * added counts from the next engine_begin.
 */
void engine_drop_task(struct engine *e, uint32_t task);
/* What was used of a plan through a harness before this engine. After the plan's tasks were added.
 */
int engine_add_spent(struct engine *e, uint32_t plan, uint32_t harness, uint64_t tokens) MUST_CHECK;

/* The next time at which the engine wants EVENT_TICK; TIME_NEVER: none. */
int64_t engine_next_time(const struct engine *e);
/* Nothing is under way for the plan, and if it was dispatched, it has halted. */
bool engine_plan_is_over(const struct engine *e, uint32_t plan);
/* That is so of every plan. */
bool engine_is_done(const struct engine *e);

/*
 * Whether an operator's event about a task in that mode would be refused, and why. `has_work`: the
 * newest attempt's tree is committed, or none need be.
 */
#define ENGINE_REFUSAL_MAX 200
bool engine_refuses(enum engine_mode mode, enum engine_event_kind kind, bool has_work,
	char ret[ENGINE_REFUSAL_MAX]);

/* Views; pointers are valid until the next engine_add_*. */
const struct engine_task *engine_task(const struct engine *e, uint32_t task);
uint32_t engine_task_count(const struct engine *e);
/* The task itself, or its plan, is paused. */
bool engine_is_paused(const struct engine *e, uint32_t task);
uint32_t engine_in_flight(const struct engine *e);
/* Tasks that wait for nothing but a resume, in the plans that are asked for. */
uint32_t engine_parked(const struct engine *e);
uint32_t engine_slots_used(const struct engine *e);
uint32_t engine_plan_count(const struct engine *e, uint32_t plan, enum task_status status);
/* Bytes of memory that the engine holds, for the benchmark. */
size_t engine_memory(const struct engine *e);

#endif
