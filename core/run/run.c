/* SPDX-License-Identifier: MIT */
#include "run/state.h"

#include "base/clock.h"
#include "base/log.h"
#include "git/guard.h"
#include "git/integrate.h"
#include "os/proc.h"
#include "run/hold.h"
#include "run/record.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define SIGNAL_MERGE_MS 200
#define HOUSEKEEPING_MS 5000
#define LAST_LOOK_MS    10000

int64_t run_now(const struct run *r)
{
	return r->clock_base + clock_mono_ms();
}

void run_post(struct run *r, struct engine_event ev, const char *text)
{
	char *copy = NULL;
	if (text) {
		char **slot = VEC_PUSH(&r->inbox_texts);
		copy = slot ? strdup(text) : NULL;
		if (slot)
			*slot = copy;
	}
	struct engine_event *queued = VEC_PUSH(&r->inbox);
	if (!queued || (text && !copy)) {
		struct err err = ERR_INIT;
		run_fail(r, err_nomem(&err), &err);
		return;
	}
	*queued = ev;
	queued->text = copy;
}

void run_post_task(struct run *r, const struct live *l, enum engine_event_kind kind,
	enum engine_result result, const char *text)
{
	run_post(r,
		(struct engine_event){
			.kind = kind, .task = l->index, .plan = ENGINE_NONE, .result = result},
		text);
}

void run_warn(struct run *r, const char *fmt, ...)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	va_list ap;
	va_start(ap, fmt);
	buf_addv(&text, fmt, ap);
	va_end(ap);
	const char *words = buf_check(&text) < 0 ? "out of memory" : buf_cstr(&text);
	if (r->options.listener.warning)
		r->options.listener.warning(r->options.listener.ctx, words);
	else
		log_warning("%s", words);
}

void run_activity(struct run *r, const struct live *l, const char *text)
{
	if (r->options.listener.activity)
		r->options.listener.activity(r->options.listener.ctx, l->plan->name, l->name, text);
}

/* The machine's fault, or ours. The engine winds everything down; a second fault on the way changes
 * nothing. */
void run_fault(struct run *r, const struct err *e)
{
	bool io = err_is_machine(e->code) || err_status(e) == EXIT_IO;
	run_warn(r, "%s", e->msg);
	if (!r->failed && !r->err.code)
		r->err = *e;
	run_post(r,
		(struct engine_event){.kind = EVENT_FAULT,
			.plan = ENGINE_NONE,
			.halt = io ? HALT_IO_ERROR : HALT_INTERNAL_ERROR},
		NULL);
}

void run_fail(struct run *r, int code, const struct err *e)
{
	if (!r->failed) {
		r->failed = code;
		if (e->code)
			r->err = *e; /* else it was told before */
	}
	uv_stop(&r->loop);
}

int run_tx(struct run *r)
{
	if (store_in_transaction(r->store))
		return 0;
	struct err err = ERR_INIT;
	int code = store_begin(r->store, &err);
	if (code < 0)
		run_fault(r, &err);
	return code;
}

bool run_interrupted(const struct run *r)
{
	return r->interrupted;
}

bool run_killed(const struct run *r)
{
	return r->killed;
}

/* ---- the loop's handles ---- */

static void on_prepare(uv_prepare_t *handle)
{
	run_turn(handle->data);
}

static void on_check(uv_check_t *handle)
{
	run_turn(handle->data);
}

static void on_tick(uv_timer_t *handle)
{
	struct run *r = handle->data;
	r->options.listener.tick(r->options.listener.ctx);
}

/* Nobody would know what is waited for. */
static void tell_parked(struct run *r)
{
	bool idle = r->engine && !r->interrupted && engine_in_flight(r->engine) == 0;
	uint32_t parked = idle ? engine_parked(r->engine) : 0;
	if (parked > 0 && !r->told_parked)
		run_warn(r, "nothing runs, and %u paused task%s for `orch resume`", parked,
			parked == 1 ? " waits" : "s wait");
	r->told_parked = parked > 0;
}

static void on_housekeeping(uv_timer_t *handle)
{
	struct run *r = handle->data;
	room_check(r);
	tell_parked(r);
	turn_check_database(r);
	watch_check_backups(r, clock_mono_ms());
}

/* Standard signals coalesce and a terminal's Ctrl+C may come twice: reads close together are one.
 */
static void read_signals(struct run *r)
{
	struct signalfd_siginfo info;
	bool got = false;
	while (read(r->options.signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		got = true;
	int64_t now = clock_mono_ms();
	if (!got || (r->interrupted && now - r->last_signal_ms < SIGNAL_MERGE_MS))
		return;
	r->last_signal_ms = now;
	run_stop(r);
}

static void on_signal(uv_poll_t *handle, int status, int events)
{
	(void)status;
	(void)events;
	read_signals(handle->loop->data);
}

/* libuv ends the process where its first pipe cannot be made. */
static int check_pipe(struct err *e)
{
	int fds[2];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(e, -errno, "cannot make an event loop: pipe");
	close(fds[0]);
	close(fds[1]);
	return 0;
}

/* It ends the process, too, where its table of descriptors cannot grow, and by SIGABRT. An end it
 * is, for there is no way back to us; units stay with their keepers, and the next engine goes on.
 */
static void *realloc_or_end(void *p, size_t size)
{
	void *q = realloc(p, size);
	if (!q && size) {
		static const char text[] = "orch: out of memory; the same command goes on\n";
		(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
		_exit(EXIT_IO);
	}
	return q;
}

static int loop_open(struct run *r, struct err *e)
{
	int code = check_pipe(e);
	if (code == 0)
		code = uv_replace_allocator(malloc, realloc_or_end, calloc, free);
	if (code == 0)
		code = uv_loop_init(&r->loop);
	if (code < 0)
		return err_set(e, code, "cannot make an event loop: %s", uv_strerror(code));
	r->loop_open = true;
	r->loop.data = r;
	code = jobs_open(r, e);
	if (code < 0)
		return code;
	uv_prepare_init(&r->loop, &r->prepare);
	uv_check_init(&r->loop, &r->check);
	uv_timer_init(&r->loop, &r->timer);
	uv_timer_init(&r->loop, &r->flush);
	uv_timer_init(&r->loop, &r->backup);
	uv_timer_init(&r->loop, &r->giveup);
	uv_timer_init(&r->loop, &r->tick);
	uv_timer_init(&r->loop, &r->shortage);
	r->prepare.data = r->check.data = r->timer.data = r->flush.data = r->backup.data = r;
	r->giveup.data = r->tick.data = r->shortage.data = r;
	if (r->options.signal_fd >= 0) {
		code = uv_poll_init(&r->loop, &r->signals, r->options.signal_fd);
		if (code < 0)
			return err_set(e, code, "cannot watch for signals: %s", uv_strerror(code));
		r->signals.data = NULL;
		uv_poll_start(&r->signals, UV_READABLE, on_signal);
	}
	return 0;
}

static void close_handle(uv_handle_t *handle, void *arg)
{
	struct run *r = arg;
	if (uv_is_closing(handle))
		return;
	/* A unit that still runs stays with its keeper; only our watch on it ends. */
	if (handle->type == UV_POLL && handle != (uv_handle_t *)&r->signals)
		watch_close(handle->data);
	else
		uv_close(handle, NULL);
}

static void loop_close(struct run *r)
{
	if (!r->loop_open)
		return;
	r->closing = true;
	hook_end_all(r);
	vec_foreach(l, &r->live)
		if (*l && (*l)->job)
			job_cancel((*l)->job);
	jobs_close(r);
	uv_walk(&r->loop, close_handle, r);
	/* A uv_stop() that came before ends the first of these at once. */
	while (uv_run(&r->loop, UV_RUN_DEFAULT) != 0)
		;
	uv_loop_close(&r->loop);
	r->loop_open = false;
}

/* ---- setting up ---- */

int run_new(const struct run_options *options, struct run **ret, struct err *e)
{
	CLEANUP(run_freep) struct run *r = calloc(1, sizeof(*r));
	if (!r)
		return err_nomem(e);
	r->options = *options;
	r->site = options->site;
	r->config = options->site->config;
	r->store = options->store;
	r->git_lock = -1;
	r->clock_base = clock_wall_ms() - clock_mono_ms();
	proc_boot_id(r->boot_id);
	r->plugin_path = site_plugin_path(r->site);
	if (!r->plugin_path)
		return err_nomem(e);
	int code = loop_open(r, e);
	if (code == 0)
		code = lifecycle_open(r->site->state_dir, NULL, &r->site->origin, &r->lifecycle, e);
	if (code == 0)
		code = environ_base(r->site, &r->unit_env, e);
	if (code < 0)
		return code;
	*ret = TAKE(r);
	return 0;
}

void run_free(struct run *r)
{
	if (!r)
		return;
	loop_close(r);
	if (r->held)
		room_tell(r, NULL);
	vec_foreach(l, &r->live)
		live_free(*l);
	VEC_FREE(&r->live);
	vec_foreach(p, &r->plans) {
		free((*p)->name);
		free((*p)->setup);
		free((*p)->merge_worktree);
		strv_free((*p)->copy);
		free(*p);
	}
	VEC_FREE(&r->plans);
	vec_foreach(text, &r->inbox_texts)
		free(*text);
	VEC_FREE(&r->inbox_texts);
	VEC_FREE(&r->inbox);
	VEC_FREE(&r->unwanted);
	engine_actions_deinit(&r->actions);
	engine_actions_deinit(&r->unsaved);
	reconcile_free(r);
	map_deinit(&r->harnesses);
	map_deinit(&r->breakers);
	engine_free(r->engine);
	tamper_forget(r);
	record_close(r->record);
	lifecycle_close(r->lifecycle);
	strv_free(r->unit_env);
	free(r->plugin_path);
	free(r->refused);
	if (r->git_lock >= 0)
		close(r->git_lock);
	free(r);
}

int run_add_plan(
	struct run *r, int64_t plan_id, enum engine_admit admit, uint32_t cap, struct err *e)
{
	vec_foreach(p, &r->plans) {
		if ((*p)->id == plan_id) {
			(*p)->admit = admit;
			(*p)->cap = cap;
			return 0;
		}
	}
	int code = hold_check(r->site, plan_id, e);
	if (code < 0)
		return code;
	struct rplan *plan = calloc(1, sizeof(*plan));
	struct rplan **slot = plan ? VEC_PUSH(&r->plans) : NULL;
	if (!slot) {
		free(plan);
		return err_nomem(e);
	}
	plan->run = r;
	plan->id = plan_id;
	plan->admit = admit;
	plan->cap = cap;
	plan->mentioned = true;
	*slot = plan;
	return 0;
}

void run_set_request(struct run *r, const struct run_request *request)
{
	r->request = *request;
	r->have_request = true;
	r->request_at = ENGINE_NONE;
}

bool run_is_beside(const struct run *r, uint32_t task)
{
	return r->have_request && task != r->request_at;
}

/* ---- running ---- */

static void post_request(struct run *r)
{
	for (uint32_t i = 0; i < engine_task_count(r->engine); i++) {
		if (engine_task(r->engine, i)->id != r->request.task_id)
			continue;
		r->request_at = i;
		run_post(r,
			(struct engine_event){.kind = r->request.kind,
				.task = i,
				.plan = ENGINE_NONE,
				.carry = r->request.carry},
			r->request.text);
		return;
	}
}

static void run_begin(struct run *r)
{
	struct err err = ERR_INIT;
	int code = mend_start(r, &err);
	if (code == 0) {
		room_tell(r, NULL); /* what an engine that died has left */
		room_check(r);
	}
	/* One that came before this engine could be asked: then it starts nothing. */
	if (code == 0 && r->options.signal_fd >= 0)
		read_signals(r);
	if (code == 0)
		code = load_engine(r, &err);
	if (code < 0) {
		run_fail(r, code, &err);
		return;
	}
	r->begun = true;
	code = store_in_transaction(r->store) ? 0 : store_begin(r->store, &err);
	if (code == 0 && engine_begin(r->engine, run_now(r), &r->actions) < 0)
		code = err_nomem(&err);
	if (code < 0) {
		run_fail(r, code, &err);
		return;
	}
	if (r->interrupted)
		run_post(r, (struct engine_event){.kind = EVENT_CANCEL, .plan = ENGINE_NONE}, NULL);
	if (r->options.wind_down)
		run_post(r,
			(struct engine_event){.kind = EVENT_FAULT,
				.plan = ENGINE_NONE,
				.halt = r->options.wind_down_for},
			NULL);
	if (r->have_request)
		post_request(r);
	reconcile_finish(r);
	tidy_start(r);
	if (r->options.listener.tick)
		uv_timer_start(&r->tick, on_tick, r->options.listener.tick_ms,
			r->options.listener.tick_ms);
	uv_timer_start(&r->backup, on_housekeeping, HOUSEKEEPING_MS, HOUSEKEEPING_MS);
}

struct uv_loop_s *run_loop(struct run *r)
{
	return &r->loop;
}

struct store *run_store(struct run *r)
{
	return r->store;
}

void run_observe(struct run *r, void (*fn)(void *ctx), void *ctx)
{
	r->observer = fn;
	r->observer_ctx = ctx;
}

bool run_is_over(const struct run *r)
{
	return r->over;
}

bool run_is_up(const struct run *r)
{
	return r->begun;
}

uint32_t run_unit_count(const struct run *r)
{
	return r->watches;
}

/*
 * A decision is carried out, with the merge that may follow from it. Agents that an engine before
 * has left go on with their keepers.
 */
static bool request_is_over(const struct run *r)
{
	if (!r->begun || !r->have_request)
		return false;
	if (r->request_at == ENGINE_NONE)
		return true; /* somebody has deleted its plan */
	const struct live *l = r->live.count > r->request_at ? r->live.items[r->request_at] : NULL;
	enum task_status status = engine_mode_status(engine_task(r->engine, r->request_at)->mode);
	return (!l || !(l->command_unit || l->in_hand)) &&
	       (r->interrupted || status != TASK_INTEGRATING);
}

/* Before the last word on the plan: its branch holds what was merged. */
static void look_at_branch(struct run *r, struct rplan *p)
{
	struct err err = ERR_INIT;
	struct git_ctx ctx = site_git(r->site);
	struct git_oid tip;
	bool mended = false;
	ctx.lock_fd = r->git_lock;
	ctx.deadline_ms = deadline_after(LAST_LOOK_MS);
	if (!p->tip.hex[0])
		return;
	if (git_integration_tip(&ctx, p->name, &p->tip, &tip, &mended, &err) < 0)
		run_warn(r, "orch/%s/integration could not be looked at: %s", p->name, err.msg);
	if (mended)
		merge_mended(r, p, NULL);
}

int run_execute(struct run *r, char **ret_refused, struct err *e)
{
	int code = load_plans(r, e);
	if (code == 0)
		code = reconcile_start(r, e);
	if (code < 0)
		return code;
	uv_prepare_start(&r->prepare, on_prepare);
	uv_check_start(&r->check, on_check);
	while (!r->failed && !r->aborted) {
		if (!r->begun && r->found_left == 0)
			run_begin(r);
		run_turn(r);
		if (r->begun && r->inbox.count == 0 && r->jobs == 0 &&
			(engine_is_done(r->engine) || request_is_over(r)))
			break;
		if (!r->failed)
			uv_run(&r->loop, UV_RUN_ONCE);
	}
	run_flush(r);
	vec_foreach(p, &r->plans)
		if ((*p)->halted && !r->failed && !r->killed) {
			look_at_branch(r, *p);
			halt_commit(r, *p, (*p)->halt);
		}
	run_flush(r);
	r->over = true;
	vec_foreach(p, &r->plans)
		if ((*p)->halted && !r->failed && !r->killed)
			hook_halt(r, *p);
	hook_wait(r);
	if (ret_refused)
		*ret_refused = TAKE(r->refused);
	if (r->failed) {
		*e = r->err;
		return r->failed;
	}
	return 0;
}
