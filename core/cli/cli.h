/* SPDX-License-Identifier: MIT */
/*
 * The command line: one table entry and one file (cmd_<verb>.c) per verb. A verb gets its own
 * arguments and returns an exit status of the contract; it prints errors with cli_error and never
 * calls exit.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include "base/buf.h"
#include "base/diag.h"
#include "base/err.h"
#include "run/site.h"
#include "store/store.h"

#include <getopt.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

struct cli {
	const char *program; /* "orch" */
	const char *verb;    /* "plan check" */
	const struct cli_command *command;
	/* Options that every verb takes. */
	const char *dir;
	const char *config_file;
	const char *log_level; /* a name that is one; NULL: what the configuration says */
	bool quiet;
	struct spawn_origin origin;
	int signal_fd; /* SIGINT, SIGTERM, SIGHUP; blocked since before anything else happened */
};

typedef int (*cli_fn)(struct cli *cli, int argc, char **argv);

struct cli_command {
	const char *name;
	const char *args;    /* "[PLAN] [--json]" */
	const char *summary; /* one line */
	const char *help;    /* further lines, NULL: none */
	const char *options; /* a line each, for --help: a man page says it longer; NULL: none */
	cli_fn run;          /* NULL: it has subcommands */
	const struct cli_command *subcommands; /* up to an entry without a name */
	bool reads_signals; /* it takes the stop signals from cli->signal_fd; others die of them */
	bool for_agents;    /* it exists inside a unit, and only there */
};

/* The verbs, in the order of --help; ends with an entry without a name. */
extern const struct cli_command cli_commands[];

/* argv[0] is the verb. Prints to stderr; returns status 64. */
int cli_usage(const struct cli *cli, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Prints e ("orch dispatch: ...") and returns its exit status. */
int cli_error(const struct cli *cli, const struct err *e);
int cli_no_memory(const struct cli *cli);
void cli_help(const struct cli *cli, FILE *out);

/*
 * The next option of argv by getopt_long (no permutation surprises: options and operands may be
 * mixed). Handles --help and the global options itself. Returns the `val` of an option, -1 at the
 * end, or CLI_EXIT when the verb must return cli->... *ret_status.
 */
#define CLI_EXIT (-2)
int cli_option(
	struct cli *cli, int argc, char **argv, const struct option *options, int *ret_status);
/* What is wrong with an option for which getopt_long (opterr 0, optstring with ':') said '?' or
 * ':'; word is the argument before optind. */
void cli_describe_mistake(int val, const char *word, const struct option *options, struct buf *out);
/* The options that every verb takes, for the verb's own table. */
#define CLI_OPTIONS \
	{"help", no_argument, NULL, 'h'}, {"config", required_argument, NULL, 1001}, \
		{"log-level", required_argument, NULL, 1002}, {"quiet", no_argument, NULL, 'q'}, \
		{"version", no_argument, NULL, 1003}, \
	{ \
		NULL, 0, NULL, 0 \
	}
/* A verb without options of its own: handles the global ones; operands start at optind. -1: go on.
 */
int cli_plain_options(struct cli *cli, int argc, char **argv);
/* Likewise those before a subcommand, which is at optind then. */
int cli_leading_options(struct cli *cli, int argc, char **argv);

/* ---- site.c: what most verbs begin with; each prints its own error and returns a status, 0: go on
 * ---- */

enum cli_need {
	CLI_LOOK,  /* as READ; of the repository only the directories are known */
	CLI_READ,  /* *ret_store may be NULL: nothing was ever dispatched here */
	CLI_WRITE, /* state directory made, lock held, database migrated */
};

/* --log-level; name is borrowed. */
void cli_set_log_level(struct cli *cli, const char *name, enum log_level level);

struct cli_site {
	struct site *site;
	struct store *store;
	int lock;
	int engine; /* connected to the engine that runs, -1: none does */
};

#define CLI_SITE_INIT ((struct cli_site){.lock = -1, .engine = -1})
int cli_site_open(struct cli *cli, enum cli_need need, struct cli_site *ret);
/*
 * For a change: through the engine that runs (engine is set, the store is for reading), else as the
 * engine for this one change (as CLI_WRITE).
 */
int cli_site_open_change(struct cli *cli, struct cli_site *ret);
/* The same for a site that is open: the engine that was there may have ended, or another one come.
 */
int cli_site_reopen_change(struct cli_site *at, struct err *e) MUST_CHECK;
/* Only directory, repository and configuration. */
int cli_site_open_bare(struct cli *cli, struct cli_site *ret);
/* The same for who only looks (CLI_LOOK). */
int cli_site_open_look(struct cli *cli, struct cli_site *ret);
/* As bare, and the state directory is made; no lock, no database. */
int cli_site_open_state(struct cli *cli, struct cli_site *ret) MUST_CHECK;
void cli_site_close(struct cli_site *s);

/* Standard output is a terminal on which the cursor can be moved. */
bool cli_can_redraw(const struct site *site);

/* Exit status 1, with what to do, while agents that a dead engine has left may be at work for the
 * plan.
 */
int cli_check_idle(struct cli *cli, struct store *s, int64_t plan_id) MUST_CHECK;

/* ---- names.c ---- */

struct cli_task {
	int64_t plan_id;
	int64_t task_id;
	char plan[101];
	char task[101];
};

/*
 * A plan by name, unique prefix or id. With name NULL: the one there is. 0; or a status after an
 * error was printed that lists the candidates.
 */
int cli_find_plan(
	struct cli *cli, struct store *s, const char *name, int64_t *ret_id, char ret_name[101]);
/* A task by `plan/task`, `task` (unique over the plans), unique prefix or id. */
int cli_find_task(struct cli *cli, struct store *s, const char *name, struct cli_task *ret);

/* ---- output ---- */

/* Prints text with control characters escaped. */
void cli_print_safe(FILE *out, const char *text);
/* One line of JSON on stdout; takes the reference, and NULL for want of memory. 0 or -ENOMEM; the
 * stream knows of its own errors. */
int cli_put_json(json_t *value);
/* The same, flushed. Returns an exit status. */
int cli_print_json(json_t *value);
/* 0, or 74 when standard output could not be written. */
int cli_flush(int status);

#endif
