/* SPDX-License-Identifier: MIT */
/*
 * Harness plugins: finding the file, looking at it without running any of it, loading it. Loading
 * runs foreign code (constructors), so plugin_load is for the host and the probe only, never for
 * the engine or the keeper; whoever else wants to know something asks plugin_probe
 * (plugin/probe.h).
 *
 * The failures of a plugin are outcomes, PLUGIN_MISSING and PLUGIN_INVALID, and come with a
 * sentence that names the plugin, the path and the reason.
 */
#ifndef PLUGIN_PLUGIN_H
#define PLUGIN_PLUGIN_H

#include "base/err.h"
#include "base/vec.h"
#include "plugin_api.h"

enum plugin_outcome {
	PLUGIN_MISSING = 1, /* harness_missing: no such file along the path */
	PLUGIN_INVALID = 2  /* harness_invalid: a file, but not a harness that can be used */
};

/* A harness file that is there; nothing more is known about it. */
struct plugin_file {
	char *name;
	char *path;
};

struct plugin_files {
	struct VEC(struct plugin_file) list;
};

void plugin_files_deinit(struct plugin_files *files);

/*
 * The plugin path of an installation without `plugin_path`: plugins/ beside the running program
 * (when there is one), $XDG_DATA_HOME/orch/plugins, <libdir>/orch/plugins (libdir may be NULL).
 * Owned; NULL when memory is out.
 */
char *plugin_path_default(const char *libdir) MUST_CHECK;

/*
 * The first orch-harness-<name>.so along the `:`-separated path; a relative part is taken from the
 * current directory, an empty part is skipped. Returns 0, PLUGIN_MISSING or -ENOMEM. *ret is owned
 * and absolute.
 */
int plugin_find(const char *plugin_path, const char *name, char **ret, struct err *e) MUST_CHECK;
/*
 * Every harness file along the path, by name, the first of equal names. Directories that are not
 * there are skipped. 0 or -ENOMEM.
 */
int plugin_list(const char *plugin_path, struct plugin_files *ret, struct err *e) MUST_CHECK;

/*
 * Looks at a file without loading it: a readable regular file, a shared object in ELF of this
 * machine's class and kind. 0, PLUGIN_MISSING, PLUGIN_INVALID.
 */
int plugin_verify(const char *path, struct err *e) MUST_CHECK;

struct plugin {
	char *path;
	void *handle;
	/* A copy of the descriptor; fields beyond the plugin's own size are zero. */
	struct orch_harness harness;
};

/*
 * Verifies and loads a harness: RTLD_NOW | RTLD_LOCAL, magic, major, size, what must be there, the
 * table of options. 0, PLUGIN_INVALID, PLUGIN_MISSING, -ENOMEM. Runs the plugin's constructors.
 */
int plugin_load(const char *path, struct plugin *ret, struct err *e) MUST_CHECK;
/* Frees the struct; the object stays mapped (an unload would run destructors). */
void plugin_deinit(struct plugin *p);

#endif
