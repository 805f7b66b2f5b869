/* SPDX-License-Identifier: MIT */
/*
 * orch.sock: JSON-RPC 2.0, one message a line, on a Unix stream socket that the running engine
 * serves on its own loop. Bounded: clients, bytes a message, bytes a slow reader makes us hold.
 * Only our own user and root are heard.
 *
 * Methods: ping; status; subscribe {from_seq?}, answered with {from_seq}: from then on every event
 * is a notification `event {seq, at, plan, task, kind, data}`, in order, as fast as the subscriber
 * reads (the database is the buffer, so none is dropped); operate {kind, plan_id?, task_id?, text?,
 * carry?}; command {argv}; daemon.stop {mode}; frozen {plan_id, task_id?}; plan.set {plan_id,
 * task?, settings}; plan.import {text, approve?, absent?}; plan.remove {plan_id, task}; plan.reset,
 * plan.approve, plan.delete, plan.idle, plan.clear {plan_id}; ref.moves {ref, from, to}. Errors
 * carry data.code: starting, draining, busy, too_large, forbidden.
 */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include "base/err.h"
#include "run/run.h"

#include <jansson.h>

#define SERVER_SOCKET "orch.sock"
#define SERVER_PID    "orch.pid"

struct server;

/*
 * What `command {argv}` does: argv is a writing verb with its arguments. Returns the answer
 * (owned), or NULL with e set.
 */
typedef json_t *(*server_command_fn)(void *ctx, struct run *run, char **argv, struct err *e);

/* Listens, and writes orch.pid. Serves while the run's loop runs. */
int server_start(struct run *run, const struct site *site, server_command_fn command, void *ctx,
	struct server **ret, struct err *e) MUST_CHECK;
/* Removes the files and closes every client; to be called before run_free. NULL allowed. */
void server_stop(struct server *s);
DEFINE_FREEP(server_stopp, struct server, server_stop)

#endif
