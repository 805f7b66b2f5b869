/* SPDX-License-Identifier: MIT */
/*
 * What an engine was told (engine/call.h), told to another one line by line. Each line must be read
 * back as it was written, each answer must be the one that was recorded, and the promises that need
 * no world must hold. What is wrong goes to stderr with the number of the line.
 */
#ifndef SIM_REPLAY_H
#define SIM_REPLAY_H

#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct replay;

enum replay_result {
	REPLAY_SAME,
	REPLAY_DIFFERS,
	REPLAY_REFUSED, /* nothing that could be replayed */
};

/* name: for messages; borrowed. NULL: memory is out. */
struct replay *replay_new(const char *name, bool trace);
void replay_free(struct replay *p);
DEFINE_FREEP(replay_freep, struct replay, replay_free)

enum replay_result replay_line(struct replay *p, const char *line, size_t len) MUST_CHECK;
/* How many times the engine decided. */
uint64_t replay_steps(const struct replay *p);
/* Why the rest of the lines could not be compared, or NULL. */
const char *replay_ended(const struct replay *p);

/* All lines of a text. */
bool replay_text(const char *name, const char *text);

#endif
