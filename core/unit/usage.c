/* SPDX-License-Identifier: MIT */
#include "unit/usage.h"

static int64_t within(int64_t tokens)
{
	return tokens < 0 ? 0 : tokens > USAGE_TOKENS_MAX ? USAGE_TOKENS_MAX : tokens;
}

static double within_cost(double cost)
{
	return !(cost > 0) ? 0 : cost > USAGE_COST_MAX ? USAGE_COST_MAX : cost;
}

int64_t usage_tokens(const json_t *data, const char *key)
{
	return within(json_integer_value(json_object_get(data, key)));
}

double usage_cost(const json_t *data)
{
	return within_cost(json_number_value(json_object_get(data, "cost")));
}

int64_t usage_add(int64_t sum, int64_t more)
{
	return within(within(sum) + (more < -USAGE_TOKENS_MAX         ? -USAGE_TOKENS_MAX
					    : more > USAGE_TOKENS_MAX ? USAGE_TOKENS_MAX
								      : more));
}

double usage_add_cost(double sum, double more)
{
	return within_cost(within_cost(sum) + more);
}

int64_t usage_counted(const int64_t tokens[4])
{
	return usage_add(usage_add(tokens[0], tokens[1]), tokens[3]);
}
