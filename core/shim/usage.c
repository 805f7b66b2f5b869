/* SPDX-License-Identifier: MIT */
#include "shim/agent.h"

#include "base/str.h"
#include "unit/usage.h"

#include <string.h>

#define ENTRIES_MAX 20000 /* beyond, numbers with new ids are added up without them */

static void add_up(struct unit_usage *sum, const struct unit_usage *more)
{
	sum->input = usage_add(sum->input, more->input);
	sum->output = usage_add(sum->output, more->output);
	sum->cache_read = usage_add(sum->cache_read, more->cache_read);
	sum->cache_write = usage_add(sum->cache_write, more->cache_write);
	sum->cost = usage_add_cost(sum->cost, more->cost);
}

static struct usage_entry *entry_of(struct agent *a, const char *id)
{
	for (size_t i = a->usage.count; i-- > 0;)
		if (str_eq(a->usage.items[i].id, id))
			return &a->usage.items[i];
	if (a->usage.count >= ENTRIES_MAX)
		return NULL;
	struct usage_entry *entry = VEC_PUSH(&a->usage);
	if (entry && id)
		entry->id = strdup(id);
	return entry;
}

static void take_tokens(struct keeper *k, const json_t *data)
{
	struct agent *a = k->unit;
	const struct unit_usage now = {
		.input = usage_tokens(data, "input"),
		.output = usage_tokens(data, "output"),
		.cache_read = usage_tokens(data, "cache_read"),
		.cache_write = usage_tokens(data, "cache_write"),
		.cost = usage_cost(data),
	};
	if (json_is_true(json_object_get(data, "total"))) {
		a->usage_is_total = true;
		k->exit.usage = now;
		return;
	}
	if (a->usage_is_total)
		return; /* the harness counts for the whole attempt */
	const char *id = json_string_value(json_object_get(data, "id"));
	struct usage_entry *entry = entry_of(a, id);
	if (entry && id) {
		const struct unit_usage less = {-entry->usage.input, -entry->usage.output,
			-entry->usage.cache_read, -entry->usage.cache_write, -entry->usage.cost};
		add_up(&k->exit.usage, &less);
		entry->usage = now;
	}
	add_up(&k->exit.usage, &now);
}

void usage_take(struct keeper *k, const char *kind, const json_t *data)
{
	const char *text = json_string_value(json_object_get(data, "text"));
	const char *id = json_string_value(json_object_get(data, "id"));
	if (str_eq(kind, "usage"))
		take_tokens(k, data);
	else if (str_eq(kind, "message") && text)
		(void)!str_replace(
			&k->exit.last_message, text); /* without memory: the one before */
	else if (str_eq(kind, "session") && id)
		(void)!str_replace(&k->exit.session, id);
}
