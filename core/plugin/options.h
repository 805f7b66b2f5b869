/* SPDX-License-Identifier: MIT */
/*
 * The options of a harness: what it declares, checked against what the user configured, and the
 * values that its host hands to it.
 */
#ifndef PLUGIN_OPTIONS_H
#define PLUGIN_OPTIONS_H

#include "base/err.h"
#include "base/vec.h"
#include "plugin_api.h"

#include <stdint.h>

/* "string", "bool", ...; NULL for a type that is none. */
const char *option_type_name(uint32_t type);

/* One key of [harness:NAME] as it was written; borrowed strings. */
struct plugin_setting {
	const char *key;
	const char *value;
};

struct option_value {
	char *key;
	char *text; /* canonical; NULL: no value */
	int64_t number;
};

struct option_values {
	struct VEC(struct option_value) list;
};

#define OPTION_VALUES_INIT ((struct option_values){0})

void option_values_deinit(struct option_values *v);

/* Checks a plugin's table: keys, types, defaults, duplicates. 0 or -EINVAL with a sentence. */
int options_check_table(const struct orch_option *table, struct err *e) MUST_CHECK;
/* The next element of a valid table (NULL: begin), NULL at its end. */
const struct orch_option *options_next(
	const struct orch_option *table, const struct orch_option *at);

/*
 * Resolves settings against a table: unknown keys and bad values are -EINVAL with a sentence that
 * names the key; -ENOMEM. *ret is owned.
 */
int options_resolve(const struct orch_option *table, const struct plugin_setting *settings,
	size_t n_settings, struct option_values *ret, struct err *e) MUST_CHECK;
/* NULL when the key was not declared. Borrowed. */
const struct option_value *option_values_get(const struct option_values *v, const char *key);

#endif
