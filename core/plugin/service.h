/* SPDX-License-Identifier: MIT */
/*
 * The part of struct orch_host that is the same wherever a plugin runs (a unit's host, a probe):
 * log, fail, options, events. The owner embeds struct service, fills in the process functions of
 * `api` and the two sinks.
 */
#ifndef PLUGIN_SERVICE_H
#define PLUGIN_SERVICE_H

#include "plugin/event.h"
#include "plugin/options.h"
#include "plugin_api.h"

struct service {
	struct orch_host api;                /* first: plugins hold a pointer to it */
	const struct option_values *options; /* borrowed */
	/* Called on whatever thread the plugin calls from. text is valid UTF-8 and has no newline
	 * at its end. emit_event takes an encoded event; what it returns goes to the plugin. */
	void (*emit_log)(
		struct service *s, enum orch_log_level level, const char *text, size_t len);
	int (*emit_event)(struct service *s, const char *json, size_t len);
};

/* Sets everything but the process functions and the sinks; options must outlive the service. */
void service_init(struct service *s, const struct option_values *options);

/* What this thread's last host->fail said, "" when nothing since the last clear. Borrowed. */
const char *service_fail_text(void);
void service_fail_clear(void);

#endif
