/* SPDX-License-Identifier: MIT */
/* The key tables of a plan file; private to plan. */
#ifndef PLAN_PLAN_KEYS_H
#define PLAN_PLAN_KEYS_H

#include "config/schema.h"
#include "plan/plan.h"

extern const struct key_table plan_keys;
/* Without prompt_file, which is no part of a plan in memory. */
extern const struct key_table task_keys;

/* [state] and [state:TASK] as they are written. */
struct state_text {
	char *status;
	int64_t attempt;
	char *outcome;
	char *reason;
	char *commit;
	char *tokens;
};

extern const struct key_table state_keys;

/* The struct of a [state] section from its text and back. -EINVAL with the reason in why. */
int plan_state_parse(const struct state_text *text, bool of_task, struct plan_state **ret,
	struct buf *why) MUST_CHECK;
int plan_state_export(const char *task, const struct plan_state *state, struct buf *out) MUST_CHECK;
void plan_state_free(struct plan_state *state);

/* Where keys of a task were written; NULL arrays when the plan is not from a file. */
struct task_place {
	unsigned depends_on;
	unsigned invariants;
};

struct plan_source {
	const char *file;
	const struct task_place *tasks; /* one for each task, or NULL */
	unsigned plan_invariants;       /* line of [plan] invariants */
};

/*
 * Turns the names in depends_on and invariants into indices, taking snapshots of shared invariants,
 * and looks for cycles. Mistakes go to d; negative only when memory is out. May be called again
 * after a change.
 */
int plan_resolve(struct plan *p, const struct plan_context *context,
	const struct plan_source *source, struct diags *d) MUST_CHECK;
/* Cycles alone; deps must be resolved. */
int plan_check_cycles(
	const struct plan *p, const struct plan_source *source, struct diags *d) MUST_CHECK;
/* What a value must be beyond its type (base, copy); false with the reason in why. */
bool plan_value_check(const struct plan *p, const char *key, struct buf *why);

struct plan *plan_new(void) MUST_CHECK;
void task_deinit(struct task *t);
/* Appends a task with the defaults; -EEXIST when the name is taken. */
int plan_add_task(struct plan *p, const char *name, struct task **ret) MUST_CHECK;

#endif
