/* SPDX-License-Identifier: MIT */
/*
 * The configuration of orch in layers: built in, system file, user file, repository file,
 * environment, flags; later wins, each value has its origin. config_load() reads the files and
 * blocks; afterwards a config is plain data that any thread may read. There are no secrets in it.
 *
 * Environment: ORCH_<KEY> for [orch], ORCH_<SECTION>_<KEY> for the others, and
 * ORCH_HARNESS_<NAME>_<KEY>, ORCH_INVARIANT_<NAME>_<KEY>. An empty variable counts as unset.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include "base/cleanup.h"
#include "base/diag.h"
#include "base/err.h"
#include "base/log.h"
#include "base/vec.h"
#include "config/invariant.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define CONFIG_SYSTEM_FILE "/etc/orch/orch.ini"

#define ON_CRASH_LIST(X) \
	X(ADOPT, "adopt") \
	X(KILL, "kill")
#define CONTAINMENT_LIST(X) \
	X(AUTO, "auto") \
	X(CGROUP, "cgroup") \
	X(SUBREAPER, "subreaper") \
	X(PIDNS, "pidns")
#define KEEP_WORKTREES_LIST(X) \
	X(FAILED, "failed") \
	X(ALL, "all") \
	X(NONE, "none")
#define HALT_COMMIT_LIST(X) \
	X(REF, "ref") \
	X(BRANCH, "branch") \
	X(OFF, "off")
#define DAEMON_AGENTS_LIST(X) \
	X(STOP, "stop") \
	X(KEEP, "keep")

#define X(id, name) CONFIG_ON_CRASH_##id,
enum config_on_crash { ON_CRASH_LIST(X) CONFIG_ON_CRASH_COUNT };
#undef X
#define X(id, name) CONFIG_CONTAINMENT_##id,
enum config_containment { CONTAINMENT_LIST(X) CONFIG_CONTAINMENT_COUNT };
#undef X
#define X(id, name) CONFIG_KEEP_WORKTREES_##id,
enum config_keep_worktrees { KEEP_WORKTREES_LIST(X) CONFIG_KEEP_WORKTREES_COUNT };
#undef X
#define X(id, name) CONFIG_HALT_COMMIT_##id,
enum config_halt_commit { HALT_COMMIT_LIST(X) CONFIG_HALT_COMMIT_COUNT };
#undef X
#define X(id, name) CONFIG_DAEMON_AGENTS_##id,
enum config_daemon_agents { DAEMON_AGENTS_LIST(X) CONFIG_DAEMON_AGENTS_COUNT };
#undef X

const char *config_on_crash_name(enum config_on_crash v);
const char *config_containment_name(enum config_containment v);
const char *config_keep_worktrees_name(enum config_keep_worktrees v);
const char *config_halt_commit_name(enum config_halt_commit v);
const char *config_daemon_agents_name(enum config_daemon_agents v);

/* Times are milliseconds, DURATION_OFF (base/str.h) where `off` was said; sizes are bytes. */
struct config_orch {
	char *plugin_path;     /* NULL: the default search path */
	char *default_harness; /* NULL: none */
	int64_t max_agents;
	int64_t task_timeout_ms;
	int64_t silence_timeout_ms;
	int64_t drain_timeout_ms;
	int64_t kill_grace_ms;
	int64_t callback_timeout_ms;
	enum config_on_crash on_crash;
	enum config_containment containment;
	char *worktree_root; /* NULL: the default place */
	enum config_keep_worktrees keep_worktrees;
	int64_t min_free_memory_bytes;
	int64_t min_free_disk_bytes;
	int64_t max_file_bytes;
};

struct config_retry {
	int64_t backoff_ms;
	int64_t backoff_max_ms;
	int64_t max_wait_ms;
	int64_t breaker; /* attempts failed in a row in a plan; 0: never opens */
};

struct config_halt {
	enum config_halt_commit commit;
};

struct config_hook {
	char *on_review; /* command lines; NULL: none */
	char *on_escalated;
	char *on_halt;
};

struct config_daemon {
	int64_t stop_timeout_ms;
	int64_t idle_timeout_ms;
	enum config_daemon_agents agents;
};

struct config_log {
	enum log_level level;
	int64_t keep_ms;
};

/* A key of [harness:NAME] that is the plugin's own; the plugin's option table checks it. */
struct config_option {
	char *key;
	char *value;
	char *origin;
};

struct config_harness {
	char *name;
	char *plugin;         /* NULL: the plugin of the harness's name */
	int64_t max_agents;   /* 0: no limit of its own */
	char **pass_env;      /* strv of names or globs; NULL: none */
	char *env_file;       /* NULL: none */
	int64_t token_budget; /* 0: none */
	struct VEC(struct config_option) options;
};

/* A value that some layer set. */
struct config_value {
	const char *section; /* static */
	char *label;         /* owned; NULL: the section has none */
	char *key;           /* owned */
	char *value;         /* owned; as it was written */
	char *origin; /* owned: "/etc/orch/orch.ini:12", "environment ORCH_...", "--max-agents" */
};

struct config {
	struct config_orch orch;
	struct config_retry retry;
	struct config_halt halt;
	struct config_hook hook;
	struct config_daemon daemon;
	struct config_log log;
	struct VEC(struct config_harness) harnesses; /* those that have a section */
	struct VEC(struct invariant) invariants;     /* the shared ones */
	struct VEC(struct config_value) values;      /* what is not built in */
};

/*
 * Where to read from; borrowed. Every member may be NULL: no such layer. A file that does not exist
 * is an empty layer, but not the explicit one. `explicit_file` (--config) stands in for repo_file.
 */
struct config_sources {
	const char *system_file; /* CONFIG_SYSTEM_FILE outside tests */
	const char *user_file;   /* config_user_file() */
	const char *repo_file;
	const char *explicit_file;
	char *const *environment;
	int cancel_fd; /* readable: give up with -ECANCELED; 0 or less: none */
};

/*
 * $XDG_CONFIG_HOME/orch/orch.ini; when that is unset, empty or relative,
 * $HOME/.config/orch/orch.ini. *ret is owned; NULL when there is no home either. 0 or -ENOMEM.
 */
int config_user_file(char *const *environment, char **ret) MUST_CHECK;

/*
 * Reads all layers. Every mistake goes to d with its place and leaves the value as it was before (a
 * command ends with 78 when d->errors). 0 and *ret owned, also when there are mistakes; negative
 * with e when a file could not be read or memory is out.
 */
int config_load(const struct config_sources *sources, struct config **ret, struct diags *d,
	struct err *e) MUST_CHECK;
void config_free(struct config *c);

/*
 * The last layer: a value from a flag. label is NULL but for "harness" and "invariant"; origin is
 * the flag's name. -EINVAL with e (exit status 64) when section, key or value is bad.
 */
int config_set(struct config *c, const char *section, const char *label, const char *key,
	const char *value, const char *origin, struct err *e) MUST_CHECK;

/* Borrowed; NULL when there is no such section (a harness needs none). */
const struct config_harness *config_harness_find(const struct config *c, const char *name);
/* The name of the plugin for a harness; borrowed from c, or `name` itself. */
const char *config_harness_plugin(const struct config *c, const char *name);
const struct invariant *config_invariant_find(const struct config *c, const char *name);
/* Where the value comes from; borrowed, "built in" when no layer set it. */
const char *config_origin(
	const struct config *c, const char *section, const char *label, const char *key);

/*
 * Every value with its origin in a comment above it. What is printed reads back as an orch.ini with
 * the same values. 0, or negative when out could not be written.
 */
int config_print(const struct config *c, FILE *out) MUST_CHECK;

/* Calls fn for every fixed key of every section, in the order of the reference file. */
typedef void config_key_fn(const char *section, const struct key_spec *spec, void *arg);
void config_each_key(config_key_fn *fn, void *arg);

DEFINE_FREEP(config_freep, struct config, config_free)
#define CLEANUP_CONFIG CLEANUP(config_freep)

#endif
