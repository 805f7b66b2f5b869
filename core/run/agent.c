/* SPDX-License-Identifier: MIT */
/* An attempt's agent: from its spec to its outcome, and its journal into the store. */
#include "run/state.h"

#include "base/clock.h"
#include "base/json_text.h"
#include "git/git.h"
#include "plugin/plugin.h"
#include "unit/usage.h"

#include <errno.h>
#include <string.h>

#define INGEST_BYTES   (1 << 20)
#define RUNAWAY_EVENTS 500
#define RUNAWAY_BYTES  (64LL << 20)

/* ---- journal ---- */

static void usage_counts(const json_t *data, int64_t ret[4])
{
	ret[0] = usage_tokens(data, "input");
	ret[1] = usage_tokens(data, "output");
	ret[2] = usage_tokens(data, "cache_read");
	ret[3] = usage_tokens(data, "cache_write");
}

/* What was counted of one message. */
struct usage_seen {
	int64_t counts[4];
	double cost;
};

#define USAGE_IDS_MAX 65536 /* an attempt's messages that are told apart */

void usage_forget(struct live *l)
{
	for (size_t i = 0; i < l->usage_by_id.count; i++)
		free(l->usage_by_id.entries[i].value);
	map_deinit(&l->usage_by_id);
}

/* What was counted of the message before, to be replaced; NULL: nothing, or memory is out. */
static struct usage_seen *usage_of(struct live *l, const char *id, struct err *e)
{
	struct usage_seen *seen = map_get(&l->usage_by_id, id);
	if (seen || l->usage_by_id.count >= USAGE_IDS_MAX)
		return seen;
	seen = calloc(1, sizeof(*seen));
	if (!seen || map_put(&l->usage_by_id, id, seen) < 0) {
		free(seen);
		err_nomem(e);
		return NULL;
	}
	return seen;
}

/*
 * Usage comes per message, repeated while a message grows, or as a total of the whole attempt: what
 * is added is always the difference from what was counted before.
 */
static int ingest_usage(struct live *l, const json_t *data, struct err *e)
{
	int64_t now[4];
	usage_counts(data, now);
	double cost = usage_cost(data);
	const char *id = json_string_value(json_object_get(data, "id"));
	bool total = json_is_true(json_object_get(data, "total"));
	if (l->usage_is_total && !total)
		return 0; /* what is in it comes again in the next total */
	l->usage_is_total = total;
	struct usage_seen *seen = id && !total ? usage_of(l, id, e) : NULL;
	if (id && !total && !seen && e->code)
		return e->code;
	int64_t more[4];
	for (int i = 0; i < 4; i++) {
		int64_t before = total ? l->usage_sum[i] : seen ? seen->counts[i] : 0;
		int64_t sum = usage_add(l->usage_sum[i], now[i] - before);
		more[i] = sum - l->usage_sum[i];
		l->usage_sum[i] = sum;
	}
	double more_cost = cost - (total ? l->cost_sum : seen ? seen->cost : 0);
	if (seen) {
		memcpy(seen->counts, now, sizeof(now));
		seen->cost = cost;
	}
	l->cost_sum = usage_add_cost(l->cost_sum, more_cost);
	int64_t counted = more[0] + more[1] + more[3];
	if (counted != 0)
		run_post(l->run,
			(struct engine_event){.kind = EVENT_USAGE,
				.task = l->index,
				.plan = ENGINE_NONE,
				.tokens = counted},
			NULL);
	return store_add_tokens(l->run->store, l->id, l->attempt, more, more_cost, e);
}

struct ingest {
	struct live *live;
	struct err *err;
};

static int ingest_line(void *user, const struct journal_line *line)
{
	struct ingest *in = user;
	struct live *l = in->live;
	if (str_eq(line->kind, JOURNAL_KIND_STARTED) || str_eq(line->kind, JOURNAL_KIND_LOG))
		return 0;
	if (line->cut)
		json_object_set_new(line->data, "cut", json_true());
	CLEANUP(freep) char *data = json_text_dump(line->data, JSON_COMPACT);
	if (!data)
		return err_nomem(in->err);
	struct event_row row = {
		.at = line->at,
		.plan_id = l->plan->id,
		.task_id = l->id,
		.attempt = l->attempt,
		.kind = line->kind,
		.data = data,
	};
	int code = store_event_add(l->run->store, &row, in->err);
	if (code == 0 && str_eq(line->kind, "usage"))
		code = ingest_usage(l, line->data, in->err);
	if (str_eq(line->kind, "message") || str_eq(line->kind, "progress")) {
		const char *text = json_string_value(json_object_get(line->data, "text"));
		if (text)
			run_activity(l->run, l, text);
	} else if (str_eq(line->kind, "rate_limit")) {
		const char *text = json_string_value(json_object_get(line->data, "text"));
		const json_t *until = json_object_get(line->data, "until");
		CLEANUP_STR char *waits = str_printf("waiting: %s", text ? text : "");
		if (l->agent)
			watch_note_wait(l->agent, line->at, json_integer_value(until));
		if (waits)
			run_activity(l->run, l, waits);
	} else if (str_eq(line->kind, "tool_call")) {
		const char *name = json_string_value(json_object_get(line->data, "name"));
		if (name)
			run_activity(l->run, l, name);
	} else if (str_eq(line->kind, "session")) {
		if (str_replace(&l->session, json_string_value(json_object_get(line->data, "id"))) <
			0)
			code = err_nomem(in->err);
	}
	return code;
}

/* Events and the offset behind them are of one transaction: none is lost, none comes twice. */
static int ingest(struct live *l, int dirfd, struct err *e)
{
	struct ingest in = {.live = l, .err = e};
	int64_t before;
	do {
		before = l->journal_offset;
		int code = journal_read(
			dirfd, &l->journal_offset, INGEST_BYTES, ingest_line, &in, NULL, e);
		if (code < 0)
			return code;
	} while (l->journal_offset != before);
	return store_unit_set_offset(l->run->store, l->unit_id, l->journal_offset, e);
}

struct recall {
	struct live *live;
	struct err *err;
};

static int read_offset(void *ctx, const struct unit_row *row)
{
	struct live *l = ctx;
	l->journal_offset = row->journal_offset;
	return 0;
}

static void recall_usage(struct recall *re, const json_t *data)
{
	struct live *l = re->live;
	const char *id = json_string_value(json_object_get(data, "id"));
	bool total = json_is_true(json_object_get(data, "total"));
	l->usage_is_total |= total;
	struct usage_seen *seen = id && !total ? usage_of(l, id, re->err) : NULL;
	if (!seen)
		return;
	usage_counts(data, seen->counts);
	seen->cost = usage_cost(data);
}

/* The session, and what was counted of each message, which may still grow. */
static int read_event(void *ctx, const struct event_row *row)
{
	struct recall *re = ctx;
	struct live *l = re->live;
	bool is_session = str_eq(row->kind, "session");
	if (row->attempt != l->attempt || (!is_session && !str_eq(row->kind, "usage")))
		return 0;
	json_t *data = NULL;
	if (json_text_parse(row->data, strlen(row->data), 0, &data, NULL) == -ENOMEM)
		return err_nomem(re->err);
	if (!is_session)
		recall_usage(re, data);
	else if (str_replace(&l->session, json_string_value(json_object_get(data, "id"))) < 0)
		err_nomem(re->err);
	json_decref(data);
	return re->err->code;
}

int agent_recall(struct live *l, struct err *e)
{
	struct store *s = l->run->store;
	int code = store_unit(s, l->unit_id, read_offset, l, e);
	struct recall re = {.live = l, .err = e};
	if (code >= 0)
		code = store_each_event(s, l->plan->id, l->id, 0, read_event, &re, e);
	if (code < 0)
		return e->code ? code : err_nomem(e);
	return 0;
}

/* ---- its life ---- */

static void agent_started(struct watch *w)
{
	struct live *l = w->live;
	if (l->started)
		return;
	l->started = true;
	run_post_task(l->run, l, EVENT_STARTED, RESULT_DONE, NULL);
}

static void agent_journal(struct watch *w)
{
	struct err err = ERR_INIT;
	int code = run_tx(w->run);
	if (code == 0)
		code = ingest(w->live, unit_dirfd(w->unit), &err);
	if (code < 0)
		run_fail(w->run, code, &err);
}

/* The outcome of an attempt, from what its keeper recorded: never from the exit status alone. */
static enum outcome exit_outcome(const struct unit_exit *x)
{
	enum outcome outcome;
	switch (x->cause) {
	case CAUSE_EXITED:
		if (!x->outcome || outcome_parse(x->outcome, &outcome) < 0)
			return OUTCOME_AGENT_ERROR;
		return outcome;
	case CAUSE_KILLED:
		if (str_eq(x->text, UNIT_EXIT_ORPHANED))
			return OUTCOME_INTERRUPTED;
		/* The reason of our request is the outcome it was made for. */
		if (!x->text || outcome_parse(x->text, &outcome) < 0 || outcome == OUTCOME_NONE)
			return OUTCOME_CANCELLED;
		return outcome;
	default:
		if (outcome_parse(unit_cause_name(x->cause), &outcome) < 0)
			return OUTCOME_AGENT_ERROR;
		return outcome;
	}
}

static int store_exit(struct live *l, const struct unit_exit *x, struct err *e)
{
	struct run *r = l->run;
	struct attempt_row row = {
		.task_id = l->id,
		.number = l->attempt,
		.session = x->session ? x->session : l->session,
		.containment = x->containment,
		.started_at = x->started_at ? x->started_at : run_now(r),
		.ended_at = x->ended_at ? x->ended_at : run_now(r),
		.exit_code = x->exit_code,
		.signal = x->signal,
		.left = x->left,
		.killed = x->killed,
		.sweep_ms = x->sweep_ms,
		.contained = x->contained,
	};
	int code = store_attempt_set_exit(r->store, &row, e);
	return code < 0 ? code : store_unit_end(r->store, l->unit_id, run_now(r), e);
}

/* Where its harness gives no reason for how it went. */
static const char *bare_reason(enum outcome outcome, const struct unit_exit *x, char ret[64])
{
	if (x->cause != CAUSE_EXITED || outcome == OUTCOME_OK || outcome == OUTCOME_NOT_NEEDED)
		return NULL;
	if (x->signal > 0)
		snprintf(ret, 64, "the agent was ended by signal %lld", (long long)x->signal);
	else if (x->exit_code >= 0)
		snprintf(ret, 64, "the agent ended with status %lld", (long long)x->exit_code);
	else
		snprintf(ret, 64, "its harness does not say why");
	return ret;
}

static bool found_no_room(struct run *r, const struct unit_exit *x)
{
	struct err err = ERR_INIT;
	if (x->cause != CAUSE_SPAWN_FAILED)
		return false;
	err_set(&err, (int)x->error, "%s", x->text);
	return run_machine_failed(r, &err);
}

void agent_over(struct live *l, int unit_dirfd_, struct unit_exit *x)
{
	struct run *r = l->run;
	struct err err = ERR_INIT;
	l->agent = NULL;
	int code = run_tx(r);
	if (code == 0 && unit_dirfd_ >= 0)
		code = ingest(l, unit_dirfd_, &err);
	if (code == 0)
		code = store_exit(l, x, &err);
	if (code < 0) {
		run_fail(r, code, &err);
		return;
	}
	enum outcome outcome = exit_outcome(x);
	const char *text = x->outcome_text && x->cause == CAUSE_EXITED ? x->outcome_text : x->text;
	if (x->cause == CAUSE_KILLED && !str_eq(x->text, UNIT_EXIT_ORPHANED))
		text = outcome == OUTCOME_OVER_BUDGET ? "ended because its token budget is spent"
						      : "ended by a request to stop";
	char bare[64];
	if (!text || !text[0])
		text = bare_reason(outcome, x, bare);
	struct engine_event ev = {
		.kind = EVENT_ENDED,
		.task = l->index,
		.plan = ENGINE_NONE,
		.outcome = outcome,
		.until = x->reset_at,
	};
	l->ended_until = x->reset_at;
	if (str_replace(&l->ended_text, text) < 0) {
		err_nomem(&err);
		run_fault(r, &err);
	}
	/* Ended by us before its first process: the attempt never ran. */
	if (x->cause == CAUSE_KILLED && x->started_at == 0)
		ev.result = RESULT_CANCELLED;
	ev.no_charge = found_no_room(r, x);
	if (!ev.no_charge)
		r->short_row = 0;
	run_post(r, ev, text ? text : "");
}

static void agent_watch_over(struct watch *w, struct unit_exit *x)
{
	agent_over(w->live, unit_dirfd(w->unit), x);
}

static const struct watch agent_callbacks = {
	.started = agent_started,
	.journal = agent_journal,
	.over = agent_watch_over,
};

/* What is left of a wait that an earlier engine has heard of. */
static int recall_wait(struct live *l, struct err *e)
{
	CLEANUP_STR char *data = NULL;
	json_t *wait = NULL;
	int code = store_last_event(l->run->store, l->id, l->attempt, "rate_limit", &data, e);
	if (code == 0 && data && json_text_parse(data, strlen(data), 0, &wait, NULL) == -ENOMEM)
		code = err_nomem(e);
	if (code == 0)
		watch_note_wait(l->agent, run_now(l->run),
			json_integer_value(json_object_get(wait, "until")));
	json_decref(wait);
	return code;
}

int agent_watch_adopted(struct live *l, struct unit *unit, struct err *e)
{
	int code = watch_adopted(l->run, l, unit, &agent_callbacks, &l->agent, e);
	if (code == 0)
		code = recall_wait(l, e);
	if (code == 0)
		agent_journal(l->agent);
	return code;
}

/* ---- starting ---- */

static void end_at_once(struct live *l, enum outcome outcome, const char *text)
{
	struct err err = ERR_INIT;
	if (run_tx(l->run) == 0 &&
		store_unit_end(l->run->store, l->unit_id, run_now(l->run), &err) < 0)
		run_fault(l->run, &err);
	run_post(l->run,
		(struct engine_event){.kind = EVENT_ENDED,
			.task = l->index,
			.plan = ENGINE_NONE,
			.outcome = outcome},
		text);
}

struct resumable {
	const struct live *live;
	struct unit_spec *spec;
};

/*
 * A session belongs to the harness that began it. The last one counts; what its attempts were
 * counted for goes along.
 */
static int find_session(void *ctx, const struct attempt_row *row)
{
	struct unit_spec *s = ((struct resumable *)ctx)->spec;
	const struct live *l = ((struct resumable *)ctx)->live;
	if (row->number >= l->attempt || !row->session || !str_eq(row->harness, l->harness))
		return 0;
	if (!str_eq(s->session, row->session))
		s->session_input = s->session_output = s->session_cache_read =
			s->session_cache_write = 0;
	s->session_input = usage_add(s->session_input, row->tokens[0]);
	s->session_output = usage_add(s->session_output, row->tokens[1]);
	s->session_cache_read = usage_add(s->session_cache_read, row->tokens[2]);
	s->session_cache_write = usage_add(s->session_cache_write, row->tokens[3]);
	return str_replace(&s->session, row->session);
}

static int spec_fill(struct live *l, struct unit_spec *s, struct err *e)
{
	const struct config_orch *c = &l->run->config->orch;
	unit_spec_init(s, UNIT_AGENT);
	memcpy(s->id, l->unit_id, sizeof(s->id));
	int code = prompt_build(l, &s->prompt, e);
	if (code < 0)
		return code;
	struct resumable resumable = {l, s};
	code = store_each_attempt(l->run->store, l->id, find_session, &resumable, e);
	if (code < 0)
		return e->code ? code : err_nomem(e);
	s->resume = l->carried;
	s->plan = str_dup(l->plan->name);
	s->task = str_dup(l->name);
	s->attempt = l->attempt;
	s->cwd = str_dup(l->worktree ? l->worktree : l->run->site->root);
	s->command = str_dup(l->command);
	s->harness = str_dup(l->harness);
	s->timeout_ms = l->timeout_ms;
	s->silence_ms = c->silence_timeout_ms;
	s->runaway_events = RUNAWAY_EVENTS;
	s->runaway_bytes = RUNAWAY_BYTES;
	s->callback_timeout_ms = c->callback_timeout_ms;
	s->kill_grace_ms = c->kill_grace_ms;
	s->on_crash = c->on_crash == CONFIG_ON_CRASH_KILL ? ON_CRASH_KILL : ON_CRASH_ADOPT;
	if (unit_containment_parse(config_containment_name(c->containment), &s->containment) < 0)
		return err_exit(e, EXIT_CONFIG, "containment '%s' is not available here",
			config_containment_name(c->containment));
	const struct config_harness *h = config_harness_find(l->run->config, l->harness);
	for (size_t i = 0; h && i < h->options.count; i++)
		if (unit_spec_add_option(s, h->options.items[i].key, h->options.items[i].value) < 0)
			return err_nomem(e);
	return s->plan && s->task && s->cwd && s->harness && (s->command || !l->command)
		       ? 0
		       : err_nomem(e);
}

/* What this unit's environment has beyond every unit's is secret: keys, and the token. */
static int mask_additions(const struct run *r, char *const *env, struct unit_spec *s, struct err *e)
{
	for (size_t i = 0; env[i]; i++) {
		if (strv_contains(r->unit_env, env[i]))
			continue;
		CLEANUP_STR char *name = strndup(env[i], strcspn(env[i], "="));
		if (!name || strv_add(&s->mask_env, name) < 0)
			return err_nomem(e);
	}
	return 0;
}

void agent_start(struct live *l)
{
	struct run *r = l->run;
	struct err err = ERR_INIT;
	if (!l->harness) {
		end_at_once(l, OUTCOME_HARNESS_MISSING,
			"no harness was chosen: give --harness=NAME, `harness` in the plan, or "
			"default_harness in orch.ini");
		return;
	}
	CLEANUP_UNIT_SPEC struct unit_spec spec = {0};
	CLEANUP_STRV char **env = NULL;
	int code = spec_fill(l, &spec, &err);
	if (code == 0)
		code = plugin_find(r->plugin_path, config_harness_plugin(r->config, l->harness),
			&spec.plugin, &err);
	if (code == PLUGIN_MISSING) {
		end_at_once(l, OUTCOME_HARNESS_MISSING, err.msg);
		return;
	}
	if (code == 0)
		code = environ_for_harness(r, l->harness, &env, &err);
	if (code == 0)
		code = mask_additions(r, env, &spec, &err);
	if (code == 0)
		code = watch_start(r, l, &spec, env, &agent_callbacks, &l->agent, &err);
	if (code == 0)
		return;
	if (run_machine_failed(r, &err))
		run_post_task(
			r, l, EVENT_ENDED, RESULT_CANCELLED, NULL); /* anew, as the same attempt */
	else
		end_at_once(l, OUTCOME_SPAWN_FAILED, err.msg);
}

void agent_kill(struct live *l, const struct engine_action *a)
{
	if (l->agent)
		watch_kill(l->agent, a->hard, outcome_name(a->why), a->kill_after_ms);
}
