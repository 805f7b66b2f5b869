/* SPDX-License-Identifier: MIT */
#include "cli/log_text.h"

#include "base/clock.h"
#include "base/json_text.h"
#include "base/str.h"

#include <errno.h>
#include <string.h>

#define TEXT_MAX 4000 /* bytes of one event's text; `--json` has all of it */

struct entry {
	int64_t at;
	int64_t attempt;
	size_t order; /* entries of one millisecond keep it */
	char *text;
};

struct reader {
	struct log_cursor *cursor;
	int64_t only;
	int64_t seen;
	struct VEC(struct entry) entries;
	struct buf text;
};

/* Takes what is in r->text as one entry. */
static int add(struct reader *r, int64_t at, int64_t attempt)
{
	bool wanted = r->only == 0 || r->only == attempt;
	struct entry *entry = wanted ? VEC_PUSH(&r->entries) : NULL;
	if (entry)
		*entry = (struct entry){
			.at = at,
			.attempt = attempt,
			.order = r->entries.count,
			.text = str_dup(buf_cstr(&r->text)),
		};
	int code = buf_check(&r->text);
	buf_reset(&r->text);
	return !wanted || (code == 0 && entry && entry->text) ? 0 : -ENOMEM;
}

/* ---- what an agent sent ---- */

static void put_json(struct buf *out, const json_t *value)
{
	CLEANUP(freep) char *text = json_text_dump(value, JSON_COMPACT | JSON_ENCODE_ANY);
	if (value && !text)
		out->failed = true;
	else if (value)
		buf_adds(out, text);
}

static void put_key(struct buf *out, const char *before, const json_t *data, const char *key)
{
	const json_t *value = json_object_get(data, key);
	if (!value || json_is_null(value))
		return;
	buf_adds(out, before);
	if (json_is_string(value))
		buf_adds(out, json_string_value(value));
	else
		put_json(out, value);
}

static void put_usage(struct buf *out, const json_t *data)
{
	buf_adds(out, "tokens:");
	put_key(out, " input ", data, "input");
	put_key(out, ", output ", data, "output");
	put_key(out, ", cache read ", data, "cache_read");
	put_key(out, ", cache write ", data, "cache_write");
	put_key(out, ", cost ", data, "cost");
}

static void put_event(struct buf *out, const char *kind, const json_t *data)
{
	if (str_eq(kind, "message")) {
		put_key(out, "says: ", data, "text");
	} else if (str_eq(kind, "progress")) {
		put_key(out, "progress: ", data, "text");
	} else if (str_eq(kind, "tool_call")) {
		put_key(out, "tool ", data, "name");
		put_key(out, ": ", data, "input");
	} else if (str_eq(kind, "tool_result")) {
		buf_addf(out, "tool result, %s",
			json_is_true(json_object_get(data, "ok")) ? "ok" : "failed");
		put_key(out, ": ", data, "output");
	} else if (str_eq(kind, "usage")) {
		put_usage(out, data);
	} else if (str_eq(kind, "finding")) {
		put_key(out, "finding, ", data, "severity");
		put_key(out, ": ", data, "title");
		put_key(out, "\n", data, "body");
	} else if (str_eq(kind, "error")) {
		put_key(out, "error ", data, "code");
		put_key(out, json_object_get(data, "code") ? ": " : "error: ", data, "text");
	} else {
		buf_addf(out, "%s ", kind);
		put_json(out, data);
	}
}

static int add_event(void *ctx, const struct event_row *row)
{
	struct reader *r = ctx;
	json_t *data = NULL;
	if (json_text_parse(row->data, strlen(row->data), 0, &data, NULL) == -ENOMEM)
		return -ENOMEM;
	if (data)
		put_event(&r->text, row->kind, data);
	else
		buf_addf(&r->text, "%s %s", row->kind, row->data);
	json_decref(data);
	if (r->text.len > TEXT_MAX) {
		buf_truncate(&r->text, utf8_cut(r->text.data, r->text.len, TEXT_MAX));
		buf_adds(&r->text, " ...");
	}
	r->cursor->event = row->seq;
	return add(r, row->at, row->attempt);
}

/* ---- what orch did ---- */

static int add_transition(void *ctx, int64_t at, int64_t attempt, const char *from, const char *to,
	const char *reason)
{
	struct reader *r = ctx;
	if (++r->seen <= r->cursor->transition)
		return 0;
	buf_addf(&r->text, "%s -> %s%s%s", from, to, reason ? ": " : "", reason ? reason : "");
	return add(r, at, attempt);
}

static int add_gate(void *ctx, const struct gate_result_row *row)
{
	struct reader *r = ctx;
	if (row->id <= r->cursor->gate)
		return 0;
	CLEANUP_STR char *took = format_duration(row->duration_ms);
	buf_addf(&r->text, "invariant %s%s: %s", row->invariant,
		str_eq(row->stage, "merge") ? " on the merged tree" : "",
		row->passed ? "passed" : "failed");
	if (row->timed_out)
		buf_adds(&r->text, ", timed out");
	else if (row->signal > 0)
		buf_addf(&r->text, ", signal %lld", (long long)row->signal);
	else if (!row->passed && row->exit_code >= 0)
		buf_addf(&r->text, ", exit %lld", (long long)row->exit_code);
	buf_addf(&r->text, row->cached ? " (cached)" : " (%s)", took ? took : "?");
	r->seen = row->id;
	return add(r, row->at, row->attempt);
}

static void put_proof(struct buf *out, const struct attempt_row *row)
{
	if (!row->containment)
		return;
	buf_addf(out, "; containment %s, %lld left, %lld killed, %lld ms%s", row->containment,
		(long long)row->left, (long long)row->killed, (long long)row->sweep_ms,
		row->contained ? "" : ", contained: no");
}

static int add_attempt(void *ctx, const struct attempt_row *row)
{
	struct reader *r = ctx;
	r->cursor->number = row->number;
	if (row->number <= r->cursor->attempt || row->ended_at == 0 || row->outcome == OUTCOME_NONE)
		return 0;
	buf_addf(&r->text, "attempt %lld (%s) ended: %s", (long long)row->number, row->harness,
		outcome_name(row->outcome));
	if (row->signal > 0)
		buf_addf(&r->text, ", signal %lld", (long long)row->signal);
	else if (row->exit_code >= 0)
		buf_addf(&r->text, ", exit %lld", (long long)row->exit_code);
	put_proof(&r->text, row);
	if (row->commit_oid)
		buf_addf(&r->text, "; commit %.12s", row->commit_oid);
	r->cursor->attempt = row->number;
	return add(r, row->ended_at, row->number);
}

/* ---- all of it ---- */

static int by_time(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;
	if (x->at != y->at)
		return x->at < y->at ? -1 : 1;
	return x->order < y->order ? -1 : 1;
}

static void put_entry(struct buf *out, const struct entry *entry)
{
	char at[25];
	format_time_iso(entry->at, at);
	CLEANUP_STR char *safe = str_printable(entry->text, strlen(entry->text), true);
	if (!safe) {
		out->failed = true;
		return;
	}
	buf_addf(out, "%s #%lld ", at, (long long)entry->attempt);
	for (const char *line = safe;; line++) {
		size_t len = strcspn(line, "\n");
		buf_add(out, line, len);
		buf_addc(out, '\n');
		line += len;
		if (!line[0] || !line[1])
			break;
		buf_adds(out, "    ");
	}
}

static int read_all(
	struct store *s, int64_t task_id, int64_t plan_id, struct reader *r, struct err *e)
{
	int64_t first = r->cursor->attempt;
	int code = store_each_transition(s, task_id, add_transition, r, e);
	r->cursor->transition = r->seen > r->cursor->transition ? r->seen : r->cursor->transition;
	if (code == 0)
		code = store_each_event(s, plan_id, task_id, r->cursor->event, add_event, r, e);
	if (code == 0)
		code = store_each_attempt(s, task_id, add_attempt, r, e);
	/* A gate comes after its attempt has ended, and a merge's perhaps much later. */
	r->seen = r->cursor->gate;
	for (int64_t n = first > 0 ? first : 1; code == 0 && n <= r->cursor->number; n++)
		code = store_each_gate_result(s, task_id, n, add_gate, r, e);
	r->cursor->gate = r->seen;
	return code;
}

int log_text(struct store *s, const struct cli_task *task, int64_t only_attempt,
	struct log_cursor *cursor, struct buf *out, struct err *e)
{
	struct reader r = {.cursor = cursor, .only = only_attempt};
	int code = read_all(s, task->task_id, task->plan_id, &r, e);
	if (code == 0 && r.entries.count > 0)
		qsort(r.entries.items, r.entries.count, sizeof(*r.entries.items), by_time);
	vec_foreach(entry, &r.entries) {
		if (code == 0)
			put_entry(out, entry);
		free(entry->text);
	}
	VEC_FREE(&r.entries);
	buf_deinit(&r.text);
	if (code == 0)
		code = buf_check(out);
	return code < 0 && e->code == 0 ? err_nomem(e) : code;
}
