/* SPDX-License-Identifier: MIT */
#include "run/state.h"

#include "base/json_text.h"
#include "git/worktree.h"
#include "run/json_text.h"

#include <string.h>

struct live *live_get(struct run *r, uint32_t index)
{
	return index < r->live.count ? r->live.items[index] : NULL;
}

void live_free(struct live *l)
{
	if (!l)
		return;
	free(l->name);
	free(l->harness);
	free(l->prompt);
	free(l->command);
	free(l->branch);
	free(l->worktree);
	free(l->session);
	free(l->last_stat);
	usage_forget(l);
	free(l->ended_text);
	/* Of a run that ended in the middle (run_fail). */
	free(l->in_hand);
	gate_drop(l);
	free(l->merge);
	free(l);
}

struct live_load {
	struct live *live;
	bool failed;
};

static const char *task_harness(const struct run *r, const struct task_row *row, bool has_command)
{
	if (r->options.harness)
		return r->options.harness;
	if (row->harness)
		return row->harness;
	if (r->config->orch.default_harness)
		return r->config->orch.default_harness;
	/* A task that is a command line needs nothing else to run it. */
	return has_command ? "shell" : NULL;
}

static int live_read_task(void *ctx, const struct task_row *row)
{
	struct live_load *load = ctx;
	struct live *l = load->live;
	struct run *r = l->run;
	const char *harness = task_harness(r, row, l->command != NULL);
	l->name = str_dup(row->name);
	l->harness = str_dup(harness);
	l->branch = str_dup(row->branch);
	if (l->plan->worktrees)
		l->worktree = git_worktree_path(r->site->worktree_root, l->plan->name, row->name);
	l->attempt = (uint32_t)row->attempt;
	l->timeout_ms = r->options.task_timeout_ms ? r->options.task_timeout_ms
			: row->timeout_ms          ? row->timeout_ms
						   : r->config->orch.task_timeout_ms;
	load->failed = !l->name || (harness && !l->harness) || (l->plan->worktrees && !l->worktree);
	if (row->commit_oid)
		load->failed |= git_oid_parse(row->commit_oid, &l->commit) < 0;
	return 0;
}

static int live_read_attempt(void *ctx, const struct attempt_row *row)
{
	struct live *l = ctx;
	if (row->start_oid && git_oid_parse(row->start_oid, &l->start) < 0)
		l->start = GIT_OID_NONE;
	if (row->commit_oid && git_oid_parse(row->commit_oid, &l->commit) < 0)
		l->commit = GIT_OID_NONE;
	memcpy(l->usage_sum, row->tokens, sizeof(l->usage_sum));
	l->cost_sum = row->cost;
	return 0;
}

struct live *live_new(struct run *r, uint32_t index, struct err *e)
{
	const struct engine_task *t = engine_task(r->engine, index);
	struct live *l = calloc(1, sizeof(*l));
	if (!l) {
		err_nomem(e);
		return NULL;
	}
	l->run = r;
	l->plan = r->plans.items[t->plan];
	l->index = index;
	l->id = t->id;
	struct live_load load = {.live = l};
	struct unit_spec id;
	unit_spec_init(&id, UNIT_AGENT);
	int code = unit_spec_new_id(&id, e);
	memcpy(l->unit_id, id.id, sizeof(l->unit_id));
	unit_spec_deinit(&id);
	if (code == 0)
		code = store_task_text(r->store, l->id, &l->prompt, &l->command, e);
	if (code == 0)
		code = store_task(r->store, l->id, live_read_task, &load, e);
	if (code == 0 && t->attempt > 0)
		code = store_attempt(r->store, l->id, t->attempt, live_read_attempt, l, e);
	if (code < 0 || load.failed) {
		if (code >= 0)
			err_nomem(e);
		live_free(l);
		return NULL;
	}
	r->live.items[index] = l;
	return l;
}

void live_drop_if_idle(struct run *r, uint32_t index)
{
	struct live *l = live_get(r, index);
	if (!l || l->job || l->agent || l->command_unit || l->judge || l->merge)
		return;
	if (engine_task(r->engine, index)->flight != ENGINE_NONE)
		return;
	r->live.items[index] = NULL;
	live_free(l);
}

int run_event(const struct live *l, const char *kind, json_t *data, struct err *e)
{
	CLEANUP(freep) char *text = data ? json_text_dump(data, JSON_COMPACT) : NULL;
	json_decref(data);
	if (!text)
		return err_nomem(e);
	struct event_row row = {
		.at = run_now(l->run),
		.plan_id = l->plan->id,
		.task_id = l->id,
		.attempt = l->attempt,
		.kind = kind,
		.data = text,
	};
	int code = store_in_transaction(l->run->store) ? 0 : store_begin(l->run->store, e);
	return code < 0 ? code : store_event_add(l->run->store, &row, e);
}

int run_note(const struct live *l, const char *text, struct err *e)
{
	return run_event(l, "progress", json_pack("{s:o}", "text", json_text(text)), e);
}
