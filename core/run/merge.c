/* SPDX-License-Identifier: MIT */
/*
 * Integration of one task: merge without a worktree, judge the merged tree in a worktree that never
 * held an agent's files, publish by compare-and-swap. Until the last step nothing can be seen from
 * outside, so a crash anywhere means: do it anew.
 */
#include "run/state.h"

#include "git/integrate.h"
#include "git/worktree.h"

#include <errno.h>
#include <string.h>

#define SETUP_TIMEOUT_MS 1800000
#define MOVED_MAX        20 /* times that somebody else may move the branch under us */

struct merge {
	struct git_oid tip;    /* of the integration branch, which is merged into */
	struct git_oid result; /* the merge commit */
	struct git_oid tree;
	unsigned moved;
};

/* ---- the bench: a plan's one merge worktree ---- */

struct bench_job {
	struct job job;
	char *path;
	char *const *copy;
	struct git_oid commit;
	struct git_oid tip; /* what commit was merged into; "": it is no merge */
	void (*ready)(struct live *l, const char *dir, const struct err *e);
};

/* What was merged cannot be checked out: -ECHILD. The first failure stands where it is not that. */
static void bench_blame(struct bench_job *b, const struct git_ctx *ctx)
{
	CLEANUP_STR char *why = NULL;
	struct err err = ERR_INIT;
	struct job *job = &b->job;
	if (git_checkout_refused(ctx, b->path, &b->tip, &b->commit, &why, &err) < 0)
		return;
	if (why)
		job->result = err_set(
			&job->err, -ECHILD, "the merged tree cannot be checked out: %.700s", why);
	else
		job->result = git_worktree_prepare(ctx, b->path, &b->commit, b->copy, &job->err);
}

static void bench_perform(struct job *job)
{
	struct bench_job *b = (struct bench_job *)job;
	struct git_ctx ctx = job_git(job, work_git_timeout_ms());
	int r = git_worktree_prepare(&ctx, b->path, &b->commit, b->copy, &job->err);
	job->result = r;
	if (r < 0 && b->tip.hex[0] && !err_is_machine(r) && r != -ECANCELED && r != -ETIMEDOUT)
		bench_blame(b, &ctx);
}

static void bench_fail(struct live *l,
	void (*ready)(struct live *, const char *, const struct err *), struct err *e)
{
	bench_release(l);
	ready(l, NULL, e);
}

static void bench_setup_done(struct live *l, struct command_result *result)
{
	struct err err = ERR_INIT;
	void (*ready)(struct live *, const char *, const struct err *) = l->bench_ready;
	if (!result->cancelled && !result->failed_to_run && result->exit.cause == CAUSE_EXITED &&
		result->exit.exit_code == 0) {
		ready(l, l->plan->merge_worktree, NULL);
		return;
	}
	if (result->failed_to_run && err_is_machine(result->err.code)) {
		bench_fail(l, ready, &result->err);
		return;
	}
	/* -ECHILD: the command's fault, not the machine's; it speaks against what was merged. */
	err_set(&err, -ECHILD, "the set-up command failed in the merge worktree: %s",
		result->failed_to_run ? result->err.msg
				      : (result->exit.text ? result->exit.text : "cancelled"));
	bench_fail(l, ready, &err);
}

static void bench_done(struct job *job)
{
	struct bench_job *b = (struct bench_job *)job;
	struct live *l = job->live;
	if (job->result < 0 || l->cancel) {
		if (job->result >= 0)
			err_set(&job->err, -ECANCELED, "cancelled");
		bench_fail(l, b->ready, &job->err);
		return;
	}
	if (!l->plan->setup) {
		b->ready(l, l->plan->merge_worktree, NULL);
		return;
	}
	l->bench_ready = b->ready;
	command_run(l, UNIT_SETUP, "setup", l->plan->setup, l->plan->merge_worktree,
		SETUP_TIMEOUT_MS, bench_setup_done);
}

static void bench_job_free(struct job *job)
{
	struct bench_job *b = (struct bench_job *)job;
	free(b->path);
	free(b);
}

static void bench_begin(struct live *l, const struct git_oid *commit,
	void (*ready)(struct live *l, const char *dir, const struct err *e))
{
	struct err err = ERR_INIT;
	struct rplan *p = l->plan;
	p->bench_busy = true;
	p->bench_owner = l;
	if (!p->merge_worktree)
		p->merge_worktree = git_worktree_path(l->run->site->worktree_root, p->name, "");
	struct bench_job *b = calloc(1, sizeof(*b));
	if (b) {
		b->job.perform = bench_perform;
		b->job.done = bench_done;
		b->job.free = bench_job_free;
		b->path = str_dup(p->merge_worktree);
		b->copy = p->copy;
		b->commit = *commit;
		if (l->merge && git_oid_eq(commit, &l->merge->result))
			b->tip = l->merge->tip;
		b->ready = ready;
	}
	int code = b && b->path ? job_start(l->run, l, &b->job, &err) : err_nomem(&err);
	if (code < 0)
		bench_fail(l, ready, &err);
}

void bench_take(struct live *l, const struct git_oid *commit,
	void (*ready)(struct live *l, const char *dir, const struct err *e))
{
	struct rplan *p = l->plan;
	if (!p->bench_busy) {
		bench_begin(l, commit, ready);
		return;
	}
	struct err err = ERR_INIT;
	struct bench_waiter *w = calloc(1, sizeof(*w));
	if (!w) {
		err_nomem(&err);
		ready(l, NULL, &err);
		return;
	}
	*w = (struct bench_waiter){.live = l, .commit = *commit, .ready = ready};
	if (p->bench_tail)
		p->bench_tail->next = w;
	else
		p->bench_head = w;
	p->bench_tail = w;
}

void bench_cancel(struct live *l)
{
	struct rplan *p = l->plan;
	for (struct bench_waiter **at = &p->bench_head, *last = NULL; *at; at = &(*at)->next) {
		struct bench_waiter *w = *at;
		if (w->live != l) {
			last = w;
			continue;
		}
		*at = w->next;
		if (p->bench_tail == w)
			p->bench_tail = last;
		struct err err = ERR_INIT;
		err_set(&err, -ECANCELED, "cancelled");
		w->ready(l, NULL, &err);
		free(w);
		return;
	}
}

void bench_release(struct live *l)
{
	struct rplan *p = l->plan;
	if (p->bench_owner != l)
		return;
	p->bench_owner = NULL;
	p->bench_busy = false;
	struct bench_waiter *w = p->bench_head;
	if (!w)
		return;
	p->bench_head = w->next;
	if (!p->bench_head)
		p->bench_tail = NULL;
	struct bench_waiter next = *w;
	free(w);
	bench_begin(next.live, &next.commit, next.ready);
}

/* ---- the merge ---- */

struct merge_job {
	struct job job;
	char *plan, *task;
	struct git_oid commit, tip, result, tree;
	unsigned attempt;
	char **conflicts;
	char *messages;
	struct git_oid known; /* what the branch must hold */
	bool mended;
	bool already;
	bool publish;
};

static void merge_end(struct live *l, enum engine_result result, const char *text)
{
	free(l->merge);
	l->merge = NULL;
	run_post_task(l->run, l, EVENT_MERGED, result, text);
}

static void merge_error(struct live *l, const struct err *e)
{
	if (!l->cancel)
		run_fault(l->run, e);
	merge_end(l, RESULT_CANCELLED, NULL);
}

static void merge_make(struct merge_job *m, struct git_ctx *ctx)
{
	struct job *job = &m->job;
	CLEANUP_STR char *message =
		str_printf("Merge task %s\n\nOrch-Plan: %s\nOrch-Task: %s\nOrch-Attempt: %u\n",
			m->task, m->plan, m->task, m->attempt);
	job->result = message ? git_integration_tip(
					ctx, m->plan, &m->known, &m->tip, &m->mended, &job->err)
			      : err_nomem(&job->err);
	if (job->result == 0 && !m->tip.hex[0])
		job->result = err_set(
			&job->err, -ENOENT, "there is no branch orch/%s/integration", m->plan);
	if (job->result == 0)
		job->result = git_merge(ctx, &m->tip, &m->commit, message, &m->result,
			&m->conflicts, &m->messages, &job->err);
	m->already = job->result == 0 && git_oid_eq(&m->result, &m->tip);
	if (job->result == 0 && !m->already)
		job->result = git_tree_of(ctx, &m->result, &m->tree, &job->err);
}

static void merge_perform(struct job *job)
{
	struct merge_job *m = (struct merge_job *)job;
	struct git_ctx ctx = job_git(job, work_git_timeout_ms());
	if (m->publish)
		job->result =
			git_integration_publish(&ctx, m->plan, &m->tip, &m->result, &job->err);
	else
		merge_make(m, &ctx);
}

static void merge_job_free(struct job *job)
{
	struct merge_job *m = (struct merge_job *)job;
	free(m->plan);
	free(m->task);
	strv_free(m->conflicts);
	free(m->messages);
	free(m);
}

static void merge_submit(struct live *l, bool publish, void (*done)(struct job *job))
{
	struct err err = ERR_INIT;
	struct merge_job *m = calloc(1, sizeof(*m));
	if (m) {
		m->job.perform = merge_perform;
		m->job.done = done;
		m->job.free = merge_job_free;
		m->plan = str_dup(l->plan->name);
		m->task = str_dup(l->name);
		m->commit = l->commit;
		m->attempt = l->attempt;
		m->publish = publish;
		m->known = l->plan->tip;
		m->tip = l->merge->tip;
		m->result = l->merge->result;
	}
	int code = m && m->plan && m->task ? job_start(l->run, l, &m->job, &err) : err_nomem(&err);
	if (code < 0)
		merge_error(l, &err);
}

void merge_mended(struct run *r, struct rplan *p, const struct live *l)
{
	struct err err = ERR_INIT;
	CLEANUP_STR char *text = str_printf(
		"orch/%s/integration did not hold any more what was merged into it", p->name);
	run_warn(r, "%s%s%s: %s; it was put back", p->name, l ? "/" : "", l ? l->name : "",
		text ? text : "its branch was moved");
	if (l && text && run_tx(r) == 0 &&
		run_finding(l, text, "Somebody moved or removed the branch; it was put back.\n",
			&err) < 0)
		run_fault(r, &err);
}

static void merge_made(struct job *job);

static void merge_published(struct job *job)
{
	struct live *l = job->live;
	if (job->result == GIT_MOVED && ++l->merge->moved < MOVED_MAX && !l->cancel) {
		merge_submit(l, false, merge_made);
	} else if (job->result == 0) {
		l->plan->tip = l->merge->result;
		merge_end(l, RESULT_DONE, NULL);
	} else {
		merge_error(l, &job->err);
	}
}

static void merge_judged(struct live *l, const struct gate_verdict *v)
{
	bench_release(l);
	if (v->cancelled)
		merge_end(l, RESULT_CANCELLED, NULL);
	else if (!v->green)
		merge_end(l, RESULT_FAILED, v->text);
	else
		merge_submit(l, true, merge_published);
}

static void merge_bench_ready(struct live *l, const char *dir, const struct err *e)
{
	if (!dir && e->code == -ECHILD && !l->cancel) {
		merge_end(l, RESULT_FAILED, e->msg);
		return;
	}
	if (!dir) {
		merge_error(l, e);
		return;
	}
	gate_judge(l, GATE_STAGE_MERGE, dir, &l->merge->result, &l->merge->tree, merge_judged);
}

struct count {
	struct live *live;
	size_t all, cached_green;
};

static int note_cached(void *ctx, const struct gate_result_row *row)
{
	struct count *n = ctx;
	n->cached_green += row->passed;
	return 0;
}

struct fingerprints {
	struct VEC(char *) list;
};

static int note_fingerprint(void *ctx, const struct invariant_row *row)
{
	struct fingerprints *f = ctx;
	char **slot = VEC_PUSH(&f->list);
	if (!slot || !(*slot = str_dup(row->fingerprint)))
		return -ENOMEM;
	return 0;
}

/* Whether every invariant of the merge is known to be green on this very tree. */
static int merge_known_green(struct live *l, bool *ret, struct err *e)
{
	struct fingerprints f = {0};
	struct count n = {.live = l};
	int code = store_each_merge_invariant(
		l->run->store, l->plan->id, l->id, note_fingerprint, &f, e);
	for (size_t i = 0; code >= 0 && i < f.list.count; i++) {
		n.all++;
		code = store_cache_get(
			l->run->store, l->merge->tree.hex, f.list.items[i], note_cached, &n, e);
	}
	vec_foreach(text, &f.list)
		free(*text);
	VEC_FREE(&f.list);
	*ret = n.all == n.cached_green;
	return code < 0 ? code : 0;
}

static void merge_conflicted(struct live *l, struct merge_job *m)
{
	struct err err = ERR_INIT;
	CLEANUP_STR char *paths = strv_join(m->conflicts, ", ");
	CLEANUP_STR char *feedback = str_printf(
		"Merging this work into what others have done since conflicts in: %s\n%s",
		paths ? paths : "?", m->messages ? m->messages : "");
	int code = feedback ? run_tx(l->run) : err_nomem(&err);
	if (code == 0)
		code = store_attempt_set_feedback(l->run->store, l->id, l->attempt, feedback, &err);
	if (code < 0) {
		merge_error(l, &err);
		return;
	}
	CLEANUP_STR char *text = str_printf("in %s", paths ? paths : "?");
	merge_end(l, RESULT_CONFLICT, text);
}

static void merge_made(struct job *job)
{
	struct merge_job *m = (struct merge_job *)job;
	struct live *l = job->live;
	struct err err = job->err;
	bool green = false;
	if (m->mended)
		merge_mended(l->run, l->plan, l);
	if (m->tip.hex[0] && !l->plan->tip.hex[0])
		l->plan->tip = m->tip;
	if (job->result == GIT_CONFLICT) {
		merge_conflicted(l, m);
		return;
	}
	if (job->result < 0 || l->cancel) {
		merge_error(l, &err);
		return;
	}
	if (m->already) {
		merge_end(l, RESULT_DONE, NULL);
		return;
	}
	l->merge->tip = m->tip;
	l->merge->result = m->result;
	l->merge->tree = m->tree;
	if (merge_known_green(l, &green, &err) < 0)
		merge_error(l, &err);
	else if (green)
		merge_submit(l, true, merge_published);
	else
		bench_take(l, &m->result, merge_bench_ready);
}

void merge_start(struct live *l)
{
	l->cancel = l->hard = false;
	l->merge = calloc(1, sizeof(*l->merge));
	if (!l->merge) {
		struct err err = ERR_INIT;
		err_nomem(&err);
		merge_error(l, &err);
		return;
	}
	merge_submit(l, false, merge_made);
}
