/* SPDX-License-Identifier: MIT */
#include "base/json_text.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

/*
 * Of this thread. While a text is parsed there is a reserve for the one buffer whose growth must
 * not fail: jansson would read and write beyond its end. Its sizes are powers of two from 32 on.
 */
static _Thread_local struct {
	unsigned long failures; /* since the thread's beginning */
	char *reserve;
	size_t size, used;
} memory;

#define BUFFER_MIN 32U

static void *counted_malloc(size_t size)
{
	void *p = malloc(size);
	if (p)
		return p;
	memory.failures++;
	if (size < BUFFER_MIN || (size & (size - 1)) != 0 || size > memory.size - memory.used)
		return NULL;
	p = memory.reserve + memory.used;
	memory.used += size;
	return p;
}

static void counted_free(void *p)
{
	uintptr_t at = (uintptr_t)p, begin = (uintptr_t)memory.reserve;
	if (!memory.reserve || at < begin || at >= begin + memory.size)
		free(p);
}

/* Blocks that were allocated before are freed by the same free(3). */
static void count_failures(void)
{
	json_set_alloc_funcs(counted_malloc, counted_free);
}

static void watch_memory(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	(void)pthread_once(&once, count_failures); /* cannot fail */
}

int json_text_parse(const char *text, size_t len, size_t flags, json_t **ret, json_error_t *ret_why)
{
	/* All the sizes that the buffer has on its way to the longest text, one behind the other.
	 */
	size_t size = 4 * len + (size_t)8 * BUFFER_MIN;
	char *reserve = malloc(size);
	if (!reserve)
		return -ENOMEM;
	watch_memory();
	memory.reserve = reserve;
	memory.size = size;
	memory.used = 0;
	unsigned long before = memory.failures;
	json_t *json = json_loadb(text, len, flags, ret_why);
	bool failed = memory.failures != before;
	if (failed)
		json_decref(json); /* it may lie in the reserve */
	memory.reserve = NULL;
	memory.size = memory.used = 0;
	free(reserve);
	if (failed)
		return -ENOMEM;
	if (!json)
		return -EBADMSG;
	*ret = json;
	return 0;
}

char *json_text_dump(const json_t *json, size_t flags)
{
	watch_memory();
	unsigned long before = memory.failures;
	char *text = json_dumps(json, flags);
	if (memory.failures == before)
		return text;
	free(text);
	return NULL;
}
