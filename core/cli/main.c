/* SPDX-License-Identifier: MIT */
/* main of orch: signals first, then the verb's table entry. */
#include "base/log.h"
#include "base/str.h"
#include "cli/agent.h"
#include "cli/cli.h"
#include "cli/version.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>

/*
 * The stop signals are held back from the first moment on and read from a descriptor, so that one
 * that comes while we start ends in the same clean way. One that was ignored when we were started
 * stays ignored.
 */
static int signals_open(const struct spawn_origin *origin)
{
	static const int stops[] = {SIGINT, SIGTERM, SIGHUP};
	sigset_t set;
	sigemptyset(&set);
	for (size_t i = 0; i < sizeof(stops) / sizeof(stops[0]); i++)
		if (sigismember(&origin->ignored, stops[i]) != 1)
			sigaddset(&set, stops[i]);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN); /* RLIMIT_FSIZE is an error to tell, EFBIG, not a death */
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static void print_commands(FILE *out)
{
	fputs("usage: orch [-C DIR] [--config FILE] [--log-level LEVEL] [--quiet] COMMAND "
	      "[ARGS]\n\n"
	      "Runs fleets of coding agents to completion and never loses one.\n\n",
		out);
	for (const struct cli_command *c = cli_commands; c->name; c++)
		fprintf(out, "  %-10s %s\n", c->name, c->summary);
	fputs("\n`orch COMMAND --help` says more; `orch --version` prints the version.\n", out);
}

static int run_command(struct cli *cli, const struct cli_command *c, int argc, char **argv)
{
	if (!c->reads_signals)
		sigprocmask(SIG_SETMASK, &cli->origin.mask, NULL);
	return c->run(cli, argc, argv);
}

static const struct cli_command *find_command(const struct cli_command *table, const char *name)
{
	for (const struct cli_command *c = table; c && c->name; c++)
		if (strcmp(c->name, name) == 0)
			return c;
	return NULL;
}

static bool asks_for_help(const char *word)
{
	return str_eq(word, "--help") || str_eq(word, "-h");
}

static int run_subcommand(struct cli *cli, const struct cli_command *c, int argc, char **argv)
{
	int status = cli_leading_options(cli, argc, argv);
	if (status >= 0)
		return status;
	int at = optind;
	const struct cli_command *sub = at < argc ? find_command(c->subcommands, argv[at]) : NULL;
	if (!sub) {
		status = at < argc ? cli_usage(cli, "no command '%s'", argv[at])
				   : cli_usage(cli, "what to do is missing");
		for (const struct cli_command *s = c->subcommands; s->name; s++)
			fprintf(stderr, "  %-10s %s\n", s->name, s->summary);
		return status;
	}
	CLEANUP_STR char *verb = str_printf("%s %s", c->name, sub->name);
	cli->verb = verb ? verb : c->name;
	cli->command = sub;
	optind = 0;
	status = run_command(cli, sub, argc - at, argv + at);
	cli->verb = c->name;
	return status;
}

/* Options before the verb. Returns an exit status, or -1 to go on at *ret_at. */
static int leading_options(struct cli *cli, int argc, char **argv, int *ret_at)
{
	static const struct option options[] = {CLI_OPTIONS};
	int val;
	cli->verb = "";
	opterr = 0; /* what is wrong is said below */
	while ((val = getopt_long(argc, argv, "+:C:qh", options, NULL)) != -1) {
		CLEANUP_BUF struct buf mistake = BUF_INIT;
		enum log_level level;
		switch (val) {
		case 'C':
			cli->dir = optarg;
			break;
		case 'q':
			cli->quiet = true;
			log_set_level(LOG_LEVEL_WARNING);
			break;
		case 1001:
			cli->config_file = optarg;
			break;
		case 1002:
			if (log_level_parse(optarg, &level) < 0) {
				fprintf(stderr,
					"orch: --log-level: expected error, warning, info or "
					"debug\n");
				return EXIT_USAGE;
			}
			cli_set_log_level(cli, optarg, level);
			break;
		case 1003:
			printf("orch %s\n", ORCH_VERSION);
			return cli_flush(0);
		case 'h':
			print_commands(stdout);
			return cli_flush(0);
		default:
			cli_describe_mistake(val, argv[optind - 1], options, &mistake);
			fprintf(stderr, "orch: %s\n", buf_cstr(&mistake));
			print_commands(stderr);
			return EXIT_USAGE;
		}
	}
	*ret_at = optind;
	return -1;
}

/* Operator verbs are not for agents, token or no token; an agent's verbs mean nothing elsewhere. */
static int refuse_place(const struct cli_command *c)
{
	if (c->for_agents)
		fprintf(stderr, "orch %s: this is for an agent at work, inside its unit\n",
			c->name);
	else
		fprintf(stderr,
			"orch %s: not inside a unit; an agent has: task, check, progress, finding, "
			"done\n",
			c->name);
	return EXIT_USAGE;
}

int main(int argc, char **argv)
{
	struct cli cli = {.program = "orch", .signal_fd = -1};
	/* Descriptors 0 to 2 must exist, or files of ours would become somebody's output. */
	int fd;
	do {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	} while (fd >= 0 && fd <= 2);
	if (fd > 2)
		close(fd);
	spawn_origin_save(&cli.origin);
	cli.signal_fd = signals_open(&cli.origin);
	if (cli.signal_fd < 0) {
		fprintf(stderr, "orch: cannot make a signal descriptor: %s\n", strerror(errno));
		return EXIT_IO;
	}
	int at = 1;
	int status = leading_options(&cli, argc, argv, &at);
	if (status >= 0)
		return status;
	if (at >= argc) {
		print_commands(stderr);
		return EXIT_USAGE;
	}
	const struct cli_command *c = find_command(cli_commands, argv[at]);
	if (!c) {
		fprintf(stderr, "orch: no command '%s'; `orch --help` lists them\n", argv[at]);
		return EXIT_USAGE;
	}
	cli.verb = c->name;
	cli.command = c;
	if (c->for_agents != agent_inside_unit()) {
		/* What a verb is for may be asked anywhere. */
		if (at + 1 >= argc || !asks_for_help(argv[at + 1]))
			return refuse_place(c);
		cli_help(&cli, stdout);
		return cli_flush(0);
	}
	optind = 0; /* glibc: begin anew, with a fresh argv */
	return c->subcommands ? run_subcommand(&cli, c, argc - at, argv + at)
			      : run_command(&cli, c, argc - at, argv + at);
}
