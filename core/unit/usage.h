/* SPDX-License-Identifier: MIT */
/*
 * What an agent says that it used, taken with care: any number may stand there. Counts and their
 * sums stay within 0 and USAGE_TOKENS_MAX, costs within 0 and USAGE_COST_MAX: more is cut to that.
 */
#ifndef UNIT_USAGE_H
#define UNIT_USAGE_H

#include <jansson.h>
#include <stdint.h>

/* A double holds it, and so does every reader of our JSON. */
#define USAGE_TOKENS_MAX (INT64_C(1) << 53)
/* US dollars. */
#define USAGE_COST_MAX 1e12

/* One count, and the cost, of a usage event's data; 0 where it says none. */
int64_t usage_tokens(const json_t *data, const char *key);
double usage_cost(const json_t *data);

/* sum and more, which may be negative. */
int64_t usage_add(int64_t sum, int64_t more);
double usage_add_cost(double sum, double more);

/* What counts against a budget of input, output, cache_read, cache_write: not what a cache gave. */
int64_t usage_counted(const int64_t tokens[4]);

#endif
