/* SPDX-License-Identifier: MIT */
/* From the database to an engine: plans, tasks, edges, harnesses. */
#include "run/state.h"

#include "plan/plan.h"
#include "run/credential.h"
#include "run/record.h"
#include "unit/usage.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* ---- plans ---- */

static int load_definition(struct rplan *p, struct err *e)
{
	CLEANUP_STR char *text = NULL;
	CLEANUP_PLAN struct plan *plan = NULL;
	struct diags d = DIAGS_INIT;
	int code = store_plan_definition(p->run->store, p->id, &text, e);
	if (code == 0)
		code = plan_parse_text(p->name, NULL, text, strlen(text), NULL, &plan, &d, e);
	if (code == 0) {
		p->setup = str_dup(plan->setup);
		p->copy = plan->copy ? strv_copy(plan->copy) : NULL;
		if ((plan->setup && !p->setup) || (plan->copy && !p->copy))
			code = err_nomem(e);
	}
	if (code < 0 && d.list.count > 0 && d.list.items[0].text)
		err_prefix(e, "the stored plan '%s' does not parse any more (%s)", p->name,
			d.list.items[0].text);
	diags_deinit(&d);
	return code;
}

struct plan_load {
	struct run *run;
	struct rplan *plan;
	struct err *err;
};

static int read_plan(void *ctx, const struct plan_row *row)
{
	struct plan_load *load = ctx;
	struct rplan *p = load->plan;
	p->name = str_dup(row->name);
	p->worktrees = row->worktrees;
	return p->name ? 0 : -ENOMEM;
}

static int load_plan(struct rplan *p, struct err *e)
{
	struct plan_load load = {.run = p->run, .plan = p, .err = e};
	int code = store_plan(p->run->store, p->id, read_plan, &load, e);
	if (code < 0)
		return e->code ? code : err_nomem(e);
	if (!p->name)
		return err_set(e, -ENOENT, "no plan with id %lld", (long long)p->id);
	return load_definition(p, e);
}

/* Units under way belong to plans that must be loaded too, asked for or not. */
static int add_unit_plan(void *ctx, const struct unit_row *row)
{
	struct plan_load *load = ctx;
	struct run *r = load->run;
	vec_foreach(p, &r->plans)
		if ((*p)->id == row->plan_id)
			return 0;
	int code = run_add_plan(r, row->plan_id, ADMIT_NONE, 0, load->err);
	if (code == 0)
		r->plans.items[r->plans.count - 1]->mentioned = false;
	return code;
}

int load_plans(struct run *r, struct err *e)
{
	struct plan_load load = {.run = r, .err = e};
	int code = store_each_open_unit(r->store, add_unit_plan, &load, e);
	for (size_t i = 0; code == 0 && i < r->plans.count; i++)
		code = load_plan(r->plans.items[i], e);
	return code;
}

/* ---- the engine ---- */

struct task_load {
	struct run *run;
	uint32_t plan;
	struct err *err;
	const struct run_select *select;
	struct run_stages stages; /* filled where there are targets */
	uint32_t known;           /* where in the engine the next known task is, most likely */
	bool only_new;            /* tasks that never started; the others are in the engine */
	/* Tasks come in the order of their ids' first index; edges look them up here. */
	struct map by_id;
};

static uint8_t row_u8(int64_t v)
{
	return v < 0 ? 0 : v > 255 ? 255 : (uint8_t)v;
}

static int breaker_index(struct run *r, const char *harness, uint32_t *ret, struct err *e)
{
	CLEANUP_STR char *name = NULL;
	struct engine_breaker_init init = {0};
	int64_t level = 0;
	int code = credential_name(r->site, harness, &name, e);
	uintptr_t known = code == 0 ? (uintptr_t)map_get(&r->breakers, name) : 0;
	if (known)
		*ret = (uint32_t)known - 1;
	if (code < 0 || known)
		return code;
	code = store_breaker(r->store, name, &init.open_until, &level, e);
	if (code < 0)
		return code;
	init.level = row_u8(level);
	if (engine_add_breaker(r->engine, &init, ret) < 0 ||
		map_put(&r->breakers, name, (void *)(uintptr_t)(*ret + 1)) < 0)
		return err_nomem(e);
	return 0;
}

/* Tasks without any harness have one without a name. */
static int harness_index(struct run *r, const char *name, uint32_t *ret, struct err *e)
{
	uintptr_t known = (uintptr_t)map_get(&r->harnesses, name ? name : "");
	if (known) {
		*ret = (uint32_t)known - 1;
		return 0;
	}
	const struct config_harness *h = name ? config_harness_find(r->config, name) : NULL;
	struct engine_harness_init init = {
		.max_agents = h ? (uint32_t)h->max_agents : 0,
		.token_budget = h ? (uint64_t)h->token_budget : 0,
	};
	int code = breaker_index(r, name ? name : "", &init.breaker, e);
	if (code < 0)
		return code;
	uint32_t index;
	if (engine_add_harness(r->engine, &init, &index) < 0 ||
		map_put(&r->harnesses, name ? name : "", (void *)(uintptr_t)(index + 1)) < 0)
		return err_nomem(e);
	*ret = index;
	return 0;
}

static uint16_t row_u16(int64_t v)
{
	return v < 0 ? 0 : v > UINT16_MAX ? UINT16_MAX : (uint16_t)v;
}

static int32_t row_i32(int64_t v)
{
	return v < INT32_MIN ? INT32_MIN : v > INT32_MAX ? INT32_MAX : (int32_t)v;
}

static int put_index(struct task_load *load, int64_t id, uint32_t index)
{
	char key[24];
	snprintf(key, sizeof(key), "%lld", (long long)id);
	return map_put(&load->by_id, key, (void *)(uintptr_t)(index + 1)) < 0 ? err_nomem(load->err)
									      : 0;
}

/* A task that the engine has already, with what may have changed of it. */
static int load_known(struct task_load *load, const struct task_row *row)
{
	struct engine *e = load->run->engine;
	uint32_t n = engine_task_count(e), i = load->known;
	for (uint32_t tried = 0; tried < n; tried++, i = (i + 1) % n) {
		if (engine_task(e, i)->id != row->id)
			continue;
		struct engine_task_change change = {
			.gate = row->gate,
			.priority = row_i32(row->priority),
			.retry_max = row_u16(row->retry_max),
			.token_budget = (uint64_t)row->token_budget,
			.has_checks = row->n_invariants > 0,
		};
		engine_change_task(e, i, &change);
		load->known = i + 1 < n ? i + 1 : 0;
		return put_index(load, row->id, i);
	}
	return 0;
}

static int load_task(void *ctx, const struct task_row *row)
{
	struct task_load *load = ctx;
	struct run *r = load->run;
	uint32_t harness = 0, index;
	const char *name = r->options.harness ? r->options.harness
			   : row->harness     ? row->harness
					      : r->config->orch.default_harness;
	if (load->only_new && (row->status != TASK_PENDING || row->attempt > 0))
		return load_known(load, row);
	int code = harness_index(r, name, &harness, load->err);
	if (code < 0)
		return code;
	struct engine_task_init init = {
		.id = row->id,
		.plan = load->plan,
		.harness = harness,
		.mode = reconcile_mode(r, row),
		.outcome = row->outcome,
		.gate = row->gate,
		.priority = row_i32(row->priority),
		.attempt = (uint32_t)row->attempt,
		.retry_max = row_u16(row->retry_max),
		.retries_used = row_u16(row->retries_used),
		.lost_row = row_u8(row->lost_row),
		.conflict_row = row_u8(row->conflict_row),
		.unchanged_row = row_u8(row->unchanged_row),
		.not_before = row->not_before,
		.tokens = (uint64_t)usage_counted(row->tokens),
		.token_budget = (uint64_t)row->token_budget,
		.attempt_open = row->attempt_open,
		.has_checks = row->n_invariants > 0,
		.allow_empty = row->allow_empty,
		.candidate = run_select_matches(load->select, row, name ? name : "shell"),
		.paused = row->paused,
		.approved = row->approved,
		.carry = row->carry,
		.has_commit = row->has_commit,
	};
	if (run_select_kind(load->select) == SELECT_TARGETS) {
		init.stage = run_stages_get(&load->stages, row->id);
		init.candidate = init.stage != UINT16_MAX;
	}
	struct live **slot = VEC_PUSH(&r->live);
	if (!slot || engine_add_task(r->engine, &init, &index) < 0)
		return err_nomem(load->err);
	/* What a request may start anew is left alone. */
	if (row->worktree && (row->status == TASK_PASSED || !r->have_request) &&
		tidy_is_unwanted(r, row->status, row->outcome)) {
		uint32_t *unwanted = VEC_PUSH(&r->unwanted);
		if (!unwanted)
			return err_nomem(load->err);
		*unwanted = index;
	}
	return put_index(load, row->id, index);
}

static int load_edge(void *ctx, int64_t task, int64_t dependency)
{
	struct task_load *load = ctx;
	char key[24];
	snprintf(key, sizeof(key), "%lld", (long long)task);
	uintptr_t t = (uintptr_t)map_get(&load->by_id, key);
	snprintf(key, sizeof(key), "%lld", (long long)dependency);
	uintptr_t d = (uintptr_t)map_get(&load->by_id, key);
	if (load->only_new && t && engine_task(load->run->engine, (uint32_t)t - 1)->attempt > 0)
		return 0; /* it has started, so it waits for nothing */
	if (!t || !d)
		return err_set(
			load->err, -EBADMSG, "database: a dependency names a task that is gone");
	if (engine_add_dependency(load->run->engine, (uint32_t)t - 1, (uint32_t)d - 1) < 0)
		return err_nomem(load->err);
	return 0;
}

struct init_load {
	struct run *run;
	struct rplan *plan;
	struct engine_plan_init init;
};

int64_t run_drain_ms(const struct run *r)
{
	return r->options.drain_timeout_ms >= 0 ? r->options.drain_timeout_ms
						: r->config->orch.drain_timeout_ms;
}

void load_plan_init(const struct run *r, const struct plan_row *row, struct engine_plan_init *ret)
{
	int64_t agents = r->options.max_agents > 0 ? r->options.max_agents : row->max_agents;
	/* Tasks that share one tree run one by one unless somebody says otherwise. */
	if (!row->worktrees && agents == 0)
		agents = 1;
	*ret = (struct engine_plan_init){
		.id = row->id,
		.status = row->status,
		.max_agents = (uint32_t)agents,
		.tokens = (uint64_t)usage_counted(row->tokens),
		.token_budget = (uint64_t)row->token_budget,
		.worktrees = row->worktrees,
		.paused = row->paused,
	};
}

/* Only what is dispatched is selected from; units of other plans run to their end. */
static const struct run_select *plan_select(const struct run *r, const struct rplan *p)
{
	return p->admit == ADMIT_ALL ? r->options.select : NULL;
}

static int read_init(void *ctx, const struct plan_row *row)
{
	struct init_load *load = ctx;
	load_plan_init(load->run, row, &load->init);
	load->init.admit = load->plan->admit;
	load->init.cap = load->plan->cap;
	if (row->paused && load->plan->admit == ADMIT_ALL)
		run_warn(load->run,
			"plan '%s' is paused: nothing of it starts before `orch resume %s`",
			row->name, row->name);
	const struct run_select *select = plan_select(load->run, load->plan);
	load->init.select = run_select_kind(select);
	load->init.stages = select ? (uint16_t)select->targets.count : 0;
	load->init.auto_advance = select && select->auto_advance;
	return 0;
}

static int add_spent(void *ctx, const char *harness, int64_t tokens)
{
	struct task_load *load = ctx;
	uintptr_t known = (uintptr_t)map_get(&load->run->harnesses, harness);
	if (!known || tokens <= 0)
		return 0; /* nothing of the plan goes through it any more */
	return engine_add_spent(
		       load->run->engine, load->plan, (uint32_t)known - 1, (uint64_t)tokens) < 0
		       ? err_nomem(load->err)
		       : 0;
}

static int load_tasks(struct run *r, struct rplan *p, bool only_new, struct err *e)
{
	struct task_load tasks = {.run = r,
		.plan = p->index,
		.err = e,
		.select = plan_select(r, p),
		.only_new = only_new};
	int code = 0;
	if (run_select_kind(tasks.select) == SELECT_TARGETS)
		code = run_stages_find(tasks.select, r->store, p->id, &tasks.stages, e);
	if (code == 0)
		code = store_each_task(r->store, p->id, load_task, &tasks, e);
	if (code == 0)
		code = store_each_edge(r->store, p->id, load_edge, &tasks, e);
	if (code == 0 && !only_new)
		code = store_each_spent(r->store, p->id, add_spent, &tasks, e);
	map_deinit(&tasks.by_id);
	run_stages_deinit(&tasks.stages);
	return code;
}

static int load_plan_tasks(struct run *r, struct rplan *p, struct err *e)
{
	struct init_load load = {.run = r, .plan = p};
	int code = store_plan(r->store, p->id, read_init, &load, e);
	if (code < 0)
		return code;
	if (engine_add_plan(r->engine, &load.init, &p->index) < 0)
		return err_nomem(e);
	return load_tasks(r, p, false, e);
}

int load_changed(struct run *r, struct rplan *p, struct err *e)
{
	for (uint32_t i = 0; i < engine_task_count(r->engine); i++) {
		const struct engine_task *t = engine_task(r->engine, i);
		if (t->plan == p->index && t->mode == MODE_PENDING && t->attempt == 0)
			engine_drop_task(r->engine, i);
	}
	return load_tasks(r, p, true, e);
}

/* Neither a single decision nor the winding down of a failed run, which may have little disk left.
 */
static void start_record(struct run *r)
{
	struct err err = ERR_INIT;
	if (r->have_request || r->options.wind_down)
		return;
	if (record_open(r->site->state_dir, &r->record, &err) < 0)
		run_warn(r, "%s", err.msg);
}

int load_engine(struct run *r, struct err *e)
{
	const struct config *c = r->config;
	int64_t agents = r->options.max_agents > 0 ? r->options.max_agents : c->orch.max_agents;
	vec_foreach(p, &r->plans) {
		/* A plan's own number may be higher than the configured default. */
		struct init_load load = {.run = r, .plan = *p};
		int code = store_plan(r->store, (*p)->id, read_init, &load, e);
		if (code < 0)
			return code;
		if (r->options.max_agents <= 0 && load.init.max_agents > agents)
			agents = load.init.max_agents;
	}
	start_record(r);
	struct engine_config config = {
		.max_agents = (uint32_t)agents,
		.drain_ms = run_drain_ms(r),
		.backoff_ms = c->retry.backoff_ms,
		.backoff_max_ms = c->retry.backoff_max_ms,
		.max_wait_ms = c->retry.max_wait_ms,
		.breaker = (uint32_t)c->retry.breaker,
		.seed = (uint64_t)r->clock_base,
		.winding_down = r->options.wind_down,
		.fault = r->options.wind_down_for,
		.stopping = r->interrupted,
		.hold = r->held,
		.tap = r->record ? record_call : NULL,
		.tap_ctx = r->record,
	};
	r->engine = engine_new(&config);
	if (!r->engine)
		return err_nomem(e);
	for (size_t i = 0; i < r->plans.count; i++) {
		int code = load_plan_tasks(r, r->plans.items[i], e);
		if (code < 0)
			return code;
	}
	return 0;
}

int load_more(struct run *r, int64_t plan_id, enum engine_admit admit, uint32_t cap,
	struct rplan **ret, struct err *e)
{
	int code = run_add_plan(r, plan_id, admit, cap, e);
	if (code < 0)
		return code;
	struct rplan *p = r->plans.items[r->plans.count - 1];
	code = load_plan(p, e);
	if (code == 0)
		code = load_plan_tasks(r, p, e);
	if (code == 0)
		*ret = p;
	return code;
}
