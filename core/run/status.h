/* SPDX-License-Identifier: MIT */
/*
 * What there is to tell about the plans of a site, as a person is shown it and as `status --json`
 * prints it. Only reads; a few queries a plan, however many tasks it has.
 */
#ifndef RUN_STATUS_H
#define RUN_STATUS_H

#include "base/err.h"
#include "base/vec.h"
#include "run/site.h"
#include "store/store.h"

#include <jansson.h>
#include <stdint.h>

/*
 * A chain over the findings of a plan, in order: h(0) is 64 zeros, h(n) = SHA-256 in hexadecimal of
 * h(n-1) "\n" task "\n" data. Two states with the same digest hold the same findings.
 */
struct findings {
	int64_t count;
	char sha256[65]; /* "" without findings */
};

int findings_digest(
	struct store *s, int64_t plan_id, struct findings *ret, struct err *e) MUST_CHECK;

struct status_task {
	int64_t id;
	enum task_status status;
	enum outcome outcome;
	enum gate gate;
	bool paused;
	int64_t attempt;
	char *name;
	char *reason, *branch, *commit, *worktree; /* NULL: none */
	char *harness;                             /* of the newest attempt, else the planned one */
	struct VEC(uint32_t) depends_on;           /* indices into the plan's tasks */
	char **invariants;                         /* strv; NULL: none */
};

struct status_plan {
	int64_t id;
	enum plan_status status;
	bool paused, halted;
	enum halt_reason halt;
	uint32_t halt_also; /* bit mask */
	int64_t halt_at;
	int64_t tokens[4]; /* input, output, cache_read, cache_write */
	char *name;
	char *base, *branch;                                   /* NULL: none (yet) */
	char *halt_commit, *halt_commit_oid, *halt_commit_why; /* NULL: none was tried */
	struct findings findings;
	struct VEC(struct status_task) tasks; /* in the plan's order */
};

struct status {
	struct site_engine engine;
	const char *containment; /* what the configured one comes to here; static */
	char *waits;             /* why the engine starts nothing, NULL: it does; owned */
	struct VEC(struct status_plan) plans;
};

/* A pending task waits for what it depends on and has not passed. */
bool status_waits_for(const struct status_plan *p, const struct status_task *t, uint32_t index);

/*
 * store NULL: nothing was ever dispatched, so there are no plans. plan_id 0: all plans. *ret is for
 * status_deinit also after a failure.
 */
int status_read(const struct site *site, struct store *store, int64_t plan_id, struct status *ret,
	struct err *e) MUST_CHECK;
void status_deinit(struct status *s);

/* The object of `status --json`; owned, NULL when memory is out. */
json_t *status_json(const struct status *s) MUST_CHECK;

#endif
