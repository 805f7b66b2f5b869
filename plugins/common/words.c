/* SPDX-License-Identifier: MIT */
#include "../common/words.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Consumes word. */
static void take(struct words *w, char *word)
{
	char **list = word ? realloc(w->list, (w->count + 2) * sizeof(*list)) : NULL;
	if (!list) {
		free(word);
		w->failed = true;
		return;
	}
	w->list = list;
	w->list[w->count++] = word;
	w->list[w->count] = NULL;
}

void words_add(struct words *w, const char *word)
{
	take(w, strdup(word));
}

void words_addf(struct words *w, const char *format, ...)
{
	char *word = NULL;
	va_list args;
	va_start(args, format);
	if (vasprintf(&word, format, args) < 0)
		word = NULL;
	va_end(args);
	take(w, word);
}

void words_add_option(struct words *w, const char *name, const char *value)
{
	if (!value || !value[0])
		return;
	words_add(w, name);
	words_add(w, value);
}

/* Reads one word from *at on into out, which has room for the rest of the line. */
static void read_word(const char **at, char *out)
{
	char quote = '\0';
	const char *p = *at;
	for (; *p && (quote || !strchr(" \t\r\n", *p)); p++) {
		if (*p == quote)
			quote = '\0';
		else if (!quote && (*p == '\'' || *p == '"'))
			quote = *p;
		else if (*p == '\\' && quote != '\'' && p[1])
			*out++ = *++p;
		else
			*out++ = *p;
	}
	*out = '\0';
	*at = p;
}

void words_add_line(struct words *w, const char *line)
{
	static const char blanks[] = " \t\r\n";
	char *word = line ? malloc(strlen(line) + 1) : NULL;
	if (line && !word)
		w->failed = true;
	while (word && *(line += strspn(line, blanks))) {
		read_word(&line, word);
		words_add(w, word);
	}
	free(word);
}

bool words_failed(const struct words *w)
{
	return w->failed;
}

const char *const *words_list(const struct words *w)
{
	return (const char *const *)w->list;
}

void words_deinit(struct words *w)
{
	for (size_t i = 0; i < w->count; i++)
		free(w->list[i]);
	free(w->list);
	*w = (struct words){0};
}
