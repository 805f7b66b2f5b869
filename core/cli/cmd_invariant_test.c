/* SPDX-License-Identifier: MIT */
/* orch invariant test: a shared invariant, run in the checkout as a gate would run it. */
#include "cli/commands.h"

#include "base/str.h"
#include "run/check.h"
#include "run/json_text.h"

#include <string.h>

struct test {
	struct cli *cli;
	struct cli_site at;
	struct checker *checker;
	bool all, json;
	size_t run, passed, blocking;
	json_t *results;
};

static void print_safe_lines(FILE *out, const char *text)
{
	size_t len = strlen(text);
	cli_print_safe(out, text);
	if (len > 0 && text[len - 1] != '\n')
		fputc('\n', out);
}

static void tell(const struct invariant *inv, const struct check_result *r, bool passed)
{
	CLEANUP_STR char *took = format_duration(r->exit.duration_ms);
	fflush(stdout);
	print_safe_lines(stdout, r->out);
	fflush(stdout);
	print_safe_lines(stderr, r->errout);
	printf("%s: ", inv->name);
	if (r->interrupted)
		printf("interrupted");
	else if (passed)
		printf("passed");
	else if (r->exit.cause == CAUSE_TIMED_OUT)
		cli_print_safe(stdout, r->exit.text ? r->exit.text : "timed out");
	else if (r->exit.signal)
		printf("failed, signal %d", r->exit.signal);
	else
		printf("failed, exit %d, expected %lld", r->exit.exit_code, (long long)inv->expect);
	printf(" (%s)%s\n", took ? took : "?", inv->advisory ? ", advisory" : "");
}

static json_t *result_json(const struct invariant *inv, const struct check_result *r, bool passed)
{
	return json_pack("{s:s, s:b, s:o, s:o, s:b, s:I, s:o, s:o}", "invariant", inv->name,
		"passed", passed, "exit_code",
		r->exit.exit_code >= 0 ? json_integer(r->exit.exit_code) : json_null(), "signal",
		r->exit.signal > 0 ? json_integer(r->exit.signal) : json_null(), "timed_out",
		r->exit.cause == CAUSE_TIMED_OUT, "duration_ms", (json_int_t)r->exit.duration_ms,
		"stdout", json_text(r->out), "stderr", json_text(r->errout));
}

/* 0: go on; else an exit status. */
static int test_one(struct test *t, const struct invariant *inv)
{
	struct err e = ERR_INIT;
	CLEANUP(check_result_deinit) struct check_result r = CHECK_RESULT_INIT;
	if (checker_run(t->checker, UNIT_INVARIANT, inv->name, inv->command, t->at.site->root,
		    inv->timeout_ms, t->cli->signal_fd, &r, &e) < 0)
		return cli_error(t->cli, &e);
	bool passed = check_passed(&r, inv->expect);
	t->run++;
	t->passed += passed;
	/* Alone, an advisory one is asked about its own result. */
	t->blocking += !passed && !(t->all && inv->advisory);
	if (t->json && json_array_append_new(t->results, result_json(inv, &r, passed)) < 0)
		return cli_no_memory(t->cli);
	if (!t->json)
		tell(inv, &r, passed);
	return r.interrupted ? EXIT_INTERRUPTED : 0;
}

static int test_named(struct test *t, const char *name)
{
	const struct config *c = t->at.site->config;
	const struct invariant *inv = name ? config_invariant_find(c, name) : NULL;
	struct err e = ERR_INIT;
	if (name && !inv)
		err_exit(&e, EXIT_NOINPUT, "no shared invariant '%s'", name);
	else if (!name && c->invariants.count == 0)
		err_exit(&e, EXIT_NOINPUT, "there are no shared invariants to test");
	if (!e.code && checker_open(t->at.site, &t->checker, &e) < 0)
		return cli_error(t->cli, &e);
	if (e.code)
		return cli_error(t->cli, &e);
	int status = inv ? test_one(t, inv) : 0;
	vec_foreach(it, &c->invariants)
		if (!inv && status == 0)
			status = test_one(t, it);
	return status;
}

static int run(struct test *t, const char *name)
{
	t->results = json_array();
	int status = test_named(t, name);
	if (status == 0)
		status = t->blocking > 0;
	if (t->all && t->run > 1 && !t->json)
		printf("%zu of %zu passed\n", t->passed, t->run);
	if (t->json && t->run > 0) {
		int code = cli_print_json(
			json_pack("{s:i, s:O}", "version", 1, "results", t->results));
		status = status ? status : code;
	}
	json_decref(t->results);
	checker_close(t->checker);
	return cli_flush(status);
}

int cmd_invariant_test(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{"all", no_argument, NULL, 'a'}, {"json", no_argument, NULL, 'j'}, CLI_OPTIONS};
	struct test t = {.cli = cli, .at = CLI_SITE_INIT};
	int val, status = -1;
	while ((val = cli_option(cli, argc, argv, options, &status)) != -1) {
		if (val == CLI_EXIT)
			return status;
		if (val == 'a')
			t.all = true;
		else if (val == 'j')
			t.json = true;
		else
			return cli_usage(cli, "unknown option '-%c'", val);
	}
	if (argc - optind != (t.all ? 0 : 1))
		return cli_usage(
			cli, t.all ? "--all takes no name" : "expected one name, or --all");
	const char *name = argv[optind];
	status = cli_site_open_state(cli, &t.at);
	if (status == 0)
		status = run(&t, name);
	cli_site_close(&t.at);
	return status;
}
