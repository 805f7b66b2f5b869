/* SPDX-License-Identifier: MIT */
/* The sections of orch.ini and their key tables; private to config. */
#ifndef CONFIG_CONFIG_KEYS_H
#define CONFIG_CONFIG_KEYS_H

#include "config/config.h"
#include "config/schema.h"

struct config_section {
	const char *name;
	const struct key_table *keys;
	size_t offset; /* of the struct in struct config; labelled sections: unused */
	bool labelled; /* [name:LABEL] */
};

#define CONFIG_SECTIONS 8

/* In the order of the reference file. */
extern const struct config_section config_sections[CONFIG_SECTIONS];
extern const struct key_table config_harness_keys;

const struct config_section *config_section_find(const char *name);

/*
 * Sets one value: validates, stores, remembers the origin. 0, -ENOMEM, or -EINVAL with the reason
 * in why. file and line are where an invariant's section is, for later diagnostics; file may be
 * NULL.
 */
struct config_setting {
	const char *section, *label, *key, *value, *origin;
	const char *file;
	unsigned line;
};

int config_apply(struct config *c, const struct config_setting *s, struct buf *why) MUST_CHECK;
/* Makes a section known that may have no keys. Same results as config_apply. */
int config_apply_section(
	struct config *c, const struct config_setting *s, struct buf *why) MUST_CHECK;

/* The layers that are not files. Negative only when memory is out. */
int config_load_environment(struct config *c, char *const *environment, struct diags *d) MUST_CHECK;
/* The value of a variable, NULL when unset; borrowed. */
const char *config_environment_get(char *const *environment, const char *name);

#endif
