/* SPDX-License-Identifier: MIT */
/* plugin-probe FILE: prints what plugin_probe finds out; for test_guide. */
#include "plugin/probe.h"

#include <stdio.h>

int main(int argc, char **argv)
{
	if (argc != 2)
		return EXIT_USAGE;
	CLEANUP(plugin_report_deinit) struct plugin_report r = PLUGIN_REPORT_INIT;
	struct err e = ERR_INIT;
	const struct plugin_probe_args args = {.flags = PLUGIN_PROBE_CHECK, .timeout_ms = 20000};
	if (plugin_probe(argv[1], &args, &r, &e) != 0) {
		(void)fprintf(stderr, "plugin-probe: %s\n", e.msg);
		return 1;
	}
	printf("%s %s: %s\n", r.name, r.version, r.description);
	vec_foreach(o, &r.options)
		printf("option %s (%s) = %s\n", o->key, o->type,
			o->default_value ? o->default_value : "");
	return r.check == PLUGIN_CHECK_NONE || r.check == PLUGIN_CHECK_OK ? 0 : 1;
}
