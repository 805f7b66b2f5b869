/* SPDX-License-Identifier: MIT */
#include "shim/host_impl.h"

#include "base/json_text.h"
#include "base/str.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>

/* More kills and texts than this are not kept waiting for a plugin. */
#define REQUESTS_MAX 64
/* Plugin code runs on it. Pages that are not touched cost nothing. */
#define CONTROL_STACK ((size_t)1 << 20)

void host_send(struct host *h, enum proto_type type, uint16_t flags, uint32_t id, const void *data,
	size_t len)
{
	pthread_mutex_lock(&h->send_lock);
	int r = proto_send(h->sock, type, flags, id, data, len);
	pthread_mutex_unlock(&h->send_lock);
	if (r < 0)
		_exit(HOST_EXIT_SOCKET);
}

void host_send_last(struct host *h)
{
	/* Never unlocked: a thread of the plugin's that goes on has nothing to say any more. */
	pthread_mutex_lock(&h->send_lock);
	if (proto_send(h->sock, PROTO_DONE, 0, 0, NULL, 0) < 0)
		_exit(HOST_EXIT_SOCKET);
}

void host_send_json(struct host *h, enum proto_type type, uint32_t id, json_t *payload)
{
	CLEANUP_STR char *text = payload ? json_text_dump(payload, JSON_COMPACT) : NULL;
	json_decref(payload);
	if (!text)
		_exit(HOST_EXIT_SOCKET);
	host_send(h, type, 0, id, text, strlen(text));
}

void host_call_begin(struct host *h, enum proto_call call)
{
	service_fail_clear();
	host_send(h, PROTO_CALL_BEGIN, 0, (uint32_t)call, NULL, 0);
}

void host_call_end(struct host *h, enum proto_call call, int rc)
{
	json_t *end = json_pack("{s:i}", "rc", rc);
	const char *why = service_fail_text();
	if (end && rc != 0 && why[0]) {
		json_t *clean = event_text_data(why, strlen(why));
		if (json_object_set(end, "text", json_object_get(clean, "text")) < 0)
			_exit(HOST_EXIT_SOCKET);
		json_decref(clean);
	}
	host_send_json(h, PROTO_CALL_END, (uint32_t)call, end);
}

int host_thread(struct host *h, void *(*run)(void *), size_t stack_size)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, before;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, stack_size);
	/* Signals are for the thread that runs the plugin. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int r = pthread_create(&thread, &attr, run, h);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

/* ---- kill and send -----------------------------------------------------------------------------
 */

/* Runs one request in the plugin; the lock is held, but not meanwhile. Frees it. */
static void control_perform(struct host *h, struct request *request)
{
	const struct orch_harness *harness = &h->plugin.harness;
	h->control_busy = true;
	pthread_mutex_unlock(&h->lock);
	if (!request->text) {
		host_call_begin(h, PROTO_CALL_KILL);
		host_call_end(h, PROTO_CALL_KILL, harness->kill(h->agent, request->term_signal));
	} else {
		host_call_begin(h, PROTO_CALL_SEND);
		int r = harness->send ? harness->send(h->agent, request->text) : -ENOTSUP;
		host_call_end(h, PROTO_CALL_SEND, r);
	}
	free(request->text);
	free(request);
	pthread_mutex_lock(&h->lock);
	h->control_busy = false;
	pthread_cond_broadcast(&h->changed);
}

static void *control_run(void *arg)
{
	struct host *h = arg;
	pthread_mutex_lock(&h->lock);
	while (h->phase != HOST_PHASE_ENDING) {
		struct request *request = h->requests;
		if (!request) {
			pthread_cond_wait(&h->changed, &h->lock);
			continue;
		}
		h->requests = request->next;
		if (!h->requests)
			h->last_request = &h->requests;
		h->n_requests--;
		control_perform(h, request);
	}
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

void host_control_wake(struct host *h)
{
	if (h->phase != HOST_PHASE_RUNNING || !h->requests)
		return;
	if (!h->control_running) {
		if (host_thread(h, control_run, CONTROL_STACK) < 0)
			_exit(HOST_EXIT_SOCKET);
		h->control_running = true;
	}
	pthread_cond_broadcast(&h->changed);
}

/* text is NULL for a kill. The lock is held. */
static int request_add(struct host *h, int term_signal, const char *text)
{
	if (h->n_requests >= REQUESTS_MAX || h->phase == HOST_PHASE_ENDING)
		return 0;
	struct request *request = calloc(1, sizeof(*request));
	if (!request)
		return -ENOMEM;
	request->term_signal = term_signal;
	if (text && !(request->text = str_dup(text))) {
		free(request);
		return -ENOMEM;
	}
	*h->last_request = request;
	h->last_request = &request->next;
	h->n_requests++;
	host_control_wake(h);
	return 0;
}

/* ---- The reader
 * ---------------------------------------------------------------------------------- */

static int take_frame(struct host *h, const struct proto_frame *f)
{
	switch (f->type) {
	case PROTO_KILL:
		return f->id > 0 && f->id <= 64 ? request_add(h, (int)f->id, NULL) : -EPROTO;
	case PROTO_SEND:
		return request_add(h, 0, f->data);
	default:
		return host_process_frame(h, f);
	}
}

void *host_reader_run(void *arg)
{
	struct host *h = arg;
	for (;;) {
		struct proto_frame f;
		int r;
		while ((r = proto_reader_next(&h->reader, &f, NULL)) == 1) {
			pthread_mutex_lock(&h->lock);
			r = take_frame(h, &f);
			pthread_mutex_unlock(&h->lock);
			if (r < 0)
				_exit(HOST_EXIT_SOCKET);
		}
		if (r == 0)
			r = proto_reader_feed(&h->reader, h->sock);
		/* 0: the keeper is gone, and with it whoever could use our result. */
		if (r == 0 || (r < 0 && r != -EINTR))
			_exit(HOST_EXIT_SOCKET);
	}
}
