/* SPDX-License-Identifier: MIT */
/*
 * Keeps values of the unit's environment that were named as secret out of journal and logs: each
 * occurrence becomes "***", also where it arrives in pieces. Values shorter than MASK_MIN_BYTES are
 * left alone: they would be found everywhere.
 */
#ifndef SHIM_MASK_H
#define SHIM_MASK_H

#include "base/buf.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define MASK_MIN_BYTES 6

struct mask {
	char **values;   /* owned strv; NULL: nothing to mask */
	bool first[256]; /* bytes with which a value begins */
};

/* names: of variables in env. -ENOMEM. */
int mask_init(struct mask *m, char *const *names, char *const *env);
void mask_deinit(struct mask *m);
static inline bool mask_is_empty(const struct mask *m)
{
	return !m || !m->values;
}

/*
 * Appends data to *carry, and moves what is certain from there, masked, to *out: all but an end
 * that may be the beginning of a value. With MASK_LAST nothing is held back.
 */
enum mask_more { MASK_MORE, MASK_LAST };
void mask_feed(const struct mask *m, struct buf *carry, const void *data, size_t len,
	enum mask_more more, struct buf *out);

/* A masked copy of all strings in it, keys left alone; NULL: no memory. */
json_t *mask_json(const struct mask *m, const json_t *value);
/* Replaces *text (owned, may be NULL) by its masked form; without memory by NULL. */
void mask_string(const struct mask *m, char **text);

#endif
