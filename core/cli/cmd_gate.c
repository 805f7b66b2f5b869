/* SPDX-License-Identifier: MIT */
/* orch gate: what the invariants said about a task. */
#include "cli/commands.h"

#include "base/str.h"
#include "run/json_text.h"

#include <errno.h>
#include <string.h>

struct report {
	struct cli *cli;
	struct cli_task task;
	int64_t attempt; /* 0: the newest */
	bool json;
	const char *stage; /* the one that is wanted in this round */
	size_t count;
	json_t *results;
	char **passed; /* invariants that held in the task's own worktree */
};

static int newest_attempt(void *ctx, const struct task_row *row)
{
	struct report *g = ctx;
	if (g->attempt == 0)
		g->attempt = row->attempt;
	return 0;
}

static int has_attempt(void *ctx, const struct attempt_row *row)
{
	(void)ctx;
	(void)row;
	return 0;
}

static json_t *number_or_null(bool is_there, int64_t number)
{
	return is_there ? json_integer(number) : json_null();
}

static int add_json(struct report *g, const struct gate_result_row *row)
{
	json_t *result = json_pack("{s:s, s:b, s:o, s:o, s:b, s:b, s:b, s:I, s:o, s:o}",
		"invariant", row->invariant, "passed", row->passed, "exit_code",
		number_or_null(row->exit_code >= 0, row->exit_code), "signal",
		number_or_null(row->signal > 0, row->signal), "timed_out", row->timed_out, "cached",
		row->cached, "red_before", row->red_before, "duration_ms",
		(json_int_t)row->duration_ms, "stdout", json_text(row->out), "stderr",
		json_text(row->errout));
	if (!str_eq(row->stage, "task") && result &&
		json_object_set_new(result, "stage", json_string(row->stage)) < 0) {
		json_decref(result);
		return -ENOMEM;
	}
	return result && json_array_append_new(g->results, result) == 0 ? 0 : -ENOMEM;
}

static void print_output(const char *text, const char *what)
{
	if (!text || !text[0])
		return;
	CLEANUP_STR char *safe = str_printable(text, strlen(text), true);
	printf("  --- %s\n", what);
	for (char *line = safe; line && *line;) {
		size_t len = strcspn(line, "\n");
		printf("  %.*s\n", (int)len, line);
		line += len + (line[len] == '\n');
	}
}

static void print_row(const struct gate_result_row *row)
{
	CLEANUP_STR char *took = format_duration(row->duration_ms);
	printf("%s: %s", row->invariant, row->passed ? "passed" : "failed");
	if (row->timed_out)
		printf(", timed out");
	else if (row->signal > 0)
		printf(", signal %lld", (long long)row->signal);
	else if (row->exit_code >= 0 && !row->passed)
		printf(", exit %lld", (long long)row->exit_code);
	printf(row->cached ? ", cached" : ", %s", took ? took : "?");
	if (row->advisory)
		printf(", advisory");
	if (row->red_before)
		printf(", was red before the task, too");
	if (!str_eq(row->stage, "task"))
		printf(" (on the merged tree)");
	putchar('\n');
	if (row->passed)
		return;
	print_output(row->out, "stdout");
	print_output(row->errout, "stderr");
}

static int add_result(void *ctx, const struct gate_result_row *row)
{
	struct report *g = ctx;
	if (!str_eq(row->stage, g->stage))
		return 0;
	g->count++;
	if (!g->json) {
		print_row(row);
		return 0;
	}
	/* One result an invariant, as long as the merged tree's says nothing else. */
	bool merged = !str_eq(row->stage, "task");
	if (merged && row->passed && strv_contains(g->passed, row->invariant))
		return 0;
	if (!merged && row->passed && strv_add(&g->passed, row->invariant) < 0)
		return -ENOMEM;
	return add_json(g, row);
}

static int show(struct report *g, struct store *s, struct err *e)
{
	static const char *const stages[] = {"task", "merge"};
	bool asked = g->attempt != 0;
	int r = store_task(s, g->task.task_id, newest_attempt, g, e);
	if (r == 0 && asked) {
		r = store_attempt(s, g->task.task_id, g->attempt, has_attempt, NULL, e);
		if (r == 1)
			return err_exit(e, EXIT_NOINPUT, "task '%s' has no attempt %lld",
				g->task.task, (long long)g->attempt);
	}
	if (r < 0)
		return r;
	if (g->json && !(g->results = json_array()))
		return err_nomem(e);
	if (!g->json && g->attempt > 0)
		printf("%s/%s, attempt %lld\n", g->task.plan, g->task.task, (long long)g->attempt);
	for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++) {
		g->stage = stages[i];
		r = store_each_gate_result(s, g->task.task_id, g->attempt, add_result, g, e);
		if (r < 0)
			return e->code ? r : err_nomem(e);
	}
	if (!g->json && g->count == 0)
		puts("no results");
	return 0;
}

static int parse(struct report *g, int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'},
		{"attempt", required_argument, NULL, 'a'}, CLI_OPTIONS};
	int val, status = -1;
	while ((val = cli_option(g->cli, argc, argv, options, &status)) != -1) {
		if (val == CLI_EXIT)
			return status;
		if (val == 'j')
			g->json = true;
		else if (val != 'a')
			return cli_usage(g->cli, "unknown option '-%c'", val);
		else if (parse_int64(optarg, 1, INT32_MAX, &g->attempt) < 0)
			return cli_usage(g->cli, "--attempt: expected a number, not '%s'", optarg);
	}
	return optind + 1 == argc ? -1 : cli_usage(g->cli, "expected one task");
}

int cmd_gate(struct cli *cli, int argc, char **argv)
{
	struct report g = {.cli = cli};
	struct cli_site at = CLI_SITE_INIT;
	struct err e = ERR_INIT;
	int status = parse(&g, argc, argv);
	if (status >= 0)
		return status;
	const char *name = argv[optind];
	status = cli_site_open(cli, CLI_LOOK, &at);
	if (status == 0)
		status = cli_find_task(cli, at.store, name, &g.task);
	if (status == 0 && show(&g, at.store, &e) < 0)
		status = cli_error(cli, &e);
	if (status == 0 && g.json)
		status = cli_print_json(json_pack("{s:i, s:s, s:I, s:O}", "version", 1, "task",
			g.task.task, "attempt", (json_int_t)g.attempt, "results", g.results));
	json_decref(g.results);
	strv_free(g.passed);
	cli_site_close(&at);
	return cli_flush(status);
}
