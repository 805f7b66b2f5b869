/* SPDX-License-Identifier: MIT */
/*
 * The harness `acp`: a client of the Agent Client Protocol, version 1 (JSON-RPC 2.0, a message a
 * line). One step follows the other: initialize, authenticate when asked, a session, its mode, the
 * prompt. Ids of our requests and of the agent's are separate.
 */
#ifndef ACP_H
#define ACP_H

#include "../common/drive.h"

#define ACP_CALLS_MAX 32

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

struct acp {
	enum acp_step step;  /* guarded by the lock */
	int64_t begun_at;    /* the step, monotonic ms */
	json_int_t last_id;  /* of our requests */
	json_t *initialized; /* what it answered; owned */
	char *session;       /* owned */
	bool authenticated;  /* tried once */
	char *queued;        /* a person's words for the next turn; owned; guarded */
	uint32_t turn;
	double cost, cost_told; /* of the session, and how much of it was reported */
	bool refused;           /* we did not permit a tool */
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

/* ---- messages; params and result are consumed ---- */

json_t *acp_initialize(void); /* the first request, with id 0 */
void acp_request(struct orch_agent *a, enum acp_step step, const char *method, json_t *params);
int acp_notify(struct orch_agent *a, const char *method, json_t *params);
void acp_respond(struct orch_agent *a, const json_t *id, json_t *result);
void acp_refuse(struct orch_agent *a, const json_t *id, int code, const char *message);
int64_t acp_now_ms(void);

/* ---- the course ---- */

void acp_event(struct orch_agent *a, json_t *message);
void acp_look(struct orch_agent *a);
int acp_ask(struct orch_agent *a);
int acp_send(struct orch_agent *a, const char *text);

/* ---- what it does in a turn ---- */

void acp_update(struct orch_agent *a, const json_t *update);
void acp_permission(struct orch_agent *a, const json_t *id, const json_t *params);
void acp_usage(struct orch_agent *a, const json_t *result);

/* Frees what a struct acp owns. */
void acp_forget(void *own);

#endif
