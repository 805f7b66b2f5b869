/* SPDX-License-Identifier: MIT */
/* orch harness list|show|check: the plugins there are, each asked in a throwaway process. */
#include "cli/commands.h"

#include "base/map.h"
#include "base/str.h"
#include "plugin/probe.h"
#include "run/environ.h"
#include "run/json_text.h"

#include <errno.h>
#include <string.h>

#define PROBE_TIMEOUT_MAX_MS 600000

/* A harness by the name that plans use, and what its plugin says. */
struct harness {
	const char *name;   /* borrowed */
	const char *plugin; /* borrowed */
	char *path;         /* NULL: not found */
	int outcome;        /* of the probe: 0, or an enum plugin_outcome */
	struct plugin_report report;
	struct err problem;
};

struct asked {
	struct cli *cli;
	struct cli_site at;
	char *plugin_path;
	bool json;
};

static void harness_deinit(struct harness *h)
{
	free(h->path);
	h->path = NULL;
	plugin_report_deinit(&h->report);
}

/* The configured options, as the probe takes them. Owned array of borrowed strings. */
static struct plugin_setting *settings_of(const struct config_harness *c, size_t *ret_n)
{
	size_t n = c ? c->options.count : 0;
	struct plugin_setting *settings = calloc(n + 1, sizeof(*settings));
	for (size_t i = 0; settings && i < n; i++)
		settings[i] =
			(struct plugin_setting){c->options.items[i].key, c->options.items[i].value};
	*ret_n = n;
	return settings;
}

/* Fills in what can be known; a plugin that is missing or broken is in outcome and problem. */
static int ask(
	struct asked *a, const char *name, unsigned flags, struct harness *ret, struct err *e)
{
	const struct config *config = a->at.site->config;
	struct plugin_probe_args args = {
		.flags = flags, .timeout_ms = config->orch.callback_timeout_ms};
	if (args.timeout_ms > PROBE_TIMEOUT_MAX_MS)
		args.timeout_ms = PROBE_TIMEOUT_MAX_MS;
	*ret = (struct harness){.name = name, .plugin = config_harness_plugin(config, name)};
	CLEANUP(freep)
	struct plugin_setting *settings =
		settings_of(config_harness_find(config, name), &args.n_settings);
	if (!settings)
		return err_nomem(e);
	args.settings = settings;
	/* A check finds what the harness's units would: keys as they are passed on, for one. */
	CLEANUP_STRV char **environment = NULL;
	int r = environ_of_harness(a->at.site, name, &environment, e);
	if (r < 0)
		return r;
	args.environment = environment;
	r = plugin_find(a->plugin_path, ret->plugin, &ret->path, &ret->problem);
	if (r == 0)
		r = plugin_probe(ret->path, &args, &ret->report, &ret->problem);
	if (r < 0) {
		*e = ret->problem;
		harness_deinit(ret);
		return r;
	}
	ret->outcome = r;
	return 0;
}

/* ---- list ---- */

static json_t *harness_json(const struct harness *h)
{
	return json_pack("{s:s, s:s, s:o, s:o, s:o, s:o}", "name", h->name, "plugin", h->plugin,
		"version", json_text(h->report.version), "path", json_text(h->path), "description",
		json_text(h->report.description), "problem",
		json_text(h->outcome ? h->problem.msg : NULL));
}

static void print_field(const char *text)
{
	cli_print_safe(stdout, text ? text : "");
}

static void print_harness(const struct harness *h)
{
	printf("%-16s ", h->name);
	if (h->outcome) {
		printf("%s: ", h->outcome == PLUGIN_MISSING ? "missing" : "broken");
		print_field(h->problem.msg);
	} else {
		print_field(h->report.version ? h->report.version : "-");
		printf("  ");
		print_field(h->report.description);
		printf("\n%-16s ", "");
		print_field(h->path);
	}
	putchar('\n');
}

/* Names of plugins on the path and of configured harnesses, each once; keys of the map. */
static int collect_names(struct asked *a, struct map *names, struct err *e)
{
	struct plugin_files files = {0};
	int r = plugin_list(a->plugin_path, &files, e);
	vec_foreach(f, &files.list)
		if (r == 0)
			r = map_put(names, f->name, a);
	plugin_files_deinit(&files);
	vec_foreach(h, &a->at.site->config->harnesses) {
		if (r == 0)
			r = map_put(names, h->name, a);
		if (r == -EEXIST)
			r = 0;
	}
	return r < 0 && e->code == 0 ? err_nomem(e) : r;
}

static int list(struct asked *a)
{
	struct err e = ERR_INIT;
	CLEANUP(map_deinit) struct map names = MAP_INIT;
	json_t *all = json_array();
	int r = all ? collect_names(a, &names, &e) : err_nomem(&e);
	for (size_t i = 0; r == 0 && i < names.count; i++) {
		struct harness h;
		r = ask(a, names.entries[i].key, 0, &h, &e);
		if (r < 0)
			break;
		if (a->json && json_array_append_new(all, harness_json(&h)) < 0)
			r = err_nomem(&e);
		else if (!a->json)
			print_harness(&h);
		harness_deinit(&h);
	}
	int status = r < 0 ? cli_error(a->cli, &e) : 0;
	if (status == 0 && !a->json && names.count == 0) {
		printf("no harness plugins in ");
		print_field(a->plugin_path);
		putchar('\n');
	}
	if (status == 0 && a->json)
		status = cli_print_json(json_pack("{s:i, s:O}", "version", 1, "harnesses", all));
	json_decref(all);
	return cli_flush(status);
}

/* ---- show ---- */

static const struct config_option *configured(const struct config_harness *c, const char *key)
{
	for (size_t i = 0; c && i < c->options.count; i++)
		if (str_eq(c->options.items[i].key, key))
			return &c->options.items[i];
	return NULL;
}

static void print_option(const struct plugin_report_option *o, const struct config_option *set)
{
	printf("  %s (%s", o->key, o->type);
	if (o->default_value) {
		printf(", default ");
		print_field(o->default_value);
	}
	printf(")\n");
	if (o->help && o->help[0]) {
		printf("      ");
		print_field(o->help);
		putchar('\n');
	}
	if (set) {
		printf("      set to ");
		print_field(set->value);
		printf(" in ");
		print_field(set->origin);
		putchar('\n');
	}
}

static void print_show(const struct harness *h, const struct config_harness *c)
{
	const struct plugin_report *r = &h->report;
	printf("%s", h->name);
	if (!str_eq(h->name, h->plugin))
		printf(" (plugin %s)", h->plugin);
	printf(": ");
	print_field(r->description);
	printf("\nversion  ");
	print_field(r->version);
	printf("\npath     ");
	print_field(h->path);
	printf("\nabi      %u.%u%s%s\n", r->abi_major, r->abi_minor, r->has_send ? ", send" : "",
		r->has_check ? ", check" : "");
	printf("options of [harness:%s]%s\n", h->name, r->options.count ? "" : ": none");
	vec_foreach(o, &r->options)
		print_option(o, configured(c, o->key));
}

static json_t *show_json(const struct harness *h, const struct config_harness *c)
{
	json_t *options = json_array();
	vec_foreach(o, &h->report.options) {
		const struct config_option *set = configured(c, o->key);
		json_t *option = json_pack("{s:s, s:s, s:o, s:o, s:o, s:o}", "key", o->key, "type",
			o->type, "default", json_text(o->default_value), "help", json_text(o->help),
			"value", json_text(set ? set->value : NULL), "origin",
			json_text(set ? set->origin : NULL));
		(void)json_array_append_new(options, option); /* NULL makes the whole fail below */
	}
	json_t *object = harness_json(h);
	json_t *more = json_pack("{s:[i,i], s:b, s:b, s:o}", "abi", h->report.abi_major,
		h->report.abi_minor, "has_check", h->report.has_check, "has_send",
		h->report.has_send, "options", options);
	if (!object || !more || json_object_update(object, more) < 0) {
		json_decref(object);
		object = NULL;
	}
	json_decref(more);
	return json_pack("{s:i, s:o}", "version", 1, "harness", object);
}

/* What is configured for a harness but not declared by its plugin; says so, returns how many. */
static size_t tell_unknown(const struct asked *a, const struct harness *h)
{
	const struct config_harness *c = config_harness_find(a->at.site->config, h->name);
	size_t unknown = 0;
	for (size_t i = 0; c && i < c->options.count; i++) {
		const struct config_option *set = &c->options.items[i];
		bool declared = false;
		vec_foreach(o, &h->report.options)
			declared |= str_eq(o->key, set->key);
		if (declared)
			continue;
		unknown++;
		fprintf(stderr, "orch %s: %s has no option '%s' (", a->cli->verb, h->plugin,
			set->key);
		cli_print_safe(stderr, set->origin);
		fputs(")\n", stderr);
	}
	return unknown;
}

/* ---- check ---- */

static bool check_is_good(enum plugin_check check)
{
	return check == PLUGIN_CHECK_OK || check == PLUGIN_CHECK_NONE;
}

static const char *check_name(enum plugin_check check)
{
	static const char *const names[] = {
		[PLUGIN_CHECK_NONE] = "none",
		[PLUGIN_CHECK_OK] = "ok",
		[PLUGIN_CHECK_FAILED] = "failed",
		[PLUGIN_CHECK_BROKEN] = "broken",
	};
	return names[check];
}

static void print_check(const struct harness *h)
{
	const struct plugin_report *r = &h->report;
	printf("%s: ", h->name);
	if (r->check == PLUGIN_CHECK_NONE)
		printf("the plugin loads; it has no check of its agent");
	else
		printf("%s", check_name(r->check));
	if (r->agent_version) {
		printf(", version ");
		print_field(r->agent_version);
	}
	if (r->check_text && r->check_text[0]) {
		printf(": ");
		print_field(r->check_text);
	}
	putchar('\n');
}

static json_t *check_json(const struct harness *h)
{
	return json_pack("{s:i, s:{s:s, s:s, s:o, s:o}}", "version", 1, "harness", "name", h->name,
		"check", check_name(h->report.check), "agent_version",
		json_text(h->report.agent_version), "text", json_text(h->report.check_text));
}

/* ---- the verbs ---- */

static int parse(struct asked *a, int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'}, CLI_OPTIONS};
	int val, status = -1;
	while ((val = cli_option(a->cli, argc, argv, options, &status)) != -1) {
		if (val == CLI_EXIT)
			return status;
		if (val != 'j')
			return cli_usage(a->cli, "unknown option '-%c'", val);
		a->json = true;
	}
	return -1;
}

static int asked_open(struct asked *a)
{
	struct err e = ERR_INIT;
	int status = cli_site_open_bare(a->cli, &a->at);
	if (status == 0 && !(a->plugin_path = site_plugin_path(a->at.site))) {
		err_nomem(&e);
		status = cli_error(a->cli, &e);
	}
	return status;
}

static void asked_close(struct asked *a)
{
	free(a->plugin_path);
	cli_site_close(&a->at);
}

int cmd_harness_list(struct cli *cli, int argc, char **argv)
{
	struct asked a = {.cli = cli, .at = CLI_SITE_INIT};
	int status = parse(&a, argc, argv);
	if (status >= 0)
		return status;
	if (optind < argc)
		return cli_usage(cli, "no operands are expected");
	status = asked_open(&a);
	if (status == 0)
		status = list(&a);
	asked_close(&a);
	return status;
}

/* 66 for a missing plugin, 1 for one that cannot be used. */
static int unusable(struct asked *a, struct harness *h)
{
	h->problem.status = h->outcome == PLUGIN_MISSING ? EXIT_NOINPUT : 1;
	return cli_error(a->cli, &h->problem);
}

static int one(struct cli *cli, int argc, char **argv, unsigned flags,
	int (*tell)(struct asked *a, const struct harness *h))
{
	struct asked a = {.cli = cli, .at = CLI_SITE_INIT};
	struct err e = ERR_INIT;
	struct harness h = {0};
	const char *why;
	int status = parse(&a, argc, argv);
	if (status >= 0)
		return status;
	if (optind + 1 != argc)
		return cli_usage(cli, "expected one harness");
	const char *name = argv[optind];
	if (!name_is_valid(name, &why))
		return cli_usage(cli, "'%s' %s", name, why);
	status = asked_open(&a);
	if (status == 0 && ask(&a, name, flags, &h, &e) < 0)
		status = cli_error(cli, &e);
	else if (status == 0)
		status = h.outcome ? unusable(&a, &h) : tell(&a, &h);
	harness_deinit(&h);
	asked_close(&a);
	return cli_flush(status);
}

static int tell_show(struct asked *a, const struct harness *h)
{
	const struct config_harness *c = config_harness_find(a->at.site->config, h->name);
	(void)tell_unknown(a, h);
	if (a->json)
		return cli_print_json(show_json(h, c));
	print_show(h, c);
	return 0;
}

int cmd_harness_show(struct cli *cli, int argc, char **argv)
{
	return one(cli, argc, argv, 0, tell_show);
}

static int tell_check(struct asked *a, const struct harness *h)
{
	int status = tell_unknown(a, h) || !check_is_good(h->report.check);
	if (a->json)
		return cli_print_json(check_json(h)) ? EXIT_IO : status;
	print_check(h);
	return status;
}

int cmd_harness_check(struct cli *cli, int argc, char **argv)
{
	return one(cli, argc, argv, PLUGIN_PROBE_CHECK, tell_check);
}
