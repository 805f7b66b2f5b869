/* SPDX-License-Identifier: MIT */
#include "unit/json_text.h"

#include "base/err.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

/* Of this thread, since its beginning. */
static _Thread_local unsigned long failures;
static _Thread_local bool scanning;

/* Whoever asked can be killed at any moment, and goes on from what is on disk. */
static _Noreturn void die(void)
{
	static const char words[] = "orch: out of memory\n";
	(void)!write(STDERR_FILENO, words, sizeof(words) - 1); /* nobody is left to be told */
	_exit(EXIT_SOFTWARE);
}

static void *counted_malloc(size_t size)
{
	void *p = malloc(size);
	if (!p && scanning)
		die();
	if (!p)
		failures++;
	return p;
}

/* Blocks that were allocated before are freed by the same free(3). */
static void count_failures(void)
{
	json_set_alloc_funcs(counted_malloc, free);
}

static void watch_memory(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	(void)pthread_once(&once, count_failures); /* cannot fail */
}

int json_text_parse(const char *text, size_t len, size_t flags, json_t **ret, json_error_t *ret_why)
{
	watch_memory();
	scanning = true;
	json_t *json = json_loadb(text, len, flags, ret_why);
	scanning = false;
	if (!json)
		return -EBADMSG;
	*ret = json;
	return 0;
}

char *json_text_dump(const json_t *json, size_t flags)
{
	watch_memory();
	unsigned long before = failures;
	char *text = json_dumps(json, flags);
	if (failures == before)
		return text;
	free(text);
	return NULL;
}
