/* SPDX-License-Identifier: MIT */
/*
 * Inside the host: what host.c (the calls into the plugin), host_reader.c (the socket) and
 * host_process.c (process_* of the host table) share.
 *
 * Threads: main runs spawn, wait, release; the reader runs from LOADED to the end and calls no
 * plugin code, so it never blocks on it; the control thread runs kill and send and is started when
 * the first of them comes. `lock` guards everything below it; it is never held while plugin code
 * runs. `send_lock` keeps frames whole and is taken last.
 */
#ifndef SHIM_HOST_IMPL_H
#define SHIM_HOST_IMPL_H

#include "plugin/lines.h"
#include "plugin/plugin.h"
#include "plugin/service.h"
#include "shim/host.h"
#include "shim/proto.h"

#include <pthread.h>
#include <stdbool.h>

#define HOST_STREAMS ORCH_STREAM_EVENT

/* Output that waits for process_wait. */
struct chunk {
	struct chunk *next;
	size_t len;
	int stream;
	char data[];
};

enum process_state {
	PROCESS_STARTING,
	PROCESS_FAILED, /* error says why */
	PROCESS_RUNNING,
	PROCESS_EXITED,
};

struct orch_process {
	uint32_t id;
	enum process_state state;
	int error;       /* positive errno */
	int wait_status; /* as of waitpid(2) */
	bool waiting;    /* a thread is in process_wait */
	bool forgotten;  /* process_free was called; the reader frees it at its exit */
	orch_line_fn on_line;
	void *user;
	/* Output: received, not yet handed to on_line. */
	struct chunk *first, **last;
	size_t queued;     /* bytes in the chunks */
	size_t unreported; /* bytes consumed that PROC_READ has not given back */
	struct lines lines[HOST_STREAMS];
	/* Input. */
	bool stdin_open;     /* takes process_write */
	bool stdin_closing;  /* close it when everything is written */
	struct buf input;    /* not yet sent */
	size_t input_sent;   /* bytes of `input` that are sent */
	size_t input_window; /* bytes the keeper has not written yet */
};

/* A kill (text NULL) or send that waits for its thread. */
struct request {
	struct request *next;
	int term_signal;
	char *text;
};

enum host_phase {
	HOST_PHASE_LOADING, /* no agent yet: requests wait */
	HOST_PHASE_RUNNING,
	HOST_PHASE_ENDING, /* no request is begun any more */
};

struct host {
	struct service service; /* first: this is what plugins hold */
	int sock;
	pthread_mutex_t send_lock;
	struct proto_reader reader;
	struct plugin plugin;
	struct option_values options;
	const char *cwd;
	int start_error; /* negative errno: why the plugin was not called; 0: nothing */

	pthread_mutex_t lock;
	pthread_cond_t changed; /* on CLOCK_MONOTONIC: anything below */
	enum host_phase phase;
	struct orch_agent *agent;
	struct orch_process *processes[PROTO_PROCESS_MAX];
	uint32_t last_id;
	struct request *requests, **last_request;
	size_t n_requests;
	bool control_running; /* the control thread has been started */
	bool control_busy;    /* it is inside the plugin */
};

/* Sends a frame; a keeper that is gone ends the process. Any thread. */
void host_send(struct host *h, enum proto_type type, uint16_t flags, uint32_t id, const void *data,
	size_t len);
/* DONE, after which no thread sends anything: the caller ends the process. */
void host_send_last(struct host *h);
/* Consumes payload. NULL, memory is out, ends the process. */
void host_send_json(struct host *h, enum proto_type type, uint32_t id, json_t *payload);

void host_call_begin(struct host *h, enum proto_call call);
void host_call_end(struct host *h, enum proto_call call, int rc);

/* Starts a thread without signals. 0 or -errno. */
int host_thread(struct host *h, void *(*run)(void *), size_t stack_size) MUST_CHECK;
/* The reader thread: takes frames until the keeper goes away. */
void *host_reader_run(void *host);
/* Starts the control thread when something waits for it; the lock is held. */
void host_control_wake(struct host *h);

/* Fills in the process functions. */
void host_process_init(struct host *h);
/* What the keeper says about processes; 0 or -EPROTO. The lock is held. */
int host_process_frame(struct host *h, const struct proto_frame *f) MUST_CHECK;

#endif
