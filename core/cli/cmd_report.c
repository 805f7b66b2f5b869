/* SPDX-License-Identifier: MIT */
/* orch report: what a plan took, as text, JSON, CSV or one HTML page. */
#include "cli/commands.h"
#include "cli/report_html.h"

#include "base/clock.h"
#include "base/str.h"
#include "run/report.h"

#include <string.h>

enum format {
	FORMAT_TEXT,
	FORMAT_JSON,
	FORMAT_CSV,
	FORMAT_HTML,
};

static const char *text_of(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));
	return s ? s : "";
}

static long long number_of(const json_t *object, const char *key)
{
	return (long long)json_integer_value(json_object_get(object, key));
}

/* ---- CSV ---- */

/* RFC 4180; a line break within a value stays in its quotes. */
static void put_csv(struct buf *out, const char *text)
{
	buf_addc(out, '"');
	for (; *text; text++) {
		if (*text == '"')
			buf_addc(out, '"');
		buf_addc(out, *text);
	}
	buf_addc(out, '"');
}

static void put_time(struct buf *out, long long ms)
{
	char at[25] = "";
	if (ms > 0)
		format_time_iso(ms, at);
	buf_adds(out, at);
}

static void csv_task(struct buf *out, const json_t *plan, const json_t *task)
{
	const json_t *attempts = json_object_get(task, "attempts");
	const json_t *tokens = json_object_get(task, "tokens");
	size_t n = json_array_size(attempts);
	const json_t *first = n ? json_array_get(attempts, 0) : NULL;
	const json_t *last = n ? json_array_get(attempts, n - 1) : NULL;
	buf_addf(out, "%s,%s,%s,%s,%zu,%s,", text_of(plan, "name"), text_of(task, "name"),
		text_of(task, "status"), text_of(task, "outcome"), n, text_of(last, "harness"));
	put_time(out, number_of(first, "started_at"));
	buf_addc(out, ',');
	put_time(out, number_of(last, "ended_at"));
	buf_addf(out, ",%lld,%lld,%lld,%lld,%lld,%.6f,%zu,", number_of(task, "duration_ms"),
		number_of(tokens, "input"), number_of(tokens, "output"),
		number_of(tokens, "cache_read"), number_of(tokens, "cache_write"),
		json_real_value(json_object_get(task, "cost")),
		json_array_size(json_object_get(task, "findings")));
	put_csv(out, text_of(task, "reason"));
	buf_adds(out, "\r\n");
}

static void put_csv_all(struct buf *out, const json_t *report)
{
	size_t i;
	json_t *task;
	buf_adds(out, "plan,task,status,outcome,attempts,harness,started_at,ended_at,duration_ms,"
		      "tokens_input,tokens_output,tokens_cache_read,tokens_cache_write,cost_usd,"
		      "findings,reason\r\n");
	json_array_foreach(json_object_get(report, "tasks"), i, task)
		csv_task(out, json_object_get(report, "plan"), task);
}

/* ---- text ---- */

static void text_attempt(struct buf *out, const json_t *attempt)
{
	const char *reason = text_of(attempt, "reason");
	CLEANUP_STR char *safe =
		str_printable(reason, utf8_cut(reason, strcspn(reason, "\n"), 200), false);
	buf_addf(out, "    attempt %lld  %-8s %-14s ", number_of(attempt, "number"),
		text_of(attempt, "harness"),
		text_of(attempt, "outcome")[0] ? text_of(attempt, "outcome") : "under way");
	report_duration(number_of(attempt, "duration_ms"), out);
	if (safe && safe[0])
		buf_addf(out, "  %s", safe);
	buf_addc(out, '\n');
}

static void text_task(struct buf *out, const json_t *task)
{
	const json_t *tokens = json_object_get(task, "tokens");
	size_t i, findings = json_array_size(json_object_get(task, "findings"));
	json_t *it;
	buf_addf(out, "  %s: %s, ", text_of(task, "name"), text_of(task, "status"));
	report_duration(number_of(task, "duration_ms"), out);
	buf_addf(out, ", tokens %lld in, %lld out", number_of(tokens, "input"),
		number_of(tokens, "output"));
	if (number_of(tokens, "cache_read") || number_of(tokens, "cache_write"))
		buf_addf(out, ", %lld cache read, %lld cache write",
			number_of(tokens, "cache_read"), number_of(tokens, "cache_write"));
	buf_addf(out, ", %.4f USD, %zu finding%s\n", json_real_value(json_object_get(task, "cost")),
		findings, findings == 1 ? "" : "s");
	json_array_foreach(json_object_get(task, "attempts"), i, it)
		text_attempt(out, it);
	json_array_foreach(json_object_get(task, "findings"), i, it) {
		const char *title = text_of(it, "title");
		CLEANUP_STR char *safe = str_printable(title, strlen(title), false);
		buf_addf(out, "    finding (%s): %s\n", text_of(it, "severity"), safe ? safe : "");
	}
}

static void put_report(struct buf *out, const json_t *report)
{
	const json_t *plan = json_object_get(report, "plan");
	const json_t *totals = json_object_get(report, "totals");
	const json_t *tokens = json_object_get(totals, "tokens");
	size_t i;
	json_t *task;
	buf_addf(out, "plan %s: %s", text_of(plan, "name"), text_of(plan, "status"));
	if (text_of(plan, "halt")[0] && !str_eq(text_of(plan, "halt"), text_of(plan, "status")))
		buf_addf(out, " (%s)", text_of(plan, "halt"));
	buf_adds(out, "\ntime: ");
	report_duration(number_of(totals, "ended_at") - number_of(totals, "started_at"), out);
	buf_adds(out, " by the clock, ");
	report_duration(number_of(totals, "agents_ms"), out);
	buf_addf(out, " of agents in %lld attempts\n", number_of(totals, "attempts"));
	buf_addf(out, "tokens: %lld in, %lld out, %lld cache read, %lld cache write; %.4f USD\n",
		number_of(tokens, "input"), number_of(tokens, "output"),
		number_of(tokens, "cache_read"), number_of(tokens, "cache_write"),
		json_real_value(json_object_get(totals, "cost")));
	buf_addf(out, "findings: %lld\n", number_of(totals, "findings"));
	json_array_foreach(json_object_get(report, "tasks"), i, task)
		text_task(out, task);
}

/* ---- the verb ---- */

static int tell(struct cli *cli, const json_t *report, enum format format)
{
	CLEANUP_BUF struct buf out = BUF_INIT;
	if (format == FORMAT_CSV)
		put_csv_all(&out, report);
	else if (format == FORMAT_HTML)
		report_html(report, &out);
	else
		put_report(&out, report);
	if (buf_check(&out) < 0)
		return cli_no_memory(cli);
	fwrite(out.data, 1, out.len, stdout);
	return 0;
}

static int parse_format(struct cli *cli, int argc, char **argv, enum format *ret)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'},
		{"csv", no_argument, NULL, 'c'}, {"html", no_argument, NULL, 'H'}, CLI_OPTIONS};
	int val, status = -1;
	while ((val = cli_option(cli, argc, argv, options, &status)) != -1) {
		if (val == CLI_EXIT)
			return status;
		enum format format = val == 'j'   ? FORMAT_JSON
				     : val == 'c' ? FORMAT_CSV
				     : val == 'H' ? FORMAT_HTML
						  : FORMAT_TEXT;
		if (format == FORMAT_TEXT)
			return cli_usage(cli, "unknown option '-%c'", val);
		if (*ret != FORMAT_TEXT && *ret != format)
			return cli_usage(cli, "give one of --json, --csv and --html");
		*ret = format;
	}
	return optind + 1 < argc ? cli_usage(cli, "expected one plan") : -1;
}

int cmd_report(struct cli *cli, int argc, char **argv)
{
	enum format format = FORMAT_TEXT;
	struct cli_site at = CLI_SITE_INIT;
	struct err e = ERR_INIT;
	json_t *report = NULL;
	int64_t id = 0;
	char plan[101];
	int status = parse_format(cli, argc, argv, &format);
	if (status >= 0)
		return status;
	status = cli_site_open(cli, CLI_LOOK, &at);
	if (status == 0)
		status = cli_find_plan(cli, at.store, argv[optind], &id, plan);
	if (status == 0 && report_json(at.store, id, &report, &e) < 0)
		status = cli_error(cli, &e);
	if (status == 0)
		status = format == FORMAT_JSON ? cli_print_json(json_incref(report))
					       : tell(cli, report, format);
	json_decref(report);
	cli_site_close(&at);
	return cli_flush(status);
}
