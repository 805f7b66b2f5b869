/* SPDX-License-Identifier: MIT */
#include "shim/proto.h"

#include "base/json_text.h"
#include "base/str.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define READ_SIZE   ((size_t)16 << 10)
#define PENDING_MAX ((size_t)16 << 20)
/* An emptied buffer larger than this is given back: one big frame must not cost memory for ever. */
#define KEEP_SIZE ((size_t)128 << 10)

static const char *const call_names[PROTO_CALL_COUNT] = {
	[PROTO_CALL_LOAD] = "load",
	[PROTO_CALL_SPAWN] = "spawn",
	[PROTO_CALL_WAIT] = "wait",
	[PROTO_CALL_KILL] = "kill",
	[PROTO_CALL_SEND] = "send",
	[PROTO_CALL_RELEASE] = "release",
};

static const char *const type_names[PROTO_DONE + 1] = {
	[PROTO_TASK] = "TASK",
	[PROTO_KILL] = "KILL",
	[PROTO_SEND] = "SEND",
	[PROTO_PROC_STARTED] = "PROC_STARTED",
	[PROTO_PROC_OUTPUT] = "PROC_OUTPUT",
	[PROTO_PROC_EXITED] = "PROC_EXITED",
	[PROTO_PROC_WRITTEN] = "PROC_WRITTEN",
	[PROTO_LOADED] = "LOADED",
	[PROTO_CALL_BEGIN] = "CALL_BEGIN",
	[PROTO_CALL_END] = "CALL_END",
	[PROTO_LOG] = "LOG",
	[PROTO_EVENT] = "EVENT",
	[PROTO_PROC_START] = "PROC_START",
	[PROTO_PROC_WRITE] = "PROC_WRITE",
	[PROTO_PROC_CLOSE_STDIN] = "PROC_CLOSE_STDIN",
	[PROTO_PROC_KILL] = "PROC_KILL",
	[PROTO_PROC_READ] = "PROC_READ",
	[PROTO_RESULT] = "RESULT",
	[PROTO_FAILED] = "FAILED",
	[PROTO_DONE] = "DONE",
};

const char *proto_call_name(uint32_t call)
{
	return call < PROTO_CALL_COUNT && call_names[call] ? call_names[call] : "?";
}

const char *proto_type_name(uint32_t type)
{
	return type <= PROTO_DONE && type_names[type] ? type_names[type] : "?";
}

void proto_reader_deinit(struct proto_reader *r)
{
	buf_deinit(&r->in);
	r->taken = 0;
}

static void drop_taken(struct proto_reader *r)
{
	if (r->taken == r->in.len && r->in.cap > KEEP_SIZE)
		buf_deinit(&r->in);
	else if (r->taken > 0)
		buf_consume(&r->in, r->taken);
	r->taken = 0;
}

int proto_reader_feed(struct proto_reader *r, int fd)
{
	drop_taken(r);
	if (buf_reserve(&r->in, READ_SIZE) < 0)
		return -ENOMEM;
	ssize_t n = recv(fd, r->in.data + r->in.len, READ_SIZE, 0);
	if (n < 0)
		return -errno;
	if (n == 0)
		return r->in.len > 0 ? -EPROTO : 0;
	r->in.len += (size_t)n;
	r->in.data[r->in.len] = '\0';
	return 1;
}

int proto_reader_next(struct proto_reader *r, struct proto_frame *ret, struct err *e)
{
	struct proto_header h;
	size_t left = r->in.len - r->taken;
	if (left < sizeof(h))
		return 0;
	memcpy(&h, r->in.data + r->taken, sizeof(h));
	if (h.length > PROTO_PAYLOAD_MAX)
		return err_set(e, -EPROTO, "a frame of %u bytes, more than %zu", h.length,
			PROTO_PAYLOAD_MAX);
	if (left - sizeof(h) < h.length)
		return 0;
	ret->type = h.type;
	ret->flags = h.flags;
	ret->id = h.id;
	ret->len = h.length;
	/*
	 * The payload moves to the front of its own frame, over the header, so that a NUL fits
	 * behind it without touching the next frame.
	 */
	char *at = r->in.data + r->taken;
	memmove(at, at + sizeof(h), h.length);
	at[h.length] = '\0';
	ret->data = at;
	r->taken += sizeof(h) + h.length;
	return 1;
}

int proto_frame_json(const struct proto_frame *f, json_t **ret, struct err *e)
{
	json_error_t error;
	json_t *json = NULL;
	int r = json_text_parse(f->data, f->len, JSON_REJECT_DUPLICATES, &json, &error);
	if (r == -ENOMEM)
		return err_nomem(e);
	if (r < 0)
		return err_set(
			e, -EPROTO, "%s: not JSON: %s", proto_type_name(f->type), error.text);
	if (!json_is_object(json)) {
		json_decref(json);
		return err_set(e, -EPROTO, "%s: not a JSON object", proto_type_name(f->type));
	}
	*ret = json;
	return 0;
}

void proto_writer_deinit(struct proto_writer *w)
{
	buf_deinit(&w->out);
	w->sent = 0;
}

static struct proto_header header_of(enum proto_type type, uint16_t flags, uint32_t id, size_t len)
{
	return (struct proto_header){
		.length = (uint32_t)len, .type = (uint16_t)type, .flags = flags, .id = id};
}

int proto_write(struct proto_writer *w, enum proto_type type, uint16_t flags, uint32_t id,
	const void *data, size_t len)
{
	if (len > PROTO_PAYLOAD_MAX)
		return -EMSGSIZE;
	struct proto_header h = header_of(type, flags, id, len);
	if (proto_writer_pending(w) + len > PENDING_MAX)
		return -ENOBUFS;
	if (w->sent > 0) {
		buf_consume(&w->out, w->sent);
		w->sent = 0;
	}
	if (buf_reserve(&w->out, sizeof(h) + len) < 0)
		return -ENOMEM;
	buf_add(&w->out, &h, sizeof(h));
	buf_add(&w->out, data, len);
	return buf_check(&w->out);
}

int proto_write_json(struct proto_writer *w, enum proto_type type, uint32_t id, json_t *payload)
{
	CLEANUP_STR char *text = payload ? json_text_dump(payload, JSON_COMPACT) : NULL;
	json_decref(payload);
	return text ? proto_write(w, type, 0, id, text, strlen(text)) : -ENOMEM;
}

size_t proto_writer_pending(const struct proto_writer *w)
{
	return w->out.len - w->sent;
}

int proto_writer_flush(struct proto_writer *w, int fd)
{
	while (proto_writer_pending(w) > 0) {
		ssize_t n = send(fd, w->out.data + w->sent, proto_writer_pending(w),
			MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 1 : -errno;
		w->sent += (size_t)n;
	}
	if (w->out.cap > KEEP_SIZE)
		buf_deinit(&w->out);
	else
		buf_reset(&w->out);
	w->sent = 0;
	return 0;
}

int proto_send(
	int fd, enum proto_type type, uint16_t flags, uint32_t id, const void *data, size_t len)
{
	if (len > PROTO_PAYLOAD_MAX)
		return -EMSGSIZE;
	struct proto_header h = header_of(type, flags, id, len);
	size_t sent = 0;
	while (sent < sizeof(h) + len) {
		size_t of_header = sent < sizeof(h) ? sent : sizeof(h);
		size_t of_data = sent - of_header;
		struct iovec iov[2] = {
			{(char *)&h + of_header, sizeof(h) - of_header},
			{data ? (char *)(uintptr_t)data + of_data : NULL, len - of_data},
		};
		struct msghdr msg = {.msg_iov = iov, .msg_iovlen = 2};
		ssize_t n = sendmsg(fd, &msg, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		sent += (size_t)n;
	}
	return 0;
}

int proto_send_json(int fd, enum proto_type type, uint32_t id, json_t *payload)
{
	CLEANUP_STR char *text = payload ? json_text_dump(payload, JSON_COMPACT) : NULL;
	json_decref(payload);
	return text ? proto_send(fd, type, 0, id, text, strlen(text)) : -ENOMEM;
}
