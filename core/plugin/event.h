/* SPDX-License-Identifier: MIT */
/*
 * Events of agents: the kinds of plugin_api.h, the data that each must have, and the one form in
 * which they travel and are stored: {"kind": "...", "data": {...}}, valid UTF-8, of bounded size.
 * Runs no foreign code; the keeper uses it for what it gets from hosts and agents.
 */
#ifndef PLUGIN_EVENT_H
#define PLUGIN_EVENT_H

#include "base/err.h"
#include "plugin_api.h"

#include <jansson.h>

/* So many bytes an encoded event has at most; a journal line has room for the rest. */
#define EVENT_MAX_BYTES ((size_t)60 << 10)

/* "tool_call"; NULL for a number that is no kind. */
const char *event_kind_name(int kind);
/* 0 or -EINVAL. */
int event_kind_parse(const char *name, enum orch_event_kind *ret) MUST_CHECK;

/* Has `data` what the kind needs? -EINVAL with a sentence. Fills in cache_read and cache_write. */
int event_check(enum orch_event_kind kind, json_t *data, struct err *e) MUST_CHECK;

/*
 * The encoded event, owned, its length in *ret_len: at most EVENT_MAX_BYTES. What is too long in
 * data is cut there (data is changed) and "cut": true added. NULL when memory is out.
 */
char *event_encode(enum orch_event_kind kind, json_t *data, size_t *ret_len) MUST_CHECK;

/*
 * Data from text, of len bytes, that a plugin or an agent wrote: parsed and checked. Invalid UTF-8
 * is replaced. 0 and owned data; -EINVAL; -ENOMEM.
 */
int event_parse(enum orch_event_kind kind, const char *json, size_t len, json_t **ret,
	struct err *e) MUST_CHECK;
/* A whole event, {"kind", "data"}, from one line. */
int event_parse_line(const char *line, size_t len, enum orch_event_kind *ret_kind, json_t **ret,
	struct err *e) MUST_CHECK;

/* {"text": ...} from bytes; NUL and invalid UTF-8 become U+FFFD. Owned; NULL: memory is out. */
json_t *event_text_data(const char *text, size_t len) MUST_CHECK;

#endif
