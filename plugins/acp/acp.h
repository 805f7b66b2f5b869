/* SPDX-License-Identifier: MIT */
/*
 * The harness `acp`: a client of the Agent Client Protocol, version 1 (JSON-RPC 2.0, a message a
 * line).
 *
 *   acp.c     options, how agents are started, the check
 *   rpc.c     messages out and in: whether one is a request, an answer or a notification
 *   course.c  one step after the other: initialize, authenticate when asked, a session, its mode,
 *             the prompt; and the verdict
 *   turn.c    what the agent does in a turn, and what it asks
 *   usage.c   what it used
 *
 * There is one request of ours at a time, so that an answer is that to `last_id`, or to none. The
 * agent numbers its own requests: the same id on both sides means nothing.
 */
#ifndef ACP_H
#define ACP_H

#include "../common/drive.h"

#define ACP_CALLS_MAX 32
/* Messages in a row, and no tool between them: OpenCode asks for ever when answers are cut off. */
#define ACP_MESSAGES_MAX 20

enum acp_step {
	ACP_INITIALIZE,
	ACP_AUTHENTICATE,
	ACP_SESSION,
	ACP_RESUME, /* session/resume or session/load */
	ACP_MODE,
	ACP_PROMPT,
	ACP_OVER,
	ACP_STEP_COUNT
};

/* A tool call that was announced; its input tends to come later. */
struct acp_call {
	char *id, *name;
	bool told;
};

/* Of the turn that is under way. */
struct acp_usage {
	uint32_t turn; /* counts from 1 */
	bool heard;
	int64_t input, output, cache_read, cache_write;
	int64_t context, context_max; /* the first size of the context that was told, the largest */
};

struct acp {
	enum acp_step step;  /* guarded by the lock */
	int64_t begun_at;    /* the step, monotonic ms */
	json_int_t last_id;  /* of our requests */
	json_t *initialized; /* what it answered; owned */
	char *session;       /* owned */
	bool authenticated;  /* tried once */
	bool no_resume;      /* it offers session/resume and does not have it */
	char *queued;        /* a person's words for the next turn; owned; guarded */
	struct acp_usage usage;
	double cost, cost_before; /* of the session; and when the turn began */
	char *message;            /* id of the last, where it has one; owned */
	unsigned int messages;    /* since the last tool call */
	bool refused;             /* we did not permit a tool */
	bool last_tool_failed;
	struct acp_call calls[ACP_CALLS_MAX];
	size_t next_call;
};

/* Of agents whose ways were measured; `plugin = acp` with `agent = NAME`. */
struct acp_preset {
	const char *name;
	const char *program;
	const char *args;
	const char *const *env;
	const char *const *natives;
	const char *allow_mode; /* session mode to set; NULL: as it is */
	const char *deny_mode;
};

/* The preset that the option `agent` names; NULL: none is set, or not known. */
const struct acp_preset *acp_preset(const struct orch_host *host);
int acp_command(const struct orch_host *host, struct words *argv);
bool acp_denies(const struct orch_host *host);

/* ---- messages (rpc.c); params and result are consumed ---- */

json_t *acp_initialize(void); /* the first request, with id 0 */
/* Says it and begins the step. One that cannot be said ends the attempt. */
void acp_request(struct orch_agent *a, enum acp_step step, const char *method, json_t *params);
int acp_notify(struct orch_agent *a, const char *method, json_t *params);
void acp_respond(struct orch_agent *a, const json_t *id, json_t *result);
void acp_refuse(struct orch_agent *a, const json_t *id, int code, const char *message);
int64_t acp_now_ms(void);

/* Of a dialect. */
void acp_event(struct orch_agent *a, json_t *message);
bool acp_cut(struct orch_agent *a, const json_t *message);

/* ---- the course (course.c) ---- */

/* The answer to our last request. */
void acp_result(struct orch_agent *a, const json_t *result);
void acp_error(struct orch_agent *a, const json_t *error);
/* It failed at the step; the agent is to end. */
void acp_fail(struct orch_agent *a, const char *why);

/* Of a dialect. */
void acp_look(struct orch_agent *a);
int acp_ask(struct orch_agent *a);
int acp_send(struct orch_agent *a, const char *text);
void acp_forget(void *own);

/* ---- what it does in a turn (turn.c) ---- */

void acp_update(struct orch_agent *a, const json_t *params);
void acp_permission(struct orch_agent *a, const json_t *id, const json_t *params);

/* ---- usage (usage.c) ---- */

void acp_usage_begins(struct acp *acp);
/* From updates: the size of the context and the cost so far; the tokens of a step. */
void acp_usage_context(struct orch_agent *a, const json_t *update);
void acp_usage_step(struct orch_agent *a, const json_t *usage);
/* From the answer to the prompt; replaces what was told meanwhile. */
void acp_usage_ends(struct orch_agent *a, const json_t *result);

#endif
