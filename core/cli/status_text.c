/* SPDX-License-Identifier: MIT */
#include "cli/status_text.h"

#include "base/buf.h"
#include "base/str.h"
#include "plan/words.h"

#include <string.h>

#define NAME_WIDTH_MAX 40
#define REASON_MAX     200

static const char *text_of(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static long long number_of(const json_t *object, const char *key)
{
	return (long long)json_integer_value(json_object_get(object, key));
}

/* One line, escaped, cut. */
static void put_line(struct buf *out, const char *text)
{
	size_t len = strcspn(text, "\n");
	CLEANUP_STR char *safe = str_printable(text, utf8_cut(text, len, REASON_MAX), false);
	if (safe)
		buf_adds(out, safe);
	else
		out->failed = true;
	if (len > REASON_MAX || text[len])
		buf_adds(out, " ...");
}

static void put_names(struct buf *out, const char *what, const json_t *names)
{
	size_t n = json_array_size(names);
	for (size_t i = 0; i < n && i < 5; i++)
		buf_addf(out, "%s%s", i ? ", " : what, json_string_value(json_array_get(names, i)));
	if (n > 5)
		buf_addf(out, " and %zu more", n - 5);
}

static void put_task(struct buf *out, const json_t *task, int width)
{
	const char *reason = text_of(task, "reason");
	const char *sep = "  ";
	buf_addf(out, "  %-*s  %-15s", width, text_of(task, "name"), text_of(task, "status"));
	if (number_of(task, "attempt") > 0)
		buf_addf(out, "  attempt %lld", number_of(task, "attempt"));
	if (json_is_true(json_object_get(task, "paused"))) {
		buf_addf(out, "%spaused", sep);
		sep = "; ";
	}
	if (reason) {
		buf_adds(out, sep);
		put_line(out, reason);
		sep = "; ";
	}
	if (json_array_size(json_object_get(task, "waits_for")) > 0) {
		buf_adds(out, sep);
		put_names(out, "waits for ", json_object_get(task, "waits_for"));
	}
	while (out->len > 0 && out->data[out->len - 1] == ' ')
		buf_truncate(out, out->len - 1);
	buf_addc(out, '\n');
}

static void put_halt(struct buf *out, const json_t *halt)
{
	size_t i;
	json_t *also;
	buf_addf(out, " (%s", text_of(halt, "reason"));
	json_array_foreach(json_object_get(halt, "also"), i, also)
		buf_addf(out, ", %s", json_string_value(also));
	buf_addf(out, ", %s)", text_of(halt, "at"));
}

static void put_plan_line(struct buf *out, const json_t *plan)
{
	const json_t *tasks = json_object_get(plan, "tasks");
	const json_t *tokens = json_object_get(plan, "tokens");
	const json_t *halt = json_object_get(plan, "halt");
	size_t i, passed = 0;
	json_t *task;
	json_array_foreach(tasks, i, task)
		passed += str_eq(text_of(task, "status"), task_status_name(TASK_PASSED));
	buf_addf(out, "%s: %s", text_of(plan, "name"), text_of(plan, "status"));
	if (json_is_object(halt) && !str_eq(text_of(halt, "reason"), text_of(plan, "status")))
		put_halt(out, halt);
	if (json_is_true(json_object_get(plan, "paused")))
		buf_adds(out, ", paused");
	buf_addf(out, ", %zu of %zu passed", passed, json_array_size(tasks));
	if (text_of(plan, "branch"))
		buf_addf(out, ", branch %s", text_of(plan, "branch"));
	if (number_of(tokens, "input") || number_of(tokens, "output"))
		buf_addf(out, ", tokens: %lld in, %lld out", number_of(tokens, "input"),
			number_of(tokens, "output"));
	long long findings = number_of(json_object_get(plan, "findings"), "count");
	if (findings)
		buf_addf(out, ", %lld finding%s", findings, findings == 1 ? "" : "s");
	buf_addc(out, '\n');
}

static void put_plan(struct buf *out, const json_t *plan)
{
	const json_t *tasks = json_object_get(plan, "tasks");
	size_t i, width = 0;
	json_t *task;
	put_plan_line(out, plan);
	json_array_foreach(tasks, i, task) {
		size_t len = strlen(text_of(task, "name"));
		width = len > width ? len : width;
	}
	if (width > NAME_WIDTH_MAX)
		width = NAME_WIDTH_MAX;
	json_array_foreach(tasks, i, task)
		put_task(out, task, (int)width);
}

char *status_text(const json_t *status)
{
	CLEANUP_BUF struct buf out = BUF_INIT;
	const json_t *engine = json_object_get(status, "engine");
	const json_t *plans = json_object_get(status, "plans");
	size_t i;
	json_t *plan;
	if (json_is_true(json_object_get(engine, "running")))
		buf_addf(&out, "engine: running, pid %lld\n", number_of(engine, "pid"));
	if (json_array_size(plans) == 0)
		buf_adds(&out, "no plans\n");
	json_array_foreach(plans, i, plan) {
		if (i > 0)
			buf_addc(&out, '\n');
		put_plan(&out, plan);
	}
	return buf_steal(&out);
}
