/* SPDX-License-Identifier: MIT */
#include "config/config_keys.h"

#include "base/str.h"

#include <stddef.h>

#define X(id, name) name,
static const char *const on_crash_names[] = {ON_CRASH_LIST(X) NULL};
static const char *const containment_names[] = {CONTAINMENT_LIST(X) NULL};
static const char *const keep_worktrees_names[] = {KEEP_WORKTREES_LIST(X) NULL};
static const char *const halt_commit_names[] = {HALT_COMMIT_LIST(X) NULL};
static const char *const daemon_agents_names[] = {DAEMON_AGENTS_LIST(X) NULL};
#undef X
/* As log_level_name() has them; test_config_load compares. */
static const char *const log_level_names[] = {"error", "warning", "info", "debug", NULL};

_Static_assert(sizeof(log_level_names) / sizeof(char *) == LOG_LEVEL_COUNT + 1,
	"one name for each log level");

#define KEY(name, kind, owner, member, dflt, text, ...) \
	{ \
		.key = name, .type = kind, .offset = offsetof(struct owner, member), \
		.default_value = dflt, .help = text, __VA_ARGS__ \
	}
#define RANGE(lo, hi) .min = (lo), .max = (hi)
#define AT_LEAST(lo)  RANGE(lo, INT64_MAX)
#define TABLE(keys) \
	{ \
		keys, sizeof(keys) / sizeof((keys)[0]) \
	}

static const struct key_spec orch_specs[] = {
	KEY("plugin_path", KEY_STRING, config_orch, plugin_path, NULL,
		"where harnesses are looked for, separated by ':'; unset: beside the binary in a "
		"build "
		"tree, $XDG_DATA_HOME/orch/plugins, then the installed ones", ),
	KEY("default_harness", KEY_NAME, config_orch, default_harness, NULL,
		"the harness of tasks and plans that name none", ),
	KEY("max_agents", KEY_INT, config_orch, max_agents, "4",
		"how many agents may run at the same time", RANGE(1, 100000)),
	KEY("task_timeout", KEY_DURATION, config_orch, task_timeout_ms, "30m",
		"wall-clock limit of an attempt", AT_LEAST(1)),
	KEY("silence_timeout", KEY_DURATION, config_orch, silence_timeout_ms, "15m",
		"an agent without output, work and writes for that long has stalled", AT_LEAST(1)),
	KEY("drain_timeout", KEY_DURATION, config_orch, drain_timeout_ms, "10s",
		"how long agents may take to end after the first Ctrl+C", .no_off = true),
	KEY("kill_grace", KEY_DURATION, config_orch, kill_grace_ms, "5s",
		"how long a process tree may take between SIGTERM and SIGKILL", .no_off = true),
	KEY("callback_timeout", KEY_DURATION, config_orch, callback_timeout_ms, "10s",
		"limit of a plugin's spawn, kill, send, check and release", AT_LEAST(1),
		.no_off = true),
	KEY("on_crash", KEY_ENUM, config_orch, on_crash, "adopt",
		"what becomes of agents when orch dies: adopt (they run on), kill (after 10 s)",
		.names = on_crash_names),
	KEY("containment", KEY_ENUM, config_orch, containment, "auto",
		"how the processes of a unit are held together: auto, cgroup, subreaper, pidns",
		.names = containment_names),
	KEY("worktree_root", KEY_STRING, config_orch, worktree_root, NULL,
		"where worktrees are made, outside the repository; unset: "
		"$XDG_STATE_HOME/orch/<repo>-<hash>", ),
	KEY("keep_worktrees", KEY_ENUM, config_orch, keep_worktrees, "failed",
		"which worktrees stay when their task is done: failed, all, none",
		.names = keep_worktrees_names),
	KEY("min_free_memory", KEY_SIZE, config_orch, min_free_memory_bytes, "1G",
		"with less memory available nothing starts", ),
	KEY("min_free_disk", KEY_SIZE, config_orch, min_free_disk_bytes, "2G",
		"with less room on the disk nothing starts", ),
	KEY("max_file", KEY_SIZE, config_orch, max_file_bytes, "100M",
		"a larger file makes an attempt uncommittable", AT_LEAST(1)),
};

static const struct key_spec retry_specs[] = {
	KEY("backoff", KEY_DURATION, config_retry, backoff_ms, "10s",
		"wait before the first retry after a fault of the agent or the machine; it doubles "
		"with each",
		.no_off = true),
	KEY("backoff_max", KEY_DURATION, config_retry, backoff_max_ms, "5m",
		"the longest such wait", .no_off = true),
	KEY("max_wait", KEY_DURATION, config_retry, max_wait_ms, "6h",
		"a rate limit that lasts longer ends the dispatch", AT_LEAST(1)),
	KEY("breaker", KEY_INT, config_retry, breaker, "5",
		"so many attempts failed in a row end the dispatch; 0: never", RANGE(0, 1000000)),
};

static const struct key_spec halt_specs[] = {
	KEY("commit", KEY_ENUM, config_halt, commit, "ref",
		"where a halt saves the plan's state: ref (refs/orch/state), branch (the current "
		"one), off",
		.names = halt_commit_names),
};

static const struct key_spec hook_specs[] = {
	KEY("on_review", KEY_TEXT, config_hook, on_review, NULL,
		"a command for when a task awaits review; JSON on its standard input, 30 s", ),
	KEY("on_escalated", KEY_TEXT, config_hook, on_escalated, NULL,
		"the same for when a task is escalated", ),
	KEY("on_halt", KEY_TEXT, config_hook, on_halt, NULL, "the same for when a dispatch ends", ),
};

static const struct key_spec daemon_specs[] = {
	KEY("stop_timeout", KEY_DURATION, config_daemon, stop_timeout_ms, "30s",
		"how long a stop may take altogether", AT_LEAST(1), .no_off = true),
	KEY("idle_timeout", KEY_DURATION, config_daemon, idle_timeout_ms, "off",
		"the daemon ends after so long without work and clients", AT_LEAST(1)),
	KEY("agents", KEY_ENUM, config_daemon, agents, "stop",
		"what becomes of agents when the daemon stops: stop, keep",
		.names = daemon_agents_names),
};

static const struct key_spec log_specs[] = {
	KEY("level", KEY_ENUM, config_log, level, "info", "error, warning, info or debug",
		.names = log_level_names),
	KEY("keep", KEY_DURATION, config_log, keep_ms, "30d",
		"how long unit directories and events are kept; findings stay", AT_LEAST(1)),
};

static const struct key_spec harness_specs[] = {
	KEY("plugin", KEY_NAME, config_harness, plugin, NULL,
		"the plugin, orch-harness-<plugin>.so; unset: the section's name", ),
	KEY("max_agents", KEY_INT, config_harness, max_agents, NULL,
		"at most so many agents of this harness at a time", RANGE(1, 100000)),
	KEY("pass_env", KEY_LIST, config_harness, pass_env, NULL,
		"variables that reach the agent although they are filtered otherwise", ),
	KEY("env_file", KEY_STRING, config_harness, env_file, NULL,
		"a file of NAME=value lines for the agent's environment", ),
	KEY("token_budget", KEY_INT, config_harness, token_budget, NULL,
		"input + output + cache writes that this harness may use in a plan", AT_LEAST(1)),
};

static const struct key_table orch_keys = TABLE(orch_specs);
static const struct key_table retry_keys = TABLE(retry_specs);
static const struct key_table halt_keys = TABLE(halt_specs);
static const struct key_table hook_keys = TABLE(hook_specs);
static const struct key_table daemon_keys = TABLE(daemon_specs);
static const struct key_table log_keys = TABLE(log_specs);
const struct key_table config_harness_keys = TABLE(harness_specs);

const struct config_section config_sections[CONFIG_SECTIONS] = {
	{"orch", &orch_keys, offsetof(struct config, orch), false},
	{"retry", &retry_keys, offsetof(struct config, retry), false},
	{"halt", &halt_keys, offsetof(struct config, halt), false},
	{"hook", &hook_keys, offsetof(struct config, hook), false},
	{"daemon", &daemon_keys, offsetof(struct config, daemon), false},
	{"log", &log_keys, offsetof(struct config, log), false},
	{"harness", &config_harness_keys, 0, true},
	{"invariant", &invariant_keys, 0, true},
};

const struct config_section *config_section_find(const char *name)
{
	for (size_t i = 0; i < CONFIG_SECTIONS; i++)
		if (str_eq(config_sections[i].name, name))
			return &config_sections[i];
	return NULL;
}

void config_each_key(config_key_fn *fn, void *arg)
{
	for (size_t i = 0; i < CONFIG_SECTIONS; i++)
		for (size_t k = 0; k < config_sections[i].keys->count; k++)
			fn(config_sections[i].name, &config_sections[i].keys->keys[k], arg);
}

const char *config_on_crash_name(enum config_on_crash v)
{
	return on_crash_names[v];
}

const char *config_containment_name(enum config_containment v)
{
	return containment_names[v];
}

const char *config_keep_worktrees_name(enum config_keep_worktrees v)
{
	return keep_worktrees_names[v];
}

const char *config_halt_commit_name(enum config_halt_commit v)
{
	return halt_commit_names[v];
}

const char *config_daemon_agents_name(enum config_daemon_agents v)
{
	return daemon_agents_names[v];
}
