/* SPDX-License-Identifier: MIT */
/*
 * What an engine was told, in a file of <state directory>/inputs, so that a run can be gone through
 * again (engine/call.h has the format). Each start of an engine has a file of its own; the newest
 * ten are kept. It is an aid, not the truth: nothing is synced, and where it cannot be written it
 * ends and the run goes on.
 */
#ifndef RUN_RECORD_H
#define RUN_RECORD_H

#include "base/cleanup.h"
#include "base/err.h"
#include "engine/call.h"

#define RECORD_DIR "inputs"

struct record;

/* Also removes the oldest files. */
int record_open(const char *state_dir, struct record **ret, struct err *e) MUST_CHECK;
void record_close(struct record *rec); /* NULL allowed */
DEFINE_FREEP(record_closep, struct record, record_close)

/* The tap of the engine; ctx is the record. What the engine decides on is in the file before it
 * does. */
void record_call(void *ctx, const struct engine_call *call);

/*
 * Writes what is not yet in the file. Negative: the recording has ended because the file could not
 * be written; comes once. A file that has become too large ends with {"full":true}, without error.
 */
int record_flush(struct record *rec, struct err *e) MUST_CHECK;

#endif
