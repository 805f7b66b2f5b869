/* SPDX-License-Identifier: MIT */
/*
 * What would keep a dispatch from doing its work, found before anything starts: every problem at
 * once, each with where it is and how to mend it. Errors keep a dispatch from starting; warnings do
 * not (the tasks of a missing harness fail, the others run). Changes nothing.
 */
#ifndef RUN_PREFLIGHT_H
#define RUN_PREFLIGHT_H

#include "base/diag.h"
#include "plan/plan.h"
#include "run/site.h"
#include "store/store.h"

struct preflight {
	const struct site *site;
	struct store *store; /* NULL: no database, and no plan */
	int64_t plan_id;     /* 0: only the machine and the repository */
	const char *harness; /* what a dispatch puts in every task's harness's place, or NULL */
	bool seen_machine;   /* memory and disk were looked at already */
	int cancel_fd;
};

/* Free memory and disk as the kernel tells; -1 where it does not. */
struct preflight_room {
	int64_t memory_bytes;
	int64_t disk_bytes;
};
struct preflight_room preflight_room(const struct site *site);

/*
 * Blocks: runs git, and each harness that is used in a throwaway process (one thread only). The
 * findings go to d; *ret_status is the exit status for its errors (65; 66, 73 when that is all
 * there is). Negative: could not look.
 */
int preflight_plan(
	const struct preflight *p, struct diags *d, int *ret_status, struct err *e) MUST_CHECK;
/* One harness; a problem is a warning. *ret_text (owned, may be NULL): what it says of its agent.
 */
int preflight_harness(
	const struct site *site, const char *name, struct diags *d, char **ret_text) MUST_CHECK;
/* A warning for each harness of the plan that is not there; nothing is loaded. file: for the
 * message. 0 or -ENOMEM. */
int preflight_installed(const struct site *site, const struct plan *plan, const char *file,
	struct diags *d) MUST_CHECK;

#endif
