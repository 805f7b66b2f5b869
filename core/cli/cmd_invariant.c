/* SPDX-License-Identifier: MIT */
/* orch invariant add|remove|list|show|preset: the shared invariants of orch.ini. */
#include "cli/commands.h"
#include "cli/orch_ini.h"

#include "base/str.h"
#include "config/presets.h"
#include "run/json_text.h"

#include <errno.h>
#include <string.h>

struct invariants {
	struct cli *cli;
	struct cli_site at;
	bool json, force;
	enum orch_ini_which which;
};

static int check_name(struct cli *cli, const char *name)
{
	const char *why;
	return name_is_valid(name, &why) ? -1 : cli_usage(cli, "'%s' %s", name, why);
}

/* ---- add ---- */

/* One option's value into the invariant; -1: go on. */
static int set_value(struct cli *cli, struct invariant *inv, const char *key, const char *value)
{
	CLEANUP_BUF struct buf why = BUF_INIT;
	const char *option = str_eq(key, "red_before") ? "red-before" : key;
	if (!utf8_is_valid(value, strlen(value)))
		return cli_usage(cli, "--%s: expected UTF-8", option);
	int r = key_set(key_find(&invariant_keys, key), inv, value, &why);
	if (r == -EINVAL)
		return cli_usage(cli, "--%s: %s", option, buf_cstr(&why));
	return r < 0 ? cli_no_memory(cli) : -1;
}

static int parse_add(struct invariants *v, struct invariant *inv, int argc, char **argv)
{
	static const struct option options[] = {
		{"command", required_argument, NULL, 'c'},
		{"timeout", required_argument, NULL, 't'},
		{"expect", required_argument, NULL, 'e'},
		{"red-before", required_argument, NULL, 'b'},
		{"advisory", no_argument, NULL, 'a'},
		{"global", no_argument, NULL, 'g'},
		{"force", no_argument, NULL, 'f'},
		CLI_OPTIONS,
	};
	int val, status = -1;
	while ((val = cli_option(v->cli, argc, argv, options, &status)) != -1) {
		if (val == CLI_EXIT)
			return status;
		switch (val) {
		case 'c':
			status = set_value(v->cli, inv, "command", optarg);
			break;
		case 't':
			status = set_value(v->cli, inv, "timeout", optarg);
			break;
		case 'e':
			status = set_value(v->cli, inv, "expect", optarg);
			break;
		case 'b':
			status = set_value(v->cli, inv, "red_before", optarg);
			break;
		case 'a':
			inv->advisory = true;
			break;
		case 'g':
			v->which = ORCH_INI_USER;
			break;
		case 'f':
			v->force = true;
			break;
		default:
			return cli_usage(v->cli, "unknown option '-%c'", val);
		}
		if (status >= 0)
			return status;
	}
	if (optind + 1 != argc)
		return cli_usage(v->cli, "expected one name");
	if (!inv->command)
		return cli_usage(v->cli, "--command is missing: what is to be run");
	return check_name(v->cli, argv[optind]);
}

/* Puts one into the file's text. 0, or positive: it is there already and --force was not given. */
static int put(
	const struct invariants *v, struct orch_ini *f, const struct invariant *inv, struct err *e)
{
	unsigned line = 0;
	int r = orch_ini_find_invariant(f, inv->name, &line, e);
	if (r == 0 && line && !v->force) {
		err_exit(e, EXIT_USAGE,
			"invariant '%s' is there already (%s:%u); --force changes it", inv->name,
			f->path, line);
		return 1;
	}
	return r < 0 ? r : orch_ini_put_invariant(f, inv, e);
}

static int add(struct invariants *v, const struct invariant *inv)
{
	struct err e = ERR_INIT;
	CLEANUP(orch_ini_deinit) struct orch_ini f = ORCH_INI_INIT;
	int status = cli_site_open_bare(v->cli, &v->at);
	if (status)
		return status;
	int r = orch_ini_read(v->at.site, v->cli->config_file, v->which, &f, &e);
	if (r == 0)
		r = put(v, &f, inv, &e);
	if (r == 0)
		r = orch_ini_write(&f, &e);
	if (r != 0)
		return cli_error(v->cli, &e);
	if (!v->cli->quiet)
		printf("invariant '%s' is in %s; `orch invariant test %s` tries it\n", inv->name,
			f.path, inv->name);
	return cli_flush(0);
}

int cmd_invariant_add(struct cli *cli, int argc, char **argv)
{
	struct invariants v = {.cli = cli, .at = CLI_SITE_INIT};
	CLEANUP(invariant_deinit) struct invariant inv = {0};
	if (invariant_init(&inv, "") < 0)
		return cli_no_memory(cli);
	int status = parse_add(&v, &inv, argc, argv);
	if (status >= 0)
		return status;
	if (str_replace(&inv.name, argv[optind]) < 0)
		return cli_no_memory(cli);
	status = add(&v, &inv);
	cli_site_close(&v.at);
	return status;
}

/* ---- remove ---- */

static int remove_one(struct invariants *v, const char *name)
{
	struct err e = ERR_INIT;
	CLEANUP(orch_ini_deinit) struct orch_ini f = ORCH_INI_INIT;
	int status = cli_site_open_bare(v->cli, &v->at);
	if (status)
		return status;
	unsigned line = 0;
	int r = orch_ini_read(v->at.site, v->cli->config_file, v->which, &f, &e);
	if (r == 0)
		r = orch_ini_find_invariant(&f, name, &line, &e);
	const struct invariant *other = config_invariant_find(v->at.site->config, name);
	if (r == 0 && !line)
		r = err_exit(&e, EXIT_NOINPUT, "'%s' has no invariant '%s'%s%s", f.path, name,
			other && other->file ? "; it is defined in " : "",
			other && other->file ? other->file : "");
	if (r == 0)
		r = ini_edit_remove(&f.text, "invariant", name, NULL, &e);
	if (r == 0)
		r = orch_ini_write(&f, &e);
	if (r < 0)
		return cli_error(v->cli, &e);
	if (!v->cli->quiet)
		printf("invariant '%s' is removed from %s\n", name, f.path);
	return cli_flush(0);
}

/* Options --json, --global, --force, as far as the verb has them; -1: go on. */
static int parse(struct invariants *v, const struct option *options, int argc, char **argv)
{
	int val, status = -1;
	while ((val = cli_option(v->cli, argc, argv, options, &status)) != -1) {
		if (val == CLI_EXIT)
			return status;
		if (val == 'g')
			v->which = ORCH_INI_USER;
		else if (val == 'j')
			v->json = true;
		else if (val == 'F')
			v->force = true;
		else
			return cli_usage(v->cli, "unknown option '-%c'", val);
	}
	return -1;
}

int cmd_invariant_remove(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"global", no_argument, NULL, 'g'}, CLI_OPTIONS};
	struct invariants v = {.cli = cli, .at = CLI_SITE_INIT};
	int status = parse(&v, options, argc, argv);
	if (status < 0 && optind + 1 != argc)
		status = cli_usage(cli, "expected one name");
	if (status < 0)
		status = check_name(cli, argv[optind]);
	if (status >= 0)
		return status;
	status = remove_one(&v, argv[optind]);
	cli_site_close(&v.at);
	return status;
}

/* ---- list, show ---- */

static json_t *invariant_json(const struct invariant *inv)
{
	return json_pack("{s:s, s:o, s:o, s:I, s:b, s:s, s:o, s:i}", "name", inv->name, "command",
		json_text(inv->command), "timeout_ms",
		inv->timeout_ms == DURATION_OFF ? json_null() : json_integer(inv->timeout_ms),
		"expect", (json_int_t)inv->expect, "advisory", inv->advisory, "red_before",
		red_before_name(inv->red_before), "file", json_text(inv->file), "line",
		(int)inv->line);
}

static void print_line(const struct invariant *inv)
{
	CLEANUP_STR char *timeout = format_duration(inv->timeout_ms);
	CLEANUP_STR char *first = strndup(inv->command, strcspn(inv->command, "\n"));
	printf("%-20s ", inv->name);
	cli_print_safe(stdout, first ? first : "");
	if (first && strlen(first) < strlen(inv->command))
		printf(" ...");
	printf("  (%s", timeout ? timeout : "?");
	if (inv->expect)
		printf(", expects %lld", (long long)inv->expect);
	printf("%s)\n", inv->advisory ? ", advisory" : "");
}

static int list_json(const struct config *c)
{
	json_t *list = json_array();
	bool failed = !list;
	vec_foreach(inv, &c->invariants)
		failed |= json_array_append_new(list, invariant_json(inv)) < 0;
	json_t *object = failed ? NULL : json_pack("{s:i, s:O}", "version", 1, "invariants", list);
	json_decref(list);
	return cli_print_json(object);
}

int cmd_invariant_list(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'}, CLI_OPTIONS};
	struct invariants v = {.cli = cli, .at = CLI_SITE_INIT};
	int status = parse(&v, options, argc, argv);
	if (status < 0 && optind != argc)
		status = cli_usage(cli, "no operands are expected");
	if (status >= 0)
		return status;
	status = cli_site_open_bare(cli, &v.at);
	if (status == 0 && v.json) {
		status = list_json(v.at.site->config);
	} else if (status == 0) {
		vec_foreach(inv, &v.at.site->config->invariants)
			print_line(inv);
		if (v.at.site->config->invariants.count == 0)
			puts("no shared invariants; `orch invariant preset` lists some to begin "
			     "with");
	}
	cli_site_close(&v.at);
	return cli_flush(status);
}

static int show(const struct cli *cli, const struct invariant *inv)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	if (inv->file)
		buf_addf(&text, "; %s:%u\n", inv->file, inv->line);
	ini_put_section(&text, "invariant", inv->name);
	for (size_t i = 0; i < invariant_keys.count; i++) {
		CLEANUP_STR char *value = key_format(&invariant_keys.keys[i], inv);
		if (!value)
			return cli_no_memory(cli);
		ini_put(&text, invariant_keys.keys[i].key, value);
	}
	if (buf_check(&text) < 0)
		return cli_no_memory(cli);
	cli_print_safe(stdout, buf_cstr(&text));
	return 0;
}

int cmd_invariant_show(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'}, CLI_OPTIONS};
	struct invariants v = {.cli = cli, .at = CLI_SITE_INIT};
	struct err e = ERR_INIT;
	int status = parse(&v, options, argc, argv);
	if (status < 0 && optind + 1 != argc)
		status = cli_usage(cli, "expected one name");
	if (status >= 0)
		return status;
	const char *name = argv[optind];
	status = cli_site_open_bare(cli, &v.at);
	const struct invariant *inv =
		status == 0 ? config_invariant_find(v.at.site->config, name) : NULL;
	if (status == 0 && !inv) {
		err_exit(&e, EXIT_NOINPUT, "no shared invariant '%s'", name);
		status = cli_error(cli, &e);
	} else if (inv && v.json) {
		status = cli_print_json(
			json_pack("{s:i, s:o}", "version", 1, "invariant", invariant_json(inv)));
	} else if (inv) {
		status = show(cli, inv);
	}
	cli_site_close(&v.at);
	return cli_flush(status);
}

/* ---- presets ---- */

static void print_preset(const struct preset *p, bool fits)
{
	printf("%s%s: ", p->name, fits ? " (fits this project)" : "");
	cli_print_safe(stdout, p->help ? p->help : "");
	putchar('\n');
	vec_foreach(inv, &p->invariants) {
		printf("  ");
		print_line(inv);
	}
}

static int add_preset(struct invariants *v, const struct preset *p, struct err *e)
{
	CLEANUP(orch_ini_deinit) struct orch_ini f = ORCH_INI_INIT;
	size_t added = 0;
	int r = orch_ini_read(v->at.site, v->cli->config_file, v->which, &f, e);
	vec_foreach(inv, &p->invariants) {
		int put_it = r == 0 ? put(v, &f, inv, e) : r;
		if (put_it < 0)
			r = put_it;
		else if (put_it > 0 && !v->cli->quiet)
			printf("%s: left as it is\n", inv->name);
		else if (put_it == 0)
			added++;
	}
	if (r < 0)
		return r;
	*e = ERR_INIT;
	if (added > 0)
		r = orch_ini_write(&f, e);
	if (r == 0 && !v->cli->quiet)
		printf("%zu invariant%s of preset '%s' added to %s\n", added, added == 1 ? "" : "s",
			p->name, f.path);
	return r;
}

static int presets(struct invariants *v, const char *kind)
{
	struct err e = ERR_INIT;
	CLEANUP_PRESETS struct presets all = PRESETS_INIT;
	CLEANUP_PRESETS struct presets here = PRESETS_INIT;
	int status = cli_site_open_bare(v->cli, &v->at);
	if (status)
		return status;
	int r = presets_load(&all, &e);
	if (r == 0)
		r = presets_detect(v->at.site->root, &here, &e);
	/* Where it fits, only what makes sense here. */
	const struct preset *p = NULL;
	if (r == 0 && kind) {
		p = presets_find(&here, kind);
		p = p ? p : presets_find(&all, kind);
		r = p ? add_preset(v, p, &e)
		      : err_exit(&e, EXIT_NOINPUT,
				"no preset '%s'; `orch invariant preset` lists them", kind);
	}
	if (r < 0)
		return cli_error(v->cli, &e);
	vec_foreach(it, &all.list)
		if (!kind)
			print_preset(it, presets_find(&here, it->name) != NULL);
	return 0;
}

int cmd_invariant_preset(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{"global", no_argument, NULL, 'g'}, {"force", no_argument, NULL, 'F'}, CLI_OPTIONS};
	struct invariants v = {.cli = cli, .at = CLI_SITE_INIT};
	int status = parse(&v, options, argc, argv);
	if (status < 0 && argc - optind > 1)
		status = cli_usage(cli, "one preset at a time");
	if (status >= 0)
		return status;
	status = presets(&v, argv[optind]);
	cli_site_close(&v.at);
	return cli_flush(status);
}
