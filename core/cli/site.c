/* SPDX-License-Identifier: MIT */
#include "cli/cli.h"

#include "base/log.h"
#include "base/str.h"
#include "server/client.h"

extern char **environ;

/* The flag is the last layer, also where the configuration is shown. --quiet leaves warnings. */
static int set_log_level(const struct cli *cli, struct config *config, struct err *e)
{
	if (cli->log_level &&
		config_set(config, "log", NULL, "level", cli->log_level, "--log-level", e) < 0)
		return e->code;
	enum log_level level = config->log.level;
	log_set_level(cli->quiet && level > LOG_LEVEL_WARNING ? LOG_LEVEL_WARNING : level);
	return 0;
}

static int open_site(struct cli *cli, bool need_state, bool look, struct cli_site *ret)
{
	struct site_options options = {
		.dir = cli->dir,
		.config_file = cli->config_file,
		.origin = &cli->origin,
		.environment = environ,
		.cancel_fd = cli->signal_fd,
		.need_state = need_state,
		.look = look,
	};
	struct diags d = DIAGS_INIT;
	struct err e = ERR_INIT;
	int r = site_open(&options, &ret->site, &d, &e);
	diags_print(&d, stderr);
	diags_deinit(&d);
	if (r == 0)
		r = set_log_level(cli, ret->site->config, &e);
	return r < 0 ? cli_error(cli, &e) : 0;
}

int cli_site_open_bare(struct cli *cli, struct cli_site *ret)
{
	return open_site(cli, false, false, ret);
}

int cli_site_open_look(struct cli *cli, struct cli_site *ret)
{
	return open_site(cli, false, true, ret);
}

int cli_site_open_state(struct cli *cli, struct cli_site *ret)
{
	return open_site(cli, true, false, ret);
}

int cli_site_open(struct cli *cli, enum cli_need need, struct cli_site *ret)
{
	int status = open_site(cli, need == CLI_WRITE, need == CLI_LOOK, ret);
	if (status)
		return status;
	struct err e = ERR_INIT;
	int r;
	if (need != CLI_WRITE) {
		r = site_read(ret->site, &ret->store, &e);
	} else {
		r = site_lock(ret->site, &ret->lock, &e);
		if (r == 0)
			r = store_open(ret->site->state_dir, STORE_WRITE, &ret->store, &e);
	}
	return r < 0 ? cli_error(cli, &e) : 0;
}

int cli_site_reopen_change(struct cli_site *at, struct err *e)
{
	store_close(TAKE(at->store));
	closep(&at->engine);
	closep(&at->lock);
	at->engine = at->lock = -1;
	if (client_connect(at->site->state_dir, &at->engine, e) == 0)
		return site_read(at->site, &at->store, e);
	*e = ERR_INIT;
	int r = site_lock(at->site, &at->lock, e);
	return r < 0 ? r : store_open(at->site->state_dir, STORE_WRITE, &at->store, e);
}

int cli_site_open_change(struct cli *cli, struct cli_site *ret)
{
	struct err e = ERR_INIT;
	int status = open_site(cli, true, false, ret);
	if (status == 0 && cli_site_reopen_change(ret, &e) < 0)
		status = cli_error(cli, &e);
	return status;
}

void cli_site_close(struct cli_site *s)
{
	store_close(s->store);
	site_free(s->site);
	if (s->lock >= 0)
		close(s->lock);
	if (s->engine >= 0)
		close(s->engine);
	*s = CLI_SITE_INIT;
}

bool cli_can_redraw(const struct site *site)
{
	const char *term = environment_get(site->environment, "TERM");
	return isatty(STDOUT_FILENO) && term && term[0] && !str_eq(term, "dumb");
}

static int note_open(void *ctx, const struct unit_row *row)
{
	return row->plan_id == *(const int64_t *)ctx;
}

int cli_check_idle(struct cli *cli, struct store *s, int64_t plan_id)
{
	struct err e = ERR_INIT;
	int r = store_each_open_unit(s, note_open, &plan_id, &e);
	if (r == 1)
		r = err_exit(&e, 1,
			"an orch that died has left agents of this plan; `orch dispatch` takes "
			"them "
			"over first");
	return r < 0 ? cli_error(cli, &e) : 0;
}
