/* SPDX-License-Identifier: MIT */
#include "shim/host_impl.h"

#include "base/clock.h"
#include "base/json_text.h"
#include "base/str.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

#define INPUT_MAX ((size_t)16 << 20)
/* The number of the event pipe in a process that asks for one. */
#define EVENT_FD 3

static struct host *host_of(const struct orch_host *api)
{
	return (struct host *)(uintptr_t)api;
}

static void chunks_free(struct orch_process *p)
{
	while (p->first) {
		struct chunk *c = p->first;
		p->first = c->next;
		free(c);
	}
	p->last = &p->first;
}

static void process_deinit(struct orch_process *p)
{
	chunks_free(p);
	for (size_t i = 0; i < HOST_STREAMS; i++)
		lines_deinit(&p->lines[i]);
	buf_deinit(&p->input);
	free(p);
}

/* Takes it out of the table and frees it. The lock is held. */
static void process_drop(struct host *h, struct orch_process *p)
{
	for (size_t i = 0; i < PROTO_PROCESS_MAX; i++)
		if (h->processes[i] == p)
			h->processes[i] = NULL;
	process_deinit(p);
}

/* NULL when all places are taken or memory is out (*ret_error says which). The lock is held. */
static struct orch_process *process_add(struct host *h, int *ret_error)
{
	for (size_t i = 0; i < PROTO_PROCESS_MAX; i++) {
		if (h->processes[i])
			continue;
		struct orch_process *p = calloc(1, sizeof(*p));
		if (!p) {
			*ret_error = -ENOMEM;
			return NULL;
		}
		p->id = ++h->last_id;
		p->last = &p->first;
		h->processes[i] = p;
		return p;
	}
	*ret_error = -EMFILE;
	return NULL;
}

static struct orch_process *process_get(struct host *h, uint32_t id)
{
	for (size_t i = 0; i < PROTO_PROCESS_MAX; i++)
		if (h->processes[i] && h->processes[i]->id == id)
			return h->processes[i];
	return NULL;
}

/* Gives the keeper back what was consumed, in large steps. The lock is held. */
static void report_read(struct host *h, struct orch_process *p, size_t bytes)
{
	p->unreported += bytes;
	if (p->unreported < PROTO_OUTPUT_WINDOW / 4 || p->state == PROCESS_EXITED)
		return;
	uint32_t count = (uint32_t)p->unreported;
	p->unreported = 0;
	host_send(h, PROTO_PROC_READ, 0, p->id, &count, sizeof(count));
}

/* Sends as much input as the window allows, and the close behind it. The lock is held. */
static void pump_input(struct host *h, struct orch_process *p)
{
	while (p->state == PROCESS_RUNNING && p->input_sent < p->input.len &&
		p->input_window < PROTO_INPUT_WINDOW) {
		size_t n = p->input.len - p->input_sent;
		if (n > PROTO_INPUT_WINDOW - p->input_window)
			n = PROTO_INPUT_WINDOW - p->input_window;
		host_send(h, PROTO_PROC_WRITE, 0, p->id, p->input.data + p->input_sent, n);
		p->input_sent += n;
		p->input_window += n;
	}
	if (p->input_sent < p->input.len)
		return;
	buf_deinit(&p->input);
	p->input_sent = 0;
	if (p->stdin_closing && p->state == PROCESS_RUNNING) {
		p->stdin_closing = false;
		host_send(h, PROTO_PROC_CLOSE_STDIN, 0, p->id, NULL, 0);
	}
}

/* ---- What the keeper says ----------------------------------------------------------------------
 */

static int frame_count(const struct proto_frame *f, size_t *ret)
{
	uint32_t count;
	if (f->len != sizeof(count))
		return -EPROTO;
	memcpy(&count, f->data, sizeof(count));
	*ret = count;
	return 0;
}

static int on_started(struct orch_process *p, const struct proto_frame *f)
{
	json_t *json = NULL;
	int r = proto_frame_json(f, &json, NULL);
	if (r < 0)
		return r;
	json_int_t error = json_integer_value(json_object_get(json, "errno"));
	p->state = error ? PROCESS_FAILED : PROCESS_RUNNING;
	p->error = (int)error;
	json_decref(json);
	return 0;
}

static int on_output(struct host *h, struct orch_process *p, const struct proto_frame *f)
{
	if (f->flags < ORCH_STREAM_STDOUT || f->flags > HOST_STREAMS || f->len == 0)
		return -EPROTO;
	if (p->forgotten) {
		report_read(h, p, f->len);
		return 0;
	}
	if (p->queued + f->len > PROTO_OUTPUT_WINDOW)
		return -EPROTO;
	struct chunk *c = malloc(sizeof(*c) + f->len);
	if (!c)
		return -ENOMEM;
	*c = (struct chunk){.len = f->len, .stream = f->flags};
	memcpy(c->data, f->data, f->len);
	*p->last = c;
	p->last = &c->next;
	p->queued += c->len;
	return 0;
}

static int on_exited(struct host *h, struct orch_process *p, const struct proto_frame *f)
{
	json_t *json = NULL;
	int r = proto_frame_json(f, &json, NULL);
	if (r < 0)
		return r;
	p->wait_status = (int)json_integer_value(json_object_get(json, "status"));
	json_decref(json);
	p->state = PROCESS_EXITED;
	p->stdin_open = false;
	buf_deinit(&p->input);
	p->input_sent = 0;
	if (p->forgotten)
		process_drop(h, p);
	return 0;
}

int host_process_frame(struct host *h, const struct proto_frame *f)
{
	struct orch_process *p = process_get(h, f->id);
	/* Words about a process that the plugin has forgotten may still be under way. */
	if (!p)
		return 0;
	size_t count = 0;
	int r = 0;
	switch (f->type) {
	case PROTO_PROC_STARTED:
		r = p->state == PROCESS_STARTING ? on_started(p, f) : -EPROTO;
		break;
	case PROTO_PROC_OUTPUT:
		r = p->state == PROCESS_RUNNING ? on_output(h, p, f) : -EPROTO;
		break;
	case PROTO_PROC_EXITED:
		r = p->state == PROCESS_RUNNING ? on_exited(h, p, f) : -EPROTO;
		break;
	case PROTO_PROC_WRITTEN:
		r = frame_count(f, &count);
		if (r == 0 && count > p->input_window)
			r = -EPROTO;
		if (r == 0) {
			p->input_window -= count;
			pump_input(h, p);
		}
		break;
	default:
		return -EPROTO;
	}
	pthread_cond_broadcast(&h->changed);
	return r;
}

/* ---- What the plugin asks for ------------------------------------------------------------------
 */

static json_t *json_strings(const char *const *strings)
{
	json_t *array = json_array();
	for (size_t i = 0; array && strings && strings[i]; i++) {
		if (json_array_append_new(array, json_string(strings[i])) < 0) {
			json_decref(array);
			return NULL;
		}
	}
	return array;
}

static bool strings_are_utf8(const char *const *strings)
{
	for (size_t i = 0; strings && strings[i]; i++)
		if (!utf8_is_valid(strings[i], strlen(strings[i])))
			return false;
	return true;
}

static const char *stdin_kind(const struct orch_process_spec *spec)
{
	if (spec->flags & ORCH_PROCESS_STDIN_PROMPT)
		return "prompt";
	return spec->stdin_data || (spec->flags & ORCH_PROCESS_STDIN_OPEN) ? "pipe" : "null";
}

static json_t *start_request(const struct host *h, const struct orch_process_spec *spec)
{
	json_t *env = json_strings(spec->env);
	if ((spec->flags & ORCH_PROCESS_EVENT_FD) && env) {
		CLEANUP_STR char *entry = str_printf("ORCH_EVENT_FD=%d", EVENT_FD);
		if (!entry || json_array_append_new(env, json_string(entry)) < 0) {
			json_decref(env);
			return NULL;
		}
	}
	json_t *json = json_pack("{s:o,s:o,s:s,s:s,s:b}", "argv", json_strings(spec->argv), "env",
		env, "cwd", spec->cwd ? spec->cwd : h->cwd, "stdin", stdin_kind(spec), "lines",
		spec->on_line != NULL);
	if (json && (spec->flags & ORCH_PROCESS_EVENT_FD) &&
		json_object_set_new(json, "event_fd", json_integer(EVENT_FD)) < 0) {
		json_decref(json);
		return NULL;
	}
	return json;
}

/* The caller's struct may be an older and shorter one, or a newer and longer. */
static int spec_copy(const struct orch_process_spec *from, struct orch_process_spec *ret)
{
	if (from->size < offsetof(struct orch_process_spec, user) + sizeof(from->user))
		return -EINVAL;
	memcpy(ret, from, sizeof(*ret) < from->size ? sizeof(*ret) : from->size);
	if (!ret->argv || !ret->argv[0])
		return -EINVAL;
	if ((ret->flags & ORCH_PROCESS_STDIN_PROMPT) &&
		(ret->stdin_data || (ret->flags & ORCH_PROCESS_STDIN_OPEN)))
		return -EINVAL;
	if (!strings_are_utf8(ret->argv) || !strings_are_utf8(ret->env) ||
		(ret->cwd && !utf8_is_valid(ret->cwd, strlen(ret->cwd))))
		return -EILSEQ;
	return 0;
}

static int host_process_start(const struct orch_host *api, const struct orch_process_spec *from,
	struct orch_process **ret_process)
{
	struct host *h = host_of(api);
	struct orch_process_spec spec = ORCH_PROCESS_SPEC_INIT;
	int r = spec_copy(from, &spec);
	if (r < 0)
		return r;
	json_t *request = start_request(h, &spec);
	CLEANUP_STR char *text = request ? json_text_dump(request, JSON_COMPACT) : NULL;
	json_decref(request);
	if (!text)
		return -ENOMEM;
	if (strlen(text) > PROTO_PAYLOAD_MAX)
		return -E2BIG;

	pthread_mutex_lock(&h->lock);
	struct orch_process *p = process_add(h, &r);
	if (p) {
		p->on_line = spec.on_line;
		p->user = spec.user;
		buf_add(&p->input, spec.stdin_data, spec.stdin_data ? spec.stdin_len : 0);
		r = buf_check(&p->input);
	}
	if (r < 0) {
		if (p)
			process_drop(h, p);
		pthread_mutex_unlock(&h->lock);
		return r;
	}
	host_send(h, PROTO_PROC_START, 0, p->id, text, strlen(text));
	while (p->state == PROCESS_STARTING)
		pthread_cond_wait(&h->changed, &h->lock);
	if (p->state == PROCESS_FAILED) {
		r = -p->error;
		process_drop(h, p);
		pthread_mutex_unlock(&h->lock);
		return r;
	}
	p->stdin_open = (spec.flags & ORCH_PROCESS_STDIN_OPEN) && p->state == PROCESS_RUNNING;
	p->stdin_closing = spec.stdin_data && !p->stdin_open;
	pump_input(h, p);
	*ret_process = p;
	pthread_mutex_unlock(&h->lock);
	return 0;
}

static int host_process_write(
	const struct orch_host *api, struct orch_process *p, const void *data, size_t len)
{
	struct host *h = host_of(api);
	int r = 0;
	pthread_mutex_lock(&h->lock);
	if (!p->stdin_open) {
		r = -EPIPE;
	} else if (len > INPUT_MAX - (p->input.len - p->input_sent)) {
		r = -EAGAIN;
	} else {
		if (p->input_sent > 0) {
			buf_consume(&p->input, p->input_sent);
			p->input_sent = 0;
		}
		r = buf_reserve(&p->input, len);
		if (r == 0) {
			buf_add(&p->input, data, len);
			pump_input(h, p);
		}
		p->input.failed = false;
	}
	pthread_mutex_unlock(&h->lock);
	return r;
}

static int host_process_close_stdin(const struct orch_host *api, struct orch_process *p)
{
	struct host *h = host_of(api);
	int r = 0;
	pthread_mutex_lock(&h->lock);
	if (!p->stdin_open) {
		r = -EPIPE;
	} else {
		p->stdin_open = false;
		p->stdin_closing = true;
		pump_input(h, p);
	}
	pthread_mutex_unlock(&h->lock);
	return r;
}

static int host_process_kill(
	const struct orch_host *api, struct orch_process *p, int term_signal, unsigned kill_flags)
{
	struct host *h = host_of(api);
	int r = 0;
	pthread_mutex_lock(&h->lock);
	if (p->state == PROCESS_EXITED)
		r = -ESRCH;
	else if (term_signal <= 0 || term_signal > 64)
		r = -EINVAL;
	else
		host_send_json(h, PROTO_PROC_KILL, p->id,
			json_pack("{s:i,s:b}", "signal", term_signal, "group",
				(kill_flags & ORCH_KILL_GROUP) != 0));
	pthread_mutex_unlock(&h->lock);
	return r;
}

/* Waits for news until the deadline. The lock is held. */
static void await_change(struct host *h, int64_t deadline_ms)
{
	if (deadline_ms == DEADLINE_NONE) {
		pthread_cond_wait(&h->changed, &h->lock);
		return;
	}
	struct timespec at = {
		.tv_sec = deadline_ms / 1000, .tv_nsec = (deadline_ms % 1000) * 1000000};
	(void)pthread_cond_timedwait(
		&h->changed, &h->lock, &at); /* the caller looks at the clock */
}

/* Hands one chunk to the plugin; the lock is held, but not meanwhile. */
static void deliver_chunk(struct host *h, struct orch_process *p)
{
	struct chunk *c = p->first;
	p->first = c->next;
	if (!p->first)
		p->last = &p->first;
	p->queued -= c->len;
	pthread_mutex_unlock(&h->lock);
	size_t len = c->len;
	if (p->on_line)
		/* A line that was lost is marked as cut; there is no more to say about it. */
		(void)!lines_feed(
			&p->lines[c->stream - 1], c->data, len, c->stream, p->on_line, p->user);
	free(c);
	pthread_mutex_lock(&h->lock);
	report_read(h, p, len);
}

static void deliver_ends(struct host *h, struct orch_process *p)
{
	pthread_mutex_unlock(&h->lock);
	for (int i = 0; p->on_line && i < HOST_STREAMS; i++)
		lines_end(&p->lines[i], i + 1, p->on_line, p->user);
	pthread_mutex_lock(&h->lock);
}

static void exit_fill(const struct orch_process *p, struct orch_exit *ret)
{
	struct orch_exit ended = ORCH_EXIT_INIT;
	ended.size = ret->size;
	if (WIFEXITED(p->wait_status))
		ended.exit_code = WEXITSTATUS(p->wait_status);
	else if (WIFSIGNALED(p->wait_status))
		ended.term_signal = WTERMSIG(p->wait_status);
	memcpy(ret, &ended, ret->size < sizeof(ended) ? ret->size : sizeof(ended));
}

static int host_process_wait(const struct orch_host *api, struct orch_process *p,
	int64_t timeout_ms, struct orch_exit *ret_exit)
{
	struct host *h = host_of(api);
	int64_t deadline_ms = timeout_ms < 0 ? DEADLINE_NONE : deadline_after(timeout_ms);
	pthread_mutex_lock(&h->lock);
	int r = p->waiting ? -EBUSY : 0;
	if (r == 0) {
		p->waiting = true;
		while (r == 0) {
			bool late = timeout_ms >= 0 && clock_mono_ms() >= deadline_ms;
			if (p->first)
				deliver_chunk(h, p);
			else if (p->state == PROCESS_EXITED)
				break;
			else if (!late)
				await_change(h, deadline_ms);
			if (late && (p->first || p->state != PROCESS_EXITED))
				r = -ETIMEDOUT;
		}
		if (r == 0)
			deliver_ends(h, p);
		p->waiting = false;
	}
	if (r == 0 && ret_exit)
		exit_fill(p, ret_exit);
	pthread_mutex_unlock(&h->lock);
	return r;
}

static void host_process_free(const struct orch_host *api, struct orch_process *p)
{
	struct host *h = host_of(api);
	if (!p)
		return;
	pthread_mutex_lock(&h->lock);
	if (p->state == PROCESS_EXITED && !p->waiting) {
		process_drop(h, p);
	} else if (!p->waiting) {
		p->forgotten = true;
		p->stdin_open = false;
		size_t queued = p->queued;
		chunks_free(p);
		p->queued = 0;
		report_read(h, p, queued);
	}
	pthread_mutex_unlock(&h->lock);
}

void host_process_init(struct host *h)
{
	struct orch_host *api = &h->service.api;
	api->process_start = host_process_start;
	api->process_write = host_process_write;
	api->process_close_stdin = host_process_close_stdin;
	api->process_kill = host_process_kill;
	api->process_wait = host_process_wait;
	api->process_free = host_process_free;
}
