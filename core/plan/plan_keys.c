/* SPDX-License-Identifier: MIT */
#include "plan/plan_keys.h"

#include <stddef.h>

#define X(id, name) name,
static const char *const gate_names[] = {GATE_LIST(X) NULL};
static const char *const scope_names[] = {SCOPE_LIST(X) NULL};
static const char *const isolation_names[] = {ISOLATION_LIST(X) NULL};
#undef X

#define MANY 1000000000

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

static const struct key_spec plan_specs[] = {
	KEY("name", KEY_NAME, plan, name, NULL, "the plan's name", ),
	KEY("base", KEY_STRING, plan, base, NULL,
		"the branch to start from; unset: the current one", ),
	KEY("harness", KEY_NAME, plan, harness, NULL, "default harness of the tasks", ),
	KEY("token_budget", KEY_INT, plan, token_budget, NULL,
		"input + output + cache writes over the whole plan", AT_LEAST(1)),
	KEY("max_agents", KEY_INT, plan, max_agents, NULL,
		"at most so many agents at the same time", RANGE(1, 100000)),
	KEY("isolation", KEY_ENUM, plan, isolation, "worktree",
		"worktree: each task in its own; none: all in the checkout",
		.names = isolation_names),
	KEY("invariants", KEY_LIST, plan, invariant_names, NULL,
		"judged on each merged tip; unset: those of the task being merged", ),
	KEY("setup", KEY_TEXT, plan, setup, NULL, "run in each new worktree before the agent", ),
	KEY("copy", KEY_LIST, plan, copy, NULL,
		"ignored files to bring along from the checkout, never committed", .blanks = true),
};

static const struct key_spec task_specs[] = {
	KEY("prompt", KEY_TEXT, task, prompt, NULL, "what the agent is asked to do", ),
	KEY("command", KEY_TEXT, task, command, NULL,
		"for the shell harness: the command line, run by /bin/sh -c", ),
	KEY("depends_on", KEY_LIST, task, depends_on, NULL,
		"the tasks whose work this one builds on", ),
	KEY("harness", KEY_NAME, task, harness, NULL, "unset: the plan's", ),
	KEY("scope", KEY_ENUM, task, scope, "medium",
		"narrow, medium or broad: a label for the prompt and for filters",
		.names = scope_names),
	KEY("gate", KEY_ENUM, task, gate, "auto", "who judges: auto, human_review, human_approve",
		.names = gate_names),
	KEY("invariants", KEY_LIST, task, invariant_names, NULL, "what must hold", ),
	KEY("priority", KEY_INT, task, priority, "0", "higher starts first", RANGE(-MANY, MANY)),
	KEY("tag", KEY_STRING, task, tag, NULL, "a label for filters", ),
	KEY("retry_max", KEY_INT, task, retry_max, "3", "retries after the first attempt",
		RANGE(0, 1000000)),
	KEY("timeout", KEY_DURATION, task, timeout_ms, NULL,
		"wall-clock limit of an attempt; unset: the configured task_timeout", AT_LEAST(1)),
	KEY("token_budget", KEY_INT, task, token_budget, NULL,
		"input + output + cache writes of one attempt", AT_LEAST(1)),
	KEY("allow_empty", KEY_BOOL, task, allow_empty, "no",
		"yes: an attempt may be done without having changed anything", ),
};

static const struct key_spec state_specs[] = {
	KEY("status", KEY_STRING, state_text, status, NULL, "", ),
	KEY("attempt", KEY_INT, state_text, attempt, NULL, "", RANGE(1, MANY)),
	KEY("outcome", KEY_STRING, state_text, outcome, NULL, "", ),
	KEY("reason", KEY_TEXT, state_text, reason, NULL, "", ),
	KEY("commit", KEY_STRING, state_text, commit, NULL, "", ),
	KEY("tokens", KEY_STRING, state_text, tokens, NULL, "", ),
};

const struct key_table plan_keys = TABLE(plan_specs);
const struct key_table task_keys = TABLE(task_specs);
const struct key_table state_keys = TABLE(state_specs);

const char *gate_name(enum gate v)
{
	return gate_names[v];
}

const char *scope_name(enum scope v)
{
	return scope_names[v];
}

const char *isolation_name(enum isolation v)
{
	return isolation_names[v];
}
