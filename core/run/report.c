/* SPDX-License-Identifier: MIT */
#include "run/report.h"

#include "base/json_text.h"
#include "base/map.h"
#include "base/str.h"
#include "base/vec.h"
#include "run/json_text.h"

#include <errno.h>
#include <stdio.h>

struct entry {
	int64_t id;
	json_t *json; /* borrowed from the array of tasks */
};

struct report {
	struct err *err;
	json_t *plan;
	json_t *tasks;
	struct VEC(struct entry) entries; /* by id */
	struct map by_name;
	json_t *attempts; /* of the task that is looked at */
	int64_t first, last, agents_ms, n_attempts, n_findings;
	double cost;
};

static json_t *tokens_json(const int64_t tokens[4])
{
	return json_pack("{s:I, s:I, s:I, s:I}", "input", (json_int_t)tokens[0], "output",
		(json_int_t)tokens[1], "cache_read", (json_int_t)tokens[2], "cache_write",
		(json_int_t)tokens[3]);
}

static json_t *time_json(int64_t ms)
{
	return ms > 0 ? json_integer(ms) : json_null();
}

static int note_plan(void *ctx, const struct plan_row *row)
{
	struct report *r = ctx;
	CLEANUP_STR char *branch = row->worktrees && row->base_oid
					   ? str_printf("orch/%s/integration", row->name)
					   : NULL;
	r->plan = json_pack("{s:I, s:s, s:s, s:o, s:s?, s:s?, s:o, s:I}", "id", (json_int_t)row->id,
		"name", row->name, "status", plan_status_name(row->status), "base",
		json_text(row->base_ref ? row->base_ref : row->base), "branch", branch, "halt",
		row->halted ? halt_reason_name(row->halt) : NULL, "tokens",
		tokens_json(row->tokens), "token_budget", (json_int_t)row->token_budget);
	return r->plan ? 0 : err_nomem(r->err);
}

static int note_task(void *ctx, const struct task_row *row)
{
	struct report *r = ctx;
	json_t *task = json_pack("{s:s, s:s, s:s?, s:o, s:s?, s:s?, s:[], s:o, s:[], s:[]}", "name",
		row->name, "status", task_status_name(row->status), "outcome",
		row->outcome == OUTCOME_NONE ? NULL : outcome_name(row->outcome), "reason",
		json_text(row->reason), "tag", row->tag, "commit", row->commit_oid, "depends_on",
		"tokens", tokens_json(row->tokens), "attempts", "findings");
	struct entry *entry = task ? VEC_PUSH(&r->entries) : NULL;
	if (!entry || json_array_append_new(r->tasks, task) < 0 ||
		map_put(&r->by_name, row->name, task) < 0)
		return err_nomem(r->err);
	*entry = (struct entry){.id = row->id, .json = task};
	return 0;
}

static int by_id(const void *a, const void *b)
{
	int64_t x = ((const struct entry *)a)->id, y = ((const struct entry *)b)->id;
	return (x > y) - (x < y);
}

static json_t *find(const struct report *r, int64_t id)
{
	struct entry key = {.id = id};
	const struct entry *e = r->entries.count ? bsearch(&key, r->entries.items, r->entries.count,
							   sizeof(key), by_id)
						 : NULL;
	return e ? e->json : NULL;
}

static int note_edge(void *ctx, int64_t task, int64_t dependency)
{
	struct report *r = ctx;
	json_t *t = find(r, task), *d = find(r, dependency);
	if (!t || !d)
		return 0;
	return json_array_append(json_object_get(t, "depends_on"), json_object_get(d, "name")) < 0
		       ? err_nomem(r->err)
		       : 0;
}

static int note_attempt(void *ctx, const struct attempt_row *row)
{
	struct report *r = ctx;
	bool ended = row->ended_at > 0;
	int64_t ms = ended && row->ended_at > row->started_at ? row->ended_at - row->started_at : 0;
	json_t *attempt = json_pack(
		"{s:I, s:s, s:s?, s:o, s:o, s:o, s:I, s:o, s:f, s:s?, s:s?, s:I, s:I, s:b}",
		"number", (json_int_t)row->number, "harness", row->harness, "outcome",
		row->outcome == OUTCOME_NONE ? NULL : outcome_name(row->outcome), "reason",
		json_text(row->reason), "started_at", time_json(row->started_at), "ended_at",
		time_json(row->ended_at), "duration_ms", (json_int_t)ms, "tokens",
		tokens_json(row->tokens), "cost", row->cost, "commit", row->commit_oid,
		"containment", row->containment, "left", (json_int_t)row->left, "killed",
		(json_int_t)row->killed, "contained", row->contained);
	if (!attempt || json_array_append_new(r->attempts, attempt) < 0)
		return err_nomem(r->err);
	if (row->started_at > 0 && (r->first == 0 || row->started_at < r->first))
		r->first = row->started_at;
	if (row->ended_at > r->last)
		r->last = row->ended_at;
	r->agents_ms += ms;
	r->cost += row->cost;
	r->n_attempts++;
	return 0;
}

static int note_finding(void *ctx, const char *task, const char *data)
{
	struct report *r = ctx;
	json_t *t = map_get(&r->by_name, task);
	json_t *finding = NULL;
	if (json_text_parse(data, strlen(data), 0, &finding, NULL) == -ENOMEM)
		return err_nomem(r->err);
	r->n_findings++;
	if (!t || !finding) {
		json_decref(finding);
		return 0;
	}
	return json_array_append_new(json_object_get(t, "findings"), finding) < 0
		       ? err_nomem(r->err)
		       : 0;
}

/* Sums over a task's attempts, for tables. */
static int sum_up(json_t *task)
{
	json_int_t ms = 0;
	double cost = 0;
	size_t i;
	json_t *attempt;
	json_array_foreach(json_object_get(task, "attempts"), i, attempt) {
		ms += json_integer_value(json_object_get(attempt, "duration_ms"));
		cost += json_real_value(json_object_get(attempt, "cost"));
	}
	return json_object_set_new(task, "duration_ms", json_integer(ms)) < 0 ||
			       json_object_set_new(task, "cost", json_real(cost)) < 0
		       ? -ENOMEM
		       : 0;
}

static int collect(struct report *r, struct store *s, int64_t plan_id, struct err *e)
{
	int code = store_plan(s, plan_id, note_plan, r, e);
	if (code == 0)
		code = store_each_task(s, plan_id, note_task, r, e);
	if (code == 0 && r->entries.count > 0)
		qsort(r->entries.items, r->entries.count, sizeof(*r->entries.items), by_id);
	if (code == 0)
		code = store_each_edge(s, plan_id, note_edge, r, e);
	vec_foreach(entry, &r->entries) {
		r->attempts = json_object_get(entry->json, "attempts");
		if (code == 0)
			code = store_each_attempt(s, entry->id, note_attempt, r, e);
		if (code == 0 && sum_up(entry->json) < 0)
			code = err_nomem(e);
	}
	if (code == 0)
		code = store_each_finding(s, plan_id, note_finding, r, e);
	return code;
}

static json_t *counts_json(const json_t *tasks)
{
	json_t *counts = json_object();
	size_t i;
	json_t *task;
	json_array_foreach(tasks, i, task) {
		const char *status = json_string_value(json_object_get(task, "status"));
		json_int_t n = json_integer_value(json_object_get(counts, status));
		json_object_set_new(counts, status, json_integer(n + 1));
	}
	return counts;
}

int report_json(struct store *s, int64_t plan_id, json_t **ret, struct err *e)
{
	struct report r = {.err = e, .tasks = json_array()};
	int code = r.tasks ? collect(&r, s, plan_id, e) : err_nomem(e);
	json_t *object = NULL;
	if (code == 0) {
		object = json_pack("{s:i, s:O, s:{s:o, s:I, s:o, s:o, s:I, s:O, s:f, s:I}, s:O}",
			"version", 1, "plan", r.plan, "totals", "tasks", counts_json(r.tasks),
			"attempts", (json_int_t)r.n_attempts, "started_at", time_json(r.first),
			"ended_at", time_json(r.last), "agents_ms", (json_int_t)r.agents_ms,
			"tokens", json_object_get(r.plan, "tokens"), "cost", r.cost, "findings",
			(json_int_t)r.n_findings, "tasks", r.tasks);
		code = object ? 0 : err_nomem(e);
	}
	json_decref(r.plan);
	json_decref(r.tasks);
	VEC_FREE(&r.entries);
	map_deinit(&r.by_name);
	if (code == 0)
		*ret = object;
	return code;
}
