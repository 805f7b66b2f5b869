/* SPDX-License-Identifier: MIT */
#include "shim/agent.h"

#include "base/clock.h"
#include "base/str.h"
#include "os/file.h"
#include "plugin/plugin.h"
#include "shim/host.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

#define HOST_SOCK           3
#define FRAMES_MAX          64   /* a turn */
#define DONE_MAX_MS         5000 /* from DONE to the host's end */
#define EVENT_KIND_MAX      32
#define RESULT_SPAWN_FAILED "spawn_failed"

/* ---- what went wrong with the harness ---- */

static const char *plugin_name(const struct keeper *k)
{
	return k->spec.plugin ? k->spec.plugin : k->spec.harness;
}

/* As the user calls it, whatever its file is. */
static const char *harness_name(const struct keeper *k)
{
	return k->spec.harness;
}

/* The callback to blame: the youngest that has begun and not ended; kill and send run beside wait.
 */
static const char *current_call(const struct agent *a)
{
	static const enum proto_call order[] = {PROTO_CALL_RELEASE, PROTO_CALL_KILL,
		PROTO_CALL_SEND, PROTO_CALL_WAIT, PROTO_CALL_SPAWN, PROTO_CALL_LOAD};
	for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++)
		if (a->in_call[order[i]])
			return proto_call_name(order[i]);
	return NULL;
}

/* The harness broke. That counts more than a request to stop that it got before. */
static void blame(struct keeper *k, enum unit_cause cause, const char *what)
{
	struct agent *a = k->unit;
	const char *call = current_call(a);
	CLEANUP_STR char *before = NULL;
	if (k->cause_is_set && k->exit.text)
		before = str_printf(" (while it was being ended: %s)", k->exit.text);
	keeper_set_cause(k, CAUSE_OVERRIDE, cause, "harness '%s' (%s) %s%s%s%s", harness_name(k),
		a->path, what, call ? " in " : "", call ? call : "", before ? before : "");
	ladder_kill_unit(k);
}

static void blame_death(struct keeper *k, int wait_status)
{
	char what[64];
	if (WIFSIGNALED(wait_status))
		snprintf(what, sizeof(what), "crashed with SIG%s",
			sigabbrev_np(WTERMSIG(wait_status)) ? sigabbrev_np(WTERMSIG(wait_status))
							    : "?");
	else
		snprintf(what, sizeof(what), "ended its process with exit status %d",
			WEXITSTATUS(wait_status));
	blame(k, CAUSE_HARNESS_CRASHED, what);
}

/* ---- messages of the host ---- */

static int on_loaded(struct keeper *k, const struct proto_frame *f, struct err *e)
{
	(void)k;
	(void)f;
	(void)e;
	return 0; /* whatever can go wrong before it has its own message */
}

static int on_call_begin(struct keeper *k, const struct proto_frame *f, struct err *e)
{
	struct agent *a = k->unit;
	if (f->id == 0 || f->id >= PROTO_CALL_COUNT || a->in_call[f->id])
		return err_set(e, -EPROTO, "CALL_BEGIN out of place");
	a->in_call[f->id] = true;
	a->call_deadlines[0] = DEADLINE_NONE;
	/* wait may last: the unit's own limits end it */
	if (f->id != PROTO_CALL_WAIT && k->spec.callback_timeout_ms > 0)
		a->call_deadlines[f->id] = deadline_after(k->spec.callback_timeout_ms);
	return 0;
}

static int on_call_end(struct keeper *k, const struct proto_frame *f, struct err *e)
{
	struct agent *a = k->unit;
	if (f->id == 0 || f->id >= PROTO_CALL_COUNT || !a->in_call[f->id])
		return err_set(e, -EPROTO, "CALL_END out of place");
	a->in_call[f->id] = false;
	a->call_deadlines[f->id] = DEADLINE_NONE;
	json_t *o;
	int r = proto_frame_json(f, &o, e);
	if (r < 0)
		return r;
	json_int_t rc = json_integer_value(json_object_get(o, "rc"));
	const char *text = json_string_value(json_object_get(o, "text"));
	if (rc < 0 && f->id != PROTO_CALL_LOAD)
		keeper_log(k, "warning", "harness '%s': %s failed: %s", harness_name(k),
			proto_call_name(f->id), text ? text : strerror((int)-rc));
	/* A person waits for what becomes of it. */
	if (rc < 0 && f->id == PROTO_CALL_SEND) {
		CLEANUP_STR char *lost = str_printf("what was sent did not reach the agent: %s",
			text ? text : strerror((int)-rc));
		if (lost)
			keeper_event(k, "error", json_pack("{s:s}", "text", lost));
	}
	json_decref(o);
	return 0;
}

static int on_log(struct keeper *k, const struct proto_frame *f, struct err *e)
{
	static const char *const levels[] = {"error", "warning", "info", "debug"};
	(void)e;
	json_t *text = json_stringn(f->data, f->len);
	if (text)
		keeper_event(k, JOURNAL_KIND_LOG,
			json_pack("{s:s, s:o}", "level", levels[f->flags < 4 ? f->flags : 3],
				"text", text));
	return 0;
}

static bool kind_is_plain(const char *kind)
{
	size_t len = kind ? strlen(kind) : 0;
	return len > 0 && len < EVENT_KIND_MAX &&
	       strspn(kind, "abcdefghijklmnopqrstuvwxyz_") == len;
}

static int on_event(struct keeper *k, const struct proto_frame *f, struct err *e)
{
	json_t *o;
	int r = proto_frame_json(f, &o, e);
	if (r < 0)
		return r;
	const char *kind = json_string_value(json_object_get(o, "kind"));
	json_t *data = json_object_get(o, "data");
	if (!kind_is_plain(kind) || !json_is_object(data)) {
		json_decref(o);
		return err_set(e, -EPROTO, "EVENT without kind and data");
	}
	keeper_note_output(k, 0);
	if (str_eq(kind, "rate_limit"))
		keeper_note_wait(k, json_integer_value(json_object_get(data, "until")));
	usage_take(k, kind, data);
	keeper_event(k, kind, json_incref(data));
	json_decref(o);
	return 0;
}

static int on_result(struct keeper *k, const struct proto_frame *f, struct err *e)
{
	json_t *o;
	int r = proto_frame_json(f, &o, e);
	if (r < 0)
		return r;
	struct agent *a = k->unit;
	struct unit_exit *x = &k->exit;
	const char *outcome = json_string_value(json_object_get(o, "outcome"));
	const char *session = json_string_value(json_object_get(o, "session"));
	const json_t *code = json_object_get(o, "exit_code");
	if (!outcome || x->outcome)
		r = err_set(e, -EPROTO, "RESULT out of place");
	if (r == 0)
		r = str_replace(&x->outcome, outcome);
	if (r == 0)
		r = str_replace(&x->outcome_text, json_string_value(json_object_get(o, "text")));
	if (r == 0 && session)
		r = str_replace(&x->session, session);
	x->reset_at = json_integer_value(json_object_get(o, "reset_at"));
	x->exit_code = json_is_integer(code) ? (int)json_integer_value(code) : -1;
	x->signal = (int)json_integer_value(json_object_get(o, "signal"));
	if (!a->ran && !a->start_error)
		a->start_error = (int)json_integer_value(json_object_get(o, "error"));
	json_decref(o);
	return r;
}

static int on_failed(struct keeper *k, const struct proto_frame *f, struct err *e)
{
	json_t *o;
	enum unit_cause cause;
	int r = proto_frame_json(f, &o, e);
	if (r < 0)
		return r;
	const char *text = json_string_value(json_object_get(o, "text"));
	if (unit_cause_parse(json_string_value(json_object_get(o, "outcome")), &cause) < 0 ||
		(cause != CAUSE_HARNESS_MISSING && cause != CAUSE_HARNESS_INVALID))
		r = err_set(e, -EPROTO, "FAILED with another outcome");
	else
		keeper_set_cause(k, CAUSE_OVERRIDE, cause, "%s", text ? text : "");
	json_decref(o);
	return r;
}

static int on_done(struct keeper *k, const struct proto_frame *f, struct err *e)
{
	struct agent *a = k->unit;
	(void)f;
	(void)e;
	a->done = true;
	a->done_deadline = deadline_after(DONE_MAX_MS);
	return 0;
}

typedef int (*frame_fn)(struct keeper *k, const struct proto_frame *f, struct err *e);

static const frame_fn frame_fns[] = {
	[PROTO_LOADED] = on_loaded,
	[PROTO_CALL_BEGIN] = on_call_begin,
	[PROTO_CALL_END] = on_call_end,
	[PROTO_LOG] = on_log,
	[PROTO_EVENT] = on_event,
	[PROTO_PROC_START] = procs_start,
	[PROTO_PROC_WRITE] = procs_write,
	[PROTO_PROC_CLOSE_STDIN] = procs_close_stdin,
	[PROTO_PROC_KILL] = procs_kill,
	[PROTO_PROC_READ] = procs_read,
	[PROTO_RESULT] = on_result,
	[PROTO_FAILED] = on_failed,
	[PROTO_DONE] = on_done,
};

static int take_frame(struct keeper *k, const struct proto_frame *f, struct err *e)
{
	const struct agent *a = k->unit;
	const size_t n = sizeof(frame_fns) / sizeof(frame_fns[0]);
	frame_fn fn = f->type < n ? frame_fns[f->type] : NULL;
	if (!fn || a->done)
		return err_set(
			e, -EPROTO, "%s (type %u) out of place", proto_type_name(f->type), f->type);
	return fn(k, f, e);
}

/* Handles what has arrived. Stops while the journal is blocked; goes on from there later. */
static void take_frames(struct keeper *k)
{
	struct agent *a = k->unit;
	struct proto_frame f;
	struct err e = ERR_INIT;
	int r = 0;
	while (!keeper_is_blocked(k) && !k->over &&
		(r = proto_reader_next(&a->reader, &f, &e)) == 1) {
		r = take_frame(k, &f, &e);
		if (r < 0)
			break;
	}
	if (r < 0) {
		char what[300];
		snprintf(what, sizeof(what), "sent nonsense (%.250s)", e.msg);
		blame(k, CAUSE_HARNESS_CRASHED, what);
	}
	agent_flush(k);
}

static void on_host(struct keeper *k, void *user, short revents)
{
	struct agent *a = user;
	if (a->sock < 0)
		return;
	if (revents & POLLOUT)
		agent_flush(k);
	if (!(revents & (POLLIN | POLLHUP | POLLERR)))
		return;
	int r = proto_reader_feed(&a->reader, a->sock);
	if (r == -EAGAIN || r == -EINTR)
		return;
	if (r == 1) {
		take_frames(k);
		return;
	}
	/* The end, or half a frame: how the host ends says what that means. */
	close(TAKE_FD(a->sock));
	if (!a->done)
		a->done_deadline = deadline_after(DONE_MAX_MS);
}

void agent_flush(struct keeper *k)
{
	struct agent *a = k->unit;
	if (a->sock >= 0)
		(void)!proto_writer_flush(&a->writer, a->sock); /* its end is seen by reading */
}

/* ---- life of the host ---- */

static int run_host(void *arg)
{
	(void)arg;
	return host_main(HOST_SOCK);
}

static int set_text(json_t *o, const char *key, const char *text)
{
	if (!text)
		return 0;
	return json_object_set_new(o, key, json_string(text));
}

static json_t *task_message(const struct keeper *k)
{
	const struct unit_spec *s = &k->spec;
	const struct agent *a = k->unit;
	json_t *options = json_object();
	json_t *o = json_object();
	CLEANUP_STR char *prompt =
		path_join(k->dir_path, s->prompt_file ? s->prompt_file : UNIT_FILE_PROMPT);
	/* What was not found is named as it was looked for. */
	int r = set_text(o, "harness", a->path ? harness_name(k) : plugin_name(k));
	r |= set_text(o, "plugin", a->path);
	r |= set_text(o, "plan", s->plan ? s->plan : "");
	r |= set_text(o, "task", s->task ? s->task : "");
	r |= json_object_set_new(o, "attempt", json_integer(s->attempt));
	r |= set_text(o, "unit", s->id);
	r |= set_text(o, "cwd", s->cwd);
	r |= prompt ? set_text(o, "prompt_file", prompt) : -1;
	r |= set_text(o, "tmpdir", s->tmpdir ? s->tmpdir : "/tmp");
	r |= set_text(o, "command", s->command);
	r |= set_text(o, "session", s->session);
	r |= json_object_set_new(o, "session_tokens",
		json_pack("[I, I, I, I]", (json_int_t)s->session_input,
			(json_int_t)s->session_output, (json_int_t)s->session_cache_read,
			(json_int_t)s->session_cache_write));
	r |= json_object_set_new(o, "continue", json_boolean(s->resume));
	vec_foreach(option, &s->options)
		r |= set_text(options, option->key, option->value);
	r |= json_object_set_new(o, "options", options);
	if (r == 0)
		return o;
	json_decref(o);
	return NULL;
}

static int start_host(struct keeper *k, pid_t *ret_pid, struct err *e)
{
	struct agent *a = k->unit;
	int socks[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, socks) < 0)
		return err_errno(e, -errno, "cannot make a socket for the host");
	a->sock = socks[0];
	CLEANUP(closep) int theirs = socks[1];
	int r = fd_set_nonblock(a->sock, e);
	if (r == 0 && proto_write_json(&a->writer, PROTO_TASK, 0, task_message(k)) < 0)
		r = err_nomem(e);
	if (r < 0)
		return r;
	struct spawn s;
	struct spawn_fd sock = {.fd = theirs, .target = HOST_SOCK};
	keeper_spawn_init(k, &s);
	s.fds = &sock;
	s.n_fds = 1;
	r = spawn_fork(&s, run_host, NULL, ret_pid, e);
	if (r < 0)
		return r;
	/* Until the first CALL_BEGIN it is as if it were loading. */
	if (k->spec.callback_timeout_ms > 0)
		a->call_deadlines[0] = deadline_after(k->spec.callback_timeout_ms);
	agent_flush(k);
	return 0;
}

/* The plugin's file; the keeper only looks for it, loading is the host's. */
static int find_plugin(struct keeper *k, struct err *e)
{
	struct agent *a = k->unit;
	const char *name = plugin_name(k);
	int r = strchr(name, '/') ? str_replace(&a->path, name)
				  : plugin_find(k->spec.plugin_path, name, &a->path, e);
	if (r == PLUGIN_MISSING) {
		keeper_set_cause(k, CAUSE_IF_FIRST, CAUSE_HARNESS_MISSING, "%s", e->msg);
		k->over = true;
	}
	return r;
}

static int agent_start(struct keeper *k, pid_t *ret_pid, struct err *e)
{
	if (!k->spec.harness)
		return err_set(e, -EINVAL, "the unit has no harness");
	if (access(k->spec.cwd, X_OK) < 0)
		return err_errno(e, -errno, "cannot enter '%s'", k->spec.cwd);
	struct agent *a = calloc(1, sizeof(*a));
	if (!a)
		return err_nomem(e);
	a->sock = -1;
	a->done_deadline = DEADLINE_NONE;
	for (int i = 0; i < PROTO_CALL_COUNT; i++)
		a->call_deadlines[i] = DEADLINE_NONE;
	procs_init(a);
	int r = capture_open(
		&a->output, k->dirfd, UNIT_FILE_OUTPUT, k->spec.output_cap_bytes, &k->mask, e);
	if (r < 0) {
		free(a);
		return r;
	}
	k->unit = a;
	r = find_plugin(k, e);
	if (r == PLUGIN_MISSING)
		return 0;
	return r < 0 ? r : start_host(k, ret_pid, e);
}

static void agent_poll(struct keeper *k)
{
	struct agent *a = k->unit;
	short events = 0;
	if (!keeper_is_blocked(k)) {
		events |= POLLIN;
		procs_poll(k);
	}
	if (proto_writer_pending(&a->writer) > 0)
		events |= POLLOUT;
	if (a->sock >= 0 && events)
		poll_add(k, a->sock, events, on_host, a);
}

/* What the host sent before it ended is in the socket still. */
static void read_last_frames(struct keeper *k)
{
	struct agent *a = k->unit;
	take_frames(k);
	while (a->sock >= 0 && !k->over && !keeper_is_blocked(k)) {
		if (proto_reader_feed(&a->reader, a->sock) != 1)
			return;
		take_frames(k);
	}
}

/* The host has ended. What it said last counts, and may have to wait for the journal. */
static void judge_host(struct keeper *k)
{
	struct agent *a = k->unit;
	read_last_frames(k);
	if (k->over || keeper_is_blocked(k))
		return;
	if (!a->done || !WIFEXITED(a->host_status) || WEXITSTATUS(a->host_status) != HOST_EXIT_DONE)
		blame_death(k, a->host_status);
	else if (!k->exit.outcome && !k->cause_is_set)
		blame(k, CAUSE_HARNESS_CRASHED, "ended without a result");
	k->over = true;
}

static void agent_reaped(struct keeper *k, pid_t pid, int wait_status)
{
	struct agent *a = k->unit;
	if (pid != k->main_pid) {
		procs_reaped(k, pid, wait_status);
		if (!a->host_ended)
			agent_flush(k);
		return;
	}
	a->host_ended = true;
	a->host_status = wait_status;
	if (!k->over) /* else our own sweep ended it */
		judge_host(k);
}

static void agent_ask_to_end(struct keeper *k)
{
	struct agent *a = k->unit;
	a->idle_at_end = !procs_any_live(a);
	if (proto_write(&a->writer, PROTO_KILL, 0, SIGTERM, NULL, 0) == 0)
		agent_flush(k);
}

int agent_send(struct keeper *k, const char *text, size_t len)
{
	if (k->sort != &agent_sort)
		return -ENOTSUP;
	struct agent *a = k->unit;
	if (!a || a->sock < 0 || a->done)
		return -EPIPE;
	int r = proto_write(&a->writer, PROTO_SEND, 0, 0, text, len);
	if (r == 0)
		agent_flush(k);
	return r;
}

static void agent_shift(struct keeper *k, int64_t by_ms)
{
	struct agent *a = k->unit;
	for (int i = 0; i < PROTO_CALL_COUNT; i++)
		if (a->call_deadlines[i] != DEADLINE_NONE)
			a->call_deadlines[i] += by_ms;
	if (a->done_deadline != DEADLINE_NONE)
		a->done_deadline += by_ms;
}

static int64_t agent_next_deadline(const struct keeper *k)
{
	const struct agent *a = k->unit;
	if (keeper_is_blocked(k))
		return DEADLINE_NONE;
	int64_t next = a->done_deadline;
	for (int i = 0; i < PROTO_CALL_COUNT; i++)
		if (a->call_deadlines[i] < next)
			next = a->call_deadlines[i];
	return next;
}

static void agent_expired(struct keeper *k, int64_t now)
{
	struct agent *a = k->unit;
	if (k->over || keeper_is_blocked(k))
		return; /* nobody is held to a limit for what the disk does not take */
	take_frames(k); /* those that waited for the journal */
	if (a->host_ended && !k->over)
		judge_host(k);
	/* It may be our turn that was late, not the host. */
	if (!k->over && now >= agent_next_deadline(k))
		read_last_frames(k);
	for (int i = 0; i < PROTO_CALL_COUNT && !k->over; i++) {
		if (now < a->call_deadlines[i])
			continue;
		char what[96];
		snprintf(what, sizeof(what), "did not return within %lld ms",
			(long long)k->spec.callback_timeout_ms);
		if (i > 0) { /* name this one, not a younger one */
			memset(a->in_call, 0, sizeof(a->in_call));
			a->in_call[i] = true;
		}
		blame(k, CAUSE_HARNESS_HUNG, what);
	}
	if (!k->over && now >= a->done_deadline)
		blame(k, a->done ? CAUSE_HARNESS_HUNG : CAUSE_HARNESS_CRASHED,
			a->done ? "did not end its process" : "closed the connection to orch");
}

void agent_said_done(struct keeper *k, const json_t *data)
{
	struct agent *a = k->unit;
	const char *outcome = json_string_value(json_object_get(data, "outcome"));
	const char *text = json_string_value(json_object_get(data, "text"));
	if (!str_eq(outcome, "blocked") && !str_eq(outcome, "not_needed"))
		outcome = "ok";
	if (str_replace(&a->said_outcome, outcome) < 0 || str_replace(&a->said_text, text) < 0)
		keeper_log(k, "warning", "out of memory: the agent's word on its end is lost");
	json_t *event = json_object();
	json_object_set_new(event, "text",
		json_sprintf("done: %s%s%s", outcome, text ? ": " : "", text ? text : ""));
	keeper_event(k, "progress", event);
}

/* The agent's own word stands where it ended by itself: blocked also after a failure, the others
 * not. */
static void take_word(struct keeper *k)
{
	struct agent *a = k->unit;
	struct unit_exit *x = &k->exit;
	bool ended_well = str_eq(x->outcome, "ok");
	bool blocked = str_eq(a->said_outcome, "blocked") &&
		       (ended_well || str_eq(x->outcome, "agent_error"));
	bool not_needed = str_eq(a->said_outcome, "not_needed") && ended_well;
	if (!blocked && !not_needed)
		return;
	if (str_replace(&x->outcome, a->said_outcome) < 0 ||
		str_replace(&x->outcome_text, a->said_text) < 0)
		keeper_log(k, "warning", "out of memory: the agent's word on its end is lost");
}

/* The harness's verdict becomes the unit's, unless something else ended it. */
static void take_verdict(struct keeper *k)
{
	const struct agent *a = k->unit;
	const struct unit_exit *x = &k->exit;
	if (!x->outcome)
		return;
	take_word(k);
	bool unstarted = str_eq(x->outcome, RESULT_SPAWN_FAILED);
	if (unstarted)
		k->exit.error = a->start_error;
	keeper_set_cause(k, CAUSE_IF_FIRST, unstarted ? CAUSE_SPAWN_FAILED : CAUSE_EXITED, "%s",
		x->outcome_text ? x->outcome_text : "");
}

/* The limit was the unit's; that the harness did not play its part belongs to the reason. */
static void tell_overtaken(struct keeper *k)
{
	struct agent *a = k->unit;
	const char *call = a->in_call[PROTO_CALL_KILL]                     ? "kill"
			   : a->idle_at_end && a->in_call[PROTO_CALL_WAIT] ? "wait"
									   : NULL;
	if (!call || !k->cause_is_set || k->exit.cause == CAUSE_HARNESS_HUNG ||
		k->exit.cause == CAUSE_HARNESS_CRASHED)
		return;
	CLEANUP_STR char *why = str_dup(k->exit.text);
	keeper_log(k, "warning", "harness '%s' (%s) did not return from %s", harness_name(k),
		a->path, call);
	/* The text of a request to stop is the request's reason, to be read by the engine. */
	if (k->exit.cause != CAUSE_KILLED)
		keeper_set_cause(k, CAUSE_OVERRIDE, k->exit.cause,
			"%s; harness '%s' (%s) did not return from %s", why ? why : "",
			harness_name(k), a->path, call);
}

static void agent_finish(struct keeper *k)
{
	struct agent *a = k->unit;
	struct err e = ERR_INIT;
	tell_overtaken(k);
	procs_finish(k);
	take_verdict(k);
	if (capture_close(&a->output, NULL, &e) < 0)
		keeper_log(k, "warning", "%s", e.msg);
	if (a->sock >= 0)
		close(TAKE_FD(a->sock));
}

const struct unit_sort agent_sort = {
	.start = agent_start,
	.poll = agent_poll,
	.reaped = agent_reaped,
	.ask_to_end = agent_ask_to_end,
	.shift = agent_shift,
	.next_deadline = agent_next_deadline,
	.expired = agent_expired,
	.finish = agent_finish,
};
