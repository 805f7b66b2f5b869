/* SPDX-License-Identifier: MIT */
/*
 * events.jsonl: the append-only journal of a unit. One writer (the keeper), any number of readers.
 * A line is one write(2) of at most 64 KiB: {"v":1,"seq":N,"at":MS,"kind":"...","data":{...}}, with
 * "cut":true when something in data was shortened. seq counts from 1. The kinds are those of
 * plugin_api.h, and the keeper's own: `started` {pid, starttime, boot_id, containment, cgroup?,
 * init?: {pid, starttime, pidns}}, `log` {level, text}.
 */
#ifndef UNIT_JOURNAL_H
#define UNIT_JOURNAL_H

#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#define JOURNAL_LINE_MAX_BYTES 65536
#define JOURNAL_MAX_BYTES      (256LL << 20)

#define JOURNAL_KIND_STARTED   "started"
#define JOURNAL_KIND_LOG       "log"

/* Positive outcomes of journal_append and journal_flush. */
#define JOURNAL_FULL    1 /* 256 MiB are reached: not written */
#define JOURNAL_BLOCKED 2 /* the disk took no more: the line waits in the writer */

struct journal {
	int fd; /* owned */
	int64_t size_bytes;
	int64_t seq; /* of the last line */
	struct buf pending;
	int error; /* -errno of what blocks it; 0: nothing */
};

/* Opens for appending, made with mode 0600; goes on behind the last whole line. */
int journal_open(int dirfd, struct journal *ret, struct err *e) MUST_CHECK;
void journal_close(struct journal *j);
/*
 * Appends one event (data is borrowed; NULL: {}). 0; JOURNAL_FULL; JOURNAL_BLOCKED: a short or
 * failed write was taken back to the last newline, the line is kept, and nothing more may be
 * appended until journal_flush gives 0. -ENOMEM.
 */
int journal_append(struct journal *j, int64_t at_ms, const char *kind, json_t *data) MUST_CHECK;
int journal_flush(struct journal *j) MUST_CHECK;
int journal_sync(struct journal *j, struct err *e) MUST_CHECK;

struct journal_line {
	int64_t seq, at; /* wall clock, ms */
	const char *kind;
	json_t *data; /* object; borrowed for the call */
	bool cut;
};

/* Returns 0 to go on; anything else ends the reading behind this line and is returned. */
typedef int (*journal_fn)(void *user, const struct journal_line *line);

/*
 * Hands every whole line from *offset on to fn, at most about max_bytes of them (at least one
 * line), and moves *offset behind the last one handed over. A line that is no event is skipped and
 * counted in *ret_bad (may be NULL). A missing journal is an empty one.
 */
int journal_read(int dirfd, int64_t *offset, size_t max_bytes, journal_fn fn, void *user,
	int64_t *ret_bad, struct err *e) MUST_CHECK;

/* 1: the journal begins with `started`, so a process of the unit may have run; 0: none; -errno. */
int journal_has_started(int dirfd, struct err *e) MUST_CHECK;

#endif
