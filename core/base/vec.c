/* SPDX-License-Identifier: MIT */
#include "base/vec.h"

#include <errno.h>
#include <string.h>

int vec_grow(void **items, size_t *count, size_t *cap, size_t size)
{
	if (*count == *cap) {
		size_t want = *cap ? *cap * 2 : 4, bytes;
		if (__builtin_mul_overflow(want, size, &bytes))
			return -ENOMEM;
		void *grown = realloc(*items, bytes);
		if (!grown)
			return -ENOMEM;
		*items = grown;
		*cap = want;
	}
	memset((char *)*items + *count * size, 0, size);
	return 0;
}
