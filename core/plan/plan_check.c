/* SPDX-License-Identifier: MIT */
#include "plan/plan_keys.h"

#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

/* Searching for near misses is linear in the plan, so only the first mistakes get a suggestion. */
#define MAX_SUGGESTIONS 20

struct resolver {
	struct plan *plan;
	const struct plan_context *context;
	const struct plan_source *source;
	struct diags *d;
	struct map invariants; /* name -> index + 1 */
	unsigned suggestions;
	uint32_t *named_by; /* for each task: 1 + the task that named it last */
};

static bool component_is(const char *at, size_t len, const char *word)
{
	return strlen(word) == len && memcmp(at, word, len) == 0;
}

static bool copy_check(const char *path, struct buf *why)
{
	if (path[0] == '/')
		buf_addf(why, "expected paths inside the checkout, found '%s'", path);
	for (const char *at = path; why->len == 0; at++) {
		size_t len = strcspn(at, "/");
		if (component_is(at, len, "..") || component_is(at, len, ".git"))
			buf_addf(why, "expected paths without '..' and '.git', found '%s'", path);
		at += len;
		if (!*at)
			break;
	}
	return why->len == 0;
}

bool plan_value_check(const struct plan *p, const char *key, struct buf *why)
{
	if (str_eq(key, "base") && p->base) {
		bool bad = p->base[0] == '-';
		for (const char *s = p->base; *s; s++)
			bad = bad || isspace((unsigned char)*s) || iscntrl((unsigned char)*s);
		if (bad)
			buf_addf(why, "expected a branch or commit, found '%s'", p->base);
		return !bad;
	}
	if (str_eq(key, "copy"))
		for (size_t i = 0; p->copy && p->copy[i]; i++)
			if (!copy_check(p->copy[i], why))
				return false;
	return true;
}

/* ---- names ---- */

static void tell_unknown_task(
	struct resolver *r, const struct task *t, const char *name, unsigned line)
{
	struct suggestion near = SUGGESTION(name);
	CLEANUP_BUF struct buf text = BUF_INIT;
	buf_addf(&text, "depends_on: task '%s' depends on '%s', which is not in the plan", t->name,
		name);
	if (r->suggestions++ < MAX_SUGGESTIONS)
		vec_foreach(other, &r->plan->tasks)
			if (other != t)
				suggest_feed(&near, other->name);
	suggest_add(&near, &text);
	diags_error(r->d, r->source->file, line, "%s", buf_cstr(&text));
}

static int resolve_deps(struct resolver *r, struct task *t, unsigned line)
{
	size_t n = strv_len(t->depends_on);
	free(t->deps);
	t->n_deps = 0;
	t->deps = n ? malloc(n * sizeof(*t->deps)) : NULL;
	if (n && !t->deps)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		int64_t at = plan_find_task(r->plan, t->depends_on[i]);
		uint32_t self = (uint32_t)(t - r->plan->tasks.items) + 1;
		if (at < 0) {
			tell_unknown_task(r, t, t->depends_on[i], line);
		} else if (r->named_by[at] == self) {
			diags_error(r->d, r->source->file, line,
				"depends_on: expected each name once, found '%s' again",
				t->depends_on[i]);
		} else {
			r->named_by[at] = self;
			t->deps[t->n_deps++] = (uint32_t)at;
		}
	}
	return 0;
}

/* Takes a snapshot of a shared invariant into the plan; *ret_index stays when there is none. */
static int take_shared(struct resolver *r, const char *name, uintptr_t *ret_index)
{
	for (size_t i = 0; r->context && i < r->context->n_shared; i++) {
		const struct invariant *shared = &r->context->shared[i];
		if (!str_eq(shared->name, name) || !shared->command)
			continue;
		struct invariant copy;
		int rc = invariant_copy(&copy, shared);
		if (rc < 0)
			return rc;
		struct invariant *def = VEC_PUSH(&r->plan->invariant_defs);
		if (!def) {
			invariant_deinit(&copy);
			return -ENOMEM;
		}
		*def = copy;
		*ret_index = r->plan->invariant_defs.count;
		return map_put(&r->invariants, name, (void *)*ret_index);
	}
	return 0;
}

static void tell_unknown_invariant(struct resolver *r, const char *name, unsigned line)
{
	struct suggestion near = SUGGESTION(name);
	CLEANUP_BUF struct buf text = BUF_INIT;
	buf_addf(&text, "invariants: expected an invariant of the plan or of orch.ini, found '%s'",
		name);
	if (r->suggestions++ < MAX_SUGGESTIONS) {
		vec_foreach(def, &r->plan->invariant_defs)
			suggest_feed(&near, def->name);
		for (size_t i = 0; r->context && i < r->context->n_shared; i++)
			suggest_feed(&near, r->context->shared[i].name);
	}
	suggest_add(&near, &text);
	diags_error(r->d, r->source->file, line, "%s", buf_cstr(&text));
}

static bool has_index(const uint32_t *indices, uint32_t count, uint32_t index)
{
	for (uint32_t i = 0; i < count; i++)
		if (indices[i] == index)
			return true;
	return false;
}

static int resolve_invariants(
	struct resolver *r, char *const *names, unsigned line, uint32_t **indices, uint32_t *count)
{
	size_t n = strv_len(names);
	free(*indices);
	*count = 0;
	*indices = n ? malloc(n * sizeof(**indices)) : NULL;
	if (n && !*indices)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		uintptr_t index = (uintptr_t)map_get(&r->invariants, names[i]);
		int rc = index ? 0 : take_shared(r, names[i], &index);
		if (rc < 0)
			return rc;
		if (!index)
			tell_unknown_invariant(r, names[i], line);
		else if (has_index(*indices, *count, (uint32_t)index - 1))
			diags_error(r->d, r->source->file, line,
				"invariants: expected each name once, found '%s' again", names[i]);
		else
			(*indices)[(*count)++] = (uint32_t)index - 1;
	}
	return 0;
}

static void resolver_deinit(struct resolver *r)
{
	map_deinit(&r->invariants);
	free(r->named_by);
}

int plan_resolve(struct plan *p, const struct plan_context *context,
	const struct plan_source *source, struct diags *d)
{
	CLEANUP(resolver_deinit)
	struct resolver r = {.plan = p, .context = context, .source = source, .d = d};
	r.named_by = calloc(p->tasks.count + 1, sizeof(*r.named_by));
	int rc = r.named_by ? 0 : -ENOMEM;
	for (size_t i = 0; rc == 0 && i < p->invariant_defs.count; i++)
		rc = map_put(
			&r.invariants, p->invariant_defs.items[i].name, (void *)(uintptr_t)(i + 1));
	if (rc == 0)
		rc = resolve_invariants(&r, p->invariant_names, source->plan_invariants,
			&p->invariants, &p->n_invariants);
	for (size_t i = 0; rc == 0 && i < p->tasks.count; i++) {
		struct task *t = &p->tasks.items[i];
		struct task_place place = source->tasks ? source->tasks[i] : (struct task_place){0};
		rc = resolve_deps(&r, t, place.depends_on);
		if (rc == 0)
			rc = resolve_invariants(&r, t->invariant_names, place.invariants,
				&t->invariants, &t->n_invariants);
	}
	return rc < 0 ? rc : plan_check_cycles(p, source, d);
}
