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
	{
		.name = "set",
		.args = "PLAN[/TASK] KEY=VALUE...",
		.summary = "change keys of a plan or a task, also while it runs",
		.help = "Keys are those of a plan file. A task that has started may change "
			"priority, tag, retry_max,"
			"\ntimeout, gate and invariants (from its next attempt on); what is not "
			"possible any more is"
			"\nrefused as a whole, exit status 65. `KEY=` takes a key back to what "
			"holds "
			"without it.",
		.run = cmd_plan_set,
	},
	{
		.name = "remove",
		.args = "PLAN/TASK",
		.summary = "take a task that never started out of a plan, also while it runs",
		.help = "Refused, exit status 65, when it has started or another task depends on "
			"it.",
		.run = cmd_plan_remove,
	},
	{
		.name = "reset",
		.args = "PLAN",
		.summary = "set every failed or escalated task back; what passed stays",
		.help = "Exit status 1: an orch that died has left agents of this plan; `orch "
			"dispatch` takes them over\nfirst.",
		.run = cmd_plan_reset,
	},
	{
		.name = "delete",
		.args = "PLAN --yes",
		.summary = "forget a plan and its history",
		.help = "Its branches must be gone before (`orch cleanup`): exit status 1 while "
			"they are "
			"there,\nand while the plan is under way.",
		.run = cmd_plan_delete,
	},
	{.name = NULL},
};

static const struct cli_command invariant_commands[] = {
	{
		.name = "add",
		.args = "NAME --command=COMMAND [--timeout=DUR] [--expect=N] [--advisory] "
			"[--red-before=fail|ignore] [--global] [--force]",
		.summary = "put a shared invariant into orch.ini",
		.help = "The repository's orch.ini is changed atomically and keeps its comments; "
			"--global: the\nuser's. One of that name is only changed with --force "
			"(else "
			"64).",
		.run = cmd_invariant_add,
	},
	{
		.name = "list",
		.args = "[--json]",
		.summary = "list the shared invariants",
		.run = cmd_invariant_list,
	},
	{
		.name = "show",
		.args = "NAME [--json]",
		.summary = "show one with all its keys",
		.run = cmd_invariant_show,
	},
	{
		.name = "test",
		.args = "NAME | --all [--json]",
		.summary = "run one, or all, in this checkout",
		.help = "Exit status 0: passed; 1: not (with --all an advisory one does not "
			"count); "
			"130:\ninterrupted, nothing of it is left running.",
		.run = cmd_invariant_test,
		.reads_signals = true,
	},
	{
		.name = "remove",
		.args = "NAME [--global]",
		.summary = "take one out of orch.ini",
		.run = cmd_invariant_remove,
	},
	{
		.name = "preset",
		.args = "[KIND] [--global] [--force]",
		.summary = "list the presets, or add those of a kind of project",
		.run = cmd_invariant_preset,
	},
	{.name = NULL},
};

static const struct cli_command harness_commands[] = {
	{
		.name = "list",
		.args = "[--json]",
		.summary = "list the harnesses there are, broken ones with the reason",
		.run = cmd_harness_list,
	},
	{
		.name = "show",
		.args = "NAME [--json]",
		.summary = "show a harness, its options and what is configured",
		.help = "Exit status 66: there is no such plugin; 1: it is broken.",
		.run = cmd_harness_show,
	},
	{
		.name = "check",
		.args = "NAME [--json]",
		.summary = "tell whether the agent of a harness is there, and which version",
		.help = "Exit status 66: there is no such plugin; 1: it is broken, or its check "
			"failed.",
		.run = cmd_harness_check,
	},
	{.name = NULL},
};

static const struct cli_command config_commands[] = {
	{
		.name = "show",
		.args = "[--json]",
		.summary = "print every value with where it comes from",
		.run = cmd_config_show,
	},
	{
		.name = "check",
		.args = "",
		.summary = "list every mistake in the configuration (exit status 78)",
		.run = cmd_config_check,
	},
	{.name = NULL},
};

const struct cli_command cli_commands[] = {
	{
		.name = "init",
		.args = "[--force] [--json]",
		.summary = "write an orch.ini that fits this project",
		.help = "Recognises make, cmake, cargo, npm, python and go projects. An orch.ini "
			"that is "
			"there is\nonly replaced with --force (else 73).",
		.run = cmd_init,
	},
	{
		.name = "dispatch",
		.args = "[PLAN] [--harness=NAME] [--prompt=TEXT] [--max-agents=N] [--timeout=DUR] "
			"[--drain-timeout=DUR] [--target=TASK]... [--only=KEY=VALUE]... [--cap=N] "
			"[--auto-advance] [--json]",
		.summary = "run a plan to its end",
		.help = "PLAN is a plan file or a stored plan's name; without it, the one "
			"unfinished plan "
			"or\n./plan.ini. The first Ctrl+C stops the agents and keeps their work; "
			"the same "
			"command\ngoes on later.",
		.options =
			"  --harness=NAME        use it for every task, whatever the plan says\n"
			"  --prompt=TEXT         make a plan of one task with this prompt\n"
			"  --max-agents=N        at most so many agents at the same time\n"
			"  --timeout=DUR         the wall-clock limit of each attempt\n"
			"  --drain-timeout=DUR   how long agents may take to end after Ctrl+C\n"
			"  --target=TASK         only this task, with what it needs; may be "
			"repeated\n"
			"  --only=KEY=VALUE      start only tasks for which this holds: status, "
			"tag,\n"
			"                        scope, harness or priority; may be repeated\n"
			"  --cap=N               stop after so many attempts have been started\n"
			"  --auto-advance        a blocked target does not hold up the next one\n"
			"  --json                a line of JSON for each change and for the halt",
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
		.help = "--override takes the last commit of an escalated task as it is, and "
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
			"starts.\nExit status 1: the task is over.",
		.run = cmd_pause,
	},
	{
		.name = "resume",
		.args = "[PLAN | [PLAN/]TASK]",
		.summary = "let a paused task or plan go on",
		.help = "Exit status 1: the task is over.",
		.run = cmd_resume,
	},
	{
		.name = "stop",
		.args = "[PLAN]",
		.summary = "stop what the running engine does, as Ctrl+C in it would",
		.help = "Agents are asked to end and their work is kept; `orch dispatch` goes on "
			"later. "
			"Exit status\n69: no engine runs; 66: it does not work on that plan.",
		.run = cmd_stop,
	},
	{
		.name = "send",
		.args = "[PLAN/]TASK TEXT",
		.summary = "say something to the agent that works at a task",
		.help = "What the agent makes of it stands in `orch log`. Exit status 1: no agent "
			"works at the task, or\nits harness cannot hand over words (`orch harness "
			"show` says); 69: no engine runs.",
		.run = cmd_send,
	},
	{
		.name = "merge",
		.args = "PLAN [--dry-run] [--json]",
		.summary = "merge what a plan has integrated into its base, once more judged",
		.help = "The merge with today's base is judged by the plan's invariants (without a "
			"list "
			"of its own:\nall of its tasks') before the base moves. Exit status 1: "
			"refused "
			"(a dirty checkout), in\nconflict, or red, and nothing was changed; 65: "
			"work "
			"that passed is not in the integration\nbranch; 69: another merge or "
			"cleanup is at work. Of a plan that is under way, what it has\nintegrated "
			"by then is merged.",
		.run = cmd_merge,
		.reads_signals = true,
	},
	{
		.name = "cleanup",
		.args = "PLAN | --all [--force]",
		.summary = "remove the worktrees, branches and refs that a plan left",
		.help = "What was recorded of the plan stays. Branches that are not merged into "
			"the "
			"base are kept,\nwith exit status 1, unless --force is given; so is all of "
			"a plan that is under way (--all says\nso and leaves it out). Exit status "
			"69: another merge or cleanup is at work.",
		.run = cmd_cleanup,
	},
	{
		.name = "report",
		.args = "[PLAN] [--json | --csv | --html]",
		.summary =
			"tell what a plan took: time, tokens, cost, attempts, outcomes, findings",
		.help = "--html prints one page that needs nothing else, with a Gantt picture of "
			"the "
			"run and the\ngraph of its tasks.",
		.run = cmd_report,
	},
	{
		.name = "doctor",
		.args = "[PLAN] [--json]",
		.summary = "look for whatever would keep a dispatch from doing its work",
		.help = "Looks at the repository, the machine, the harnesses and every plan that "
			"is "
			"not over, or at PLAN.\nEvery problem with how to mend it; exit status 1 "
			"when one of them is an error. Of an invariant that\nis red before any "
			"task has begun it tells what is known from earlier gates: nothing is run.",
		.run = cmd_doctor,
	},
	{
		.name = "invariant",
		.args = "COMMAND ...",
		.summary = "the commands by which work is judged",
		.subcommands = invariant_commands,
	},
	{
		.name = "harness",
		.args = "COMMAND ...",
		.summary = "the adapters to agents",
		.subcommands = harness_commands,
	},
	{
		.name = "config",
		.args = "COMMAND ...",
		.summary = "the configuration in force",
		.subcommands = config_commands,
	},
	{
		.name = "task",
		.args = "",
		.summary = "for an agent: print what it is to do",
		.run = cmd_task,
		.for_agents = true,
	},
	{
		.name = "check",
		.args = "[--json]",
		.summary = "for an agent: run the invariants of its task; they report, they do not "
			   "decide",
		.help = "Exit status 1: one that is not advisory is red.",
		.run = cmd_check,
		.reads_signals = true,
		.for_agents = true,
	},
	{
		.name = "progress",
		.args = "TEXT",
		.summary = "for an agent: say what it is about",
		.run = cmd_progress,
		.for_agents = true,
	},
	{
		.name = "finding",
		.args = "--severity=S --title=T <BODY",
		.summary = "for an agent: record something that a person should know",
		.help = "S is info, low, medium, high or critical; the body comes from standard "
			"input.",
		.run = cmd_finding,
		.for_agents = true,
	},
	{
		.name = "done",
		.args = "[--blocked=REASON | --not-needed=REASON]",
		.summary = "for an agent: say how its work ended",
		.help = "--blocked: a person is needed, it is not tried again. --not-needed: there "
			"is nothing to "
			"do,\nthe task passes.",
		.run = cmd_done,
		.for_agents = true,
	},
	{.name = NULL},
};
