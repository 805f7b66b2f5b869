/* SPDX-License-Identifier: MIT */
/*
 * Asks a harness file about itself, in a throwaway process: a constructor or `check` that crashes,
 * quits or hangs is a sentence in the report. When a function here has returned, nothing that the
 * plugin started is alive, whatever session it fled to.
 */
#ifndef PLUGIN_PROBE_H
#define PLUGIN_PROBE_H

#include "plugin/options.h"
#include "plugin/plugin.h"

#include <stdbool.h>
#include <stdint.h>

enum plugin_check {
	PLUGIN_CHECK_NONE,   /* not asked for, or the harness has no check */
	PLUGIN_CHECK_OK,     /* agent_version and text may say more */
	PLUGIN_CHECK_FAILED, /* text says why */
	PLUGIN_CHECK_BROKEN, /* crashed, quit or hung: text says which */
};

struct plugin_report_option {
	char *key;
	const char *type;    /* static: "string", "bool", "int", "duration", "size" */
	char *default_value; /* NULL: none */
	char *help;
};

struct plugin_report {
	char *path;
	char *name;
	char *version;
	char *description;
	unsigned abi_major, abi_minor;
	bool has_check, has_send;
	struct VEC(struct plugin_report_option) options;
	enum plugin_check check;
	char *agent_version; /* NULL: not said */
	char *check_text;    /* NULL: none */
};

#define PLUGIN_REPORT_INIT ((struct plugin_report){0})

void plugin_report_deinit(struct plugin_report *r);

enum plugin_probe_flag {
	PLUGIN_PROBE_CHECK = 1, /* run the harness's check, too */
};

struct plugin_probe_args {
	unsigned flags;                        /* enum plugin_probe_flag */
	const struct plugin_setting *settings; /* options for check; borrowed; NULL: none */
	size_t n_settings;
	char *const *environment; /* for check; borrowed; NULL: this process's */
	int64_t timeout_ms;       /* for all of it */
};

/*
 * 0 and a report (free it with plugin_report_deinit); PLUGIN_MISSING, PLUGIN_INVALID: the file
 * cannot be used as a harness, e says why; -errno: the probe itself failed. A failed check is a
 * report, not an error.
 *
 * Blocks for timeout_ms at most, and a moment to clean up. Forks without exec: call it from a
 * program that has one thread. SIGCHLD must not be ignored.
 */
int plugin_probe(const char *path, const struct plugin_probe_args *args, struct plugin_report *ret,
	struct err *e) MUST_CHECK;

#endif
