/* SPDX-License-Identifier: MIT */
#include "plan/plan_keys.h"

#include "base/str.h"
#include "config/ini.h"
#include "plan/words.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const struct {
	const char *name;
	size_t offset;
} token_kinds[] = {
	{"input", offsetof(struct plan_tokens, input)},
	{"output", offsetof(struct plan_tokens, output)},
	{"cache_read", offsetof(struct plan_tokens, cache_read)},
	{"cache_write", offsetof(struct plan_tokens, cache_write)},
};

#define TOKEN_KINDS (sizeof(token_kinds) / sizeof(token_kinds[0]))

void plan_state_free(struct plan_state *state)
{
	if (!state)
		return;
	free(state->status);
	free(state->outcome);
	free(state->reason);
	free(state->commit);
	free(state);
}

/* "input 10, output 20, ..."; false when it is not of that form. */
static bool parse_tokens(char *const *parts, struct plan_tokens *ret)
{
	for (size_t i = 0; parts[i]; i++) {
		size_t name = strcspn(parts[i], " "), k = 0;
		while (k < TOKEN_KINDS && !(strlen(token_kinds[k].name) == name &&
						  memcmp(parts[i], token_kinds[k].name, name) == 0))
			k++;
		int64_t value;
		if (k == TOKEN_KINDS || !parts[i][name] ||
			parse_int64(parts[i] + name + 1, 0, INT64_MAX, &value) < 0)
			return false;
		memcpy((char *)ret + token_kinds[k].offset, &value, sizeof(value));
	}
	return true;
}

static bool is_oid(const char *s)
{
	size_t len = strlen(s);
	return (len == 40 || len == 64) && strspn(s, "0123456789abcdef") == len;
}

static bool status_is_valid(const char *status, bool of_task)
{
	enum task_status task;
	enum plan_status plan;
	return of_task ? task_status_parse(status, &task) == 0
		       : plan_status_parse(status, &plan) == 0;
}

static const char *state_mistake(const struct state_text *text, bool of_task)
{
	enum outcome outcome;
	if (!text->status)
		return "expected a status";
	if (!status_is_valid(text->status, of_task))
		return of_task ? "status: expected the status of a task"
			       : "status: expected the status of a plan";
	if (!of_task && (text->attempt || text->outcome))
		return "expected attempt and outcome in [state:TASK] only";
	if (text->outcome && outcome_parse(text->outcome, &outcome) < 0)
		return "outcome: expected the outcome of an attempt";
	if (text->commit && !is_oid(text->commit))
		return "commit: expected an object id of 40 or 64 hexadecimal digits";
	return NULL;
}

int plan_state_parse(
	const struct state_text *text, bool of_task, struct plan_state **ret, struct buf *why)
{
	const char *mistake = state_mistake(text, of_task);
	struct plan_tokens tokens = {0};
	CLEANUP_STRV char **parts = strv_split(text->tokens ? text->tokens : "", ",");
	if (!parts)
		return -ENOMEM;
	if (!mistake && !parse_tokens(parts, &tokens))
		mistake = "tokens: expected 'input N, output N, cache_read N, cache_write N'";
	if (mistake) {
		buf_adds(why, mistake);
		return -EINVAL;
	}
	struct plan_state *state = calloc(1, sizeof(*state));
	if (!state)
		return -ENOMEM;
	state->tokens = tokens;
	state->attempt = text->attempt;
	if (str_replace(&state->status, text->status) < 0 ||
		str_replace(&state->outcome, text->outcome) < 0 ||
		str_replace(&state->reason, text->reason) < 0 ||
		str_replace(&state->commit, text->commit) < 0) {
		plan_state_free(state);
		return -ENOMEM;
	}
	*ret = state;
	return 0;
}

static void put(struct buf *out, const char *key, const char *value)
{
	if (value && *value)
		ini_put(out, key, value);
}

int plan_state_export(const char *task, const struct plan_state *state, struct buf *out)
{
	ini_put_section(out, "state", task);
	put(out, "status", state->status);
	if (state->attempt)
		buf_addf(out, "attempt = %" PRId64 "\n", state->attempt);
	put(out, "outcome", state->outcome);
	put(out, "reason", state->reason);
	put(out, "commit", state->commit);
	const struct plan_tokens *t = &state->tokens;
	if (t->input || t->output || t->cache_read || t->cache_write)
		buf_addf(out,
			"tokens = input %" PRId64 ", output %" PRId64 ", cache_read %" PRId64
			", cache_write %" PRId64 "\n",
			t->input, t->output, t->cache_read, t->cache_write);
	return buf_check(out);
}
