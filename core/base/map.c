/* SPDX-License-Identifier: MIT */
#include "base/map.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void map_deinit(struct map *m)
{
	for (size_t i = 0; i < m->count; i++)
		free(m->entries[i].key);
	free(m->entries);
	free(m->slots);
	*m = MAP_INIT;
}

/* FNV-1a, 64 bits: http://www.isthe.com/chongo/tech/comp/fnv/ */
static uint64_t hash_string(const char *s)
{
	uint64_t h = 14695981039346656037ULL;
	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 1099511628211ULL;
	return h;
}

/* The slot that holds the key, or the free slot where it would go. */
static uint32_t *map_slot(const struct map *m, const char *key, uint64_t hash)
{
	size_t i = (size_t)hash & (m->n_slots - 1);
	for (;; i = (i + 1) & (m->n_slots - 1)) {
		uint32_t at = m->slots[i];
		if (at == 0)
			return &m->slots[i];
		const struct map_entry *e = &m->entries[at - 1];
		if (e->hash == hash && strcmp(e->key, key) == 0)
			return &m->slots[i];
	}
}

void *map_get(const struct map *m, const char *key)
{
	if (m->count == 0)
		return NULL;
	uint32_t at = *map_slot(m, key, hash_string(key));
	return at ? m->entries[at - 1].value : NULL;
}

static int map_grow(struct map *m)
{
	size_t n_slots = m->n_slots ? m->n_slots * 2 : 16;
	uint32_t *slots = calloc(n_slots, sizeof(*slots));
	struct map_entry *entries = realloc(m->entries, n_slots / 2 * sizeof(*entries));
	if (entries)
		m->entries = entries;
	if (!slots || !entries) {
		free(slots);
		return -ENOMEM;
	}
	free(m->slots);
	m->slots = slots;
	m->n_slots = n_slots;
	m->cap = n_slots / 2;
	for (size_t i = 0; i < m->count; i++)
		*map_slot(m, m->entries[i].key, m->entries[i].hash) = (uint32_t)i + 1;
	return 0;
}

int map_put(struct map *m, const char *key, void *value)
{
	if (m->count == m->cap) {
		int r = map_grow(m);
		if (r < 0)
			return r;
	}
	uint64_t hash = hash_string(key);
	uint32_t *slot = map_slot(m, key, hash);
	if (*slot)
		return -EEXIST;
	char *copy = strdup(key);
	if (!copy)
		return -ENOMEM;
	m->entries[m->count] = (struct map_entry){copy, value, hash};
	*slot = (uint32_t)++m->count;
	return 0;
}
