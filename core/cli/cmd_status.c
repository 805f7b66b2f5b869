/* SPDX-License-Identifier: MIT */
/* orch status: where every plan and task stands. */
#include "cli/commands.h"

#include "base/clock.h"
#include "base/json_text.h"
#include "base/str.h"
#include "cli/status_text.h"
#include "run/status.h"

#include <poll.h>
#include <string.h>

#define WATCH_MS 1000

struct look {
	struct cli *cli;
	struct cli_site at;
	const char *plan;
	bool json, watch;
	bool terminal;
	char *shown; /* what was printed last */
};

static char *format(const struct status *status, bool as_json)
{
	if (!as_json)
		return status_text(status);
	json_t *object = status_json(status);
	CLEANUP(freep)
	char *text = object ? json_text_dump(object, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
	json_decref(object);
	return text ? str_printf("%s\n", text) : NULL;
}

/* One look, as it will be printed; owned. 0 or an exit status. */
static int look_once(struct look *l, char **ret)
{
	struct err e = ERR_INIT;
	int64_t plan_id = 0;
	char name[101];
	CLEANUP(status_deinit) struct status status = {0};
	if (!l->at.store && site_read(l->at.site, &l->at.store, &e) < 0)
		return cli_error(l->cli, &e);
	if (l->plan) {
		int code = cli_find_plan(l->cli, l->at.store, l->plan, &plan_id, name);
		if (code)
			return code;
	}
	if (status_read(l->at.site, l->at.store, plan_id, &status, &e) < 0)
		return cli_error(l->cli, &e);
	*ret = format(&status, l->json);
	if (!*ret) {
		err_nomem(&e);
		return cli_error(l->cli, &e);
	}
	return 0;
}

/* Whether a stop signal came within a second. */
static bool stopped(const struct cli *cli)
{
	struct pollfd p = {.fd = cli->signal_fd, .events = POLLIN};
	return poll(&p, 1, WATCH_MS) > 0;
}

static void show(struct look *s, char *text)
{
	bool redraw = s->watch && s->terminal;
	if (redraw)
		fputs("\033[H\033[J", stdout);
	if (redraw || !str_eq(text, s->shown))
		fputs(text, stdout);
	free(s->shown);
	s->shown = text;
}

static int run(struct look *s)
{
	for (;;) {
		char *text = NULL;
		int status = look_once(s, &text);
		if (!text)
			return status;
		show(s, text);
		status = cli_flush(0);
		if (status || !s->watch || stopped(s->cli))
			return status;
	}
}

int cmd_status(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{"json", no_argument, NULL, 'j'}, {"watch", no_argument, NULL, 'w'}, CLI_OPTIONS};
	struct look s = {.cli = cli, .at = CLI_SITE_INIT};
	int val, status = -1;
	while ((val = cli_option(cli, argc, argv, options, &status)) != -1) {
		if (val == CLI_EXIT)
			return status;
		if (val == 'j')
			s.json = true;
		else if (val == 'w')
			s.watch = true;
		else
			return cli_usage(cli, "unknown option '-%c'", val);
	}
	if (optind < argc)
		s.plan = argv[optind++];
	if (optind < argc)
		return cli_usage(cli, "one plan at a time; '%s' is too many", argv[optind]);
	status = cli_site_open_look(cli, &s.at);
	s.terminal = status == 0 && !s.json && cli_can_redraw(s.at.site);
	if (status == 0)
		status = run(&s);
	free(s.shown);
	cli_site_close(&s.at);
	return status;
}
