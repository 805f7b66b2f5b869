/* SPDX-License-Identifier: MIT */
/* What can be asked through orch.sock: from a request object to an answer object. */
#ifndef SERVER_METHODS_H
#define SERVER_METHODS_H

#include "server/server.h"

struct methods {
	struct run *run;
	server_command_fn command;
	void *ctx;
	bool stopping;
};

/* Where a subscriber begins: the seq of the first event that it wants. -EINVAL: what from_seq is,
 * is no such number. */
int methods_subscribe(
	struct methods *m, const json_t *params, int64_t *ret_from, struct err *e) MUST_CHECK;

/* Owned; NULL for a notification (a request without id), or when memory is out. */
json_t *methods_answer(struct methods *m, json_t *request);
/* An error object; code (may be NULL) goes into error.data.code. id is borrowed, NULL is null. */
json_t *methods_error(json_t *id, int number, const char *code, const char *fmt, ...)
	PRINTF_LIKE(4, 5);

#endif
