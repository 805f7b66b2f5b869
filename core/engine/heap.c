/* SPDX-License-Identifier: MIT */
#include "engine/model.h"

#include <errno.h>

static bool heap_before(const struct engine *e, const struct task_heap *h, uint32_t a, uint32_t b)
{
	const struct engine_task *x = &e->tasks.items[a], *y = &e->tasks.items[b];
	if (h->before(x, y))
		return true;
	return !h->before(y, x) && a < b;
}

int heap_push(struct engine *e, struct task_heap *h, uint32_t task)
{
	if (h->count == h->cap) {
		uint32_t cap = h->cap ? h->cap * 2 : 16;
		uint32_t *items = realloc(h->items, cap * sizeof(*items));
		if (!items)
			return -ENOMEM;
		h->items = items;
		h->cap = cap;
	}
	uint32_t i = h->count++;
	while (i > 0 && heap_before(e, h, task, h->items[(i - 1) / 2])) {
		h->items[i] = h->items[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	h->items[i] = task;
	return 0;
}

uint32_t heap_pop(struct engine *e, struct task_heap *h)
{
	uint32_t top = h->items[0], last = h->items[--h->count], i = 0;
	for (;;) {
		uint32_t child = 2 * i + 1;
		if (child >= h->count)
			break;
		if (child + 1 < h->count && heap_before(e, h, h->items[child + 1], h->items[child]))
			child++;
		if (!heap_before(e, h, h->items[child], last))
			break;
		h->items[i] = h->items[child];
		i = child;
	}
	h->items[i] = last;
	return top;
}
