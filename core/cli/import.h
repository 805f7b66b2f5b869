/* SPDX-License-Identifier: MIT */
/* Plan files into the store: a new plan, or a changed one of the same name. */
#ifndef CLI_IMPORT_H
#define CLI_IMPORT_H

#include "cli/cli.h"
#include "plan/plan.h"

/* Reads and checks a plan file against the site's shared invariants, printing every mistake. 0 or a
 * status. */
int import_read(struct cli *cli, const struct site *site, const char *path, struct plan **ret);
/* Warns of harnesses that are not installed; path is the plan file's, for the message. 0 or a
 * status. */
int import_warn(
	struct cli *cli, const struct site *site, const char *path, const struct plan *plan);
/*
 * Stores it: a new plan gets `status`; a changed one of the same name is updated, or refused as a
 * whole with its differences. PLAN_APPROVED also approves a draft of that name. 0 or an exit
 * status.
 */
int import_store(struct cli *cli, struct cli_site *at, struct plan *plan, enum plan_status status,
	int64_t *ret_id);

/*
 * Asks the engine that runs (at->engine) for a change of a plan; consumes params. What was refused
 * of it goes to *ret_refused. *ret_result is owned and may be NULL to ignore it.
 */
int import_ask(const struct cli_site *at, const char *method, json_t *params, json_t **ret_result,
	char ***ret_refused, struct err *e) MUST_CHECK;

/* Prints what cannot be changed any more, then the error; returns its status. */
int import_refused(const struct cli *cli, char *const *refused, const struct err *e);

#endif
