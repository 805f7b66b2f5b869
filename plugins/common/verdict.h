/* SPDX-License-Identifier: MIT */
/*
 * From what an agent says of an error to an outcome. Only for the agent's own error reports, never
 * for words of a model.
 */
#ifndef COMMON_VERDICT_H
#define COMMON_VERDICT_H

#include <plugin_api.h>

#include <stdint.h>

/*
 * 401, 403: AUTH_FAILED. 429, and a server that is too busy (503, 529): RATE_LIMITED, for waiting
 * is all that helps. Others: AGENT_ERROR.
 */
int verdict_of_status(long http_status);

/*
 * For a report that is text only: looks for an HTTP status ("status 401", "API Error: 401",
 * "\"code\":401", "(429)"), then for the words with which CLIs say that they are not logged in or
 * that a limit is reached. AGENT_ERROR when it tells nothing.
 */
int verdict_of_text(const char *text);

/* The HTTP status of an error that a text reports; 0: none. */
long verdict_status_in(const char *text);

/*
 * When a limit ends, in milliseconds since the epoch, if the text says so: "try again in 3 days 4
 * hours", "retry in 34.5s", "\"retryDelay\":\"34s\"", "limit reached|1790000000". 0: it does not.
 */
int64_t verdict_reset_in(const char *text, int64_t now_ms);

/* A Retry-After header: seconds, or an HTTP date. 0: neither. */
int64_t verdict_retry_after(const char *value, int64_t now_ms);

#endif
