/* SPDX-License-Identifier: MIT */
/*
 * Connections to the keeper: JSON, one object a line. The first is inherited from the engine that
 * started us; others come over ctl.sock: an engine that adopts the unit says so with `adopt`, an
 * agent's `orch` speaks for its task. Each side is bounded; whoever does not read is dropped. An
 * engine may well not read for hours (Ctrl+Z): how far the journal is, it is told once it does.
 *
 * To the keeper:   kill {reason, signal: "TERM" | "KILL", kill_after_ms}, pause, resume, ping,
 *                  send {text}, adopt, and with the unit's token progress, finding, done {data}
 * From the keeper: started {pid}, journal {bytes}, paused, resumed, pong, ok, error {text},
 *                  ended {journal}
 */
#include "shim/keeper.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/json_text.h"
#include "base/str.h"
#include "os/sock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define CONNS_MAX       16
#define BACKLOG         16
#define LINE_MAX_BYTES  (4U << 20)
#define OUT_MAX_BYTES   (64U << 10)
#define READ_SIZE       4096
#define HINT_EVERY_MS   100
#define LAST_WORDS_MS   1000
#define FORGERIES_MAX   20
#define ORPHAN_GRACE_MS 10000
#define LISTEN_RETRY_MS 100

struct conn {
	int fd; /* -1: free */
	bool engine;
	bool behind; /* an engine to be told how far the journal is, when it reads again */
	struct buf in, out;
};

struct ctl {
	int listen_fd;
	int64_t hinted_at;
	int64_t hinted_bytes;
	struct conn conns[CONNS_MAX];
};

static void conn_drop(struct keeper *k, struct conn *c)
{
	bool was_engine = c->engine;
	close(TAKE_FD(c->fd));
	buf_deinit(&c->in);
	buf_deinit(&c->out);
	c->engine = false;
	for (int i = 0; i < CONNS_MAX; i++)
		if (k->ctl->conns[i].fd >= 0 && k->ctl->conns[i].engine)
			return;
	if (was_engine && k->spec.on_crash == ON_CRASH_KILL)
		k->deadlines[DL_ORPHANED] = deadline_after(ORPHAN_GRACE_MS);
}

static void conn_flush(struct conn *c)
{
	while (c->out.len > 0) {
		ssize_t n = send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			/* What it sent before it went away is still read. */
			buf_reset(&c->out);
			shutdown(c->fd, SHUT_WR);
			return;
		}
		buf_consume(&c->out, (size_t)n);
	}
}

/* Consumes message. */
static void conn_say(struct keeper *k, struct conn *c, json_t *message)
{
	CLEANUP_STR char *text = message ? json_text_dump(message, JSON_COMPACT) : NULL;
	json_decref(message);
	if (!text || c->fd < 0)
		return;
	buf_adds(&c->out, text);
	buf_addc(&c->out, '\n');
	conn_flush(c);
	if (c->out.failed || c->out.len > OUT_MAX_BYTES)
		conn_drop(k, c);
}

/* To all engines; consumes message. */
static void say_engines(struct keeper *k, json_t *message)
{
	for (int i = 0; i < CONNS_MAX; i++)
		if (k->ctl->conns[i].fd >= 0 && k->ctl->conns[i].engine)
			conn_say(k, &k->ctl->conns[i], json_incref(message));
	json_decref(message);
}

void ctl_note(struct keeper *k, const char *type)
{
	say_engines(k, json_pack("{s:s}", "type", type));
}

void ctl_started(struct keeper *k, pid_t pid)
{
	say_engines(k, json_pack("{s:s, s:i}", "type", "started", "pid", (int)pid));
}

/* ---- growth of the journal: one hint in HINT_EVERY_MS at most ---- */

static void conn_hint(struct keeper *k, struct conn *c)
{
	c->behind = c->out.len > 0;
	if (!c->behind)
		conn_say(k, c,
			json_pack("{s:s, s:I}", "type", "journal", "bytes",
				(json_int_t)k->journal.size_bytes));
}

void ctl_hint(struct keeper *k)
{
	if (k->journal.size_bytes == k->ctl->hinted_bytes)
		return;
	k->ctl->hinted_at = clock_mono_ms();
	k->ctl->hinted_bytes = k->journal.size_bytes;
	for (int i = 0; i < CONNS_MAX; i++)
		if (k->ctl->conns[i].fd >= 0 && k->ctl->conns[i].engine)
			conn_hint(k, &k->ctl->conns[i]);
}

void ctl_journal_grew(struct keeper *k)
{
	if (!k->ctl || !k->begun_at)
		return; /* `started` says it */
	if (k->deadlines[DL_HINT] == DEADLINE_NONE)
		k->deadlines[DL_HINT] = k->ctl->hinted_at + HINT_EVERY_MS;
}

/* ---- requests ---- */

static void refuse(struct keeper *k, struct conn *c, const char *why)
{
	conn_say(k, c, json_pack("{s:s, s:s}", "type", "error", "text", why));
}

static void accept_request(struct keeper *k, struct conn *c)
{
	conn_say(k, c, json_pack("{s:s}", "type", "ok"));
}

static void on_kill(struct keeper *k, struct conn *c, const json_t *o)
{
	(void)c;
	const char *reason = json_string_value(json_object_get(o, "reason"));
	const json_t *after = json_object_get(o, "kill_after_ms");
	bool now = str_eq(json_string_value(json_object_get(o, "signal")), "KILL");
	int64_t after_ms = json_is_integer(after) ? json_integer_value(after) : -1;
	if (after_ms < 0)
		after_ms = k->spec.kill_grace_ms;
	keeper_set_cause(k, CAUSE_IF_FIRST, CAUSE_KILLED, "%s", reason ? reason : "asked to");
	ladder_end_unit(k, now ? 0 : after_ms);
}

static void on_pause(struct keeper *k, struct conn *c, const json_t *o)
{
	(void)c;
	(void)o;
	ladder_pause(k);
}

static void on_resume(struct keeper *k, struct conn *c, const json_t *o)
{
	(void)c;
	(void)o;
	ladder_resume(k);
}

static void on_ping(struct keeper *k, struct conn *c, const json_t *o)
{
	(void)o;
	conn_say(k, c, json_pack("{s:s}", "type", "pong"));
}

static void on_send(struct keeper *k, struct conn *c, const json_t *o)
{
	const json_t *text = json_object_get(o, "text");
	if (!json_is_string(text))
		refuse(k, c, "send: no text");
	else if (agent_send(k, json_string_value(text), json_string_length(text)) < 0)
		refuse(k, c, "send: this unit takes no words now");
	else
		accept_request(k, c);
}

static void on_adopt(struct keeper *k, struct conn *c, const json_t *o)
{
	(void)o;
	c->engine = true;
	k->deadlines[DL_ORPHANED] = DEADLINE_NONE;
	conn_say(k, c, json_pack("{s:s, s:i}", "type", "started", "pid", (int)k->main_pid));
	if (k->paused_at)
		conn_say(k, c, json_pack("{s:s}", "type", "paused"));
	conn_hint(k, c);
}

/* The token tells agents apart; it is not a secret that guards anything (the design's A8.10). */
static bool has_token(const struct keeper *k, const json_t *o)
{
	static const char name[] = "ORCH_AGENT_TOKEN=";
	const char *given = json_string_value(json_object_get(o, "token"));
	for (size_t i = 0; given && k->env[i]; i++)
		if (str_starts(k->env[i], name))
			return str_eq(k->env[i] + strlen(name), given);
	return false;
}

/* Kept for a person to see, a few of them: whoever tries may try often. */
static void note_forgery(struct keeper *k, const char *kind)
{
	if (k->spec.kind != UNIT_AGENT || keeper_is_blocked(k) || k->forgeries >= FORGERIES_MAX)
		return;
	k->forgeries++;
	keeper_event(k, "error",
		json_pack("{s:s, s:o}", "code", "forged_token", "text",
			json_sprintf("%s with a token that is not this unit's was refused", kind)));
}

/* progress and finding: events that the agent itself writes; done: its word on how it ended. */
static void on_agent_event(struct keeper *k, struct conn *c, const json_t *o)
{
	json_t *data = json_object_get(o, "data");
	const char *kind = json_string_value(json_object_get(o, "type"));
	if (k->spec.kind != UNIT_AGENT || !has_token(k, o)) {
		refuse(k, c, "not the token of this unit");
		note_forgery(k, kind);
	} else if (!json_is_object(data)) {
		refuse(k, c, "data is missing");
	} else if (keeper_is_blocked(k)) {
		refuse(k, c, "the disk is full");
	} else {
		keeper_note_output(k, 0);
		if (str_eq(kind, "done"))
			agent_said_done(k, data);
		else
			keeper_event(k, kind, json_incref(data));
		accept_request(k, c);
	}
}

static const struct {
	const char *type;
	void (*fn)(struct keeper *k, struct conn *c, const json_t *o);
} requests[] = {
	{"kill", on_kill},
	{"pause", on_pause},
	{"resume", on_resume},
	{"ping", on_ping},
	{"send", on_send},
	{"adopt", on_adopt},
	{"progress", on_agent_event},
	{"finding", on_agent_event},
	{"done", on_agent_event},
};

static void handle(struct keeper *k, struct conn *c, const char *line, size_t len)
{
	json_t *o = NULL;
	if (json_text_parse(line, len, JSON_REJECT_DUPLICATES, &o, NULL) == -ENOMEM) {
		refuse(k, c, "out of memory");
		return;
	}
	const char *type = json_string_value(json_object_get(o, "type"));
	size_t i = 0, n = sizeof(requests) / sizeof(requests[0]);
	while (type && i < n && !str_eq(requests[i].type, type))
		i++;
	if (type && i < n)
		requests[i].fn(k, c, o);
	else
		refuse(k, c, "not a request");
	json_decref(o);
}

static void on_conn(struct keeper *k, void *user, short revents)
{
	struct conn *c = user;
	if (c->fd < 0)
		return;
	if (revents & POLLOUT) {
		conn_flush(c);
		if (c->behind)
			conn_hint(k, c);
		if (c->fd < 0)
			return;
	}
	if (!(revents & (POLLIN | POLLHUP | POLLERR)))
		return;
	if (buf_reserve(&c->in, READ_SIZE) < 0) {
		conn_drop(k, c);
		return;
	}
	ssize_t n = recv(c->fd, c->in.data + c->in.len, READ_SIZE, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		conn_drop(k, c);
		return;
	}
	c->in.len += (size_t)n;
	const char *newline;
	while (c->fd >= 0 && (newline = memchr(c->in.data, '\n', c->in.len))) {
		size_t len = (size_t)(newline - c->in.data);
		CLEANUP_STR char *line = strndup(c->in.data, len);
		buf_consume(&c->in, len + 1);
		if (line)
			handle(k, c, line, strlen(line));
		if (c->in.len == 0)
			break;
	}
	if (c->in.len > LINE_MAX_BYTES)
		conn_drop(k, c);
}

/* However many the agent holds, an engine that comes is heard: one of the others has to go. */
static bool conn_add(struct keeper *k, int fd)
{
	struct conn *free_one = NULL, *other = NULL;
	for (struct conn *c = k->ctl->conns; c < k->ctl->conns + CONNS_MAX; c++) {
		if (c->fd < 0)
			free_one = c;
		else if (!c->engine)
			other = c;
	}
	if (!free_one && other) {
		conn_drop(k, other);
		free_one = other;
	}
	if (free_one)
		*free_one = (struct conn){.fd = fd};
	return free_one;
}

static void on_listen(struct keeper *k, void *user, short revents)
{
	struct ctl *ctl = user;
	struct sock_peer peer;
	int fd;
	(void)revents;
	int r;
	while ((r = sock_accept(ctl->listen_fd, &fd)) == 0) {
		bool ours = sock_peer(fd, &peer) == 0 && (peer.uid == geteuid() || peer.uid == 0);
		if (!ours || !conn_add(k, fd))
			close(fd);
	}
	if (r != -EAGAIN) /* who knocks stays at the door, and would have us turn round and round */
		k->deadlines[DL_LISTEN] = deadline_after(LISTEN_RETRY_MS);
}

int ctl_open(struct keeper *k, int engine_fd, struct err *e)
{
	struct ctl *ctl = calloc(1, sizeof(*ctl));
	if (!ctl)
		return err_nomem(e);
	for (int i = 0; i < CONNS_MAX; i++)
		ctl->conns[i].fd = -1;
	ctl->conns[0] = (struct conn){.fd = engine_fd, .engine = true};
	k->ctl = ctl;
	return sock_listen(k->dirfd, UNIT_FILE_SOCKET, BACKLOG, &ctl->listen_fd, e);
}

void ctl_poll(struct keeper *k)
{
	struct ctl *ctl = k->ctl;
	if (k->deadlines[DL_LISTEN] == DEADLINE_NONE)
		poll_add(k, ctl->listen_fd, POLLIN, on_listen, ctl);
	for (int i = 0; i < CONNS_MAX; i++) {
		struct conn *c = &ctl->conns[i];
		if (c->fd >= 0)
			poll_add(k, c->fd, c->out.len > 0 ? POLLIN | POLLOUT : POLLIN, on_conn, c);
	}
}

void ctl_ended(struct keeper *k)
{
	int64_t deadline = deadline_after(LAST_WORDS_MS);
	say_engines(k, json_pack("{s:s, s:I}", "type", "ended", "bytes",
			       (json_int_t)k->journal.size_bytes));
	for (int i = 0; i < CONNS_MAX; i++) {
		struct conn *c = &k->ctl->conns[i];
		while (c->fd >= 0 && c->out.len > 0 && clock_mono_ms() < deadline) {
			struct pollfd p = {.fd = c->fd, .events = POLLOUT};
			if (poll(&p, 1, deadline_poll_ms(deadline)) > 0)
				conn_flush(c);
		}
	}
}
