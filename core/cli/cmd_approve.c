/* SPDX-License-Identifier: MIT */
/* orch approve: a person lets a task's work pass, and it is merged. */
#include "cli/commands.h"
#include "cli/decide.h"
#include "cli/waiting.h"

#include "base/str.h"
#include "run/ready.h"

/* Where that was the last word that was waited for, and no engine goes on by itself. */
static void tell_passed(const struct decide *d)
{
	const struct cli_task *t = &d->task;
	struct err e = ERR_INIT;
	struct waiting_counts left = {0};
	if (d->plan != PLAN_COMPLETED && d->at.engine < 0 &&
		waiting_count(d->at.store, t->plan_id, &left, &e) < 0)
		(void)cli_error(d->cli, &e); /* what was decided stands */
	printf("%s/%s: approved, passed", t->plan, t->task);
	if (d->plan == PLAN_COMPLETED)
		puts("; the plan is completed");
	else if (left.person == 0 && left.next > 0)
		printf("; `orch dispatch %s` goes on\n", t->plan);
	else
		putchar('\n');
}

static int tell(const struct decide *d)
{
	const struct cli_task *t = &d->task;
	const char *reason = d->text ? d->text : "no reason given";
	switch (d->to) {
	case TASK_PASSED:
		if (!d->json && !d->cli->quiet)
			tell_passed(d);
		return 0;
	case TASK_INTEGRATING:
		fprintf(stderr,
			"orch %s: '%s/%s' is approved, but not merged yet; `orch dispatch %s` goes "
			"on\n",
			d->cli->verb, t->plan, t->task, t->plan);
		return d->interrupted ? EXIT_INTERRUPTED : 1;
	case TASK_PENDING:
		fprintf(stderr,
			"orch %s: '%s/%s' is approved, but could not be merged: ", d->cli->verb,
			t->plan, t->task);
		cli_print_safe(stderr, reason);
		fprintf(stderr,
			"\n`orch dispatch %s` lets the agent mend that, from its own work on\n",
			t->plan);
		return 1;
	default:
		fprintf(stderr, "orch %s: '%s/%s' is %s: ", d->cli->verb, t->plan, t->task,
			task_status_name(d->to));
		cli_print_safe(stderr, reason);
		fputc('\n', stderr);
		return 1;
	}
}

/* Without the branch there is nothing that the work could be merged into. */
static int check_branch(struct decide *d)
{
	struct err e = ERR_INIT;
	bool there = true;
	if (d->worktrees && d->at.site->repo &&
		(d->from == TASK_AWAITING_REVIEW || d->from == TASK_ESCALATED) &&
		ready_look(d->at.site, d->task.plan, &there, &e) < 0)
		return cli_error(d->cli, &e);
	if (there)
		return 0;
	free(d->text);
	d->refused = true;
	d->text =
		str_printf("branch orch/%s/integration is gone; `orch dispatch %s` makes it again, "
			   "or says what is missing",
			d->task.plan, d->task.plan);
	return d->text ? 0 : cli_no_memory(d->cli);
}

int cmd_approve(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"override", no_argument, NULL, 'o'},
		{"reason", required_argument, NULL, 'r'}, {"json", no_argument, NULL, 'j'},
		CLI_OPTIONS};
	struct decide d = {.cli = cli, .at = CLI_SITE_INIT};
	const char *reason = NULL;
	bool override = false;
	int val, status = -1;
	while ((val = cli_option(cli, argc, argv, options, &status)) != -1) {
		if (val == CLI_EXIT)
			return status;
		if (val == 'o')
			override = true;
		else if (val == 'r')
			reason = optarg;
		else if (val == 'j')
			d.json = true;
		else
			return cli_usage(cli, "unknown option '-%c'", val);
	}
	if (optind + 1 != argc)
		return cli_usage(cli, "expected one task");
	if ((override || reason) && decide_reason_is_empty(reason))
		return cli_usage(cli,
			override ? "--override needs --reason=TEXT: why the verdict is set aside"
				 : "--reason: expected some words");
	status = decide_open(&d, argv[optind]);
	if (status == 0)
		status = check_branch(&d);
	if (status == 0 && !d.refused)
		status = decide_run(
			&d, override ? EVENT_OVERRIDE : EVENT_APPROVE, reason, false, ADMIT_FINISH);
	if (status == 0)
		status = decide_report(&d, d.refused ? 1 : tell(&d));
	decide_close(&d);
	return status;
}
