/* SPDX-License-Identifier: MIT */
/*
 * exit.json: how a unit ended, written once, by the keeper after the last process of the unit is
 * gone, or by an engine that finds the keeper gone (cause `lost`). Its presence is the proof that
 * the unit is over.
 */
#ifndef UNIT_EXIT_H
#define UNIT_EXIT_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

#define UNIT_CAUSES(X) \
	X(EXITED, "exited") /* the command ended, or the harness gave its result */ \
	X(TIMED_OUT, "timed_out") \
	X(STALLED, "stalled") \
	X(RUNAWAY, "runaway") \
	X(KILLED, "killed") /* asked for; `text` is the request's reason */ \
	X(SPAWN_FAILED, "spawn_failed") \
	X(HARNESS_MISSING, "harness_missing") \
	X(HARNESS_INVALID, "harness_invalid") \
	X(HARNESS_CRASHED, "harness_crashed") \
	X(HARNESS_HUNG, "harness_hung") \
	X(LOST, "lost")

#define X(id, name) CAUSE_##id,
enum unit_cause { UNIT_CAUSES(X) CAUSE_COUNT };
#undef X

const char *unit_cause_name(enum unit_cause cause);
int unit_cause_parse(const char *name, enum unit_cause *ret) MUST_CHECK;

struct unit_usage {
	int64_t input, output, cache_read, cache_write; /* tokens */
	double cost;
};

/* The text of cause killed where on_crash = kill ended a unit whose engine was gone. */
#define UNIT_EXIT_ORPHANED "orch went away, and on_crash is kill"

struct unit_exit {
	enum unit_cause cause;
	char *text;                   /* a sentence for a person; owned, never NULL after a read */
	int64_t started_at, ended_at; /* wall clock, ms; started_at 0: never */
	int64_t duration_ms;          /* monotonic, paused time not counted */
	int exit_code;                /* of the main process; -1: none */
	int signal;                   /* that ended the main process; 0: none */
	int64_t error; /* spawn_failed: negative errno of what our own call met; 0: none */
	/* Agents: the harness's own judgement. NULL: it gave none. */
	char *outcome;      /* a name of A7 */
	char *outcome_text; /* its words */
	char *session;      /* the agent's session, for a later resume */
	int64_t reset_at;   /* wall clock, ms: when a rate limit ends; 0: not said */
	struct unit_usage usage;
	char *last_message; /* cut at 4 KiB */
	/* The proof that nothing is left. */
	char *containment; /* "cgroup", "subreaper", "pidns", "none" (nothing was started) */
	int64_t left;      /* processes alive when the main process ended */
	int64_t killed;    /* processes that got SIGKILL in the sweep */
	int64_t sweep_ms;
	bool contained; /* the containment itself says that nothing is left */
	int64_t bytes;  /* of output */
	int64_t events; /* lines in the journal */
};

#define UNIT_EXIT_INIT ((struct unit_exit){.exit_code = -1})

void unit_exit_deinit(struct unit_exit *x);

/*
 * The keeper makes room for exit.json at its start, so that a full disk cannot take the outcome:
 * unit_exit_reserve returns the descriptor of the preallocated temporary file, unit_exit_commit
 * (consumes it) writes, fsyncs and renames it. -1 instead of a descriptor: no reserve was made.
 */
#define UNIT_EXIT_MAX_BYTES 32768
int unit_exit_reserve(int dirfd, int *ret_fd, struct err *e) MUST_CHECK;
int unit_exit_commit(
	int dirfd, int reserve_fd, const struct unit_exit *x, struct err *e) MUST_CHECK;

/* Reads exit.json. -ENOENT: the unit has not ended (or its keeper is gone). -EBADMSG. */
int unit_exit_load(int dirfd, struct unit_exit *ret, struct err *e) MUST_CHECK;

#define CLEANUP_UNIT_EXIT CLEANUP(unit_exit_deinit)

#endif
