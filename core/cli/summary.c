/* SPDX-License-Identifier: MIT */
#include "cli/summary.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/map.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/waiting.h"
#include "run/credential.h"
#include "run/ready.h"

#include <jansson.h>
#include <stdio.h>

/* What the rows say of the plan. */
struct found {
	const struct summary *of;
	int64_t counts[TASK_STATUS_COUNT];
	bool worktrees;
	bool other_harness; /* a task that is left has another one than was asked for */
	int64_t spent, budget;
	struct buf spenders; /* harnesses that have spent what they may in the plan */
};

static void found_deinit(struct found *f)
{
	buf_deinit(&f->spenders);
}

static int note_task(void *ctx, const struct task_row *row)
{
	struct found *f = ctx;
	f->counts[row->status]++;
	f->other_harness |= row->status != TASK_PASSED && !str_eq(row->harness, f->of->harness);
	return 0;
}

static int note_plan(void *ctx, const struct plan_row *row)
{
	struct found *f = ctx;
	f->worktrees = row->worktrees;
	f->spent = row->tokens[0] + row->tokens[1] + row->tokens[3];
	f->budget = row->token_budget;
	return 0;
}

static int note_spender(void *ctx, const char *harness, int64_t tokens)
{
	struct found *f = ctx;
	const struct config_harness *h = config_harness_find(f->of->site->config, harness);
	if (h && h->token_budget > 0 && tokens >= h->token_budget)
		buf_addf(&f->spenders,
			"%stoken_budget of [harness:%s] (%lld of %lld tokens are spent)",
			f->spenders.len ? " and " : "", harness, (long long)tokens,
			(long long)h->token_budget);
	return 0;
}

static int look(const struct summary *s, struct found *ret)
{
	struct err e = ERR_INIT;
	*ret = (struct found){.of = s};
	int r = store_each_task(s->store, s->halt->plan_id, note_task, ret, &e);
	if (r == 0)
		r = store_plan(s->store, s->halt->plan_id, note_plan, ret, &e);
	if (r == 0)
		r = store_each_spent(s->store, s->halt->plan_id, note_spender, ret, &e);
	if (r < 0)
		fprintf(stderr, "orch: %s\n", e.msg);
	return r;
}

void summary_json(const struct summary *s)
{
	CLEANUP(found_deinit) struct found f;
	if (look(s, &f) < 0)
		return;
	json_t *tasks = json_object();
	for (int i = 0; i < TASK_STATUS_COUNT; i++)
		if (f.counts[i])
			json_object_set_new(tasks, task_status_name((enum task_status)i),
				json_integer(f.counts[i]));
	json_t *line = json_pack("{s:i, s:s, s:s, s:s, s:i, s:o}", "version", 1, "type", "halt",
		"plan", s->halt->plan, "reason", halt_reason_name(s->halt->reason), "exit_status",
		halt_reason_status(s->halt->reason), "tasks", tasks);
	if (cli_put_json(line) < 0)
		log_warning("out of memory: a line of the output is missing");
}

/* ---- what to type next ---- */

static char *command(const struct summary *s, const struct found *f)
{
	bool named = s->harness && f->other_harness;
	return str_printf("orch dispatch %s%s%s", s->halt->plan, named ? " --harness=" : "",
		named ? s->harness : "");
}

char *summary_command(const struct summary *s)
{
	CLEANUP(found_deinit) struct found f;
	return look(s, &f) < 0 ? NULL : command(s, &f);
}

/* Nothing goes on before it is raised. */
static void print_budget(const struct summary *s, const struct found *f, const char *dispatch)
{
	const char *plan = s->halt->plan;
	if (f->budget > 0 && f->spent >= f->budget)
		printf("next: %lld of %lld tokens are spent; raise the budget with `orch plan set "
		       "%s "
		       "token_budget=N`, then `%s`\n",
			(long long)f->spent, (long long)f->budget, plan, dispatch);
	else
		printf("next: raise %s in orch.ini, then `%s`\n",
			f->spenders.len ? buf_cstr(&f->spenders) : "the harness's token_budget",
			dispatch);
}

static void print_next(const struct summary *s, const struct found *f)
{
	const char *plan = s->halt->plan;
	CLEANUP_STR char *again = command(s, f);
	const char *dispatch = again ? again : "orch dispatch";
	if ((1U << s->halt->reason | s->halt->also) & 1U << HALT_BUDGET_EXCEEDED) {
		print_budget(s, f, dispatch);
		return;
	}
	switch (s->halt->reason) {
	case HALT_REVIEW_REQUIRED:
		printf("next: `orch gate %s/TASK` shows the results; `orch approve` or `orch "
		       "reject --reason TEXT` decides\n",
			plan);
		break;
	case HALT_FAILED:
	case HALT_TARGET_BLOCKED:
		printf("next: `orch log %s/TASK` tells what happened; `orch retry %s/TASK`, then "
		       "`%s`\n",
			plan, plan, dispatch);
		break;
	case HALT_COMPLETED:
	case HALT_TARGET_COMPLETED:
		break;
	default:
		printf("next: `%s` goes on\n", dispatch);
		break;
	}
}

/* ---- the lines ---- */

static void print_head(const struct summary *s, const struct found *f)
{
	printf("\nplan %s: %s", s->halt->plan, halt_reason_name(s->halt->reason));
	for (int i = 0; i < HALT_COUNT; i++)
		if (s->halt->also & (1U << i))
			printf(", %s", halt_reason_name((enum halt_reason)i));
	const char *sep = " (";
	for (int i = 0; i < TASK_STATUS_COUNT; i++) {
		if (!f->counts[i])
			continue;
		printf("%s%lld %s", sep, (long long)f->counts[i],
			task_status_name((enum task_status)i));
		sep = ", ";
	}
	puts(sep[0] == ',' ? ")" : "");
}

/* ---- what opened the circuit breaker ---- */

/* Harnesses that tasks wait for in vain. */
struct down {
	const struct summary *of;
	struct map seen; /* names of harnesses */
	struct buf text;
	int64_t now;
	struct err *err;
};

static void down_deinit(struct down *d)
{
	map_deinit(&d->seen);
	buf_deinit(&d->text);
}

static int note_down(void *ctx, const struct task_row *row)
{
	struct down *d = ctx;
	const struct site *site = d->of->site;
	const char *name = d->of->harness ? d->of->harness
			   : row->harness ? row->harness
					  : site->config->orch.default_harness;
	CLEANUP_STR char *credential = NULL;
	int64_t until = 0, level = 0;
	if (row->status != TASK_PENDING || !name || map_get(&d->seen, name))
		return 0;
	if (map_put(&d->seen, name, d) < 0)
		return err_nomem(d->err);
	int r = credential_name(site, name, &credential, d->err);
	if (r == 0)
		r = store_breaker(d->of->store, credential, &until, &level, d->err);
	if (r < 0 || (until != TIME_NEVER && until - d->now <= site->config->retry.max_wait_ms))
		return r;
	char at[25] = "";
	if (until != TIME_NEVER)
		format_time_iso(until, at);
	buf_addf(&d->text, "%sharness '%s' %s%s", d->text.len ? ", " : "", name,
		until == TIME_NEVER ? "was refused its login" : "is rate-limited until ", at);
	return 0;
}

static void print_breaker(const struct summary *s)
{
	struct err e = ERR_INIT;
	CLEANUP(down_deinit)
	struct down d = {.of = s, .now = clock_wall_ms(), .err = &e};
	if (store_each_task(s->store, s->halt->plan_id, note_down, &d, &e) < 0)
		fprintf(stderr, "orch: %s\n", e.msg);
	else if (d.text.len)
		printf("circuit breaker: %s\n", buf_cstr(&d.text));
	else
		printf("circuit breaker: %lld attempts in a row failed ([retry] breaker)\n",
			(long long)s->site->config->retry.breaker);
}

static void print_nothing(const struct summary *s)
{
	if (s->halt->reason == HALT_NO_MATCHING_TASKS)
		puts("nothing to do: no task of the plan is let through by --only");
	if (s->halt->reason == HALT_FILTER_EXHAUSTED)
		puts("nothing more to do among the tasks that --only lets through");
	if (s->halt->reason == HALT_COMPLETED && s->idle)
		puts("nothing to do: every task has passed already");
}

void summary_text(const struct summary *s)
{
	CLEANUP(found_deinit) struct found f;
	struct err e = ERR_INIT;
	if (look(s, &f) < 0)
		return;
	print_head(s, &f);
	if (s->halt->reason != HALT_COMPLETED &&
		waiting_print(stdout, s->store, s->halt->plan_id, &e) < 0)
		fprintf(stderr, "orch: %s\n", e.msg);
	if ((1U << s->halt->reason | s->halt->also) & 1U << HALT_CIRCUIT_BREAKER)
		print_breaker(s);
	print_nothing(s);
	bool there = false;
	if (f.worktrees && f.counts[TASK_PASSED] > 0 && s->site->repo &&
		ready_look(s->site, s->halt->plan, &there, &e) < 0)
		fprintf(stderr, "orch: %s\n", e.msg);
	if (there)
		printf("work: branch orch/%s/integration; `orch merge %s` brings it into its "
		       "base\n",
			s->halt->plan, s->halt->plan);
	print_next(s, &f);
}
