/* SPDX-License-Identifier: MIT */
/*
 * A hash map from strings to pointers, open addressing. Keys are copied; values are borrowed.
 * Lookups are O(1); there is no removal because nobody needs one. Iteration is in order of
 * insertion.
 */
#ifndef BASE_MAP_H
#define BASE_MAP_H

#include "base/cleanup.h"

#include <stddef.h>
#include <stdint.h>

struct map_entry {
	char *key;
	void *value;
	uint64_t hash;
};

struct map {
	struct map_entry *entries; /* in order of insertion */
	size_t count;
	size_t cap;
	uint32_t *slots; /* index + 1 into entries, 0 = free */
	size_t n_slots;
};

#define MAP_INIT ((struct map){0})

void map_deinit(struct map *m);
/* NULL when the key is not there. */
void *map_get(const struct map *m, const char *key);
/* 0; -EEXIST when the key is there (nothing changed); -ENOMEM. */
int map_put(struct map *m, const char *key, void *value) MUST_CHECK;

#endif
