/* SPDX-License-Identifier: MIT */
/*
 * Inside the probe. Three processes: the caller; a warden, which is the subreaper of whatever the
 * plugin starts and ends it at the deadline; and the loader, which runs the plugin. Loader and
 * warden write JSON lines to one pipe: the loader {"refused": outcome, "text"} or {"loaded":
 * {...}}, then {"check": "begin"} and {"checked": rc, "text"?, "version"?}; the warden last
 * {"status": wait status of the loader, "late": bool}. The caller believes none of it blindly.
 */
#ifndef PLUGIN_PROBE_IMPL_H
#define PLUGIN_PROBE_IMPL_H

#include "plugin/probe.h"
#include "plugin/service.h"

struct probe_request {
	const char *path;
	const struct plugin_probe_args *args;
};

/* The number of the pipe's write end in warden and loader. */
#define PROBE_FD 3

/* The warden's whole life; request is a struct probe_request. Returns its exit status. */
int probe_warden_run(void *request);

/* Fills in the process functions of a host that starts processes itself, as its children. */
void probe_process_init(struct service *s);

#endif
