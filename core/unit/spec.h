/* SPDX-License-Identifier: MIT */
/*
 * spec.json: what a unit is to run, written by the engine before the start, read by the keeper and
 * by an engine that comes later. It never holds a secret: the values of the environment are not in
 * it; the keeper gets them as its own environment.
 */
#ifndef UNIT_SPEC_H
#define UNIT_SPEC_H

#include "base/err.h"
#include "base/vec.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UNIT_ID_LEN 32 /* lower-case hex */
/* So long at most an agent's announced waits put off its unit's deadline, all of them together. */
#define UNIT_WAITS_MAX_MS (6 * 3600 * INT64_C(1000))

/* Names of the files in a unit directory. */
#define UNIT_FILE_SPEC    "spec.json"
#define UNIT_FILE_PROMPT  "prompt.md"
#define UNIT_FILE_JOURNAL "events.jsonl"
#define UNIT_FILE_EXIT    "exit.json"
#define UNIT_FILE_LOCK    "shim.lock"
#define UNIT_FILE_SOCKET  "ctl.sock"
#define UNIT_FILE_STDOUT  "stdout.log" /* command units */
#define UNIT_FILE_STDERR  "stderr.log"
#define UNIT_FILE_OUTPUT  "output.log" /* agent units */

#define UNIT_KINDS(X) \
	X(AGENT, "agent") \
	X(INVARIANT, "invariant") \
	X(SETUP, "setup")

#define UNIT_CONTAINMENTS(X) \
	X(AUTO, "auto") \
	X(CGROUP, "cgroup") \
	X(SUBREAPER, "subreaper") \
	X(PIDNS, "pidns")

#define UNIT_ON_CRASHES(X) \
	X(ADOPT, "adopt") \
	X(KILL, "kill")

#define X(id, name) UNIT_##id,
enum unit_kind { UNIT_KINDS(X) UNIT_KIND_COUNT };
#undef X
#define X(id, name) CONTAINMENT_##id,
enum unit_containment { UNIT_CONTAINMENTS(X) CONTAINMENT_COUNT };
#undef X
#define X(id, name) ON_CRASH_##id,
enum unit_on_crash { UNIT_ON_CRASHES(X) ON_CRASH_COUNT };
#undef X

const char *unit_kind_name(enum unit_kind kind);
const char *unit_containment_name(enum unit_containment containment);
const char *unit_on_crash_name(enum unit_on_crash on_crash);
int unit_kind_parse(const char *name, enum unit_kind *ret) MUST_CHECK;
int unit_containment_parse(const char *name, enum unit_containment *ret) MUST_CHECK;
int unit_on_crash_parse(const char *name, enum unit_on_crash *ret) MUST_CHECK;

struct unit_option {
	char *key, *value;
};

struct unit_spec {
	char id[UNIT_ID_LEN + 1];
	enum unit_kind kind;
	/* Owned strings; NULL where they say nothing. */
	char *plan, *task;
	int64_t attempt;
	char *name; /* the invariant's */
	char *cwd;  /* absolute; required */
	/*
	 * Command units: a shell line (run by /bin/sh -c), or an argument vector.
	 * Agent units: the task's command, for harnesses that take one.
	 */
	char *command;
	char **argv;
	/* Agent units. */
	char *harness;     /* NAME of [harness:NAME]; required for agents */
	char *plugin;      /* its plugin: name, or path of the file; NULL: named as the harness */
	char *plugin_path; /* directories it is looked for in, `:`-separated; required for agents */
	struct VEC(struct unit_option) options;
	char *prompt_file; /* relative to the unit directory */
	char *prompt;      /* not stored: unit_start writes it to prompt.md and sets prompt_file */
	char *session;     /* the agent's own session to resume */
	/* What was counted for it in earlier attempts. */
	int64_t session_input, session_output, session_cache_read, session_cache_write;
	bool resume;     /* go on with the last attempt's work ("continue") */
	char **mask_env; /* names of variables whose values are masked in journal and logs */
	/* Limits. A time of 0 or DURATION_OFF, a count of 0: none. */
	int64_t timeout_ms;          /* wall clock, paused time not counted */
	int64_t silence_ms;          /* agents: stalled after */
	int64_t runaway_events;      /* agents: events a second */
	int64_t runaway_bytes;       /* agents: bytes of output a second */
	int64_t output_cap_bytes;    /* each of stdout.log and stderr.log, or output.log */
	int64_t callback_timeout_ms; /* a plugin's spawn, kill, send, check, release */
	int64_t kill_grace_ms;       /* SIGTERM to SIGKILL, when we end it by ourselves */
	enum unit_containment containment;
	enum unit_on_crash on_crash;
	char *tmpdir; /* /tmp/orch-<8 hex>; made and removed by the keeper */
};

/* All limits at the built-in defaults: no time limit, 1 MiB (agents: 64 MiB) of output, 10 s
 * callbacks, 5 s grace, containment auto, on_crash adopt. */
void unit_spec_init(struct unit_spec *s, enum unit_kind kind);
void unit_spec_deinit(struct unit_spec *s);
int unit_spec_add_option(struct unit_spec *s, const char *key, const char *value) MUST_CHECK;

/* A new random id, and the tmpdir that goes with it. */
int unit_spec_new_id(struct unit_spec *s, struct err *e) MUST_CHECK;

/* Writes and fsyncs spec.json in a unit directory. */
int unit_spec_write(int dirfd, const struct unit_spec *s, struct err *e) MUST_CHECK;
/* Reads it into *ret, to be deinited. -ENOENT, -EBADMSG (not a spec, or a later version). */
int unit_spec_read(int dirfd, struct unit_spec *ret, struct err *e) MUST_CHECK;

bool unit_id_is_valid(const char *id);

#define CLEANUP_UNIT_SPEC CLEANUP(unit_spec_deinit)

#endif
