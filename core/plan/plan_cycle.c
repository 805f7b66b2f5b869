/* SPDX-License-Identifier: MIT */
#include "plan/plan_keys.h"

#include <errno.h>
#include <stdint.h>

/* Longer cycles are shown with their middle left out. */
#define MAX_SHOWN 200

enum {
	MARK_SEEN = 1,
	MARK_ON_PATH = 2, /* on the path that is being followed */
	MARK_TOLD = 4,    /* on a cycle that was reported */
};

struct walk {
	const struct plan *plan;
	const struct plan_source *source;
	struct diags *d;
	uint8_t *marks;
	uint32_t *path; /* task indices from the start of the walk */
	uint32_t *next; /* for each of them, which dependency to look at next */
	size_t depth;
};

static void walk_deinit(struct walk *w)
{
	free(w->marks);
	free(w->path);
	free(w->next);
}

/* path[from..depth) is a cycle. It is told from its task that comes first in the file. */
static void tell_cycle(struct walk *w, size_t from)
{
	const struct task *tasks = w->plan->tasks.items;
	size_t n = w->depth - from, first = 0;
	for (size_t i = 1; i < n; i++)
		if (w->path[from + i] < w->path[from + first])
			first = i;
	CLEANUP_BUF struct buf text = BUF_INIT;
	for (size_t i = 0; i < n; i++) {
		if (n > MAX_SHOWN && i == MAX_SHOWN / 2) {
			buf_addf(&text, "(%zu more) -> ", n - MAX_SHOWN);
			i = n - MAX_SHOWN / 2;
		}
		buf_addf(&text, "%s -> ", tasks[w->path[from + (first + i) % n]].name);
	}
	uint32_t start = w->path[from + first];
	diags_error(w->d, w->source->file,
		w->source->tasks ? w->source->tasks[start].depends_on : 0,
		"depends_on: expected no cycle, found %s%s", buf_cstr(&text), tasks[start].name);
}

static void push(struct walk *w, uint32_t task)
{
	w->marks[task] |= MARK_SEEN | MARK_ON_PATH;
	w->path[w->depth] = task;
	w->next[w->depth] = 0;
	w->depth++;
}

/* The edge from the path's end to `dep`, which is on the path, closes a cycle. Cycles with a task
 * in common follow from each other; one of them is enough. */
static void close_cycle(struct walk *w, uint32_t dep)
{
	size_t from = w->depth - 1;
	if ((w->marks[dep] | w->marks[w->path[from]]) & MARK_TOLD)
		return;
	while (w->path[from] != dep)
		from--;
	tell_cycle(w, from);
	for (size_t i = from; i < w->depth; i++)
		w->marks[w->path[i]] |= MARK_TOLD;
}

/* Depth first, without recursion: a plan may be one chain of all its tasks. */
static void walk_from(struct walk *w, uint32_t start)
{
	push(w, start);
	while (w->depth > 0) {
		uint32_t top = w->path[w->depth - 1];
		const struct task *t = &w->plan->tasks.items[top];
		if (w->next[w->depth - 1] == t->n_deps) {
			w->marks[top] &= (uint8_t)~MARK_ON_PATH;
			w->depth--;
			continue;
		}
		uint32_t dep = t->deps[w->next[w->depth - 1]++];
		if (w->marks[dep] & MARK_ON_PATH)
			close_cycle(w, dep);
		else if (!(w->marks[dep] & MARK_SEEN))
			push(w, dep);
	}
}

int plan_check_cycles(const struct plan *p, const struct plan_source *source, struct diags *d)
{
	size_t n = p->tasks.count;
	CLEANUP(walk_deinit)
	struct walk w = {.plan = p, .source = source, .d = d};
	w.marks = calloc(n + 1, sizeof(*w.marks));
	w.path = calloc(n + 1, sizeof(*w.path));
	w.next = calloc(n + 1, sizeof(*w.next));
	if (!w.marks || !w.path || !w.next)
		return -ENOMEM;
	for (uint32_t i = 0; i < n; i++)
		if (!(w.marks[i] & MARK_SEEN))
			walk_from(&w, i);
	return 0;
}
