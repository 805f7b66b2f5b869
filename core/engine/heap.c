/* SPDX-License-Identifier: MIT */
#include "engine/model.h"

#include <errno.h>

static bool is_before(const struct heap_entry *a, const struct heap_entry *b)
{
	return a->key < b->key || (a->key == b->key && a->task < b->task);
}

int heap_push(struct task_heap *h, int64_t key, uint32_t task)
{
	const struct heap_entry entry = {.key = key, .task = task};
	struct heap_entry *slot = VEC_PUSH(h);
	if (!slot)
		return -ENOMEM;
	size_t i = h->count - 1;
	while (i > 0 && is_before(&entry, &h->items[(i - 1) / 2])) {
		h->items[i] = h->items[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	h->items[i] = entry;
	return 0;
}

uint32_t heap_pop(struct task_heap *h)
{
	const uint32_t top = h->items[0].task;
	const struct heap_entry last = h->items[--h->count];
	size_t i = 0;
	for (;;) {
		size_t child = 2 * i + 1;
		if (child >= h->count)
			break;
		if (child + 1 < h->count && is_before(&h->items[child + 1], &h->items[child]))
			child++;
		if (!is_before(&h->items[child], &last))
			break;
		h->items[i] = h->items[child];
		i = child;
	}
	h->items[i] = last;
	return top;
}
