/* SPDX-License-Identifier: MIT */
#include "run/status.h"

#include "base/clock.h"
#include "base/str.h"
#include "base/vec.h"
#include "os/cgroup.h"
#include "run/json_text.h"

#include <errno.h>

/* A task while its object is being completed; json is borrowed from the plan's array. */
struct entry {
	int64_t id;
	json_t *json;
	bool passed, pending;
};

struct collect {
	const struct site *site;
	struct store *store;
	struct err *err;
	json_t *plans;
	/* The plan that is being collected. */
	json_t *tasks;
	struct VEC(struct entry) entries; /* by id */
};

static int append(json_t *object, const char *key, const char *text)
{
	return json_array_append_new(json_object_get(object, key), json_string(text));
}

/* ---- tasks ---- */

static int add_task(void *ctx, const struct task_row *row)
{
	struct collect *c = ctx;
	const char *harness = row->harness ? row->harness : c->site->config->orch.default_harness;
	json_t *task = json_pack("{s:I, s:s, s:s, s:b, s:o, s:I, s:s?, s:s?, s:o, s:s?, s:o,"
				 " s:[], s:[], s:s, s:[]}",
		"id", (json_int_t)row->id, "name", row->name, "status",
		task_status_name(row->status), "paused", row->paused, "reason",
		json_text(row->reason), "attempt", (json_int_t)row->attempt, "outcome",
		row->outcome == OUTCOME_NONE ? NULL : outcome_name(row->outcome), "harness",
		harness, "branch", json_text(row->branch), "commit", row->commit_oid, "worktree",
		json_text(row->worktree), "depends_on", "waits_for", "gate", gate_name(row->gate),
		"invariants");
	struct entry *entry = task ? VEC_PUSH(&c->entries) : NULL;
	if (!entry || json_array_append(c->tasks, task) < 0) {
		json_decref(task);
		return err_nomem(c->err);
	}
	*entry = (struct entry){
		.id = row->id,
		.json = task,
		.passed = row->status == TASK_PASSED,
		.pending = row->status == TASK_PENDING,
	};
	json_decref(task); /* the array has it */
	return 0;
}

static int by_id(const void *a, const void *b)
{
	int64_t x = ((const struct entry *)a)->id, y = ((const struct entry *)b)->id;
	return (x > y) - (x < y);
}

static struct entry *find(const struct collect *c, int64_t id)
{
	struct entry key = {.id = id};
	return c->entries.count
		       ? bsearch(&key, c->entries.items, c->entries.count, sizeof(key), by_id)
		       : NULL;
}

static int add_edge(void *ctx, int64_t task, int64_t dependency)
{
	struct collect *c = ctx;
	const struct entry *t = find(c, task), *d = find(c, dependency);
	if (!t || !d)
		return 0; /* imported between two queries: the next look shows it */
	const char *name = json_string_value(json_object_get(d->json, "name"));
	if (append(t->json, "depends_on", name) < 0 ||
		(t->pending && !d->passed && append(t->json, "waits_for", name) < 0))
		return err_nomem(c->err);
	return 0;
}

static int add_judged(void *ctx, int64_t task, const char *invariant)
{
	struct collect *c = ctx;
	const struct entry *t = find(c, task);
	return t && append(t->json, "invariants", invariant) < 0 ? err_nomem(c->err) : 0;
}

static int set_harness(void *ctx, int64_t task, const char *harness, bool is_command)
{
	struct collect *c = ctx;
	const struct entry *t = find(c, task);
	if (!t)
		return 0;
	bool known = !json_is_null(json_object_get(t->json, "harness"));
	if (!harness || !harness[0])
		harness = !known && is_command ? "shell" : NULL;
	return harness && json_object_set_new(t->json, "harness", json_string(harness)) < 0
		       ? err_nomem(c->err)
		       : 0;
}

/* ---- plans ---- */

static json_t *halt_json(const struct plan_row *row)
{
	if (!row->halted)
		return json_null();
	char at[25];
	format_time_iso(row->halt_at, at);
	json_t *also = json_array();
	for (int i = 0; i < HALT_COUNT; i++)
		if (row->halt_also & (1U << i))
			(void)json_array_append_new(
				also, json_string(halt_reason_name((enum halt_reason)i)));
	return json_pack("{s:s, s:i, s:s, s:o, s:{s:s?, s:s?, s:o}}", "reason",
		halt_reason_name(row->halt), "exit_status", halt_reason_status(row->halt), "at", at,
		"also", also, "commit", "result", row->halt_commit, "oid", row->halt_commit_oid,
		"why", json_text(row->halt_commit_why));
}

static int add_plan(void *ctx, const struct plan_row *row)
{
	struct collect *c = ctx;
	/* A branch is there from the first dispatch on. */
	CLEANUP_STR char *branch = row->worktrees && row->base_oid
					   ? str_printf("orch/%s/integration", row->name)
					   : NULL;
	json_t *plan = json_pack("{s:I, s:s, s:s, s:b, s:o, s:s?, s:o, s:{s:I, s:I, s:I, s:I},"
				 " s:{s:I, s:n}, s:[]}",
		"id", (json_int_t)row->id, "name", row->name, "status",
		plan_status_name(row->status), "paused", row->paused, "base",
		json_text(row->base_ref ? row->base_ref : row->base), "branch", branch, "halt",
		halt_json(row), "tokens", "input", (json_int_t)row->tokens[0], "output",
		(json_int_t)row->tokens[1], "cache_read", (json_int_t)row->tokens[2], "cache_write",
		(json_int_t)row->tokens[3], "findings", "count", (json_int_t)0, "sha256", "tasks");
	return plan && json_array_append_new(c->plans, plan) == 0 ? 0 : err_nomem(c->err);
}

static int add_findings(struct collect *c, json_t *plan, int64_t id)
{
	struct findings f;
	int r = findings_digest(c->store, id, &f, c->err);
	if (r < 0 || f.count == 0)
		return r;
	json_t *object = json_pack("{s:I, s:s}", "count", (json_int_t)f.count, "sha256", f.sha256);
	return json_object_set_new(plan, "findings", object) < 0 ? err_nomem(c->err) : 0;
}

static int complete_plan(struct collect *c, json_t *plan)
{
	int64_t id = json_integer_value(json_object_get(plan, "id"));
	c->tasks = json_object_get(plan, "tasks");
	c->entries.count = 0;
	int r = add_findings(c, plan, id);
	if (r == 0)
		r = store_each_task(c->store, id, add_task, c, c->err);
	if (r == 0 && c->entries.count > 0)
		qsort(c->entries.items, c->entries.count, sizeof(*c->entries.items), by_id);
	if (r == 0)
		r = store_each_edge(c->store, id, add_edge, c, c->err);
	if (r == 0)
		r = store_each_judged(c->store, id, add_judged, c, c->err);
	if (r == 0)
		r = store_each_task_harness(c->store, id, set_harness, c, c->err);
	return r;
}

static int collect_plans(struct collect *c, int64_t plan_id)
{
	int r = plan_id ? store_plan(c->store, plan_id, add_plan, c, c->err)
			: store_each_plan(c->store, add_plan, c, c->err);
	size_t i;
	json_t *plan;
	json_array_foreach(c->plans, i, plan) {
		if (r == 0)
			r = complete_plan(c, plan);
	}
	return r;
}

/* What containment comes to here; NULL: none that works. */
static const char *containment_name(const struct config *config)
{
	struct err why = ERR_INIT;
	switch (config->orch.containment) {
	case CONFIG_CONTAINMENT_AUTO:
		return config_containment_name(cgroup_probe(&why) == 0
						       ? CONFIG_CONTAINMENT_CGROUP
						       : CONFIG_CONTAINMENT_SUBREAPER);
	case CONFIG_CONTAINMENT_CGROUP:
	case CONFIG_CONTAINMENT_SUBREAPER:
		return config_containment_name(config->orch.containment);
	default:
		return NULL;
	}
}

int status_json(
	const struct site *site, struct store *store, int64_t plan_id, json_t **ret, struct err *e)
{
	struct site_engine engine;
	int r = site_engine(site, &engine, e);
	if (r < 0)
		return r;
	json_t *pid = engine.pid ? json_integer(engine.pid) : json_null();
	json_t *status = json_pack("{s:i, s:{s:b, s:o, s:s?}, s:[]}", "version", 1, "engine",
		"running", engine.running, "pid", pid, "containment",
		containment_name(site->config), "plans");
	if (!status)
		return err_nomem(e);
	struct collect c = {
		.site = site,
		.store = store,
		.err = e,
		.plans = json_object_get(status, "plans"),
	};
	r = store ? collect_plans(&c, plan_id) : 0;
	VEC_FREE(&c.entries);
	if (r < 0) {
		json_decref(status);
		return r;
	}
	*ret = status;
	return 0;
}
