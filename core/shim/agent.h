/* SPDX-License-Identifier: MIT */
/*
 * Agent units: the keeper's side of shim/proto.h. agent.c minds the host (calls, their deadlines,
 * its death, the result), procs.c carries out its process requests, usage.c adds up what the
 * events say.
 */
#ifndef SHIM_AGENT_H
#define SHIM_AGENT_H

#include "shim/capture.h"
#include "shim/keeper.h"
#include "shim/proto.h"

#include <stdbool.h>
#include <stdint.h>

#define PROC_PIPES 3 /* stdout, stderr, events: enum orch_stream less one */

struct agent_proc {
	uint32_t id;
	pid_t pid; /* 0: slot is free */
	bool lines;
	bool ended;       /* reaped; what was in its pipes is still on its way */
	bool close_input; /* once `input` is written */
	int wait_status;
	int out[PROC_PIPES];       /* read ends; -1: none */
	int64_t drain[PROC_PIPES]; /* bytes to read once ended */
	int in;                    /* write end of its stdin; -1: none */
	struct buf input;
	size_t unread; /* bytes the host has not taken yet */
};

/* Tokens by the id of what used them. */
struct usage_entry {
	char *id; /* NULL: without one */
	struct unit_usage usage;
};

struct agent {
	int sock; /* -1: closed */
	struct proto_reader reader;
	struct proto_writer writer;
	struct capture output;
	char *path;                     /* of the plugin */
	char *said_outcome, *said_text; /* the agent's own word (`orch done`); NULL: none */
	int64_t call_deadlines[PROTO_CALL_COUNT];
	bool in_call[PROTO_CALL_COUNT];
	bool ran;        /* a process of the harness's was started */
	int start_error; /* while none was: negative errno of the last try; 0: none */
	bool done, host_ended;
	int host_status;  /* as of waitpid(2) */
	bool idle_at_end; /* no process of the harness's lived when the unit was asked to end */
	int64_t done_deadline;
	struct agent_proc procs[PROTO_PROCESS_MAX];
	struct VEC(struct usage_entry) usage;
	bool usage_is_total;
};

/* Sends what waits to the host; a dead host is noticed by its end. */
void agent_flush(struct keeper *k);

void procs_init(struct agent *a);
void procs_poll(struct keeper *k);
bool procs_any_live(const struct agent *a);
/* Each handles one frame; -EPROTO with the reason when it makes no sense. */
int procs_start(struct keeper *k, const struct proto_frame *f, struct err *e) MUST_CHECK;
int procs_write(struct keeper *k, const struct proto_frame *f, struct err *e) MUST_CHECK;
int procs_close_stdin(struct keeper *k, const struct proto_frame *f, struct err *e) MUST_CHECK;
int procs_kill(struct keeper *k, const struct proto_frame *f, struct err *e) MUST_CHECK;
int procs_read(struct keeper *k, const struct proto_frame *f, struct err *e) MUST_CHECK;
/* True when the process was one of the host's. */
bool procs_reaped(struct keeper *k, pid_t pid, int wait_status);
/* After the sweep: what is left in the pipes goes to output.log. */
void procs_finish(struct keeper *k);

/* Takes what an event says about tokens, session and last words into exit.json. */
void usage_take(struct keeper *k, const char *kind, const json_t *data);

#endif
