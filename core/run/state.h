/* SPDX-License-Identifier: MIT */
/* What the parts of core/run share; nobody else includes this. See run.h. */
#ifndef RUN_STATE_H
#define RUN_STATE_H

#include "base/buf.h"
#include "base/map.h"
#include "base/str.h"
#include "base/vec.h"
#include "lifecycle/lifecycle.h"
#include "run/environ.h"
#include "run/run.h"

#include <jansson.h>
#include <pthread.h>
#include <uv.h>

struct run;
struct live;
struct rplan;
struct hook;

/* ---- jobs: work for a thread, with its answer on the loop (job.c) ---- */

struct job {
	struct job *next;
	struct run *run;
	struct live *live; /* NULL: not for a task */
	int cancel_fd;     /* eventfd; readable once cancelled */
	bool cancelled;
	/* On a worker thread: touches only the job's own data and what is read-only. */
	void (*perform)(struct job *job);
	/* On the loop; the job is freed afterwards by its own free function. */
	void (*done)(struct job *job);
	void (*free)(struct job *job);
	int result;
	struct err err;
};

/*
 * The threads. libuv's own would end the process where one cannot be made; here the job is refused,
 * and the machine is short of something.
 */
struct workers {
	bool open;
	uv_async_t wake; /* of the loop: a job is done */
	pthread_mutex_t lock;
	pthread_cond_t work;
	/* Under the lock: */
	struct job *todo, **todo_end, *done, **done_end;
	unsigned queued, idle;
	bool ending;
	/* The loop's: */
	pthread_t threads[4];
	unsigned count;
};

int jobs_open(struct run *r, struct err *e) MUST_CHECK;
/* Waits for what is under way; no `done` is called any more. */
void jobs_close(struct run *r);

/* Takes ownership of job whatever happens; -ENOMEM, -errno: then done was not called and never
 * will. */
int job_start(struct run *r, struct live *live, struct job *job, struct err *e) MUST_CHECK;
void job_cancel(struct job *job);
/* For perform: how to call git from this job. */
struct git_ctx job_git(struct job *job, int64_t timeout_ms);

/* ---- watches: units on the loop (watch.c) ---- */

struct watch {
	uv_poll_t poll;
	struct run *run;
	struct live *live;
	struct unit *unit;
	void *ctx;
	bool ended;
	bool closing;
	bool paused; /* it is to stand still */
	bool frozen; /* its keeper says that the whole tree stands still */
	/* started: the first process runs. journal: it has grown. */
	void (*started)(struct watch *w);
	void (*journal)(struct watch *w);
	/* The unit is over; x is the watch's own, valid during the call. Comes exactly once. */
	void (*over)(struct watch *w, struct unit_exit *x);
	int64_t backup_at; /* the engine's own deadline behind the keeper's, mono ms */
	int64_t limit_ms;  /* how long from now the backup deadline is, as of the last start or
			      resume */
	int64_t waits_until, waits_ms; /* announced: until when, wall clock; how long in all */
	bool killed;                   /* it is to end */
	bool abandoned;
};

/* Starts a unit and watches it. 0: it comes to its `over`, perhaps before this returns; else
 * nothing of it ever ran. */
int watch_start(struct run *r, struct live *live, const struct unit_spec *spec, char *const *envp,
	const struct watch *callbacks, struct watch **ret, struct err *e) MUST_CHECK;
/* Watches a unit that was adopted; consumes it. */
int watch_adopted(struct run *r, struct live *live, struct unit *unit,
	const struct watch *callbacks, struct watch **ret, struct err *e) MUST_CHECK;
/* Its agent said at `at` that it waits until then (wall clock, ms): neither the keeper's deadline
 * nor ours runs meanwhile. */
void watch_note_wait(struct watch *w, int64_t at, int64_t until);
void watch_kill(struct watch *w, bool hard, const char *reason, int64_t kill_after_ms);
/* Frees it once the loop lets go of it; no callback comes any more. */
void watch_close(struct watch *w);
/* Words for the agent. */
int watch_send(struct watch *w, const char *text, struct err *e) MUST_CHECK;
/* Pauses or resumes the unit; its backup deadline stands still meanwhile. */
void watch_pause(struct watch *w);
void watch_resume(struct watch *w);
void watch_check_backups(struct run *r, int64_t now);

/* ---- tasks under way ---- */

struct live {
	struct run *run;
	struct rplan *plan;
	uint32_t index; /* in the engine */
	int64_t id;
	char *name;
	char *harness;
	char *prompt;
	char *command;
	char *branch;
	char *worktree; /* NULL: isolation = none */
	char *session;
	char *last_stat; /* what the last attempt had changed; NULL: nothing, or not known */
	int64_t timeout_ms;
	uint32_t attempt;
	struct git_oid start;  /* the commit the attempt began at */
	struct git_oid commit; /* of the attempt */
	char unit_id[UNIT_ID_LEN + 1];
	struct watch *agent;
	struct watch *command_unit; /* set-up, or an invariant of its gate */
	struct command *in_hand;    /* the same, also while it waits for a shortage to end */
	struct job *job;
	struct judge *judge;
	struct merge *merge;
	void (*bench_ready)(struct live *l, const char *dir, const struct err *e);
	int64_t journal_offset;
	int64_t usage_sum[4];
	double cost_sum;
	bool usage_is_total;    /* the harness counts for the whole attempt */
	struct map usage_by_id; /* message id -> struct usage_seen, owned */
	/* How the agent ended, for the event that follows its commit. */
	char *ended_text;
	int64_t ended_until;
	enum outcome ended_outcome;
	bool cancel; /* the engine wants what is under way (job, command) to end, and to hear
			CANCELLED */
	bool hard;
	bool started;
	bool tamper_due; /* nobody has looked at the shared repository since its agent began */
	bool carried;    /* the worktree holds the last attempt's work */
};

struct rplan {
	struct run *run;
	uint32_t index; /* in the engine */
	int64_t id;
	char *name;
	char *setup;
	char **copy;
	enum engine_admit admit;
	uint32_t cap;
	bool worktrees;
	struct git_oid tip; /* what its integration branch must hold; "": not looked at yet */
	bool mentioned;     /* asked for, not only found */
	bool halted;        /* in this run, for: */
	enum halt_reason halt;
	char *merge_worktree;
	/* The merge worktree is one: its users take turns. */
	struct bench_waiter *bench_head, *bench_tail;
	bool bench_busy;
	bool tidying; /* the merge worktree is being removed */
	struct live *bench_owner;
};

/* The shared repository as tamper.c saw it. */
struct tamper_view {
	char *text; /* NULL: could not look */
	int64_t at; /* monotonic ms, before it was looked */
};

struct record;
struct found; /* reconcile.c: what became of the units of an earlier engine */

struct run {
	struct run_options options;
	const struct site *site;
	const struct config *config;
	struct store *store;
	struct lifecycle *lifecycle;
	struct engine *engine;
	struct record *record; /* NULL: what the engine is told is not recorded */
	uv_loop_t loop;
	bool loop_open;
	uv_prepare_t prepare;
	uv_check_t check;
	uv_timer_t timer;  /* engine_next_time */
	uv_timer_t flush;  /* a transaction that nothing waits for */
	uv_timer_t backup; /* deadlines behind the keepers', memory and disk */
	uv_timer_t tick;
	uv_timer_t giveup; /* some time after the drain, or half a second after the second signal */
	uv_timer_t shortage; /* short_until */
	uv_poll_t signals;
	struct VEC(struct rplan *) plans;
	struct map harnesses;           /* name -> index + 1 */
	struct map breakers;            /* name of a credential -> index + 1 */
	struct VEC(struct live *) live; /* by engine index; NULL: nothing under way */
	struct VEC(struct engine_event) inbox;
	struct VEC(char *) inbox_texts; /* owned texts of the inbox's events */
	struct engine_actions actions;
	struct engine_actions
		unsaved; /* saved in the open transaction, not yet told to the listener */
	struct found *found;
	size_t found_left;
	struct VEC(uint32_t) unwanted; /* tasks that are over and still have a worktree */
	struct run_request request;
	bool have_request;
	uint32_t request_at; /* in the engine; ENGINE_NONE before it was posted */
	char *refused;
	int git_lock;
	char boot_id[40];
	char **unit_env; /* what every unit gets */
	char *plugin_path;
	int64_t clock_base; /* wall clock minus monotonic, at the start */
	int64_t last_signal_ms;
	uint32_t jobs, watches;
	uint64_t ended, ended_before; /* jobs and units; as of the last look after a stop */
	struct workers workers;
	struct tamper_view tamper;               /* the shared repository as it is known */
	struct VEC(struct git_ref_update) moves; /* of refs, announced by orch's own; refs owned */
	struct hook *hooks; /* running, or waiting for their turn; oldest first */
	uint32_t hooks_running;
	void (*observer)(void *ctx);
	void *observer_ctx;
	bool over; /* everything has halted: nothing more is taken up */
	bool begun;
	bool interrupted, killed, aborted;
	bool database_gone; /* it was told */
	bool held, told_parked;
	int64_t short_until; /* monotonic ms: nothing starts before, after a shortage */
	uint32_t short_row;  /* such waits since something has run to its end */
	struct err short_err;
	bool closing;
	int failed; /* negative: run_execute ends with this error */
	struct err err;
};

/* run.c */
int64_t run_now(const struct run *r);
/* Queues an event for this turn; text is copied. */
void run_post(struct run *r, struct engine_event ev, const char *text);
void run_post_task(struct run *r, const struct live *l, enum engine_event_kind kind,
	enum engine_result result, const char *text);
/* Opens the turn's transaction if there is none. An error has become a fault when this returns it.
 */
int run_tx(struct run *r) MUST_CHECK;
/*
 * A start failed: true when the machine was at fault, and nothing is to be held against the task.
 * Of a disk that fails or is full the dispatch ends, with 74. Where descriptors, processes or
 * memory are short, which others may give back, nothing starts for a while; 74 when that was of no
 * use several times in a row, and nothing of ours runs that could give some back.
 */
bool run_machine_failed(struct run *r, const struct err *e);
/* Something failed, and the engine knows what became of every task: it winds all down, and halts
 * with io_error or internal_error. */
void run_fault(struct run *r, const struct err *e);
/* The engine cannot be told what became of a task: it ends here, what this turn has not committed
 * is as after a crash, and the next engine asks the keepers. code is negative. */
void run_fail(struct run *r, int code, const struct err *e);
void run_warn(struct run *r, const char *fmt, ...) PRINTF_LIKE(2, 3);
void run_activity(struct run *r, const struct live *l, const char *text);

/* An event of l's attempt; consumes data, and takes NULL for want of memory (live.c). */
int run_event(const struct live *l, const char *kind, json_t *data, struct err *e) MUST_CHECK;
/* A line in the log of l's attempt. */
int run_note(const struct live *l, const char *text, struct err *e) MUST_CHECK;
/* A high finding of l's attempt; in a transaction (tamper.c). */
int run_finding(
	const struct live *l, const char *title, const char *body, struct err *e) MUST_CHECK;
/* The plan's branch was moved or removed by somebody, and put back: a finding of l's attempt, or
 * for NULL of nobody's. */
void merge_mended(struct run *r, struct rplan *p, const struct live *l);

/* Whether this engine is here for one decision, and the task is none that the decision is about. */
bool run_is_beside(const struct run *r, uint32_t task);

/* turn.c */
void run_turn(struct run *r);
/* A database that was removed is a fault, told once; the next turn takes it first. */
void turn_check_database(struct run *r);
void run_flush(struct run *r);

/* live.c */
struct live *live_new(struct run *r, uint32_t index, struct err *e) MUST_CHECK;
void live_free(struct live *l);
struct live *live_get(struct run *r, uint32_t index);
void live_drop_if_idle(struct run *r, uint32_t index);

/* agent.c */
void usage_forget(struct live *l);
void agent_start(struct live *l);
void agent_kill(struct live *l, const struct engine_action *a);
/* For a unit of an earlier engine: how much of its journal that one has stored. */
int agent_recall(struct live *l, struct err *e) MUST_CHECK;
int agent_watch_adopted(struct live *l, struct unit *unit, struct err *e) MUST_CHECK;
/* The attempt's agent has ended, in this life of the engine or before it. */
void agent_over(struct live *l, int unit_dirfd, struct unit_exit *x);

/* prompt.c: the whole prompt of an attempt; owned. */
int prompt_build(struct live *l, char **ret, struct err *e) MUST_CHECK;

/* environ.c */
int environ_for_harness(struct run *r, const char *harness, char ***ret, struct err *e) MUST_CHECK;

/* work.c: what happens in worktrees */
void work_prepare(struct live *l, bool carry);
void work_commit(struct live *l, enum outcome outcome, enum outcome unchanged);
void work_discard(struct live *l);
int64_t work_git_timeout_ms(void);

/* tamper.c */
void tamper_view_deinit(struct tamper_view *v);
/* On a worker thread. */
void tamper_look(const struct git_ctx *ctx, struct tamper_view *ret);
void tamper_forget(struct run *r);
/* Before the agent of an attempt starts, and after it has ended; inside a transaction. */
int tamper_begin(struct live *l, struct tamper_view *v, struct err *e) MUST_CHECK;
/* In place of tamper_begin for an attempt that an earlier engine has begun. */
int tamper_resume(struct live *l, struct err *e) MUST_CHECK;
int tamper_end(struct live *l, struct tamper_view *v, struct err *e) MUST_CHECK;

/* command.c: one command unit (a set-up command, an invariant), from start to its captured output.
 */
struct command_result {
	bool cancelled;
	bool failed_to_run; /* ours or the machine's fault; err says why */
	struct unit_exit exit;
	char *out, *errout; /* owned; bounded tails */
	struct err err;
};
typedef void (*command_fn)(struct live *l, struct command_result *result);
void command_run(struct live *l, enum unit_kind kind, const char *name, const char *command,
	const char *cwd, int64_t timeout_ms, command_fn done);
void command_cancel(struct live *l);
/* Whether it waits for a shortage to end; and: that is over, it tries again. */
bool command_waits(const struct live *l);
void command_resume(struct live *l);

/* gate.c: invariants in a directory, in order, with baseline and cache. */
void gate_start(struct live *l);
/* Forgets the one that is under way. */
void gate_drop(struct live *l);
enum gate_stage {
	GATE_STAGE_TASK,  /* in the task's worktree, after the commit */
	GATE_STAGE_MERGE, /* in the merge worktree, on the merged tree */
};
struct gate_verdict {
	bool cancelled;
	bool faulted;
	bool green;
	char *text; /* which invariants are red; owned */
};
typedef void (*gate_fn)(struct live *l, const struct gate_verdict *verdict);
/* tree: of what is judged, for the cache; NULL: do not use it. */
void gate_judge(struct live *l, enum gate_stage stage, const char *dir,
	const struct git_oid *commit, const struct git_oid *tree, gate_fn done);

/* merge.c */
void merge_start(struct live *l);
/* bench: the plan's merge worktree, clean at a commit with copy and set-up done; `ready` is called
 * with NULL when it could not be made (err says why). */
struct bench_waiter {
	struct live *live;
	struct git_oid commit;
	void (*ready)(struct live *l, const char *dir, const struct err *e);
	struct bench_waiter *next;
};
void bench_take(struct live *l, const struct git_oid *commit,
	void (*ready)(struct live *l, const char *dir, const struct err *e));
/* Nothing happens when it is not l's. */
void bench_release(struct live *l);
/* Takes it out of the queue, if it is there: ready is called with NULL. */
void bench_cancel(struct live *l);

/* reconcile.c */
int reconcile_start(struct run *r, struct err *e) MUST_CHECK;
/* The mode in which a task of that saved status goes on. */
enum engine_mode reconcile_mode(struct run *r, const struct task_row *row);
/* The worktrees in which agents still run; owned strv. Before load_engine. */
int reconcile_worktrees(struct run *r, char ***ret, struct err *e) MUST_CHECK;
/* After engine_begin: adopted units are watched, ended ones reported. */
void reconcile_finish(struct run *r);
void reconcile_free(struct run *r);

/* mend.c */
/* Takes git.lock and removes what a killed git left, once, when the first plan with worktrees
 * comes. */
int mend_start(struct run *r, struct err *e) MUST_CHECK;
/* Holds starts back while memory or disk is short. */
void room_check(struct run *r);
/* For `orch status`: why nothing starts; NULL: nothing keeps it any more. */
void room_tell(struct run *r, const char *why);

/* halt_commit.c: blocks for git, five seconds at most. */
void halt_commit(struct run *r, struct rplan *p, enum halt_reason reason);

/* hook.c: the operator's hooks; none of them holds anything up but the end of the run. */
void hook_change(struct run *r, const struct run_change *change);
void hook_halt(struct run *r, const struct rplan *p);
/* Until all have ended, half a minute at most. */
void hook_wait(struct run *r);
void hook_end_all(struct run *r);

/* tidy.c */
/* Whether nobody will look into the worktree of a task in that state any more: its work is in its
 * commit (keep_worktrees). */
bool tidy_is_unwanted(const struct run *r, enum task_status status, enum outcome outcome);
void tidy_start(struct run *r);
void tidy_plan(struct run *r, struct rplan *p);

/* load.c */
int load_plans(struct run *r, struct err *e) MUST_CHECK;
int load_engine(struct run *r, struct err *e) MUST_CHECK;
/* How long agents have to end once they were asked. */
int64_t run_drain_ms(const struct run *r);
/* What a plan's row means to the engine, with the options of this run. */
void load_plan_init(const struct run *r, const struct plan_row *row, struct engine_plan_init *ret);
/* A plan whose rows were changed while it is under way: tasks that never started are taken out and
 * added anew; they count from the next engine_begin. */
int load_changed(struct run *r, struct rplan *p, struct err *e) MUST_CHECK;
/* A further plan for an engine that runs; nothing happens before the next engine_begin. */
int load_more(struct run *r, int64_t plan_id, enum engine_admit admit, uint32_t cap,
	struct rplan **ret, struct err *e) MUST_CHECK;

#endif
