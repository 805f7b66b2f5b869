/* SPDX-License-Identifier: MIT */
/*
 * Typed key tables: one row per key with its type, its place in a struct, its default and its help
 * text. Config and plan read, print and compare their values by these tables, so that a key is
 * described once.
 */
#ifndef CONFIG_SCHEMA_H
#define CONFIG_SCHEMA_H

#include "base/buf.h"
#include "base/cleanup.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum key_type {
	KEY_STRING,   /* char *, owned; one line, not empty; NULL: unset */
	KEY_TEXT,     /* as KEY_STRING, may span lines */
	KEY_NAME,     /* char *, owned; a name (as base/str.h says) */
	KEY_DURATION, /* int64_t milliseconds, DURATION_OFF for off */
	KEY_SIZE,     /* int64_t bytes */
	KEY_INT,      /* int64_t */
	KEY_BOOL,     /* bool */
	KEY_ENUM,     /* an enum of the size of int, counted from 0 */
	KEY_LIST,     /* char ** (strv), owned, NULL when empty; split at commas and newlines */
	KEY_TYPE_COUNT,
};

struct key_spec {
	const char *key;
	enum key_type type;
	size_t offset;             /* of the value in its struct */
	const char *default_value; /* as it would be written; NULL: unset (0 or NULL) */
	const char *help;          /* one line */
	const char *const *names;  /* KEY_ENUM: NULL-terminated, in the order of the enum */
	int64_t min, max;          /* numbers: the range, unless max is 0 */
	bool no_off;               /* KEY_DURATION: `off` is refused */
	bool blanks;               /* KEY_LIST: its words may hold blanks */
};

struct key_table {
	const struct key_spec *keys;
	size_t count;
};

/* NULL when the table has no such key. */
const struct key_spec *key_find(const struct key_table *table, const char *key);

/*
 * Parses text into object, replacing what was there. 0, -ENOMEM, or -EINVAL: then object is
 * unchanged and `why` says what was expected ("expected a duration such as 90s, found 'x'").
 */
int key_set(
	const struct key_spec *spec, void *object, const char *text, struct buf *why) MUST_CHECK;
/* Sets every key of the table to its default, whatever was there before. 0 or -ENOMEM. */
int keys_init(const struct key_table *table, void *object) MUST_CHECK;
/* Frees what the keys own and zeroes it. */
void keys_deinit(const struct key_table *table, void *object);
/* Copies every key of the table over what `to` holds, owned values not freed. 0 or -ENOMEM. */
int keys_copy(const struct key_table *table, void *to, const void *from) MUST_CHECK;
/* Moves every key of the table over what `to` holds (which is not freed) and zeroes `from`. */
void keys_move(const struct key_table *table, void *to, void *from);
bool key_equal(const struct key_spec *spec, const void *a, const void *b);
/* The value as it would be written; owned, "" for unset, NULL when memory is out. */
char *key_format(const struct key_spec *spec, const void *object) MUST_CHECK;

/* The index of name in the NULL-terminated table, or -1. */
int name_table_find(const char *const *names, const char *name);

/*
 * The candidate nearest to a mistyped word: start with SUGGESTION(word), feed candidates one by one
 * (borrowed), then append ", did you mean 'x'?" when one is near enough.
 */
struct suggestion {
	const char *word;
	const char *best;
	size_t distance;
};

#define SUGGESTION(w) ((struct suggestion){.word = (w)})

void suggest_feed(struct suggestion *s, const char *candidate);
void suggest_keys(struct suggestion *s, const struct key_table *table);
void suggest_names(struct suggestion *s, const char *const *names);
void suggest_add(const struct suggestion *s, struct buf *out);

#endif
