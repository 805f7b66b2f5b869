/* SPDX-License-Identifier: MIT */
#include "lifecycle/internal.h"

#include "base/clock.h"
#include "base/json_text.h"
#include "base/str.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_SIZE    4096
#define LINE_MAX_LEN (1U << 20)
#define SEND_MAX_MS  1000
#define LAST_WAIT_MS 5000

int unit_new(
	struct lifecycle *lc, const char *id, int dirfd, int fd, struct unit **ret, struct err *e)
{
	struct unit *u = calloc(1, sizeof(*u));
	if (!u) {
		close(dirfd);
		close(fd);
		return err_nomem(e);
	}
	u->lc = lc;
	u->dirfd = dirfd;
	u->fd = fd;
	u->pidfd = -1;
	memcpy(u->id, id, UNIT_ID_LEN);
	*ret = u;
	return 0;
}

void await_keeper_end(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};
	(void)!poll(&p, 1, LAST_WAIT_MS);
}

/* Reaps the keeper if it is our child and has ended. */
static void reap(struct unit *u)
{
	nursery_await(u->lc, u);
	if (!u->is_child)
		return;
	pid_t pid;
	while ((pid = waitpid(u->keeper_pid, NULL, WNOHANG)) < 0 && errno == EINTR)
		;
	if (pid != 0)
		u->is_child = false;
}

/* For one that ends right now: it has said its last word, or closed its socket. */
static void reap_soon(struct unit *u)
{
	reap(u);
	if (!u->is_child)
		return;
	CLEANUP(closep) int pidfd = (int)syscall(SYS_pidfd_open, u->keeper_pid, 0);
	if (pidfd >= 0)
		await_keeper_end(pidfd);
	reap(u);
}

void unit_free(struct unit *u)
{
	if (!u)
		return;
	if (u->pidfd >= 0 && (u->ended || u->gone))
		await_keeper_end(u->pidfd);
	closep(&u->pidfd);
	if (u->ended && !u->gone)
		reap_soon(u);
	else
		reap(u);
	close(u->dirfd);
	close(u->fd);
	buf_deinit(&u->in);
	free(u);
}

const char *unit_id(const struct unit *u)
{
	return u->id;
}

int unit_dirfd(const struct unit *u)
{
	return u->dirfd;
}

int unit_fd(const struct unit *u)
{
	return u->fd;
}

pid_t unit_keeper_pid(struct unit *u)
{
	nursery_await(u->lc, u);
	return u->keeper_pid;
}

/* ---- events ---- */

static const struct {
	const char *name;
	enum unit_event_type type;
} event_types[] = {
	{"started", UNIT_EVENT_STARTED},
	{"journal", UNIT_EVENT_JOURNAL},
	{"paused", UNIT_EVENT_PAUSED},
	{"resumed", UNIT_EVENT_RESUMED},
	{"pong", UNIT_EVENT_PONG},
	{"error", UNIT_EVENT_ERROR},
	{"ended", UNIT_EVENT_ENDED},
};

/* 1: the line is an event that the engine wants, 0: it is none, -ENOMEM. */
static int parse_event(struct unit *u, const char *line, size_t len, struct unit_event *ret)
{
	json_t *o = NULL;
	if (json_text_parse(line, len, 0, &o, NULL) == -ENOMEM)
		return -ENOMEM;
	const char *type = json_string_value(json_object_get(o, "type"));
	const char *text = json_string_value(json_object_get(o, "text"));
	size_t i = 0, n = sizeof(event_types) / sizeof(event_types[0]);
	while (type && i < n && !str_eq(event_types[i].name, type))
		i++;
	bool known = type && i < n;
	if (known) {
		*ret = (struct unit_event){
			.type = event_types[i].type,
			.pid = (pid_t)json_integer_value(json_object_get(o, "pid")),
			.journal_bytes = json_integer_value(json_object_get(o, "bytes")),
		};
		if (text)
			memcpy(ret->text, text,
				utf8_cut(text, strlen(text), sizeof(ret->text) - 1));
		u->ended |= ret->type == UNIT_EVENT_ENDED;
	}
	json_decref(o);
	return known;
}

/* 1: there is more to parse; 0: nothing now; -EPIPE: the end. */
static int receive(struct unit *u, struct err *e)
{
	if (buf_reserve(&u->in, READ_SIZE) < 0)
		return err_nomem(e);
	ssize_t n = recv(u->fd, u->in.data + u->in.len, READ_SIZE, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0 || u->in.len > LINE_MAX_LEN)
		return -EPIPE;
	u->in.len += (size_t)n;
	return 1;
}

int unit_read(struct unit *u, struct unit_event *ret, struct err *e)
{
	while (!u->gone) {
		const char *newline = u->in.len > 0 ? memchr(u->in.data, '\n', u->in.len) : NULL;
		if (newline) {
			size_t len = (size_t)(newline - u->in.data);
			int known = parse_event(u, u->in.data, len, ret);
			if (known < 0)
				return err_nomem(e); /* the line is still there */
			buf_consume(&u->in, len + 1);
			if (known)
				return 1;
			continue;
		}
		int r = receive(u, e);
		if (r == 0 || r == -ENOMEM)
			return r;
		if (r == -EPIPE) {
			u->gone = true;
			reap_soon(u);
			*ret = (struct unit_event){.type = UNIT_EVENT_GONE};
			return 1;
		}
	}
	return 0;
}

/* ---- requests ---- */

/* Consumes message, which is UTF-8; NULL: memory was out for it. */
static int say(struct unit *u, json_t *message, struct err *e)
{
	CLEANUP_STR char *text = message ? json_text_dump(message, JSON_COMPACT) : NULL;
	json_decref(message);
	if (!text)
		return err_nomem(e);
	CLEANUP_BUF struct buf line = BUF_INIT;
	buf_adds(&line, text);
	buf_addc(&line, '\n');
	if (buf_check(&line) < 0)
		return err_nomem(e);
	int64_t deadline = deadline_after(SEND_MAX_MS);
	while (line.len > 0) {
		ssize_t n = send(u->fd, line.data, line.len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n >= 0) {
			buf_consume(&line, (size_t)n);
			continue;
		}
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN)
			return err_set(e, -EPIPE, "the keeper of unit %s is gone", u->id);
		struct pollfd p = {.fd = u->fd, .events = POLLOUT};
		if (poll(&p, 1, deadline_poll_ms(deadline)) == 0)
			return err_set(e, -EAGAIN, "the keeper of unit %s does not listen", u->id);
	}
	return 0;
}

int unit_request(struct unit *u, const char *type, struct err *e)
{
	return say(u, json_pack("{s:s}", "type", type), e);
}

/* A keeper that was stopped does not hear what it is told; no other is harmed. */
static void wake_keeper(struct unit *u)
{
	nursery_await(u->lc, u);
	if (u->is_child && u->keeper_pid > 0)
		(void)!kill(u->keeper_pid, SIGCONT); /* its number is its own until we reap it */
	else if (u->pidfd >= 0)
		(void)!syscall(SYS_pidfd_send_signal, u->pidfd, SIGCONT, NULL, 0);
}

int unit_kill(struct unit *u, enum unit_kill_how how, const char *reason, int64_t kill_after_ms,
	struct err *e)
{
	int r = say(u,
		json_pack("{s:s, s:s, s:s, s:I}", "type", "kill", "reason", reason ? reason : "",
			"signal", how == UNIT_KILL_KILL ? "KILL" : "TERM", "kill_after_ms",
			(json_int_t)kill_after_ms),
		e);
	wake_keeper(u);
	return r;
}

int unit_pause(struct unit *u, struct err *e)
{
	return unit_request(u, "pause", e);
}

int unit_resume(struct unit *u, struct err *e)
{
	return unit_request(u, "resume", e);
}

int unit_ping(struct unit *u, struct err *e)
{
	return unit_request(u, "ping", e);
}

int unit_send(struct unit *u, const char *text, struct err *e)
{
	if (!utf8_is_valid(text, strlen(text)))
		return err_set(e, -EINVAL, "cannot tell unit %s: the text is not UTF-8", u->id);
	return say(u, json_pack("{s:s, s:s}", "type", "send", "text", text), e);
}
