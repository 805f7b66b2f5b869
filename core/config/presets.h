/* SPDX-License-Identifier: MIT */
/*
 * Invariant presets per kind of project (make, cmake, cargo, npm, python, go), from
 * config/presets.ini, which is compiled in. Detection looks at file names in one directory; for npm
 * also at the scripts that package.json has.
 */
#ifndef CONFIG_PRESETS_H
#define CONFIG_PRESETS_H

#include "base/cleanup.h"
#include "base/err.h"
#include "base/vec.h"
#include "config/invariant.h"

struct preset {
	char *name;                              /* "cargo" */
	char *help;                              /* one line */
	char **files;                            /* any of these in the directory recognises it */
	struct VEC(struct invariant) invariants; /* names as in the preset: "build", "test", ... */
};

struct presets {
	struct VEC(struct preset) list;
};

#define PRESETS_INIT ((struct presets){0})

/* All that are compiled in. */
int presets_load(struct presets *ret, struct err *e) MUST_CHECK;
/* Those that fit the project in a directory, each with the invariants that make sense there. */
int presets_detect(const char *dir, struct presets *ret, struct err *e) MUST_CHECK;
/* Borrowed; NULL when there is none of that name. */
const struct preset *presets_find(const struct presets *p, const char *name);
void presets_deinit(struct presets *p);

#define CLEANUP_PRESETS CLEANUP(presets_deinit)

#endif
