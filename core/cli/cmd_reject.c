/* SPDX-License-Identifier: MIT */
/* orch reject: a person sends a task that awaits review back. */
#include "cli/commands.h"
#include "cli/decide.h"

static void tell(const struct decide *d)
{
	const struct cli_task *t = &d->task;
	if (d->json || d->cli->quiet || d->refused)
		return;
	if (d->to == TASK_ESCALATED)
		printf("%s/%s: rejected, and escalated because its retries are used up; `orch "
		       "retry "
		       "%s/%s` lets it be tried again\n",
			t->plan, t->task, t->plan, t->task);
	else
		printf("%s/%s: rejected; `orch dispatch %s` tries it again with the reason as "
		       "feedback\n",
			t->plan, t->task, t->plan);
}

int cmd_reject(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"reason", required_argument, NULL, 'r'},
		{"json", no_argument, NULL, 'j'}, CLI_OPTIONS};
	struct decide d = {.cli = cli, .at = CLI_SITE_INIT};
	const char *reason = NULL;
	int val, status = -1;
	while ((val = cli_option(cli, argc, argv, options, &status)) != -1) {
		if (val == CLI_EXIT)
			return status;
		if (val == 'r')
			reason = optarg;
		else if (val == 'j')
			d.json = true;
		else
			return cli_usage(cli, "unknown option '-%c'", val);
	}
	if (optind + 1 != argc)
		return cli_usage(cli, "expected one task");
	if (decide_reason_is_empty(reason))
		return cli_usage(
			cli, "--reason=TEXT is needed: the next attempt is told what to mend");
	status = decide_open(&d, argv[optind]);
	if (status == 0)
		status = decide_run(&d, EVENT_REJECT, reason, false, ADMIT_NONE);
	if (status == 0) {
		tell(&d);
		status = decide_report(&d, 0);
	}
	decide_close(&d);
	return status;
}
