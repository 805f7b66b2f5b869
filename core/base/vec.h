/* SPDX-License-Identifier: MIT */
/*
 * A growable array of any element type: `struct VEC(struct thing) things = {0};`. VEC_PUSH
 * evaluates to a pointer to a zeroed new element, or NULL when memory is out; pointers to elements
 * are valid until the next push.
 */
#ifndef BASE_VEC_H
#define BASE_VEC_H

#include <stddef.h>
#include <stdlib.h>

#define VEC(type) \
	{ \
		type *items; \
		size_t count, cap; \
	}

/* Makes room for one more element of `size` bytes and zeroes it; 0 or -ENOMEM. */
int vec_grow(void **items, size_t *count, size_t *cap, size_t size);

#define VEC_PUSH(v) \
	(vec_grow((void **)&(v)->items, &(v)->count, &(v)->cap, sizeof(*(v)->items)) < 0 \
			? NULL \
			: &(v)->items[(v)->count++])

#define VEC_FREE(v) \
	do { \
		free((v)->items); \
		(v)->items = NULL; \
		(v)->count = (v)->cap = 0; \
	} while (0)

#define vec_foreach(it, v) \
	for (__typeof__((v)->items + 0) it = (v)->items; it && it < (v)->items + (v)->count; it++)

#endif
