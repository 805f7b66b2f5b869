/* SPDX-License-Identifier: MIT */
/* orch merge: what a plan has integrated into the branch it started from. */
#include "cli/commands.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "run/json_text.h"
#include "run/merge_base.h"
#include "server/client.h"

#include <string.h>

#define ASK_TIMEOUT_MS 10000

struct merging {
	struct cli *cli;
	struct cli_site at;
	char plan[101];
	bool dry_run, json;
	json_t *results;
};

static void print_output(const char *what, const char *text)
{
	if (!text || !text[0])
		return;
	CLEANUP_STR char *safe = str_printable(text, strlen(text), true);
	printf("--- %s\n%s%s", what, safe ? safe : "", safe && str_ends(safe, "\n") ? "" : "\n");
}

static void on_result(
	void *ctx, const char *invariant, bool passed, bool blocks, const struct check_result *r)
{
	struct merging *m = ctx;
	if (m->json) {
		(void)json_array_append_new(m->results, /* NULL: the object below fails */
			json_pack("{s:s, s:b, s:b, s:b, s:o, s:o}", "invariant", invariant,
				"passed", passed, "blocks", blocks, "cached", r == NULL, "stdout",
				json_text(r ? r->out : NULL), "stderr",
				json_text(r ? r->errout : NULL)));
		return;
	}
	if (m->cli->quiet && passed)
		return;
	printf("%s: %s%s\n", invariant, passed ? "passed" : "failed",
		r ? (passed || blocks ? "" : " (does not block)") : " (cached)");
	if (!passed && r) {
		print_output("stdout", r->out);
		print_output("stderr", r->errout);
	}
	fflush(stdout);
}

/* An engine that runs must not take the move for an agent's doing; without one nobody looks. */
static void on_moves(
	void *ctx, const char *ref, const struct git_oid *from, const struct git_oid *to)
{
	struct merging *m = ctx;
	struct err e = ERR_INIT;
	json_t *result = NULL;
	if (m->at.engine < 0)
		return;
	json_t *params = json_pack("{s:s, s:s, s:s}", "ref", ref, "from", from->hex, "to", to->hex);
	if (client_call(m->at.engine, "ref.moves", params, deadline_after(ASK_TIMEOUT_MS), &result,
		    &e) < 0)
		log_debug("%s", e.msg); /* it has ended, or is about to */
	json_decref(result);
}

static const char *outcome_word(enum merge_base_outcome outcome, bool dry_run)
{
	switch (outcome) {
	case MERGE_BASE_DONE:
		return dry_run ? "would_merge" : "merged";
	case MERGE_BASE_ALREADY:
		return "already_merged";
	case MERGE_BASE_NOTHING:
		return "nothing";
	case MERGE_BASE_MISSING:
		return "missing";
	case MERGE_BASE_REFUSED:
		return "refused";
	case MERGE_BASE_MOVED:
		return "moved";
	case MERGE_BASE_CONFLICT:
		return "conflict";
	case MERGE_BASE_RED:
		return "red";
	case MERGE_BASE_INTERRUPTED:
		return "interrupted";
	}
	return "?";
}

static int outcome_status(enum merge_base_outcome outcome)
{
	switch (outcome) {
	case MERGE_BASE_DONE:
	case MERGE_BASE_ALREADY:
		return 0;
	case MERGE_BASE_MISSING:
		return EXIT_DATA;
	case MERGE_BASE_INTERRUPTED:
		return EXIT_INTERRUPTED;
	default:
		return 1;
	}
}

static void print_good(
	const struct merging *m, const struct merge_base *b, enum merge_base_outcome outcome)
{
	if (m->cli->quiet)
		return;
	if (outcome == MERGE_BASE_ALREADY)
		printf("Already merged: '%s' holds all that plan '%s' has integrated\n", b->branch,
			m->plan);
	else if (m->dry_run)
		printf("plan '%s' can be merged into '%s'; it stays at %.12s (dry run)\n", m->plan,
			b->branch, b->from.hex);
	else
		printf("merged plan '%s' into '%s': %.12s -> %.12s; `orch cleanup %s` removes what "
		       "it left\n",
			m->plan, b->branch, b->from.hex, b->to.hex, m->plan);
}

static void print_bad(
	const struct merging *m, const struct merge_base *b, enum merge_base_outcome outcome)
{
	const char *before = "", *after = "";
	switch (outcome) {
	case MERGE_BASE_REFUSED:
		after = "; nothing was changed";
		break;
	case MERGE_BASE_MOVED:
		after = ": it moved meanwhile, try again";
		break;
	case MERGE_BASE_CONFLICT:
		before = "conflicts in: ";
		after = "; merge the integration branch by hand, or dispatch the plan with a task "
			"that does it";
		break;
	case MERGE_BASE_RED:
		before = "red on the merged tree: ";
		after = "; nothing was changed";
		break;
	default:
		break;
	}
	fprintf(stderr, "orch merge: %s", before);
	cli_print_safe(stderr, b->text ? b->text : "no reason");
	fprintf(stderr, "%s\n", after);
	(void)m;
}

static int tell(struct merging *m, const struct merge_base *b, enum merge_base_outcome outcome)
{
	int status = outcome_status(outcome);
	if (status == 0 && !m->json)
		print_good(m, b, outcome);
	else if (status != 0)
		print_bad(m, b, outcome);
	if (!m->json)
		return cli_flush(status);
	int code = cli_print_json(json_pack("{s:i, s:s, s:s, s:o, s:s?, s:s?, s:o, s:O}", "version",
		1, "plan", m->plan, "result", outcome_word(outcome, m->dry_run), "base",
		json_text(b->branch), "from", b->from.hex[0] ? b->from.hex : NULL, "to",
		b->to.hex[0] ? b->to.hex : NULL, "reason", json_text(b->text), "results",
		m->results));
	return status ? status : code;
}

static int merge(struct merging *m, const char *name)
{
	struct err e = ERR_INIT;
	int64_t id;
	int status = cli_site_open_change(m->cli, &m->at);
	if (status == 0)
		status = cli_find_plan(m->cli, m->at.store, name, &id, m->plan);
	if (status)
		return status;
	struct merge_base b = {
		.site = m->at.site,
		.store = m->at.store,
		.beside = m->at.engine >= 0,
		.plan_id = id,
		.signal_fd = m->cli->signal_fd,
		.dry_run = m->dry_run,
		.told = on_result,
		.moves = on_moves,
		.ctx = m,
	};
	enum merge_base_outcome outcome;
	m->results = json_array();
	status =
		merge_base_run(&b, &outcome, &e) < 0 ? cli_error(m->cli, &e) : tell(m, &b, outcome);
	json_decref(m->results);
	merge_base_deinit(&b);
	return status;
}

int cmd_merge(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{"dry-run", no_argument, NULL, 'n'}, {"json", no_argument, NULL, 'j'}, CLI_OPTIONS};
	struct merging m = {.cli = cli, .at = CLI_SITE_INIT};
	int val, status = -1;
	while ((val = cli_option(cli, argc, argv, options, &status)) != -1) {
		if (val == CLI_EXIT)
			return status;
		if (val == 'n')
			m.dry_run = true;
		else if (val == 'j')
			m.json = true;
		else
			return cli_usage(cli, "unknown option '-%c'", val);
	}
	if (optind + 1 != argc)
		return cli_usage(cli, "expected one plan");
	status = merge(&m, argv[optind]);
	cli_site_close(&m.at);
	return status;
}
