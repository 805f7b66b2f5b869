/* SPDX-License-Identifier: MIT */
#include "config/schema.h"

#include <string.h>

/* Words longer than this are no typos of a key or a name of ours. */
#define MAX_WORD 100

/*
 * The Damerau-Levenshtein distance (optimal string alignment: insert, delete, replace, swap
 * neighbours, each 1), or MAX_WORD when it is not worth computing.
 */
static size_t distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	if (la > MAX_WORD || lb > MAX_WORD || la > lb + 3 || lb > la + 3)
		return MAX_WORD;
	size_t rows[3][MAX_WORD + 1];
	size_t *before = rows[0], *last = rows[1], *row = rows[2];
	for (size_t k = 0; k <= lb; k++)
		before[k] = last[k] = k;
	for (size_t i = 1; i <= la; i++) {
		row[0] = i;
		for (size_t k = 1; k <= lb; k++) {
			size_t d = last[k - 1] + (a[i - 1] != b[k - 1]);
			if (last[k] + 1 < d)
				d = last[k] + 1;
			if (row[k - 1] + 1 < d)
				d = row[k - 1] + 1;
			if (i > 1 && k > 1 && a[i - 1] == b[k - 2] && a[i - 2] == b[k - 1] &&
				before[k - 2] + 1 < d)
				d = before[k - 2] + 1;
			row[k] = d;
		}
		size_t *spare = before;
		before = last;
		last = row;
		row = spare;
	}
	return last[lb];
}

void suggest_feed(struct suggestion *s, const char *candidate)
{
	size_t d = distance(s->word, candidate);
	/* One mistake in three letters, at most three; never a wholly different short word. */
	size_t len = strlen(s->word), limit = len < 3 ? 0 : len / 3 > 3 ? 3 : len / 3;
	if (d > 0 && d <= limit && (!s->best || d < s->distance)) {
		s->best = candidate;
		s->distance = d;
	}
}

void suggest_keys(struct suggestion *s, const struct key_table *table)
{
	for (size_t i = 0; i < table->count; i++)
		suggest_feed(s, table->keys[i].key);
}

void suggest_names(struct suggestion *s, const char *const *names)
{
	for (size_t i = 0; names[i]; i++)
		suggest_feed(s, names[i]);
}

void suggest_add(const struct suggestion *s, struct buf *out)
{
	if (s->best)
		buf_addf(out, ", did you mean '%s'?", s->best);
}
