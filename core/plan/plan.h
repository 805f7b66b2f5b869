/* SPDX-License-Identifier: MIT */
/*
 * A plan: a named graph of tasks on one repository, as read from a plan file and checked as a
 * whole: a struct plan has no cycle, no unknown name and no value out of range. Tasks and
 * invariants keep the order of the file and refer to each other by index. Nothing here runs
 * anything.
 */
#ifndef PLAN_PLAN_H
#define PLAN_PLAN_H

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/diag.h"
#include "base/err.h"
#include "base/map.h"
#include "base/vec.h"
#include "config/invariant.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GATE_LIST(X) \
	X(AUTO, "auto") \
	X(HUMAN_REVIEW, "human_review") \
	X(HUMAN_APPROVE, "human_approve")
#define SCOPE_LIST(X) \
	X(NARROW, "narrow") \
	X(MEDIUM, "medium") \
	X(BROAD, "broad")
#define ISOLATION_LIST(X) \
	X(WORKTREE, "worktree") \
	X(NONE, "none")

#define X(id, name) GATE_##id,
enum gate { GATE_LIST(X) GATE_COUNT };
#undef X
#define X(id, name) SCOPE_##id,
enum scope { SCOPE_LIST(X) SCOPE_COUNT };
#undef X
#define X(id, name) ISOLATION_##id,
enum isolation { ISOLATION_LIST(X) ISOLATION_COUNT };
#undef X

const char *gate_name(enum gate v);
const char *scope_name(enum scope v);
const char *isolation_name(enum isolation v);

struct plan_tokens {
	int64_t input, output, cache_read, cache_write;
};

/* What a halt saved ([state], [state:TASK]); strings owned, NULL when not given. */
struct plan_state {
	char *status;    /* a word of plan/words.h: of the plan, or of the task */
	int64_t attempt; /* of a task; 0: none yet */
	char *outcome;   /* of a task */
	char *reason;
	char *commit;
	bool commit_absent; /* of whoever imports: it is not in the repository */
	struct plan_tokens tokens;
};

struct task {
	char *name;
	char *prompt;           /* prompt or command is set, or both; */
	char *command;          /* the text of a prompt_file is in prompt */
	char *harness;          /* NULL: the plan's */
	char *tag;              /* NULL: none */
	char **depends_on;      /* strv, as written; deps has the indices */
	char **invariant_names; /* strv, as written; invariants has the indices */
	uint32_t *deps;         /* into plan->tasks */
	uint32_t *invariants;   /* into plan->invariant_defs */
	uint32_t n_deps;
	uint32_t n_invariants;
	enum gate gate;
	enum scope scope;
	bool allow_empty;
	int64_t priority;         /* higher first */
	int64_t retry_max;        /* retries after the first attempt */
	int64_t timeout_ms;       /* 0: the configured task_timeout; DURATION_OFF: none */
	int64_t token_budget;     /* 0: none */
	unsigned line;            /* of its section; 0: not from a file */
	struct plan_state *state; /* NULL: none saved */
};

struct plan {
	char *name;
	char *base;             /* NULL: the current branch */
	char *harness;          /* NULL: the configured default_harness */
	char *setup;            /* a shell script for /bin/sh; NULL: none */
	char **copy;            /* strv of relative paths or globs; NULL: none */
	char **invariant_names; /* strv; invariants has the indices */
	uint32_t *invariants;   /* into invariant_defs */
	uint32_t n_invariants;
	bool has_invariants; /* no: a merge is judged by the invariants of the task that is merged
			      */
	enum isolation isolation;
	int64_t token_budget; /* input + output + cache writes; 0: none */
	int64_t max_agents;   /* 0: unset */
	struct VEC(struct task) tasks;
	/* The plan's own in the order of the file, then a snapshot of the shared ones it refers to.
	 */
	struct VEC(struct invariant) invariant_defs;
	struct plan_state *state; /* NULL: none saved */
	struct map by_name;       /* see plan_find_task() */
};

/* What a plan may refer to from outside; borrowed during the call. NULL: nothing. */
struct plan_context {
	const struct invariant *shared; /* the [invariant:*] of the configuration */
	size_t n_shared;
	int cancel_fd; /* readable: stop reading files, -ECANCELED; 0 or less: none */
};

/*
 * Reads a plan file ("-" is standard input); blocks. Every mistake goes to d with file:line; when
 * there is any: -EBADMSG, e has status 65, and no plan. Other negatives: the file could not be
 * read, memory is out. prompt_file is taken relative to the plan file. *ret is owned.
 */
int plan_parse_file(const char *path, const struct plan_context *context, struct plan **ret,
	struct diags *d, struct err *e) MUST_CHECK;
/* The same from memory. file is the name in diagnostics; dir is where a prompt_file is looked for
 * (NULL: the working directory). */
int plan_parse_text(const char *file, const char *dir, const char *text, size_t len,
	const struct plan_context *context, struct plan **ret, struct diags *d,
	struct err *e) MUST_CHECK;
/* A plan of one task with that prompt; plan and task are named after its first words. -EINVAL
 * (status 64) when the prompt is empty or not UTF-8. */
int plan_from_prompt(const char *prompt, struct plan **ret, struct err *e) MUST_CHECK;
void plan_free(struct plan *p);

/* The index of a task, or -1. O(1). */
int64_t plan_find_task(const struct plan *p, const char *name);
/* The index in invariant_defs, or -1. */
int64_t plan_find_invariant(const struct plan *p, const char *name);

/*
 * Sets one key of the plan (task NULL) or of a task, as `plan set` does, and checks the plan as a
 * whole. -EINVAL, -ENOENT (no such task) with e, status 65 or 66: the plan is then as it was. A
 * plan cannot be renamed.
 */
int plan_set(struct plan *p, const char *task, const char *key, const char *value,
	const struct plan_context *context, struct err *e) MUST_CHECK;

/*
 * Appends the plan as INI text that parses back to the same plan, and is the same bytes for the
 * same plan: sections and keys in fixed order, tasks and invariants sorted by name, the shared
 * invariants included. With PLAN_EXPORT_STATE also the [state] sections of what has a state. 0 or
 * -ENOMEM.
 */
enum plan_export_what {
	PLAN_EXPORT_DEFINITION,
	PLAN_EXPORT_STATE,
};
int plan_export(const struct plan *p, enum plan_export_what what, struct buf *out) MUST_CHECK;

/* One difference between the stored plan and a changed file. */
enum plan_change_kind {
	PLAN_CHANGE_FIELD, /* a key of [plan] */
	PLAN_CHANGE_TASK_ADDED,
	PLAN_CHANGE_TASK_REMOVED,
	PLAN_CHANGE_TASK_FIELD, /* a key of a task that is in both */
	PLAN_CHANGE_INVARIANT_ADDED,
	PLAN_CHANGE_INVARIANT_REMOVED,
	PLAN_CHANGE_INVARIANT_FIELD,
};

struct plan_change {
	enum plan_change_kind kind;
	const char *name;  /* of the task or invariant, borrowed from a plan; NULL for the plan */
	const char *field; /* static; NULL when added or removed */
	int64_t from;      /* index of the task or invariant in the old plan; -1: not there */
	int64_t to;        /* in the new one */
	/* May be applied to a task that has started (for [plan]: when any task has). */
	bool when_started;
};

struct plan_diff {
	struct VEC(struct plan_change) changes;
};

#define PLAN_DIFF_INIT ((struct plan_diff){0})

/* What leads from one plan to the other; both must outlive the diff. States, places in the file and
 * the order of tasks are not compared. 0 or -ENOMEM. */
int plan_diff(const struct plan *from, const struct plan *to, struct plan_diff *ret) MUST_CHECK;
void plan_diff_deinit(struct plan_diff *d);
/* "task 'a': timeout: 30m -> 1h", one line, long values cut; owned, NULL when memory is out. */
char *plan_change_text(
	const struct plan_change *c, const struct plan *from, const struct plan *to) MUST_CHECK;

/* Whether a key may change on a task that has started; of [plan], when any task has. */
bool plan_task_key_when_started(const char *key);
bool plan_key_when_started(const char *key);

DEFINE_FREEP(plan_freep, struct plan, plan_free)
#define CLEANUP_PLAN CLEANUP(plan_freep)

#endif
