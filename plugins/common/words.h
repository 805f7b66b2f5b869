/* SPDX-License-Identifier: MIT */
/*
 * Lists of words: an argument vector, or changes of an environment, that grow as a harness goes
 * along. An addition that fails for want of memory is remembered, so that a caller looks once, at
 * the end, with words_failed.
 */
#ifndef COMMON_WORDS_H
#define COMMON_WORDS_H

#include <plugin_api.h>

#include <stdbool.h>
#include <stddef.h>

struct words {
	char **list; /* ends with NULL; NULL when nothing was added */
	size_t count;
	bool failed;
};

void words_add(struct words *w, const char *word);
void words_addf(struct words *w, const char *format, ...) ORCH_PRINTF(2, 3);
/* Both words, unless the value is NULL or empty. */
void words_add_option(struct words *w, const char *name, const char *value);
/*
 * The words of a command line: blanks separate, '...' and "..." keep them, a backslash takes the
 * next character as it is (not inside '...'). Nothing else is special: no shell is involved. An
 * open quote ends with the text. NULL is allowed.
 */
void words_add_line(struct words *w, const char *line);
bool words_failed(const struct words *w);
const char *const *words_list(const struct words *w);
void words_deinit(struct words *w);

#endif
