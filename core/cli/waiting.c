/* SPDX-License-Identifier: MIT */
#include "cli/waiting.h"

#include "base/str.h"
#include "base/vec.h"

#include <errno.h>
#include <stdlib.h>

#define LISTED_MAX 20 /* tasks in a group */
#define NAMED_MAX  5  /* dependencies of a task */

enum group {
	GROUP_PERSON,
	GROUP_BLOCKED,
	GROUP_DEPENDENCY,
	GROUP_CUT_OFF,
	GROUP_READY,
	GROUP_COUNT,
	GROUP_NONE = GROUP_COUNT,
};

static const char *const titles[GROUP_COUNT] = {
	[GROUP_PERSON] = "waits for a person",
	[GROUP_BLOCKED] = "blocked for good, until a person retries or overrides it",
	[GROUP_DEPENDENCY] = "waits for a dependency",
	[GROUP_CUT_OFF] = "cut off, goes on with the next dispatch",
	[GROUP_READY] = "could start with the next dispatch",
};

struct item {
	int64_t id;
	char *name;
	char *reason;
	enum task_status status;
	int64_t attempt;
	bool paused;
	struct buf needs; /* the dependencies that it waits for, by name and state */
	size_t n_needs;
};

struct waiting {
	struct VEC(struct item) items; /* by id */
	struct err *err;
};

static int note_task(void *ctx, const struct task_row *row)
{
	struct waiting *w = ctx;
	struct item *it = VEC_PUSH(&w->items);
	if (!it)
		return err_nomem(w->err);
	*it = (struct item){
		.id = row->id,
		.name = str_dup(row->name),
		.reason =
			row->reason ? str_printable(row->reason, strlen(row->reason), false) : NULL,
		.status = row->status,
		.attempt = row->attempt,
		.paused = row->paused,
	};
	return it->name && (!row->reason || it->reason) ? 0 : err_nomem(w->err);
}

static int by_id(const void *a, const void *b)
{
	int64_t x = ((const struct item *)a)->id, y = ((const struct item *)b)->id;
	return (x > y) - (x < y);
}

static struct item *find(const struct waiting *w, int64_t id)
{
	struct item key = {.id = id};
	return w->items.count ? bsearch(&key, w->items.items, w->items.count, sizeof(key), by_id)
			      : NULL;
}

static int note_edge(void *ctx, int64_t task, int64_t dependency)
{
	struct waiting *w = ctx;
	struct item *it = find(w, task);
	const struct item *need = find(w, dependency);
	if (!it || !need || it->status != TASK_PENDING || need->status == TASK_PASSED)
		return 0;
	if (it->n_needs++ < NAMED_MAX)
		buf_addf(&it->needs, "%s%s (%s)", it->needs.len ? ", " : "", need->name,
			task_status_name(need->status));
	return buf_check(&it->needs) < 0 ? err_nomem(w->err) : 0;
}

static enum group group_of(const struct item *it)
{
	switch (it->status) {
	case TASK_PASSED:
		return GROUP_NONE;
	case TASK_AWAITING_REVIEW:
		return GROUP_PERSON;
	case TASK_ESCALATED:
		return GROUP_BLOCKED;
	case TASK_PENDING:
		return it->n_needs ? GROUP_DEPENDENCY : GROUP_READY;
	default:
		return GROUP_CUT_OFF;
	}
}

static void print_item(FILE *out, const struct item *it)
{
	fprintf(out, "  %s: %s", it->name, task_status_name(it->status));
	if (it->attempt > 0)
		fprintf(out, " after attempt %lld", (long long)it->attempt);
	if (it->paused)
		fputs(", paused", out);
	if (it->n_needs > 0)
		fprintf(out, ", needs %s", buf_cstr(&it->needs));
	if (it->n_needs > NAMED_MAX)
		fprintf(out, " and %zu more", it->n_needs - NAMED_MAX);
	if (it->reason)
		fprintf(out, ": %s", it->reason);
	fputc('\n', out);
}

static void print_group(FILE *out, const struct waiting *w, enum group group)
{
	size_t listed = 0;
	vec_foreach(it, &w->items) {
		if (group_of(it) != group)
			continue;
		if (listed == 0)
			fprintf(out, "%s:\n", titles[group]);
		if (listed++ < LISTED_MAX)
			print_item(out, it);
	}
	if (listed > LISTED_MAX)
		fprintf(out, "  and %zu more\n", listed - LISTED_MAX);
}

static int look(struct waiting *w, struct store *s, int64_t plan_id)
{
	int r = store_each_task(s, plan_id, note_task, w, w->err);
	if (r == 0 && w->items.count > 0)
		qsort(w->items.items, w->items.count, sizeof(*w->items.items), by_id);
	return r == 0 ? store_each_edge(s, plan_id, note_edge, w, w->err) : r;
}

static void waiting_deinit(struct waiting *w)
{
	vec_foreach(it, &w->items) {
		free(it->name);
		free(it->reason);
		buf_deinit(&it->needs);
	}
	VEC_FREE(&w->items);
}

int waiting_print(FILE *out, struct store *s, int64_t plan_id, struct err *e)
{
	CLEANUP(waiting_deinit) struct waiting w = {.err = e};
	int r = look(&w, s, plan_id);
	for (int group = 0; r == 0 && group < GROUP_COUNT; group++)
		print_group(out, &w, (enum group)group);
	return r;
}

int waiting_count(struct store *s, int64_t plan_id, struct waiting_counts *ret, struct err *e)
{
	CLEANUP(waiting_deinit) struct waiting w = {.err = e};
	int r = look(&w, s, plan_id);
	*ret = (struct waiting_counts){0};
	vec_foreach(it, &w.items) {
		enum group group = group_of(it);
		ret->person += group == GROUP_PERSON;
		ret->next += group == GROUP_CUT_OFF || (group == GROUP_READY && !it->paused);
	}
	return r;
}
