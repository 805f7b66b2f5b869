/* SPDX-License-Identifier: MIT */
#include "run/status.h"

#include "base/clock.h"
#include "run/json_text.h"

/* Consumes value. NULL, also as value, is passed on: memory is out. */
static json_t *append(json_t *array, json_t *value)
{
	if (array && json_array_append_new(array, value) == 0)
		return array;
	if (!array)
		json_decref(value);
	json_decref(array);
	return NULL;
}

static json_t *names(const struct status_plan *p, const struct status_task *t, bool only_awaited)
{
	json_t *list = json_array();
	vec_foreach(i, &t->depends_on)
		if (!only_awaited || status_waits_for(p, t, *i))
			list = append(list, json_string(p->tasks.items[*i].name));
	return list;
}

static json_t *strings(char *const *texts)
{
	json_t *list = json_array();
	for (size_t i = 0; texts && texts[i]; i++)
		list = append(list, json_string(texts[i]));
	return list;
}

static json_t *task_json(const struct status_plan *p, const struct status_task *t)
{
	return json_pack("{s:I, s:s, s:s, s:b, s:o, s:I, s:s?, s:s?, s:o, s:s?, s:o,"
			 " s:o, s:o, s:s, s:o}",
		"id", (json_int_t)t->id, "name", t->name, "status", task_status_name(t->status),
		"paused", t->paused, "reason", json_text(t->reason), "attempt",
		(json_int_t)t->attempt, "outcome",
		t->outcome == OUTCOME_NONE ? NULL : outcome_name(t->outcome), "harness", t->harness,
		"branch", json_text(t->branch), "commit", t->commit, "worktree",
		json_text(t->worktree), "depends_on", names(p, t, false), "waits_for",
		names(p, t, true), "gate", gate_name(t->gate), "invariants",
		strings(t->invariants));
}

static json_t *halt_json(const struct status_plan *p)
{
	if (!p->halted)
		return json_null();
	char at[25];
	format_time_iso(p->halt_at, at);
	json_t *also = json_array();
	for (int i = 0; i < HALT_COUNT; i++)
		if (p->halt_also & (1U << i))
			also = append(also, json_string(halt_reason_name((enum halt_reason)i)));
	return json_pack("{s:s, s:i, s:s, s:o, s:{s:s?, s:s?, s:o}}", "reason",
		halt_reason_name(p->halt), "exit_status", halt_reason_status(p->halt), "at", at,
		"also", also, "commit", "result", p->halt_commit, "oid", p->halt_commit_oid, "why",
		json_text(p->halt_commit_why));
}

static json_t *plan_json(const struct status_plan *p)
{
	json_t *tasks = json_array();
	vec_foreach(t, &p->tasks)
		tasks = append(tasks, task_json(p, t));
	return json_pack("{s:I, s:s, s:s, s:b, s:o, s:s?, s:o, s:{s:I, s:I, s:I, s:I},"
			 " s:{s:I, s:s?}, s:o}",
		"id", (json_int_t)p->id, "name", p->name, "status", plan_status_name(p->status),
		"paused", p->paused, "base", json_text(p->base), "branch", p->branch, "halt",
		halt_json(p), "tokens", "input", (json_int_t)p->tokens[0], "output",
		(json_int_t)p->tokens[1], "cache_read", (json_int_t)p->tokens[2], "cache_write",
		(json_int_t)p->tokens[3], "findings", "count", (json_int_t)p->findings.count,
		"sha256", p->findings.count > 0 ? p->findings.sha256 : NULL, "tasks", tasks);
}

json_t *status_json(const struct status *s)
{
	json_t *plans = json_array();
	vec_foreach(p, &s->plans)
		plans = append(plans, plan_json(p));
	return json_pack("{s:i, s:{s:b, s:o, s:s?, s:o*}, s:o}", "version", 1, "engine", "running",
		s->engine.running, "pid", s->engine.pid ? json_integer(s->engine.pid) : json_null(),
		"containment", s->containment, "waits", s->waits ? json_text(s->waits) : NULL,
		"plans", plans);
}
