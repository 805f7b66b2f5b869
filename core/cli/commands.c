/* SPDX-License-Identifier: MIT */
#include "cli/commands.h"

static const struct cli_command plan_commands[] = {
	{
		.name = "check",
		.args = "FILE",
		.summary = "check a plan file; every mistake with its line",
		.run = cmd_plan_check,
	},
	{
		.name = "import",
		.args = "FILE",
		.summary = "store a plan file as a draft, or update the stored plan",
		.run = cmd_plan_import,
	},
	{
		.name = "approve",
		.args = "PLAN",
		.summary = "let a draft be dispatched by its name",
		.run = cmd_plan_approve,
	},
	{
		.name = "list",
		.args = "[--json]",
		.summary = "list the stored plans",
		.run = cmd_plan_list,
	},
	{
		.name = "show",
		.args = "PLAN",
		.summary = "show a stored plan",
		.run = cmd_plan_show,
	},
	{
		.name = "export",
		.args = "PLAN",
		.summary = "print a plan with what its tasks have come to, for `plan import` "
			   "elsewhere",
		.run = cmd_plan_export,
	},
	{.name = NULL},
};

const struct cli_command cli_commands[] = {
	{
		.name = "dispatch",
		.args = "[PLAN] [--harness=NAME] [--prompt=TEXT] [--max-agents=N] [--timeout=DUR] "
			"[--drain-timeout=DUR] [--cap=N] [--json]",
		.summary = "run a plan to its end",
		.help = "PLAN is a plan file or a stored plan's name; without it, the one "
			"unfinished plan "
			"or\n./plan.ini. The first Ctrl+C stops the agents and keeps their work; "
			"the same "
			"command\ngoes on later.",
		.run = cmd_dispatch,
		.reads_signals = true,
	},
	{
		.name = "plan",
		.args = "COMMAND ...",
		.summary = "check, store and show plans",
		.subcommands = plan_commands,
	},
	{
		.name = "status",
		.args = "[PLAN] [--watch] [--json]",
		.summary = "show where every plan and task stands",
		.help = "--watch shows it anew every second on a terminal, elsewhere whenever "
			"something "
			"has\nchanged, until Ctrl+C (exit status 0).",
		.run = cmd_status,
		.reads_signals = true,
	},
	{
		.name = "log",
		.args = "[PLAN/]TASK [-f] [--attempt=N] [--json | --raw]",
		.summary = "tell what happened to a task",
		.help = "-f goes on until the task has passed, failed or been escalated. --json "
			"prints "
			"the events of\nits agents, a line each; --raw the agent's output as it "
			"was "
			"captured.",
		.run = cmd_log,
		.reads_signals = true,
	},
	{
		.name = "gate",
		.args = "[PLAN/]TASK [--attempt=N] [--json]",
		.summary = "show the results of a task's invariants",
		.run = cmd_gate,
	},
	{
		.name = "approve",
		.args = "[PLAN/]TASK [--override] [--reason=TEXT] [--json]",
		.summary = "let a task that awaits review pass: its work is merged",
		.help = "--override takes the last commit of a failed or escalated task as it is, "
			"and "
			"needs a reason.\nExit status 1: the task's state does not allow it, or "
			"its work "
			"could not be merged\n(a conflict, or a red merge); 130: interrupted, the "
			"merge is "
			"made by the next dispatch.",
		.run = cmd_approve,
		.reads_signals = true,
	},
	{
		.name = "reject",
		.args = "[PLAN/]TASK --reason=TEXT [--json]",
		.summary = "send a task that awaits review back, with the reason as feedback",
		.help = "The next dispatch tries it again, unless its retries are used up. Exit "
			"status "
			"1: the task\ndoes not await review.",
		.run = cmd_reject,
		.reads_signals = true,
	},
	{
		.name = "retry",
		.args = "[PLAN/]TASK [--continue] [--force] [--json]",
		.summary = "let a failed or escalated task be tried again by the next dispatch",
		.help = "--continue goes on from the tree of its last attempt. --force also takes "
			"back a "
			"task that\nawaits review. Exit status 1: the task's state does not allow "
			"it.",
		.run = cmd_retry,
		.reads_signals = true,
	},
	{
		.name = "pause",
		.args = "[PLAN | [PLAN/]TASK]",
		.summary = "freeze a task or a whole plan, tools included",
		.help = "Deadlines stand still meanwhile; the mark survives a restart. Nothing new "
			"starts.",
		.run = cmd_pause,
	},
	{
		.name = "resume",
		.args = "[PLAN | [PLAN/]TASK]",
		.summary = "let a paused task or plan go on",
		.run = cmd_resume,
	},
	{
		.name = "stop",
		.args = "[PLAN]",
		.summary = "stop what the running engine does, as Ctrl+C in it would",
		.help = "Agents are asked to end and their work is kept; `orch dispatch` goes on "
			"later. "
			"Without\na running engine: exit status 69.",
		.run = cmd_stop,
	},

	{.name = NULL},
};
