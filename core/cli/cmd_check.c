/* SPDX-License-Identifier: MIT */
/* orch check: an agent runs the invariants of its task; they report, they do not decide. */
#include "cli/agent.h"
#include "cli/commands.h"

#include "base/str.h"
#include "run/check.h"
#include "run/json_text.h"

#include <errno.h>

struct one {
	char *name, *command;
	int64_t timeout_ms, expect;
	bool advisory;
};

struct checks {
	struct cli *cli;
	struct cli_site at;
	struct VEC(struct one) list;
	json_t *results; /* NULL: text */
	size_t red;
};

static int note_invariant(void *ctx, const struct invariant_row *row)
{
	struct checks *c = ctx;
	struct one *o = VEC_PUSH(&c->list);
	if (!o)
		return -ENOMEM;
	*o = (struct one){
		.name = str_dup(row->name),
		.command = str_dup(row->command),
		.timeout_ms = row->timeout_ms,
		.expect = row->expect,
		.advisory = row->advisory,
	};
	return o->name && o->command ? 0 : -ENOMEM;
}

static int find_checks(struct checks *c)
{
	struct err e = ERR_INIT;
	int64_t plan = 0, task = 0;
	const char *plan_name = agent_variable(c->cli, "ORCH_PLAN");
	const char *task_name = plan_name ? agent_variable(c->cli, "ORCH_TASK") : NULL;
	if (!task_name)
		return EXIT_USAGE;
	int r = c->at.store ? store_plan_id(c->at.store, plan_name, &plan, &e) : 0;
	if (r == 0 && plan)
		r = store_task_id(c->at.store, plan, task_name, &task, &e);
	if (r == 0 && !task)
		r = err_exit(&e, EXIT_NOINPUT, "no task '%s/%s'", plan_name, task_name);
	if (r == 0)
		r = store_each_task_invariant(c->at.store, task, note_invariant, c, &e);
	return r < 0 ? cli_error(c->cli, &e) : 0;
}

static int report(struct checks *c, const struct one *o, const struct check_result *r, bool passed)
{
	if (c->results)
		return json_array_append_new(c->results,
			json_pack("{s:s, s:b, s:b, s:o, s:o, s:b, s:I, s:o, s:o}", "invariant",
				o->name, "passed", passed, "advisory", o->advisory, "exit_code",
				r->exit.exit_code >= 0 ? json_integer(r->exit.exit_code)
						       : json_null(),
				"signal",
				r->exit.signal ? json_integer(r->exit.signal) : json_null(),
				"timed_out", r->exit.cause == CAUSE_TIMED_OUT, "duration_ms",
				(json_int_t)r->exit.duration_ms, "stdout", json_text(r->out),
				"stderr", json_text(r->errout)));
	printf("%s: %s%s\n", o->name, passed ? "passed" : "failed",
		o->advisory ? " (advisory)" : "");
	if (!passed) {
		cli_print_safe(stdout, r->out);
		cli_print_safe(stdout, r->errout);
	}
	return 0;
}

static int run_checks(struct checks *c)
{
	struct err e = ERR_INIT;
	CLEANUP(checker_closep) struct checker *checker = NULL;
	if (checker_open(c->at.site, &checker, &e) < 0)
		return cli_error(c->cli, &e);
	vec_foreach(o, &c->list) {
		CLEANUP(check_result_deinit) struct check_result r = CHECK_RESULT_INIT;
		if (checker_run(checker, UNIT_INVARIANT, o->name, o->command, c->at.site->root,
			    o->timeout_ms, c->cli->signal_fd, &r, &e) < 0)
			return cli_error(c->cli, &e);
		bool passed = check_passed(&r, o->expect);
		c->red += !passed && !o->advisory;
		if (report(c, o, &r, passed) < 0)
			return cli_no_memory(c->cli);
		if (r.interrupted)
			return EXIT_INTERRUPTED;
	}
	return c->red > 0;
}

int cmd_check(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'}, CLI_OPTIONS};
	struct checks c = {.cli = cli, .at = CLI_SITE_INIT};
	int val, status = -1;
	while ((val = cli_option(cli, argc, argv, options, &status)) != -1) {
		if (val == CLI_EXIT)
			return status;
		if (val == 'j' && !c.results)
			c.results = json_array();
	}
	if (optind != argc)
		return cli_usage(cli, "expected nothing more");
	status = cli_site_open(cli, CLI_READ, &c.at);
	if (status == 0)
		status = find_checks(&c);
	if (status == 0)
		status = run_checks(&c);
	if (c.results && status <= 1) {
		int code =
			cli_print_json(json_pack("{s:i, s:O}", "version", 1, "results", c.results));
		status = status ? status : code;
	}
	json_decref(c.results);
	vec_foreach(o, &c.list) {
		free(o->name);
		free(o->command);
	}
	VEC_FREE(&c.list);
	cli_site_close(&c.at);
	return cli_flush(status);
}
