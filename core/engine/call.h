/* SPDX-License-Identifier: MIT */
/*
 * The calls that change an engine, as the tap of its configuration is told of them, and their text:
 * one line of JSON each, from which an engine can be brought to do the same again (tests/sim). A
 * value that is 0 is not written; enums are numbers.
 */
#ifndef ENGINE_CALL_H
#define ENGINE_CALL_H

#include "base/buf.h"
#include "engine/engine.h"

/* Goes up whenever a line means something else than before, be it by an enum that has changed. */
#define ENGINE_CALL_VERSION 1

#define ENGINE_CALL_LIST(X) \
	X(NEW, "new") \
	X(BREAKER, "breaker") \
	X(HARNESS, "harness") \
	X(PLAN, "plan") \
	X(TASK, "task") \
	X(DEPENDENCY, "dependency") \
	X(SPENT, "spent") \
	X(DROP, "drop") \
	X(CHANGE_TASK, "change_task") \
	X(CHANGE_PLAN, "change_plan") \
	X(BEGIN, "begin") \
	X(ADMIT, "admit") \
	X(STEP, "step") \
	X(ANSWER, "answer") /* of the BEGIN, ADMIT or STEP before it */

enum engine_call_kind {
#define X(suffix, name) CALL_##suffix,
	ENGINE_CALL_LIST(X)
#undef X
		CALL_COUNT,
};

/* Told before the call changes anything. All pointers are borrowed. */
struct engine_call {
	enum engine_call_kind kind;
	/* The arguments that are no struct; 0 where the call has none of that name. */
	uint32_t task;
	uint32_t dependency;
	uint32_t plan;
	uint32_t harness;
	uint32_t max_agents;
	uint32_t cap;
	enum engine_admit admit;
	int64_t now;
	uint64_t tokens;
	/* The argument that is one, by the kind; NULL: there is none. */
	union {
		const void *input;
		const struct engine_config *config;
		const struct engine_breaker_init *new_breaker;
		const struct engine_harness_init *new_harness;
		const struct engine_plan_init *new_plan;
		const struct engine_task_init *new_task;
		const struct engine_task_change *change;
		const struct engine_event *event;
	};
	/* ANSWER */
	int code;
	const struct engine_actions *actions; /* the new ones, from `first` on */
	size_t first;
};

/* A value in a struct; the lists end with a field that has no name. */
struct engine_field {
	const char *name;
	size_t offset;
	size_t size; /* of an integer; 0: a text, NULL allowed */
};

const char *engine_call_name(enum engine_call_kind kind);
/* Those of struct engine_call, and those of the struct that `input` points to (NULL: none). */
const struct engine_field *engine_call_arguments(void);
const struct engine_field *engine_call_inputs(enum engine_call_kind kind);

/* The first line; `orch` is the version of the program. */
void engine_call_write_head(struct buf *out, const char *orch);
/*
 * One line. Texts are written byte by byte, a byte beyond ASCII as the character of that number, so
 * that what is no UTF-8 comes back as it was. An answer is its code, the number of its actions and
 * their digest.
 */
void engine_call_write(struct buf *out, const struct engine_call *call);

/* 64-bit FNV-1a over what the actions from `first` on ask for and save, texts included. */
uint64_t engine_actions_digest(const struct engine_actions *a, size_t first);

#endif
