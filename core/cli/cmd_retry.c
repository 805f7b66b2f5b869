/* SPDX-License-Identifier: MIT */
/* orch retry: a failed or escalated task may be tried again. */
#include "cli/commands.h"
#include "cli/decide.h"

/* An engine that only takes the word (ADMIT_NONE) leaves a failed task for it to be heard. */
static int retry(struct decide *d, bool force, bool carry)
{
	if (force && d->from == TASK_AWAITING_REVIEW) {
		int status = decide_run(d, EVENT_REJECT, "retried", carry, ADMIT_NONE);
		if (status || d->refused)
			return status;
		/* With retries left, the rejection was all that was needed. */
		if (d->to == TASK_PENDING)
			return 0;
	}
	return decide_run(d, EVENT_RETRY, NULL, carry, ADMIT_NONE);
}

static void tell(const struct decide *d)
{
	if (!d->json && !d->cli->quiet && !d->refused)
		printf("%s/%s: %s; `orch dispatch %s` tries it again\n", d->task.plan, d->task.task,
			task_status_name(d->to), d->task.plan);
}

int cmd_retry(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"force", no_argument, NULL, 'f'},
		{"continue", no_argument, NULL, 'c'}, {"json", no_argument, NULL, 'j'},
		CLI_OPTIONS};
	struct decide d = {.cli = cli, .at = CLI_SITE_INIT};
	bool force = false, carry = false;
	int val, status = -1;
	while ((val = cli_option(cli, argc, argv, options, &status)) != -1) {
		if (val == CLI_EXIT)
			return status;
		if (val == 'f')
			force = true;
		else if (val == 'c')
			carry = true;
		else if (val == 'j')
			d.json = true;
		else
			return cli_usage(cli, "unknown option '-%c'", val);
	}
	if (optind + 1 != argc)
		return cli_usage(cli, "expected one task");
	status = decide_open(&d, argv[optind]);
	if (status == 0)
		status = retry(&d, force, carry);
	if (status == 0) {
		tell(&d);
		status = decide_report(&d, 0);
	}
	decide_close(&d);
	return status;
}
