/* SPDX-License-Identifier: MIT */
#include "server/server.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/json_text.h"
#include "base/str.h"
#include "os/file.h"
#include "os/sock.h"
#include "server/methods.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#define CLIENTS_MAX     100
#define MESSAGE_MAX     (10 << 20)
#define DISCARD_MAX     (64 << 20)
#define UNSENT_MAX      (16 << 20) /* a reader that does not read is let go */
#define LISTEN_BACKLOG  64
#define PUMP_ROWS       256
#define PUMP_UNSENT_MAX (256 << 10) /* of events; more follows when these were read */

struct client {
	uv_pipe_t pipe;
	struct server *server;
	struct client *next;
	struct buf in;
	int64_t next_seq; /* of the events it gets; 0: it has not subscribed */
	size_t discarded; /* of a message that was too long; 0: none */
	bool closing;
};

struct server {
	struct methods methods;
	uv_pipe_t listener;
	uv_pipe_t turned_away; /* one at a time: a client that there is no memory for */
	bool turning_away, turned_one;
	unsigned handles; /* the listener, and turned_away */
	struct client *clients;
	size_t n_clients;
	int dir;
	dev_t dev; /* of the socket we bound */
	ino_t ino;
	bool closing;
};

/* ---- clients ---- */

static void client_freed(uv_handle_t *handle)
{
	struct client *c = handle->data;
	buf_deinit(&c->in);
	free(c);
}

static void client_close(struct client *c)
{
	if (c->closing)
		return;
	c->closing = true;
	struct client **at = &c->server->clients;
	while (*at && *at != c)
		at = &(*at)->next;
	if (*at) {
		*at = c->next;
		c->server->n_clients--;
	}
	uv_close((uv_handle_t *)&c->pipe, client_freed);
}

static void client_pump(struct client *c);

struct sending {
	uv_write_t write;
	char *text;
};

static void sent(uv_write_t *write, int status)
{
	struct sending *s = (struct sending *)write;
	struct client *c = write->handle->data;
	free(s->text);
	free(s);
	if (status < 0)
		client_close(c);
	else
		client_pump(c);
}

/* Consumes the message. */
static void client_send(struct client *c, json_t *message)
{
	char *text = message ? json_text_dump(message, JSON_COMPACT) : NULL;
	json_decref(message);
	struct sending *s = calloc(1, sizeof(*s));
	size_t len = text ? strlen(text) : 0;
	char *line = text ? realloc(text, len + 2) : NULL;
	if (!line || !s || c->closing ||
		uv_stream_get_write_queue_size((uv_stream_t *)&c->pipe) > UNSENT_MAX) {
		free(line ? line : text);
		free(s);
		client_close(c);
		return;
	}
	line[len] = '\n';
	s->text = line;
	uv_buf_t buf = uv_buf_init(line, (unsigned)len + 1);
	if (uv_write(&s->write, (uv_stream_t *)&c->pipe, &buf, 1, sent) < 0) {
		free(line);
		free(s);
		client_close(c);
	}
}

/* ---- subscribers ---- */

static int push_event(void *ctx, const struct event_row *row, const char *plan, const char *task)
{
	struct client *c = ctx;
	json_t *data = NULL;
	char at[25];
	format_time_iso(row->at, at);
	if (json_text_parse(row->data, strlen(row->data), 0, &data, NULL) == -ENOMEM)
		return -ENOMEM; /* with the next commit */
	c->next_seq = row->seq + 1;
	client_send(
		c, json_pack("{s:s, s:s, s:{s:I, s:s, s:s, s:s, s:I, s:s, s:o}}", "jsonrpc", "2.0",
			   "method", "event", "params", "seq", (json_int_t)row->seq, "at", at,
			   "plan", plan, "task", task, "attempt", (json_int_t)row->attempt, "kind",
			   row->kind, "data", data ? data : json_object()));
	return c->closing ||
	       uv_stream_get_write_queue_size((uv_stream_t *)&c->pipe) > PUMP_UNSENT_MAX;
}

/* What is stored and the client has not got, while it reads; what is not committed may yet vanish.
 */
static void client_pump(struct client *c)
{
	struct store *store = run_store(c->server->methods.run);
	struct err err = ERR_INIT;
	if (c->closing || c->next_seq == 0 || c->server->closing || store_in_transaction(store) ||
		uv_stream_get_write_queue_size((uv_stream_t *)&c->pipe) > PUMP_UNSENT_MAX)
		return;
	int64_t before;
	do {
		before = c->next_seq;
		if (store_each_named_event(store, c->next_seq, PUMP_ROWS, push_event, c, &err) != 0)
			return; /* goes on when it has read, or with the next commit */
	} while (c->next_seq != before);
}

static void pump_all(void *ctx)
{
	struct server *s = ctx;
	struct client *next;
	for (struct client *c = s->clients; c; c = next) {
		next = c->next;
		client_pump(c);
	}
}

static void client_subscribe(struct client *c, const json_t *request)
{
	json_t *id = json_object_get(request, "id");
	struct err err = ERR_INIT;
	int64_t from = 0;
	if (methods_subscribe(
		    &c->server->methods, json_object_get(request, "params"), &from, &err) < 0) {
		client_send(c, methods_error(id, -32602, NULL, "%s", err.msg));
		return;
	}
	c->next_seq = from > 0 ? from : 1;
	client_send(
		c, json_pack("{s:s, s:O, s:{s:I}}", "jsonrpc", "2.0", "id", id ? id : json_null(),
			   "result", "from_seq", (json_int_t)c->next_seq));
	client_pump(c);
}

static void client_line(struct client *c, const char *line, size_t len)
{
	json_error_t why;
	json_t *request = NULL;
	if (json_text_parse(line, len, JSON_REJECT_DUPLICATES, &request, &why) == -ENOMEM) {
		client_close(c); /* it hears that it got no answer */
		return;
	}
	if (!json_is_object(request)) {
		client_send(
			c, request ? methods_error(NULL, -32600, NULL,
					     "expected one request, a JSON object")
				   : methods_error(NULL, -32700, NULL, "not JSON: %s", why.text));
		json_decref(request);
		return;
	}
	if (str_eq(json_string_value(json_object_get(request, "method")), "subscribe")) {
		client_subscribe(c, request);
		json_decref(request);
		return;
	}
	json_t *answer = methods_answer(&c->server->methods, request);
	/* None where one is owed, for want of memory: it hears that it is closed. */
	if (answer || json_object_get(request, "id"))
		client_send(c, answer);
	json_decref(request);
}

static void client_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	(void)handle;
	char *memory = malloc(suggested);
	*buf = uv_buf_init(memory, memory ? (unsigned)suggested : 0);
}

static void client_discard(struct client *c, const char *data, size_t len)
{
	c->discarded += len;
	if (memchr(data, '\n', len) || c->discarded > DISCARD_MAX)
		client_close(c);
}

static void client_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
	struct client *c = stream->data;
	if (n > 0 && c->discarded) {
		client_discard(c, buf->base, (size_t)n);
		free(buf->base);
		return;
	}
	if (n > 0)
		buf_add(&c->in, buf->base, (size_t)n);
	free(buf->base);
	if (n < 0 || buf_check(&c->in) < 0) {
		client_close(c);
		return;
	}
	size_t from = 0;
	char *end;
	while (!c->closing && c->in.len > from &&
		(end = memchr(c->in.data + from, '\n', c->in.len - from)) != NULL) {
		size_t len = (size_t)(end - c->in.data) - from;
		client_line(c, c->in.data + from, len);
		from += len + 1;
	}
	buf_consume(&c->in, from);
	if (c->in.len > MESSAGE_MAX && !c->closing) {
		/* Closing with bytes unread would take the answer away: read on to the line's end.
		 */
		c->discarded = c->in.len;
		buf_deinit(&c->in);
		client_send(
			c, methods_error(NULL, -32600, "too_large", "a message is at most 10 MiB"));
	}
}

/* Why a client is not heard, as an error code; NULL: it is. */
static const char *refuse_client(const struct server *s, struct client *c)
{
	struct sock_peer peer;
	int fd;
	if (s->n_clients >= CLIENTS_MAX)
		return "busy";
	if (uv_fileno((uv_handle_t *)&c->pipe, &fd) < 0 || sock_peer(fd, &peer) < 0)
		return "forbidden";
	return peer.uid == getuid() || peer.uid == 0 ? NULL : "forbidden";
}

static void server_release(struct server *s)
{
	if (--s->handles > 0)
		return;
	close(s->dir);
	free(s);
}

static void turn_away(struct server *s);

static void turned_away_closed(uv_handle_t *handle)
{
	struct server *s = handle->data;
	bool was_one = s->turned_one;
	s->turning_away = false;
	if (was_one && !s->closing)
		turn_away(s); /* the next, if one came meanwhile */
	server_release(s);
}

/* libuv listens no further until the connection that it has is taken. */
static void turn_away(struct server *s)
{
	if (s->turning_away)
		return;
	uv_pipe_init(s->listener.loop, &s->turned_away, 0);
	s->turned_away.data = s;
	s->turning_away = true;
	s->handles++;
	s->turned_one = uv_accept((uv_stream_t *)&s->listener, (uv_stream_t *)&s->turned_away) == 0;
	uv_close((uv_handle_t *)&s->turned_away, turned_away_closed);
}

static void on_connection(uv_stream_t *stream, int status)
{
	struct server *s = stream->data;
	if (status < 0)
		return;
	struct client *c = calloc(1, sizeof(*c));
	if (!c) {
		turn_away(s);
		return;
	}
	c->server = s;
	uv_pipe_init(stream->loop, &c->pipe, 0);
	c->pipe.data = c;
	if (uv_accept(stream, (uv_stream_t *)&c->pipe) < 0) {
		uv_close((uv_handle_t *)&c->pipe, client_freed);
		return;
	}
	const char *refused = refuse_client(s, c);
	c->next = s->clients;
	s->clients = c;
	s->n_clients++;
	if (refused) {
		client_send(c, methods_error(NULL, -32000, refused, "this client is not served"));
		client_close(c);
		return;
	}
	uv_read_start((uv_stream_t *)&c->pipe, client_alloc, client_read);
}

/* ---- the server ---- */

/* Always the same temporary name: what an engine left that was killed here, the next one renames.
 */
static int write_pid(const struct server *s, struct err *e)
{
	static const char temp[] = SERVER_PID ".tmp";
	char pid[32];
	int n = snprintf(pid, sizeof(pid), "%d\n", (int)getpid());
	int r = file_write_new(s->dir, temp, pid, (size_t)n, 0600, e);
	if (r == 0 && renameat(s->dir, temp, s->dir, SERVER_PID) < 0)
		r = err_errno(e, -errno, "cannot replace '%s'", SERVER_PID);
	return r;
}

static int server_files(struct server *s, struct err *e)
{
	int fd = -1;
	struct stat st;
	/* Whoever holds the lock may remove a socket that an engine left when it was killed. */
	unlinkat(s->dir, SERVER_SOCKET, 0);
	int r = sock_listen(s->dir, SERVER_SOCKET, LISTEN_BACKLOG, &fd, e);
	if (r < 0)
		return r;
	if (fstatat(s->dir, SERVER_SOCKET, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		s->dev = st.st_dev;
		s->ino = st.st_ino;
	}
	r = uv_pipe_open(&s->listener, fd);
	if (r == 0)
		r = uv_listen((uv_stream_t *)&s->listener, LISTEN_BACKLOG, on_connection);
	if (r < 0)
		return err_set(e, r, "cannot serve '%s': %s", SERVER_SOCKET, uv_strerror(r));
	return write_pid(s, e);
}

int server_start(struct run *run, const struct site *site, server_command_fn command, void *ctx,
	struct server **ret, struct err *e)
{
	struct server *s = calloc(1, sizeof(*s));
	if (!s)
		return err_nomem(e);
	s->methods = (struct methods){.run = run, .command = command, .ctx = ctx};
	s->dir = open(site->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = s->dir < 0 ? err_errno(e, -errno, "cannot open '%s'", site->state_dir) : 0;
	if (r < 0) {
		free(s);
		return r;
	}
	s->handles = 1;
	uv_pipe_init(run_loop(run), &s->listener, 0);
	s->listener.data = s;
	r = server_files(s, e);
	if (r < 0) {
		server_stop(s);
		return r;
	}
	run_observe(run, pump_all, s);
	*ret = s;
	return 0;
}

static void listener_closed(uv_handle_t *handle)
{
	server_release(handle->data);
}

/* Ours only: a new engine may have bound its own by now. */
static void remove_files(struct server *s)
{
	struct stat st;
	CLEANUP_BUF struct buf pid = BUF_INIT;
	if (fstatat(s->dir, SERVER_SOCKET, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == s->dev &&
		st.st_ino == s->ino)
		unlinkat(s->dir, SERVER_SOCKET, 0);
	int64_t owner = 0;
	if (file_read(s->dir, SERVER_PID, 32, &pid, NULL) == 0) {
		pid.data[strcspn(pid.data, "\n")] = '\0';
		if (parse_int64(pid.data, 1, INT32_MAX, &owner) == 0 && owner == getpid())
			unlinkat(s->dir, SERVER_PID, 0);
	}
}

void server_stop(struct server *s)
{
	if (!s || s->closing)
		return;
	run_observe(s->methods.run, NULL, NULL);
	s->closing = true;
	remove_files(s);
	while (s->clients)
		client_close(s->clients);
	uv_close((uv_handle_t *)&s->listener, listener_closed);
}
