/* SPDX-License-Identifier: MIT */
/* What people ask of an engine while it runs: stop, decide on a task, dispatch a further plan. */
#include "base/str.h"
#include "run/change.h"
#include "run/cleanup.h"
#include "run/hold.h"
#include "run/state.h"

#include <errno.h>

/* What is not committed by then is left to the next start: so long after the drain without any job
 * or unit that came to its end, for a git may wait for what does not come; and after the second
 * stop. */
#define COMMITS_MS 10000
#define GIVE_UP_MS 500

static void on_giveup(uv_timer_t *handle)
{
	struct run *r = handle->data;
	if (!r->killed && r->ended != r->ended_before) {
		r->ended_before = r->ended;
		uv_timer_start(&r->giveup, on_giveup, COMMITS_MS, 0);
		return;
	}
	r->aborted = true;
	uv_stop(&r->loop);
}

void run_stop(struct run *r)
{
	if (!r->interrupted) {
		r->interrupted = true;
		run_post(r, (struct engine_event){.kind = EVENT_CANCEL, .plan = ENGINE_NONE}, NULL);
		uv_timer_start(&r->giveup, on_giveup, (uint64_t)run_drain_ms(r) + COMMITS_MS, 0);
	} else if (!r->killed) {
		r->killed = true;
		run_post(r, (struct engine_event){.kind = EVENT_KILL, .plan = ENGINE_NONE}, NULL);
		uv_timer_start(&r->giveup, on_giveup, GIVE_UP_MS, 0);
	}
}

/* ---- requests while it runs ---- */

static struct rplan *loaded_plan(const struct run *r, int64_t plan_id)
{
	vec_foreach(p, &r->plans)
		if ((*p)->id == plan_id)
			return *p;
	return NULL;
}

static uint32_t plan_index(const struct run *r, int64_t plan_id)
{
	struct rplan *p = loaded_plan(r, plan_id);
	return p ? p->index : ENGINE_NONE;
}

/* Loads the plan if need be and lets the engine do at least that much for it. */
static int admit(
	struct run *r, int64_t plan_id, enum engine_admit level, uint32_t cap, struct err *e)
{
	struct rplan *p = loaded_plan(r, plan_id);
	int code = hold_check(r->site, plan_id, e);
	if (code < 0)
		return code;
	code = store_in_transaction(r->store) ? 0 : store_begin(r->store, e);
	if (code == 0 && !p) {
		code = load_more(r, plan_id, level, cap, &p, e);
		if (code == 0)
			code = mend_start(r, e);
		if (code == 0 && engine_begin(r->engine, run_now(r), &r->actions) < 0)
			code = err_nomem(e);
	} else if (code == 0 && (level == ADMIT_ALL || p->admit < level)) {
		if (level > p->admit)
			p->admit = level;
		if (engine_admit(r->engine, p->index, level, cap, run_now(r), &r->actions) < 0)
			code = err_nomem(e);
	}
	if (code < 0) {
		run_fault(r, e); /* the plan may be half loaded: nothing else is to start */
		return code;
	}
	run_turn(r);
	run_flush(r);
	return 0;
}

static bool is_pause(enum engine_event_kind kind)
{
	return kind == EVENT_PAUSE || kind == EVENT_PLAN_PAUSE;
}

/* The mark survives the engine; for a request that is no pause and no resume, nothing is stored. */
static int store_pause(struct run *r, const struct run_request *request, bool paused, struct err *e)
{
	int code = run_tx(r);
	if (code < 0)
		return err_set(e, code, "cannot store the pause");
	switch (request->kind) {
	case EVENT_PAUSE:
	case EVENT_RESUME:
		return store_task_set_paused(r->store, request->task_id, paused, e);
	case EVENT_PLAN_PAUSE:
	case EVENT_PLAN_RESUME:
		return store_plan_set_paused(r->store, request->plan_id, paused, e);
	default:
		return 0;
	}
}

/* What is stored of a task, and of its plan. */
struct asked {
	enum task_status status;
	int64_t plan_id;
	bool has_commit, worktrees;
};

static int note_asked(void *ctx, const struct task_row *row)
{
	struct asked *a = ctx;
	*a = (struct asked){
		.status = row->status, .plan_id = row->plan_id, .has_commit = row->has_commit};
	return 0;
}

static int note_asked_plan(void *ctx, const struct plan_row *row)
{
	struct asked *a = ctx;
	a->worktrees = row->worktrees;
	return 0;
}

int run_refuses(
	struct store *s, const struct run_request *request, char **ret_refused, struct err *e)
{
	struct asked a = {0};
	char text[ENGINE_REFUSAL_MAX];
	*ret_refused = NULL;
	int code = request->task_id ? store_task(s, request->task_id, note_asked, &a, e) : 1;
	if (code == 0)
		code = store_plan(s, a.plan_id, note_asked_plan, &a, e);
	if (code != 0)
		return code < 0 ? code : 0;
	if (!engine_refuses(engine_mode_found(a.status, true), request->kind,
		    a.has_commit || !a.worktrees, text))
		return 0;
	*ret_refused = str_dup(text);
	return *ret_refused ? 0 : err_nomem(e);
}

static int copy_plan_name(void *ctx, const struct plan_row *row)
{
	char **ret = ctx;
	*ret = str_dup(row->name);
	return *ret ? 0 : -ENOMEM;
}

/* Of a plan that this engine does not work on there is nothing to stop. */
static int check_under_way(const struct run *r, int64_t plan_id, struct err *e)
{
	struct rplan *asked = loaded_plan(r, plan_id);
	CLEANUP_BUF struct buf names = BUF_INIT;
	if (asked && !engine_plan_is_over(r->engine, asked->index))
		return 0;
	vec_foreach(p, &r->plans)
		if (!engine_plan_is_over(r->engine, (*p)->index))
			buf_addf(&names, "%s%s", names.len ? ", " : "; under way: ", (*p)->name);
	CLEANUP_STR char *name = NULL;
	int code = store_plan(r->store, plan_id, copy_plan_name, &name, e);
	return code < 0 ? code
			: err_exit(e, EXIT_NOINPUT, "plan '%s' is not under way%s",
				  name ? name : "?", names.len ? buf_cstr(&names) : "");
}

int run_operate(struct run *r, const struct run_request *request, char **ret_refused, struct err *e)
{
	struct engine_event ev = {
		.kind = request->kind,
		.task = ENGINE_NONE,
		.plan = ENGINE_NONE,
		.carry = request->carry,
	};
	run_flush(r);
	int code = run_refuses(r->store, request, ret_refused, e);
	if (code < 0 || *ret_refused)
		return code;
	if (request->plan_id)
		code = request->kind == EVENT_CANCEL
			       ? check_under_way(r, request->plan_id, e)
			       : admit(r, request->plan_id, ADMIT_FINISH, 0, e);
	if (code < 0)
		return code;
	if (request->plan_id)
		ev.plan = plan_index(r, request->plan_id);
	for (uint32_t i = 0; request->task_id && i < engine_task_count(r->engine); i++)
		if (engine_task(r->engine, i)->id == request->task_id)
			ev.task = i;
	if (request->task_id && ev.task == ENGINE_NONE)
		return err_set(e, -ENOENT, "no task with id %lld", (long long)request->task_id);
	code = store_pause(r, request, is_pause(request->kind), e);
	if (code < 0)
		return code;
	free(r->refused);
	r->refused = NULL;
	run_post(r, ev, request->text);
	run_turn(r);
	run_flush(r);
	if (r->failed) {
		*e = r->err;
		return r->failed;
	}
	if (r->refused && store_pause(r, request, !is_pause(request->kind), e) < 0)
		return e->code;
	run_flush(r);
	*ret_refused = TAKE(r->refused);
	return 0;
}

bool run_is_frozen(const struct run *r, int64_t plan_id, int64_t task_id)
{
	vec_foreach(it, &r->live) {
		const struct live *l = *it;
		if (!l || l->plan->id != plan_id || (task_id && l->id != task_id))
			continue;
		if ((l->agent && !l->agent->frozen) ||
			(l->command_unit && !l->command_unit->frozen))
			return false;
	}
	return true;
}

static int retake_plan(void *ctx, const struct plan_row *row)
{
	struct run *r = ctx;
	struct engine_plan_init init;
	load_plan_init(r, row, &init);
	engine_change_plan(r->engine, plan_index(r, row->id), init.max_agents, init.token_budget);
	return 0;
}

/* A plan whose rows have changed, into the engine; nothing where it is not under way. */
static int retake(struct run *r, int64_t plan_id, struct err *e)
{
	struct rplan *p = loaded_plan(r, plan_id);
	if (!p)
		return 0;
	int code = load_changed(r, p, e);
	if (code == 0)
		code = store_plan(r->store, plan_id, retake_plan, r, e);
	if (code == 0 && engine_begin(r->engine, run_now(r), &r->actions) < 0)
		code = err_nomem(e);
	if (code < 0) {
		run_fault(r, e); /* rows and engine may differ: nothing else is to start */
		return code;
	}
	run_post(r, (struct engine_event){.kind = EVENT_TICK, .plan = ENGINE_NONE}, NULL);
	run_turn(r);
	run_flush(r);
	return 0;
}

int run_set(struct run *r, int64_t plan_id, const char *task, char *const *settings,
	char ***ret_refused, struct err *e)
{
	run_flush(r);
	int code = change_set(r->store, plan_id, task, settings, r->config, ret_refused, e);
	return code < 0 ? code : retake(r, plan_id, e);
}

int run_import(struct run *r, const struct plan *plan, enum plan_status status, int64_t *ret_id,
	char ***ret_refused, struct err *e)
{
	run_flush(r);
	int code = change_import(r->store, plan, status, ret_id, ret_refused, e);
	return code < 0 ? code : retake(r, *ret_id, e);
}

int run_remove(struct run *r, int64_t plan_id, const char *task, char ***ret_refused, struct err *e)
{
	run_flush(r);
	int code = change_remove(r->store, plan_id, task, ret_refused, e);
	return code < 0 ? code : retake(r, plan_id, e);
}

/* Through the engine where it has the plan, since it would not know otherwise. */
static int retry_all(struct run *r, struct rplan *p, size_t *ret_count)
{
	for (uint32_t i = 0; i < engine_task_count(r->engine); i++) {
		const struct engine_task *t = engine_task(r->engine, i);
		if (t->plan != p->index || (t->mode != MODE_ESCALATED && t->mode != MODE_FAILED))
			continue;
		run_post(r,
			(struct engine_event){.kind = EVENT_RETRY, .task = i, .plan = ENGINE_NONE},
			NULL);
		++*ret_count;
	}
	run_turn(r);
	run_flush(r);
	return r->failed;
}

int run_reset(struct run *r, int64_t plan_id, size_t *ret_count, struct err *e)
{
	struct rplan *p = loaded_plan(r, plan_id);
	run_flush(r);
	*ret_count = 0;
	if (!p)
		return change_reset(r->store, plan_id, ret_count, e);
	int code = retry_all(r, p, ret_count);
	if (code < 0)
		*e = r->err;
	return code;
}

int run_send(
	struct run *r, int64_t task_id, const char *text, const char **ret_refused, struct err *e)
{
	*ret_refused = "no agent works at it just now";
	vec_foreach(l, &r->live) {
		if (!*l || (*l)->id != task_id || !(*l)->agent || !(*l)->started)
			continue;
		*ret_refused = NULL;
		return watch_send((*l)->agent, text, e);
	}
	return 0;
}

int run_forget(struct run *r, int64_t plan_id, struct err *e)
{
	if (loaded_plan(r, plan_id))
		return err_exit(e, 1, "the plan is under way; stop it first: orch stop");
	run_flush(r);
	int code = store_begin(r->store, e);
	if (code == 0)
		code = store_plan_delete(r->store, plan_id, e);
	if (code == 0)
		code = store_commit(r->store, e);
	else
		store_rollback(r->store);
	return code;
}

int run_check_idle(const struct run *r, int64_t plan_id, bool *ret_soon, struct err *e)
{
	const struct rplan *p = loaded_plan(r, plan_id);
	*ret_soon = false;
	if (!p)
		return 0;
	bool over = engine_plan_is_over(r->engine, p->index), tidying = p->tidying;
	vec_foreach(l, &r->live)
		tidying |= *l && (*l)->plan == p;
	*ret_soon = over && tidying;
	if (over && !tidying)
		return 0;
	return err_exit(e, 1,
		"plan '%s' is under way; wait until it has ended, or end it with: orch stop %s",
		p->name, p->name);
}

int run_clear(struct run *r, int64_t plan_id, struct err *e)
{
	bool soon;
	run_flush(r);
	int code = run_check_idle(r, plan_id, &soon, e);
	return code < 0 ? code : cleanup_forget(r->store, plan_id, e);
}

int run_approve(struct run *r, int64_t plan_id, struct err *e)
{
	run_flush(r);
	return change_approve(r->store, plan_id, e);
}

int run_submit(struct run *r, int64_t plan_id, uint32_t cap, struct err *e)
{
	return admit(r, plan_id, ADMIT_ALL, cap, e);
}
