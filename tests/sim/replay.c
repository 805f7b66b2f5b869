/* SPDX-License-Identifier: MIT */
#include "replay.h"

#include "base/buf.h"
#include "engine/call.h"
#include "promise.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

struct dependency {
	uint32_t on;
	uint32_t next; /* in the list of the same task, or ENGINE_NONE */
};

struct known_task {
	struct saved saved;
	uint32_t started; /* the attempt whose agent was started last, 0: none */
	uint32_t first_dependency;
};

struct known_plan {
	struct engine_plan_init init;
	bool interrupted;
	bool killed;
};

union input {
	struct engine_config config;
	struct engine_breaker_init breaker;
	struct engine_harness_init harness;
	struct engine_plan_init plan;
	struct engine_task_init task;
	struct engine_task_change change;
	struct engine_event event;
};

struct replay {
	const char *name;
	bool trace;
	uint64_t line;
	uint64_t asked; /* the line of the last call that the engine answers */
	uint64_t steps;
	struct engine *engine;
	struct engine_config config;
	struct engine_actions actions;
	struct buf told;   /* the call as our engine's tap was told of it */
	struct buf answer; /* and its answer; empty: there is none to compare */
	struct engine_call call;
	union input input;
	char *text;
	int64_t now;
	uint32_t n_breakers;
	uint32_t n_harnesses;
	struct VEC(struct known_plan) plans;
	struct VEC(struct known_task) tasks;
	struct VEC(struct dependency) dependencies;
	bool faulted;
	const char *ended;
};

struct replay *replay_new(const char *name, bool trace)
{
	struct replay *p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	p->name = name;
	p->trace = trace;
	return p;
}

void replay_free(struct replay *p)
{
	if (!p)
		return;
	engine_free(p->engine);
	engine_actions_deinit(&p->actions);
	buf_deinit(&p->told);
	buf_deinit(&p->answer);
	free(p->text);
	VEC_FREE(&p->plans);
	VEC_FREE(&p->tasks);
	VEC_FREE(&p->dependencies);
	free(p);
}

uint64_t replay_steps(const struct replay *p)
{
	return p->steps;
}

const char *replay_ended(const struct replay *p)
{
	return p->ended;
}

static enum replay_result say(const struct replay *p, enum replay_result result, uint64_t line,
	const char *fmt, ...) PRINTF_LIKE(4, 5);
static enum replay_result say(
	const struct replay *p, enum replay_result result, uint64_t line, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fprintf(stderr, "%s:%llu: ", p->name, (unsigned long long)line);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	return result;
}

/* ---- reading a call ---- */

/* A byte beyond ASCII was written as the character of that number: two bytes of UTF-8. */
static char *bytes_of(const char *utf8)
{
	char *bytes = strdup(utf8), *to = bytes;
	for (const char *from = utf8; bytes && *from; from++) {
		unsigned char c = (unsigned char)*from;
		if (c >= 0xc0 && from[1])
			c = (unsigned char)(c << 6 | (*++from & 0x3f));
		*to++ = (char)c;
	}
	if (bytes)
		*to = '\0';
	return bytes;
}

static void set_field(struct replay *p, const struct engine_field *f, char *at, const json_t *value)
{
	json_int_t n = json_integer_value(value);
	switch (f->size) {
	case 0:
		p->text = bytes_of(json_string_value(value));
		*(const char **)(void *)at = p->text;
		break;
	case sizeof(uint8_t):
		*(uint8_t *)at = (uint8_t)n;
		break;
	case sizeof(uint16_t):
		*(uint16_t *)(void *)at = (uint16_t)n;
		break;
	case sizeof(uint32_t):
		*(uint32_t *)(void *)at = (uint32_t)n;
		break;
	default:
		*(uint64_t *)(void *)at = (uint64_t)n;
		break;
	}
}

static bool read_fields(
	struct replay *p, const json_t *json, const struct engine_field *f, void *base)
{
	for (; f && f->name; f++) {
		const json_t *value = json_object_get(json, f->name);
		if (!value)
			continue;
		if (f->size ? !json_is_integer(value) : !json_is_string(value))
			return false;
		set_field(p, f, (char *)base + f->offset, value);
	}
	return true;
}

static bool read_call(struct replay *p, const json_t *json, enum engine_call_kind kind)
{
	const struct engine_field *inputs = engine_call_inputs(kind);
	free(p->text);
	p->text = NULL;
	memset(&p->input, 0, sizeof(p->input));
	p->call = (struct engine_call){.kind = kind};
	/* A name stands for one thing in each kind of call. */
	if (!read_fields(p, json, inputs, &p->input))
		return false;
	if (inputs && kind != CALL_CHANGE_TASK)
		return true;
	return read_fields(p, json, engine_call_arguments(), &p->call);
}

/* ---- whether the engine can take it: it trusts its caller ---- */

static bool event_fits(const struct replay *p, const struct engine_event *ev)
{
	bool of_task = ev->kind < EVENT_TASK_COUNT || ev->kind == EVENT_USAGE;
	return ev->kind <= EVENT_FAULT && ev->now >= p->now &&
	       (!of_task || ev->task < p->tasks.count) && ev->outcome < OUTCOME_COUNT &&
	       ev->halt < HALT_COUNT;
}

static bool task_fits(const struct replay *p, const struct engine_task_init *init)
{
	return init->plan < p->plans.count && init->harness < p->n_harnesses &&
	       init->mode < MODE_COUNT && init->outcome < OUTCOME_COUNT;
}

static bool call_fits(const struct replay *p)
{
	const struct engine_call *c = &p->call;
	bool task = c->task < p->tasks.count, plan = c->plan < p->plans.count;
	if (!p->engine || c->kind == CALL_NEW)
		return !p->engine && c->kind == CALL_NEW;
	switch (c->kind) {
	case CALL_HARNESS:
		return p->input.harness.breaker < p->n_breakers;
	case CALL_TASK:
		return task_fits(p, &p->input.task);
	case CALL_DEPENDENCY:
		return task && c->dependency < p->tasks.count;
	case CALL_SPENT:
		return plan && c->harness < p->n_harnesses;
	case CALL_DROP:
	case CALL_CHANGE_TASK:
		return task;
	case CALL_CHANGE_PLAN:
		return plan;
	case CALL_BEGIN:
		return c->now >= p->now;
	case CALL_ADMIT:
		return plan && c->now >= p->now;
	case CALL_STEP:
		return event_fits(p, &p->input.event);
	default:
		return true;
	}
}

/* ---- telling our engine ---- */

static void hear(void *ctx, const struct engine_call *call)
{
	struct replay *p = ctx;
	engine_call_write(call->kind == CALL_ANSWER ? &p->answer : &p->told, call);
}

static int make_engine(struct replay *p)
{
	p->config = p->input.config;
	p->config.tap = hear;
	p->config.tap_ctx = p;
	p->faulted = p->config.winding_down;
	p->engine = engine_new(&p->config);
	return p->engine ? 0 : -ENOMEM;
}

static int add_breaker(struct replay *p)
{
	uint32_t index;
	p->n_breakers++;
	return engine_add_breaker(p->engine, &p->input.breaker, &index);
}

static int add_harness(struct replay *p)
{
	uint32_t index;
	p->n_harnesses++;
	return engine_add_harness(p->engine, &p->input.harness, &index);
}

static int add_plan(struct replay *p)
{
	uint32_t index;
	struct known_plan *known = VEC_PUSH(&p->plans);
	if (!known)
		return -ENOMEM;
	known->init = p->input.plan;
	return engine_add_plan(p->engine, &p->input.plan, &index);
}

static int add_task(struct replay *p)
{
	uint32_t index;
	struct known_task *known = VEC_PUSH(&p->tasks);
	if (!known || engine_add_task(p->engine, &p->input.task, &index) < 0)
		return -ENOMEM;
	known->saved.row = *engine_task(p->engine, index);
	known->saved.status = engine_mode_status((enum engine_mode)known->saved.row.mode);
	known->first_dependency = ENGINE_NONE;
	return 0;
}

static int add_dependency(struct replay *p)
{
	struct known_task *t = &p->tasks.items[p->call.task];
	struct dependency *dep = VEC_PUSH(&p->dependencies);
	if (!dep)
		return -ENOMEM;
	*dep = (struct dependency){.on = p->call.dependency, .next = t->first_dependency};
	t->first_dependency = (uint32_t)(p->dependencies.count - 1);
	return engine_add_dependency(p->engine, p->call.task, p->call.dependency);
}

static int build(struct replay *p)
{
	const struct engine_call *c = &p->call;
	switch (c->kind) {
	case CALL_NEW:
		return make_engine(p);
	case CALL_BREAKER:
		return add_breaker(p);
	case CALL_HARNESS:
		return add_harness(p);
	case CALL_PLAN:
		return add_plan(p);
	case CALL_TASK:
		return add_task(p);
	case CALL_DEPENDENCY:
		return add_dependency(p);
	case CALL_SPENT:
		return engine_add_spent(p->engine, c->plan, c->harness, c->tokens);
	case CALL_DROP:
		engine_drop_task(p->engine, c->task);
		return 0;
	case CALL_CHANGE_TASK:
		engine_change_task(p->engine, c->task, &p->input.change);
		return 0;
	default:
		engine_change_plan(p->engine, c->plan, c->max_agents, c->tokens);
		return 0;
	}
}

static void note_event(struct replay *p, const struct engine_event *ev)
{
	p->faulted |= ev->kind == EVENT_FAULT;
	if (ev->kind != EVENT_CANCEL && ev->kind != EVENT_KILL)
		return;
	for (uint32_t i = 0; i < p->plans.count; i++) {
		if (ev->plan != ENGINE_NONE && ev->plan != i)
			continue;
		p->plans.items[i].interrupted = true;
		p->plans.items[i].killed |= ev->kind == EVENT_KILL;
	}
}

/* What it answers is compared with the next line, and then judged. */
static void decide(struct replay *p)
{
	const struct engine_call *c = &p->call;
	engine_actions_reset(&p->actions);
	p->asked = p->line;
	p->steps++;
	p->now = c->kind == CALL_STEP ? p->input.event.now : c->now;
	if (c->kind == CALL_BEGIN) {
		IGNORE(engine_begin(p->engine, c->now, &p->actions)); /* the answer says it */
	} else if (c->kind == CALL_STEP) {
		note_event(p, &p->input.event);
		IGNORE(engine_step(p->engine, &p->input.event, &p->actions, NULL)); /* too */
	} else {
		struct known_plan *plan = &p->plans.items[c->plan];
		plan->interrupted = plan->killed = false;
		IGNORE(engine_admit(
			p->engine, c->plan, c->admit, c->cap, c->now, &p->actions)); /* too */
	}
}

/* ---- judging the answer ---- */

static int check_start(struct replay *p, const struct engine_action *a, struct err *e)
{
	struct known_task *t = &p->tasks.items[a->task];
	const struct engine_task *row = &t->saved.row;
	uint32_t i = t->first_dependency;
	for (; i != ENGINE_NONE; i = p->dependencies.items[i].next)
		if (p->tasks.items[p->dependencies.items[i].on].saved.status != TASK_PASSED)
			return err_set(e, -EPROTO, "started before its dependency %u passed",
				p->dependencies.items[i].on);
	if (t->saved.status != TASK_ASSIGNED || !row->attempt_open)
		return err_set(e, -EPROTO, "started without a saved intent");
	if (t->started == row->attempt)
		return err_set(e, -EPROTO, "attempt %u started twice", row->attempt);
	if (p->faulted || p->plans.items[a->plan].interrupted)
		return err_set(e, -EPROTO, "started after a cancel");
	t->started = row->attempt;
	return 0;
}

static int check_halt(struct replay *p, const struct engine_action *a, struct err *e)
{
	const struct known_plan *plan = &p->plans.items[a->plan];
	struct halt_facts facts = {
		.halt = a->halt,
		.also = a->also,
		.interrupted = plan->interrupted,
		.faulted = p->faulted,
		.cut = p->faulted || plan->killed,
	};
	if (plan->init.select != SELECT_ALL)
		return 0;
	for (int i = 0; i < TASK_STATUS_COUNT; i++)
		facts.tasks[i] = engine_plan_count(p->engine, a->plan, (enum task_status)i);
	return promise_halt(&facts, e);
}

static int check_save(struct replay *p, const struct engine_action *a, struct err *e)
{
	struct saved *saved = &p->tasks.items[a->task].saved;
	int r = promise_transition(p->plans.items[a->plan].init.worktrees, saved, a, e);
	if (p->trace)
		promise_trace(p->now, a);
	*saved = (struct saved){.row = a->task_after, .status = a->to};
	return r;
}

/* Slots can be over the limit when an engine begins with agents of another one; then none starts.
 */
static int check_slots(const struct replay *p, struct err *e)
{
	bool starts = false;
	vec_foreach(a, &p->actions.list)
		starts |= a->kind == ACT_SAVE_TASK && a->to == TASK_ASSIGNED;
	if (starts && engine_slots_used(p->engine) > p->config.max_agents)
		return err_set(e, -EPROTO, "%u slots are used, the limit is %u",
			engine_slots_used(p->engine), p->config.max_agents);
	return 0;
}

static enum replay_result judge(struct replay *p)
{
	struct err err = ERR_INIT;
	vec_foreach(a, &p->actions.list) {
		int r = 0;
		if (a->kind == ACT_SAVE_TASK)
			r = check_save(p, a, &err);
		else if (a->kind == ACT_START)
			r = check_start(p, a, &err);
		else if (a->kind == ACT_HALT)
			r = check_halt(p, a, &err);
		if (r < 0 && a->task == ENGINE_NONE)
			return say(p, REPLAY_DIFFERS, p->asked, "plan %u: %s", a->plan, err.msg);
		if (r < 0)
			return say(p, REPLAY_DIFFERS, p->asked, "task %u: %s", a->task, err.msg);
	}
	return check_slots(p, &err) < 0 ? say(p, REPLAY_DIFFERS, p->asked, "%s", err.msg)
					: REPLAY_SAME;
}

/* ---- lines ---- */

static bool is_same(const json_t *recorded, const struct buf *ours)
{
	json_t *json = json_loadb(buf_cstr(ours), ours->len, JSON_REJECT_DUPLICATES, NULL);
	bool same = json && json_equal(json, recorded);
	json_decref(json);
	return same;
}

static enum replay_result take_answer(struct replay *p, const json_t *json)
{
	if (json_integer_value(json_object_get(json, "code")) == -ENOMEM) {
		p->ended = "memory was out";
		return REPLAY_SAME;
	}
	if (p->answer.len == 0)
		return say(p, REPLAY_DIFFERS, p->line, "an answer to nothing");
	bool same = is_same(json, &p->answer);
	if (same) {
		buf_reset(&p->answer);
		return judge(p);
	}
	say(p, REPLAY_DIFFERS, p->asked, "the engine answers this call otherwise: %.*s",
		(int)p->answer.len - 1, buf_cstr(&p->answer));
	vec_foreach(a, &p->actions.list)
		if (a->kind == ACT_SAVE_TASK)
			promise_trace(p->now, a);
	return REPLAY_DIFFERS;
}

static enum replay_result take_call(
	struct replay *p, const json_t *json, enum engine_call_kind kind)
{
	if (p->answer.len > 0)
		return say(p, REPLAY_DIFFERS, p->asked, "the answer to this call is missing");
	if (!read_call(p, json, kind) || !call_fits(p))
		return say(p, REPLAY_DIFFERS, p->line, "no engine can be told this");
	buf_reset(&p->told);
	if (kind == CALL_BEGIN || kind == CALL_ADMIT || kind == CALL_STEP)
		decide(p);
	else if (build(p) < 0)
		return say(p, REPLAY_REFUSED, p->line, "out of memory");
	if (!is_same(json, &p->told))
		return say(p, REPLAY_DIFFERS, p->line, "not all of it can be read: %.*s",
			(int)p->told.len - 1, buf_cstr(&p->told));
	return REPLAY_SAME;
}

static enum replay_result take_head(struct replay *p, const json_t *json)
{
	const json_t *v = json_object_get(json, "v");
	if (!json_is_integer(v))
		return say(p, REPLAY_REFUSED, p->line, "this is no record of an engine's inputs");
	if (json_integer_value(v) != ENGINE_CALL_VERSION)
		return say(p, REPLAY_REFUSED, p->line,
			"a record of version %lld, written by orch %s; this program reads version "
			"%d",
			(long long)json_integer_value(v),
			json_string_value(json_object_get(json, "orch")), ENGINE_CALL_VERSION);
	return REPLAY_SAME;
}

static enum replay_result take(struct replay *p, const json_t *json)
{
	const char *name = json_string_value(json_object_get(json, "call"));
	if (p->line == 1)
		return take_head(p, json);
	if (json_is_true(json_object_get(json, "full"))) {
		p->ended = "the file was full";
		return REPLAY_SAME;
	}
	for (int kind = 0; name && kind < CALL_COUNT; kind++)
		if (strcmp(name, engine_call_name((enum engine_call_kind)kind)) == 0)
			return kind == CALL_ANSWER
				       ? take_answer(p, json)
				       : take_call(p, json, (enum engine_call_kind)kind);
	return say(p, REPLAY_DIFFERS, p->line, "no call of the engine");
}

enum replay_result replay_line(struct replay *p, const char *line, size_t len)
{
	if (p->ended)
		return REPLAY_SAME;
	p->line++;
	json_t *json = json_loadb(line, len, JSON_REJECT_DUPLICATES, NULL);
	if (!json)
		return say(p, p->line == 1 ? REPLAY_REFUSED : REPLAY_DIFFERS, p->line,
			"this is no JSON");
	enum replay_result result = take(p, json);
	json_decref(json);
	return result;
}

bool replay_text(const char *name, const char *text)
{
	CLEANUP(replay_freep) struct replay *p = replay_new(name, false);
	while (p && *text) {
		size_t len = strcspn(text, "\n");
		if (replay_line(p, text, len) != REPLAY_SAME)
			return false;
		text += len + (text[len] == '\n');
	}
	return p && p->steps > 0;
}
