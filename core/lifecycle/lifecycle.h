/* SPDX-License-Identifier: MIT */
/*
 * The engine's handle on units. A unit is started through its keeper (orch-shim), which lives on
 * when the engine dies; a later engine adopts it. No event loop inside: unit_fd() is to be polled
 * for reading, then unit_read() called until it gives 0.
 *
 * Threads: a struct unit belongs to one thread at a time. Functions on struct lifecycle may be
 * called from any. Each function says whether it blocks.
 */
#ifndef LIFECYCLE_LIFECYCLE_H
#define LIFECYCLE_LIFECYCLE_H

#include "base/err.h"
#include "os/spawn.h"
#include "unit/exit.h"
#include "unit/journal.h"
#include "unit/spec.h"

#include <stdbool.h>
#include <stdint.h>

struct lifecycle;
struct unit;

/*
 * state_dir: where `units/` is (made with 0700). shim_path: the orch-shim to run; NULL: the one
 * beside our own binary, else in ../libexec/orch. origin (copied): what children get back; NULL:
 * nothing blocked or ignored. -ENOENT: no orch-shim.
 */
int lifecycle_open(const char *state_dir, const char *shim_path, const struct spawn_origin *origin,
	struct lifecycle **ret, struct err *e) MUST_CHECK;
void lifecycle_close(struct lifecycle *lc); /* NULL allowed; units must be freed before */

/* What containment `auto` comes to here: CGROUP or SUBREAPER. Probed at lifecycle_open. */
enum unit_containment lifecycle_containment(const struct lifecycle *lc);

/* Ids of all unit directories, owned strv. */
int lifecycle_list(struct lifecycle *lc, char ***ret, struct err *e) MUST_CHECK;
/* A unit directory (read journals, exit.json, logs of past units). Owned descriptor. */
int lifecycle_unit_dir(struct lifecycle *lc, const char *id, int *ret_fd, struct err *e) MUST_CHECK;
/* Removes a unit directory and its tmpdir. -EBUSY while its keeper lives. Blocks on the disk. */
int lifecycle_remove(struct lifecycle *lc, const char *id, struct err *e) MUST_CHECK;
/*
 * Removes the tmpdirs and cgroups that units whose keeper is gone have left. For a starting engine,
 * after it adopted what it knows; blocks (worker thread). *ret_removed may be NULL.
 */
int lifecycle_tidy(struct lifecycle *lc, int *ret_removed, struct err *e) MUST_CHECK;

/*
 * Starts a unit: directory (one made before to put files in is taken, unless a unit ever started
 * there: -EEXIST), prompt.md, spec.json (fsynced), shim.lock, keeper. spec->id must be set
 * (unit_spec_new_id). envp is the unit's whole environment, less what is added here and by the
 * keeper: ORCH_UNIT and TMPDIR, for agents also ORCH_PLAN, ORCH_TASK, ORCH_ATTEMPT,
 * ORCH_PROMPT_FILE and ORCH_SOCKET. On failure nothing runs, and the directory may be left.
 * Blocks for one fsync, and for the first unit also for a vfork: keepers of further ones are forked
 * by a process that this engine has for it (unit/nursery.h). That the unit's own process cannot be
 * started is no error here: it ends with cause spawn_failed.
 */
int unit_start(struct lifecycle *lc, const struct unit_spec *spec, char *const *envp,
	struct unit **ret, struct err *e) MUST_CHECK;

enum unit_found {
	UNIT_FOUND_LIVE,      /* *ret_unit is its handle */
	UNIT_FOUND_ENDED,     /* exit.json is there */
	UNIT_FOUND_LOST,      /* the keeper was gone: swept, exit.json written with cause lost */
	UNIT_FOUND_NEVER_RAN, /* no process of it ever ran: start again, same attempt */
};

/*
 * What became of a unit of an earlier engine. Usually immediate; up to 8 s with a keeper that does
 * not answer, and as long as a sweep takes: call it from a worker thread.
 */
int unit_adopt(struct lifecycle *lc, const char *id, struct unit **ret_unit,
	enum unit_found *ret_found, struct err *e) MUST_CHECK;

const char *unit_id(const struct unit *u);
/* Borrowed descriptor of the unit directory, for journal_read and the logs. */
int unit_dirfd(const struct unit *u);
/* Borrowed; poll it for reading until unit_read gave UNIT_EVENT_GONE. */
int unit_fd(const struct unit *u);
/* The keeper's pid; 0: not known. May block for a fork, right after unit_start. */
pid_t unit_keeper_pid(struct unit *u);

enum unit_event_type {
	UNIT_EVENT_STARTED, /* the first process runs (or could not be started: ENDED follows) */
	UNIT_EVENT_JOURNAL, /* the journal has grown to at least journal_bytes */
	UNIT_EVENT_PAUSED,
	UNIT_EVENT_RESUMED,
	UNIT_EVENT_PONG,
	UNIT_EVENT_ERROR, /* a request was refused; text says why */
	UNIT_EVENT_ENDED, /* exit.json is there, no process is left */
	UNIT_EVENT_GONE,  /* the keeper is gone; the last event. Without ENDED before: it crashed */
};

struct unit_event {
	enum unit_event_type type;
	pid_t pid; /* STARTED: the first process */
	int64_t journal_bytes;
	char text[256];
};

/*
 * 1 with an event, 0: none now. -ENOMEM: ask again, the event is still there. Blocks for a keeper
 * alone that is ending, 5 s at most.
 */
int unit_read(struct unit *u, struct unit_event *ret, struct err *e) MUST_CHECK;

enum unit_kill_how {
	UNIT_KILL_TERM, /* ask: the harness's kill(SIGTERM), or SIGTERM to the tree */
	UNIT_KILL_KILL, /* SIGKILL to the whole tree now */
};

/*
 * Requests; they return when the request is queued to the keeper, without waiting. -EPIPE: the
 * keeper is gone. A TERM becomes a KILL after kill_after_ms (< 0: the spec's kill_grace). The unit
 * ends with cause killed and the reason as text. A later request may only sharpen an earlier one.
 */
int unit_kill(struct unit *u, enum unit_kill_how how, const char *reason, int64_t kill_after_ms,
	struct err *e) MUST_CHECK;
int unit_pause(struct unit *u, struct err *e) MUST_CHECK;
int unit_resume(struct unit *u, struct err *e) MUST_CHECK;
int unit_send(struct unit *u, const char *text, struct err *e) MUST_CHECK;
int unit_ping(struct unit *u, struct err *e) MUST_CHECK;

/*
 * How it ended, after ENDED or GONE. Where the keeper vanished without a word, this ends what is
 * left of the unit, writes exit.json with cause lost and returns that; then it blocks for the sweep
 * (bounded: 10 s). -EBUSY: the keeper lives and the unit has not ended.
 */
int unit_exit_read(struct unit *u, struct unit_exit *ret, struct err *e) MUST_CHECK;
/* The same for a unit of which there is no handle. */
int lifecycle_exit_read(
	struct lifecycle *lc, const char *id, struct unit_exit *ret, struct err *e) MUST_CHECK;
/*
 * For a unit whose directory cannot be read or written, and no machine is to blame: its agent can
 * remove it. Ends keeper and unit; *ret has cause lost, and why, and is not written down. Blocks
 * for the sweep.
 */
int unit_spoilt(struct unit *u, const char *why, struct unit_exit *ret, struct err *e) MUST_CHECK;
/* The same for a unit of which there is no handle. */
int lifecycle_spoilt(struct lifecycle *lc, const char *id, const char *why, struct unit_exit *ret,
	struct err *e) MUST_CHECK;
/*
 * For a keeper that does not do what it was told (the engine's backup of each deadline): SIGKILL
 * for keeper and unit, exit.json with cause lost. Blocks for the sweep.
 */
int unit_abandon(struct unit *u, struct err *e) MUST_CHECK;

/* Closes the handle; the unit goes on if it has not ended. NULL allowed. */
void unit_free(struct unit *u);

DEFINE_FREEP(unit_freep, struct unit, unit_free)
DEFINE_FREEP(lifecycle_closep, struct lifecycle, lifecycle_close)
#define CLEANUP_UNIT      CLEANUP(unit_freep)
#define CLEANUP_LIFECYCLE CLEANUP(lifecycle_closep)

#endif
