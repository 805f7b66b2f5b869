/* SPDX-License-Identifier: MIT */
#include "run/state.h"

#include "base/clock.h"

#include <errno.h>

#define BACKUP_MS 30000 /* how long after its keeper's the engine's own deadline comes */

static void watch_freed(uv_handle_t *handle)
{
	struct watch *w = handle->data;
	w->run->watches--;
	unit_free(w->unit);
	free(w);
}

void watch_close(struct watch *w)
{
	if (w->closing)
		return;
	w->closing = true;
	uv_poll_stop(&w->poll);
	uv_close((uv_handle_t *)&w->poll, watch_freed);
}

/* The keeper vanished: ending what it left takes a while, so a worker does it. */
struct autopsy {
	struct job job;
	struct watch *watch;
	struct unit_exit exit;
	bool abandon;
};

/* A keeper that has hung up, and lives, is ended as well: nobody would hear of it any more. */
static int find_recorded(struct unit *u, bool abandon, struct unit_exit *ret, struct err *e)
{
	int r = abandon ? -EBUSY : unit_exit_read(u, ret, e);
	if (r != -EBUSY)
		return r;
	r = unit_abandon(u, e);
	return r < 0 ? r : unit_exit_read(u, ret, e);
}

/* Whose own directory fails, and not the machine, is lost: an agent can do that to its unit. */
static int find_exit(struct unit *u, bool abandon, struct unit_exit *ret, struct err *e)
{
	struct err why = ERR_INIT;
	int r = find_recorded(u, abandon, ret, &why);
	if (r >= 0)
		return r;
	return err_is_machine(r) ? err_set(e, r, "%s", why.msg) : unit_spoilt(u, why.msg, ret, e);
}

static void autopsy_perform(struct job *job)
{
	struct autopsy *a = (struct autopsy *)job;
	job->result = find_exit(a->watch->unit, a->abandon, &a->exit, &job->err);
}

static void watch_report(struct watch *w, struct unit_exit *x)
{
	w->ended = true;
	w->run->ended++;
	w->over(w, x);
	watch_close(w);
}

static void watch_settled(struct watch *w, int result, struct unit_exit *x, const struct err *e)
{
	if (result < 0)
		run_fail(w->run, result, e); /* what became of it is still to be found out */
	else
		watch_report(w, x);
}

static void autopsy_done(struct job *job)
{
	struct autopsy *a = (struct autopsy *)job;
	watch_settled(a->watch, job->result, &a->exit, &job->err);
}

static void autopsy_free(struct job *job)
{
	struct autopsy *a = (struct autopsy *)job;
	unit_exit_deinit(&a->exit);
	free(a);
}

static void watch_autopsy(struct watch *w, bool abandon)
{
	if (w->abandoned)
		return;
	w->abandoned = true;
	uv_poll_stop(&w->poll);
	struct err err = ERR_INIT;
	struct autopsy *a = calloc(1, sizeof(*a));
	if (a) {
		a->watch = w;
		a->abandon = abandon;
		a->exit = UNIT_EXIT_INIT;
		a->job.perform = autopsy_perform;
		a->job.done = autopsy_done;
		a->job.free = autopsy_free;
	}
	if (a && job_start(w->run, NULL, &a->job, &err) == 0)
		return;
	/* There is no worker to be had: the loop stands still for it. */
	CLEANUP_UNIT_EXIT struct unit_exit x = UNIT_EXIT_INIT;
	int r = find_exit(w->unit, abandon, &x, &err);
	watch_settled(w, r, &x, &err);
}

static void watch_ended(struct watch *w)
{
	struct unit_exit x = UNIT_EXIT_INIT;
	struct err err = ERR_INIT;
	if (unit_exit_read(w->unit, &x, &err) < 0) {
		watch_autopsy(w, false);
		return;
	}
	watch_report(w, &x);
	unit_exit_deinit(&x);
}

/* One that an earlier engine has paused, and that was resumed while none was there, goes on. */
static void watch_stands(struct watch *w, bool still)
{
	w->frozen = still;
	if (still && !w->paused)
		watch_resume(w);
}

static void watch_readable(uv_poll_t *poll, int status, int events)
{
	struct watch *w = poll->data;
	(void)status;
	(void)events;
	struct unit_event ev;
	struct err err = ERR_INIT;
	int got;
	while (!w->closing && !w->ended && !w->abandoned &&
		(got = unit_read(w->unit, &ev, &err)) != 0) {
		if (got < 0 || ev.type == UNIT_EVENT_GONE) {
			/* One whose events cannot be read is ended. */
			watch_autopsy(w, got < 0);
			return;
		}
		if (ev.type == UNIT_EVENT_STARTED && w->started)
			w->started(w);
		else if (ev.type == UNIT_EVENT_JOURNAL && w->journal)
			w->journal(w);
		else if (ev.type == UNIT_EVENT_PAUSED || ev.type == UNIT_EVENT_RESUMED)
			watch_stands(w, ev.type == UNIT_EVENT_PAUSED);
		else if (ev.type == UNIT_EVENT_ENDED)
			watch_ended(w);
		else if (ev.type == UNIT_EVENT_ERROR)
			run_warn(w->run, "unit %s: %s", unit_id(w->unit), ev.text);
	}
}

static struct watch *watch_new(
	struct run *r, struct live *live, const struct watch *callbacks, struct err *e)
{
	struct watch *w = malloc(sizeof(*w));
	if (!w) {
		err_nomem(e);
		return NULL;
	}
	*w = *callbacks;
	w->run = r;
	w->live = live;
	w->backup_at = DEADLINE_NONE;
	w->limit_ms = DURATION_OFF;
	return w;
}

static int watch_open(struct watch *w, struct err *e)
{
	int code = uv_poll_init(&w->run->loop, &w->poll, unit_fd(w->unit));
	if (code < 0)
		return err_set(e, code, "cannot watch a unit: %s", uv_strerror(code));
	w->poll.data = w;
	uv_poll_start(&w->poll, UV_READABLE, watch_readable);
	w->run->watches++;
	return 0;
}

/* One that runs and cannot be watched is ended, and over. */
static void watch_lose(struct watch *w, struct watch **ret)
{
	CLEANUP_UNIT_EXIT struct unit_exit x = UNIT_EXIT_INIT;
	struct err err = ERR_INIT;
	int r = find_exit(w->unit, true, &x, &err);
	if (r < 0) {
		run_fail(w->run, r, &err);
		*ret = NULL;
	} else {
		w->run->ended++;
		w->over(w, &x);
	}
	unit_free(w->unit);
	free(w);
}

static void watch_limit(struct watch *w, const struct unit_spec *spec)
{
	if (spec->timeout_ms > 0 && spec->timeout_ms != DURATION_OFF)
		w->limit_ms = spec->timeout_ms + spec->kill_grace_ms + BACKUP_MS;
	w->backup_at = deadline_after(w->limit_ms);
}

int watch_start(struct run *r, struct live *live, const struct unit_spec *spec, char *const *envp,
	const struct watch *callbacks, struct watch **ret, struct err *e)
{
	/* First: what has started cannot be taken back, and on an error another is started. */
	struct watch *w = watch_new(r, live, callbacks, e);
	if (!w)
		return -ENOMEM;
	int code = unit_start(r->lifecycle, spec, envp, &w->unit, e);
	if (code < 0) {
		free(w);
		return code;
	}
	*ret = w;
	struct err why = ERR_INIT;
	if (watch_open(w, &why) < 0) {
		run_warn(r, "%s", why.msg);
		watch_lose(w, ret);
		return 0;
	}
	watch_limit(w, spec);
	/* A task may be paused between two of its units. */
	if (engine_is_paused(r->engine, live->index))
		watch_pause(w);
	return 0;
}

int watch_adopted(struct run *r, struct live *live, struct unit *unit,
	const struct watch *callbacks, struct watch **ret, struct err *e)
{
	struct watch *w = watch_new(r, live, callbacks, e);
	int code = -ENOMEM;
	if (w) {
		w->unit = unit;
		code = watch_open(w, e);
	}
	if (code < 0) {
		free(w);
		unit_free(unit); /* the next engine finds it */
		return code;
	}
	*ret = w;
	/* From now on: how long it stood still meanwhile nobody has written down. */
	CLEANUP_UNIT_SPEC struct unit_spec spec = {0};
	struct err why = ERR_INIT;
	if (unit_spec_read(unit_dirfd(unit), &spec, &why) == 0)
		watch_limit(w, &spec);
	else
		run_warn(
			r, "unit %s: only its keeper knows its limits: %s", unit_id(unit), why.msg);
	return 0;
}

void watch_note_wait(struct watch *w, int64_t at, int64_t until)
{
	int64_t from = at > w->waits_until ? at : w->waits_until;
	if (w->killed || until <= from)
		return;
	int64_t left = UNIT_WAITS_MAX_MS - w->waits_ms;
	int64_t by = until - from < left ? until - from : left;
	w->waits_until = until;
	w->waits_ms += by;
	if (w->limit_ms != DURATION_OFF)
		w->limit_ms += by;
	if (w->backup_at != DEADLINE_NONE)
		w->backup_at += by;
}

void watch_kill(struct watch *w, bool hard, const char *reason, int64_t kill_after_ms)
{
	struct err err = ERR_INIT;
	w->killed = true;
	/* A keeper that is gone has closed its socket: the poll will say so. */
	if (unit_kill(w->unit, hard ? UNIT_KILL_KILL : UNIT_KILL_TERM, reason, kill_after_ms,
		    &err) < 0)
		run_warn(w->run, "unit %s: %s", unit_id(w->unit), err.msg);
	int64_t latest = deadline_after((hard ? 0 : kill_after_ms) + BACKUP_MS);
	if (latest < w->backup_at)
		w->backup_at = latest;
}

int watch_send(struct watch *w, const char *text, struct err *e)
{
	return unit_send(w->unit, text, e);
}

void watch_pause(struct watch *w)
{
	struct err err = ERR_INIT;
	w->paused = true;
	if (unit_pause(w->unit, &err) < 0)
		run_warn(w->run, "unit %s: %s", unit_id(w->unit), err.msg);
	w->backup_at = DEADLINE_NONE;
}

void watch_resume(struct watch *w)
{
	struct err err = ERR_INIT;
	w->paused = false;
	if (unit_resume(w->unit, &err) < 0)
		run_warn(w->run, "unit %s: %s", unit_id(w->unit), err.msg);
	w->backup_at = deadline_after(w->limit_ms);
}

static void watch_check_backup(uv_handle_t *handle, void *arg)
{
	int64_t now = *(const int64_t *)arg;
	if (handle->type != UV_POLL || uv_is_closing(handle))
		return;
	struct watch *w = handle->data; /* NULL: the signals' */
	if (!w || w->ended || w->abandoned || w->backup_at > now)
		return;
	run_warn(w->run, "unit %s: its keeper does not keep its deadline; ending both",
		unit_id(w->unit));
	watch_autopsy(w, true);
}

void watch_check_backups(struct run *r, int64_t now)
{
	uv_walk(&r->loop, watch_check_backup, &now);
}
