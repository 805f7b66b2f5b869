/* SPDX-License-Identifier: MIT */
/* orch send: a person's words for a running agent. */
#include "cli/commands.h"

#include "base/clock.h"
#include "base/str.h"
#include "plugin/probe.h"
#include "server/client.h"

#include <string.h>

#define ASK_TIMEOUT_MS 30000

struct send {
	struct cli *cli;
	struct cli_site at;
	struct cli_task what;
	char harness[101]; /* of the task's last attempt */
};

static int note_harness(void *ctx, const struct attempt_row *row)
{
	struct send *s = ctx;
	snprintf(s->harness, sizeof(s->harness), "%s", row->harness ? row->harness : "");
	return 0;
}

/* Whether the harness takes words at all; the agent may still be in no state to. */
static int check_harness(struct send *s, struct err *e)
{
	const struct config *config = s->at.site->config;
	struct plugin_probe_args args = {.timeout_ms = ASK_TIMEOUT_MS};
	CLEANUP(plugin_report_deinit) struct plugin_report report = PLUGIN_REPORT_INIT;
	CLEANUP_STR char *path = NULL;
	CLEANUP_STR char *plugin_path = site_plugin_path(s->at.site);
	int r = store_each_attempt(s->at.store, s->what.task_id, note_harness, s, e);
	if (r < 0)
		return r;
	if (!plugin_path)
		return err_nomem(e);
	/* A task that never ran has no agent; the engine says so. */
	if (!s->harness[0])
		return 0;
	r = plugin_find(plugin_path, config_harness_plugin(config, s->harness), &path, e);
	if (r == 0)
		r = plugin_probe(path, &args, &report, e);
	if (r == 0 && !report.has_send)
		r = err_exit(e, 1, "harness '%s' cannot hand words to a running agent", s->harness);
	return r;
}

static int hand_over(struct send *s, const char *text, struct err *e)
{
	json_t *result = NULL;
	json_t *params = json_pack("{s:I, s:I, s:s}", "plan_id", (json_int_t)s->what.plan_id,
		"task_id", (json_int_t)s->what.task_id, "text", text);
	int r = client_call(
		s->at.engine, "send", params, deadline_after(ASK_TIMEOUT_MS), &result, e);
	const char *refused = json_string_value(json_object_get(result, "refused"));
	if (r == 0 && refused)
		r = err_exit(e, 1, "'%s/%s': %s", s->what.plan, s->what.task, refused);
	json_decref(result);
	return r;
}

int cmd_send(struct cli *cli, int argc, char **argv)
{
	struct send s = {.cli = cli, .at = CLI_SITE_INIT};
	struct err e = ERR_INIT;
	int status = cli_plain_options(cli, argc, argv);
	if (status >= 0)
		return status;
	if (optind + 2 != argc)
		return cli_usage(cli, "expected a task and a text");
	const char *text = argv[optind + 1];
	if (!text[0] || !utf8_is_valid(text, strlen(text)))
		return cli_usage(cli, "the text is %s", text[0] ? "not UTF-8" : "empty");
	status = cli_site_open(cli, CLI_LOOK, &s.at);
	if (status == 0 && client_connect(s.at.site->state_dir, &s.at.engine, &e) < 0)
		status = cli_error(cli, &e);
	if (status == 0)
		status = cli_find_task(cli, s.at.store, argv[optind], &s.what);
	if (status == 0 && (check_harness(&s, &e) != 0 || hand_over(&s, text, &e) != 0))
		status = cli_error(cli, &e);
	cli_site_close(&s.at);
	return cli_flush(status);
}
