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
		.summary = "print a stored plan as a plan file",
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
	{.name = NULL},
};
