/* SPDX-License-Identifier: MIT */
/* A client of orch.sock, for verbs: one call at a time, blocking. */
#ifndef SERVER_CLIENT_H
#define SERVER_CLIENT_H

#include "base/err.h"

#include <jansson.h>
#include <stdint.h>

/* Owned descriptor; -ENOENT, -ECONNREFUSED: no engine serves here (status 69). */
int client_connect(const char *state_dir, int *ret_fd, struct err *e) MUST_CHECK;
/*
 * Sends one call and waits for its answer, at most until the deadline (monotonic ms). params is
 * consumed. *ret_result is owned. An error answer is an error with the server's words, status 69.
 */
int client_call(int fd, const char *method, json_t *params, int64_t deadline_ms,
	json_t **ret_result, struct err *e) MUST_CHECK;

#endif
