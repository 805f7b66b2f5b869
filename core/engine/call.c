/* SPDX-License-Identifier: MIT */
#include "engine/call.h"

#include <stddef.h>
#include <string.h>

static const char *const names[CALL_COUNT] = {
#define X(suffix, name) [CALL_##suffix] = name,
	ENGINE_CALL_LIST(X)
#undef X
};

/* ---- what there is to write ---- */

#define FIELD(type, field) \
	{ \
		.name = #field, .offset = offsetof(struct type, field), \
		.size = sizeof(((struct type *)NULL)->field) \
	}

static const struct engine_field arguments[] = {
	FIELD(engine_call, task),
	FIELD(engine_call, dependency),
	FIELD(engine_call, plan),
	FIELD(engine_call, harness),
	FIELD(engine_call, max_agents),
	FIELD(engine_call, cap),
	FIELD(engine_call, admit),
	FIELD(engine_call, now),
	FIELD(engine_call, tokens),
	FIELD(engine_call, code),
	{0},
};

static const struct engine_field config_fields[] = {
	FIELD(engine_config, max_agents),
	FIELD(engine_config, drain_ms),
	FIELD(engine_config, backoff_ms),
	FIELD(engine_config, backoff_max_ms),
	FIELD(engine_config, max_wait_ms),
	FIELD(engine_config, breaker),
	FIELD(engine_config, seed),
	FIELD(engine_config, winding_down),
	FIELD(engine_config, fault),
	FIELD(engine_config, stopping),
	FIELD(engine_config, hold),
	{0},
};

static const struct engine_field breaker_fields[] = {
	FIELD(engine_breaker_init, open_until),
	FIELD(engine_breaker_init, level),
	{0},
};

static const struct engine_field harness_fields[] = {
	FIELD(engine_harness_init, breaker),
	FIELD(engine_harness_init, max_agents),
	FIELD(engine_harness_init, token_budget),
	{0},
};

static const struct engine_field plan_fields[] = {
	FIELD(engine_plan_init, id),
	FIELD(engine_plan_init, status),
	FIELD(engine_plan_init, admit),
	FIELD(engine_plan_init, select),
	FIELD(engine_plan_init, max_agents),
	FIELD(engine_plan_init, cap),
	FIELD(engine_plan_init, tokens),
	FIELD(engine_plan_init, token_budget),
	FIELD(engine_plan_init, stages),
	FIELD(engine_plan_init, auto_advance),
	FIELD(engine_plan_init, worktrees),
	FIELD(engine_plan_init, paused),
	{0},
};

static const struct engine_field task_fields[] = {
	FIELD(engine_task_init, id),
	FIELD(engine_task_init, plan),
	FIELD(engine_task_init, harness),
	FIELD(engine_task_init, mode),
	FIELD(engine_task_init, outcome),
	FIELD(engine_task_init, gate),
	FIELD(engine_task_init, priority),
	FIELD(engine_task_init, attempt),
	FIELD(engine_task_init, retry_max),
	FIELD(engine_task_init, retries_used),
	FIELD(engine_task_init, lost_row),
	FIELD(engine_task_init, conflict_row),
	FIELD(engine_task_init, unchanged_row),
	FIELD(engine_task_init, not_before),
	FIELD(engine_task_init, tokens),
	FIELD(engine_task_init, token_budget),
	FIELD(engine_task_init, attempt_open),
	FIELD(engine_task_init, has_checks),
	FIELD(engine_task_init, allow_empty),
	FIELD(engine_task_init, candidate),
	FIELD(engine_task_init, stage),
	FIELD(engine_task_init, paused),
	FIELD(engine_task_init, approved),
	FIELD(engine_task_init, carry),
	FIELD(engine_task_init, has_commit),
	{0},
};

static const struct engine_field change_fields[] = {
	FIELD(engine_task_change, gate),
	FIELD(engine_task_change, priority),
	FIELD(engine_task_change, retry_max),
	FIELD(engine_task_change, token_budget),
	FIELD(engine_task_change, has_checks),
	{0},
};

static const struct engine_field event_fields[] = {
	FIELD(engine_event, kind),
	FIELD(engine_event, now),
	FIELD(engine_event, task),
	FIELD(engine_event, plan),
	FIELD(engine_event, result),
	FIELD(engine_event, outcome),
	FIELD(engine_event, halt),
	{.name = "text", .offset = offsetof(struct engine_event, text)},
	FIELD(engine_event, until),
	FIELD(engine_event, tokens),
	FIELD(engine_event, carry),
	FIELD(engine_event, no_charge),
	{0},
};

const char *engine_call_name(enum engine_call_kind kind)
{
	return names[kind];
}

const struct engine_field *engine_call_arguments(void)
{
	return arguments;
}

const struct engine_field *engine_call_inputs(enum engine_call_kind kind)
{
	static const struct engine_field *const inputs[CALL_COUNT] = {
		[CALL_NEW] = config_fields,
		[CALL_BREAKER] = breaker_fields,
		[CALL_HARNESS] = harness_fields,
		[CALL_PLAN] = plan_fields,
		[CALL_TASK] = task_fields,
		[CALL_CHANGE_TASK] = change_fields,
		[CALL_STEP] = event_fields,
	};
	return inputs[kind];
}

/* ---- writing ---- */

static void add_integer(struct buf *out, int64_t value)
{
	char digits[24];
	char *first = digits + sizeof(digits);
	uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
	do {
		*--first = (char)('0' + left % 10);
		left /= 10;
	} while (left > 0);
	if (value < 0)
		*--first = '-';
	buf_add(out, first, (size_t)(digits + sizeof(digits) - first));
}

static void add_text(struct buf *out, const char *text)
{
	static const char hex[] = "0123456789abcdef";
	buf_addc(out, '"');
	for (const char *p = text; *p; p++) {
		unsigned char c = (unsigned char)*p;
		if (c >= ' ' && c < 0x7f && c != '"' && c != '\\') {
			buf_addc(out, *p);
			continue;
		}
		const char escape[] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
		buf_add(out, escape, sizeof(escape));
	}
	buf_addc(out, '"');
}

static int64_t field_value(const struct engine_field *f, const char *at)
{
	switch (f->size) {
	case sizeof(uint8_t):
		return *(const uint8_t *)at;
	case sizeof(uint16_t):
		return *(const uint16_t *)(const void *)at;
	case sizeof(int32_t):
		return *(const int32_t *)(const void *)at;
	default:
		return *(const int64_t *)(const void *)at;
	}
}

static void add_key(struct buf *out, const char *name)
{
	buf_adds(out, ",\"");
	buf_adds(out, name);
	buf_adds(out, "\":");
}

static void add_fields(struct buf *out, const struct engine_field *f, const void *base)
{
	for (; f && f->name; f++) {
		const char *at = (const char *)base + f->offset;
		const char *text = f->size ? NULL : *(const char *const *)(const void *)at;
		int64_t value = f->size ? field_value(f, at) : 0;
		if (!value && !text)
			continue;
		add_key(out, f->name);
		if (text)
			add_text(out, text);
		else
			add_integer(out, value);
	}
}

void engine_call_write_head(struct buf *out, const char *orch)
{
	buf_addf(out, "{\"v\":%d,\"orch\":\"%s\"}\n", ENGINE_CALL_VERSION, orch);
}

void engine_call_write(struct buf *out, const struct engine_call *call)
{
	buf_adds(out, "{\"call\":\"");
	buf_adds(out, names[call->kind]);
	buf_addc(out, '"');
	add_fields(out, arguments, call);
	if (call->input)
		add_fields(out, engine_call_inputs(call->kind), call->input);
	if (call->kind == CALL_ANSWER)
		buf_addf(out, ",\"actions\":%zu,\"digest\":\"%016llx\"",
			call->actions->list.count - call->first,
			(unsigned long long)engine_actions_digest(call->actions, call->first));
	buf_adds(out, "}\n");
}

/* ---- digests: http://www.isthe.com/chongo/tech/comp/fnv/ ---- */

static uint64_t digest_bytes(uint64_t h, const void *data, size_t len)
{
	for (const unsigned char *p = data; len > 0; p++, len--)
		h = (h ^ *p) * 1099511628211U;
	return h;
}

static uint64_t digest_number(uint64_t h, uint64_t value)
{
	for (int i = 0; i < 64; i += 8)
		h = (h ^ ((value >> i) & 0xff)) * 1099511628211U;
	return h;
}

static uint64_t digest_action(uint64_t h, const struct engine_action *a)
{
	const struct engine_task *t = &a->task_after;
	const uint64_t values[] = {a->kind, a->task, a->plan, a->from, a->to, a->outcome, a->code,
		a->verdict, a->plan_status, a->halted, a->halt, a->also, a->breaker, a->level,
		(uint64_t)a->open_until, a->hard, a->why, (uint64_t)a->kill_after_ms, a->carry,
		(uint64_t)t->id, t->attempt, t->attempt_open, t->retries_used, t->lost_row,
		t->conflict_row, t->unchanged_row, (uint64_t)t->not_before, t->paused, t->approved,
		t->carry, t->has_commit};
	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		h = digest_number(h, values[i]);
	return a->text ? digest_bytes(h, a->text, strlen(a->text) + 1) : h;
}

uint64_t engine_actions_digest(const struct engine_actions *a, size_t first)
{
	uint64_t h = 14695981039346656037U;
	for (size_t i = first; i < a->list.count; i++)
		h = digest_action(h, &a->list.items[i]);
	return h;
}
