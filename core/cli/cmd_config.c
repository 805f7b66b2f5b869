/* SPDX-License-Identifier: MIT */
/* orch config show|check: every value with where it comes from. */
#include "cli/commands.h"

#include "run/json_text.h"

#include <string.h>

/* ---- show ---- */

struct collect {
	const struct config *config;
	json_t *values;
	bool failed;
};

static void add(struct collect *c, const char *section, const char *label, const char *key,
	const char *value, const char *origin)
{
	json_t *item =
		json_pack("{s:s, s:o, s:s, s:o, s:o}", "section", section, "name", json_text(label),
			"key", key, "value", json_text(value), "origin", json_text(origin));
	c->failed |= json_array_append_new(c->values, item) < 0;
}

/* A key that no layer sets; those that are set come from config->values, labelled ones too. */
static void add_built_in(const char *section, const struct key_spec *spec, void *arg)
{
	struct collect *c = arg;
	if (strcmp(section, "harness") == 0 || strcmp(section, "invariant") == 0)
		return;
	if (strcmp(config_origin(c->config, section, NULL, spec->key), "built in") == 0)
		add(c, section, NULL, spec->key, spec->default_value, "built in");
}

static int print_json(const struct config *config)
{
	struct collect c = {.config = config, .values = json_array()};
	vec_foreach(v, &config->values)
		add(&c, v->section, v->label, v->key, v->value, v->origin);
	config_each_key(add_built_in, &c);
	json_t *object =
		c.failed ? NULL : json_pack("{s:i, s:O}", "version", 1, "values", c.values);
	json_decref(c.values);
	return cli_print_json(object);
}

static int no_operands(struct cli *cli, int argc, char **argv)
{
	return optind < argc ? cli_usage(cli, "no operands are expected, found '%s'", argv[optind])
			     : -1;
}

int cmd_config_show(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'}, CLI_OPTIONS};
	struct cli_site at = CLI_SITE_INIT;
	bool json = false;
	int val, status = -1;
	while ((val = cli_option(cli, argc, argv, options, &status)) != -1) {
		if (val == CLI_EXIT)
			return status;
		if (val != 'j')
			return cli_usage(cli, "unknown option '-%c'", val);
		json = true;
	}
	status = no_operands(cli, argc, argv);
	if (status >= 0)
		return status;
	status = cli_site_open_bare(cli, &at);
	if (status == 0 && json)
		status = print_json(at.site->config);
	else if (status == 0 && config_print(at.site->config, stdout) == -ENOMEM)
		status = cli_no_memory(cli); /* what cannot be written is told below */
	cli_site_close(&at);
	return cli_flush(status);
}

/* ---- check ---- */

int cmd_config_check(struct cli *cli, int argc, char **argv)
{
	struct cli_site at = CLI_SITE_INIT;
	int status = cli_plain_options(cli, argc, argv);
	if (status < 0)
		status = no_operands(cli, argc, argv);
	if (status >= 0)
		return status;
	/* Opening prints every mistake with its place. */
	status = cli_site_open_bare(cli, &at);
	if (status == 0 && !cli->quiet)
		puts("no mistakes");
	cli_site_close(&at);
	return cli_flush(status);
}
