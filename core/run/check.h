/* SPDX-License-Identifier: MIT */
/*
 * One command (an invariant, a set-up command) as a unit, run to its end without an event loop: for
 * verbs that judge something themselves. Its unit directory is below <state dir>/checks, apart from
 * those of an engine, which would take it for a leftover of an earlier one and end it.
 */
#ifndef RUN_CHECK_H
#define RUN_CHECK_H

#include "base/err.h"
#include "lifecycle/lifecycle.h"
#include "run/site.h"

#include <stdbool.h>
#include <stdint.h>

/* What every unit of a command has in common, here and in an engine; spec for unit_spec_deinit,
 * also after a failure. */
int check_spec(const struct site *site, enum unit_kind kind, const char *name, const char *command,
	const char *cwd, int64_t timeout_ms, struct unit_spec *spec, struct err *e) MUST_CHECK;
/* A captured output: its head and its tail, valid UTF-8 without NUL. Owned; NULL: memory is out. */
char *check_output(int unit_dirfd, const char *name) MUST_CHECK;

struct check_result {
	struct unit_exit exit;
	char *out, *errout; /* owned */
	bool interrupted;   /* a stop signal came; the whole tree was ended */
};

#define CHECK_RESULT_INIT ((struct check_result){.exit = UNIT_EXIT_INIT})
void check_result_deinit(struct check_result *r);
/* Whether it ended by itself with that exit code. */
bool check_passed(const struct check_result *r, int64_t expect);

struct checker;

/* Makes the directory; the state directory must be there. */
int checker_open(const struct site *site, struct checker **ret, struct err *e) MUST_CHECK;
void checker_close(struct checker *c);
DEFINE_FREEP(checker_closep, struct checker, checker_close)

/*
 * Blocks until the command has ended and nothing of it is left. The first stop signal that is read
 * from signal_fd (-1: none) asks the tree to end, a second one kills it. Fails when it could not be
 * run at all.
 */
int checker_run(struct checker *c, enum unit_kind kind, const char *name, const char *command,
	const char *cwd, int64_t timeout_ms, int signal_fd, struct check_result *ret,
	struct err *e) MUST_CHECK;

#endif
