/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"

#include "base/buf.h"
#include "base/json_text.h"
#include "base/log.h"
#include "base/str.h"
#include "cli/version.h"

#include <jansson.h>
#include <stdarg.h>
#include <string.h>

int cli_usage(const struct cli *cli, const char *fmt, ...)
{
	va_list ap;
	fprintf(stderr, "%s %s: ", cli->program, cli->verb);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nusage: %s %s %s\n", cli->program, cli->verb,
		cli->command ? cli->command->args : "");
	return EXIT_USAGE;
}

int cli_error(const struct cli *cli, const struct err *e)
{
	CLEANUP_STR char *safe = str_printable(e->msg, strlen(e->msg), true);
	fprintf(stderr, "%s %s: %s\n", cli->program, cli->verb, safe ? safe : "out of memory");
	return err_status(e);
}

int cli_no_memory(const struct cli *cli)
{
	struct err e = ERR_INIT;
	err_nomem(&e);
	return cli_error(cli, &e);
}

void cli_help(const struct cli *cli, FILE *out)
{
	const struct cli_command *c = cli->command;
	fprintf(out, "usage: %s %s %s\n\n%s\n", cli->program, cli->verb, c->args, c->summary);
	if (c->help)
		fprintf(out, "\n%s\n", c->help);
	if (c->options)
		fprintf(out, "\n%s\n", c->options);
	if (c->subcommands) {
		fputc('\n', out);
		for (const struct cli_command *s = c->subcommands; s->name; s++)
			fprintf(out, "  %-10s %s\n", s->name, s->summary);
	}
	fputs("\nEverywhere: -h, --help, -C DIR, --config FILE, --log-level LEVEL, -q, --quiet\n",
		out);
}

void cli_set_log_level(struct cli *cli, const char *name, enum log_level level)
{
	cli->log_level = name;
	log_set_level(level);
}

/* Options that are the same everywhere. Returns whether val was one of them. */
static bool global_option(struct cli *cli, int val, int *ret_status)
{
	enum log_level level;
	*ret_status = -1;
	switch (val) {
	case 'h':
		cli_help(cli, stdout);
		*ret_status = cli_flush(0);
		return true;
	case 1001:
		cli->config_file = optarg;
		return true;
	case 1002:
		if (log_level_parse(optarg, &level) < 0)
			*ret_status = cli_usage(cli,
				"--log-level: expected error, warning, info or debug, not '%s'",
				optarg);
		else
			cli_set_log_level(cli, optarg, level);
		return true;
	case 1003:
		printf("orch %s\n", ORCH_VERSION);
		*ret_status = cli_flush(0);
		return true;
	case 'C':
		cli->dir = optarg;
		return true;
	case 'q':
		cli->quiet = true;
		log_set_level(LOG_LEVEL_WARNING);
		return true;
	default:
		return false;
	}
}

/* Names of long options that begin so. */
static size_t begin_so(const char *word, size_t len, const struct option *options, struct buf *ret)
{
	size_t n = 0;
	for (const struct option *o = options; o->name; o++)
		if (strncmp(o->name, word, len) == 0)
			buf_addf(ret, "%s--%s", n++ ? ", " : "", o->name);
	return n;
}

/* getopt_long leaves optopt 0 for a long option that it does not know, and sets it for one that is
 * known and given wrongly, and for every short one. */
void cli_describe_mistake(int val, const char *word, const struct option *options, struct buf *out)
{
	bool is_long = strncmp(word, "--", 2) == 0;
	size_t len = is_long ? strcspn(word + 2, "=") : 0;
	bool has_value = is_long && word[2 + len] == '=';
	CLEANUP_BUF struct buf names = BUF_INIT;
	if (val == ':' && is_long)
		buf_addf(out, "option '%.*s' needs a value", (int)len + 2, word);
	else if (val == ':')
		buf_addf(out, "option '-%c' needs a value", optopt);
	else if (optopt != 0 && has_value && begin_so(word + 2, len, options, &names) > 0)
		buf_addf(out, "option '%.*s' takes no value", (int)len + 2, word);
	else if (optopt != 0)
		buf_addf(out, "unknown option '-%c'", optopt);
	else if (begin_so(word + 2, len, options, &names) > 1)
		buf_addf(out, "option '%.*s' is not clear: %s", (int)len + 2, word,
			buf_cstr(&names));
	else
		buf_addf(out, "unknown option '%.*s'", (int)len + 2, word);
}

static int mistaken_option(
	const struct cli *cli, int val, char **argv, const struct option *options)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	cli_describe_mistake(val, argv[optind - 1], options, &text);
	return cli_usage(cli, "%s", buf_check(&text) < 0 ? "out of memory" : buf_cstr(&text));
}

static int next_option(struct cli *cli, int argc, char **argv, const char *letters,
	const struct option *options, int *ret_status)
{
	opterr = 0; /* what is wrong is said below */
	for (;;) {
		int val = getopt_long(argc, argv, letters, options, NULL);
		if (val == '?' || val == ':') {
			*ret_status = mistaken_option(cli, val, argv, options);
			return CLI_EXIT;
		}
		if (val == -1 || !global_option(cli, val, ret_status))
			return val;
		if (*ret_status >= 0)
			return CLI_EXIT;
	}
}

int cli_option(
	struct cli *cli, int argc, char **argv, const struct option *options, int *ret_status)
{
	return next_option(cli, argc, argv, ":C:hqfy", options, ret_status);
}

int cli_leading_options(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {CLI_OPTIONS};
	int status = -1;
	return next_option(cli, argc, argv, "+:C:hq", options, &status) == CLI_EXIT ? status : -1;
}

int cli_plain_options(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {CLI_OPTIONS};
	int status;
	int val = cli_option(cli, argc, argv, options, &status);
	if (val == CLI_EXIT)
		return status;
	if (val != -1)
		return cli_usage(cli, "unknown option '-%c'", val);
	return -1;
}

void cli_print_safe(FILE *out, const char *text)
{
	CLEANUP_STR char *safe = str_printable(text, strlen(text), true);
	fputs(safe ? safe : "(out of memory)", out);
}

int cli_put_json(json_t *value)
{
	CLEANUP(freep)
	char *text = value ? json_text_dump(value, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
	json_decref(value);
	if (text)
		puts(text);
	return text ? 0 : -ENOMEM;
}

int cli_print_json(json_t *value)
{
	if (cli_put_json(value) == 0)
		return cli_flush(0);
	fprintf(stderr, "orch: out of memory\n");
	return EXIT_IO;
}

int cli_flush(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	fprintf(stderr, "orch: cannot write to standard output\n");
	return status ? status : EXIT_IO;
}
