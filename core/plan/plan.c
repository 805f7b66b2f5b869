/* SPDX-License-Identifier: MIT */
#include "plan/plan.h"

#include "base/str.h"
#include "plan/plan_keys.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

struct plan *plan_new(void)
{
	CLEANUP_PLAN struct plan *p = calloc(1, sizeof(*p));
	if (!p || keys_init(&plan_keys, p) < 0)
		return NULL;
	return TAKE(p);
}

void task_deinit(struct task *t)
{
	keys_deinit(&task_keys, t);
	plan_state_free(t->state);
	free(t->name);
	free(t->deps);
	free(t->invariants);
	*t = (struct task){0};
}

void plan_free(struct plan *p)
{
	if (!p)
		return;
	keys_deinit(&plan_keys, p);
	vec_foreach(t, &p->tasks)
		task_deinit(t);
	VEC_FREE(&p->tasks);
	vec_foreach(inv, &p->invariant_defs)
		invariant_deinit(inv);
	VEC_FREE(&p->invariant_defs);
	plan_state_free(p->state);
	free(p->invariants);
	map_deinit(&p->by_name);
	free(p);
}

int plan_add_task(struct plan *p, const char *name, struct task **ret)
{
	struct task fresh = {0};
	int r = keys_init(&task_keys, &fresh);
	fresh.name = str_dup(name);
	if (!fresh.name)
		r = -ENOMEM;
	if (r == 0)
		r = map_put(&p->by_name, name, (void *)(uintptr_t)(p->tasks.count + 1));
	struct task *t = r == 0 ? VEC_PUSH(&p->tasks) : NULL;
	if (!t) {
		task_deinit(&fresh);
		return r < 0 ? r : -ENOMEM;
	}
	*t = fresh;
	*ret = t;
	return 0;
}

int64_t plan_find_task(const struct plan *p, const char *name)
{
	return (int64_t)(uintptr_t)map_get(&p->by_name, name) - 1;
}

int64_t plan_find_invariant(const struct plan *p, const char *name)
{
	for (size_t i = 0; i < p->invariant_defs.count; i++)
		if (str_eq(p->invariant_defs.items[i].name, name))
			return (int64_t)i;
	return -1;
}

/* A name from the first words of the prompt: "Fix the tests!" -> "fix-the-tests". */
static void slug(const char *prompt, struct buf *out)
{
	const size_t limit = 40;
	while (*prompt && out->len < limit) {
		size_t n = 0;
		while (isascii((unsigned char)prompt[n]) && isalnum((unsigned char)prompt[n]))
			n++;
		if (n > 0 && out->len > 0 && out->len + 1 + n > limit)
			break;
		if (n > 0 && out->len > 0)
			buf_addc(out, '-');
		for (size_t i = 0; i < n && out->len < limit; i++)
			buf_addc(out, (char)tolower((unsigned char)prompt[i]));
		prompt += n ? n : 1;
	}
	if (out->len == 0)
		buf_adds(out, "prompt");
}

static uint32_t short_digest(const char *s)
{
	uint32_t h = 2166136261U; /* FNV-1a, 32 bits */
	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 16777619U;
	return h;
}

int plan_from_prompt(const char *prompt, struct plan **ret, struct err *e)
{
	if (!utf8_is_valid(prompt, strlen(prompt)))
		return err_exit(e, EXIT_USAGE, "the prompt is not UTF-8");
	if (prompt[strspn(prompt, " \t\r\n")] == '\0')
		return err_exit(e, EXIT_USAGE, "the prompt is empty");
	CLEANUP_BUF struct buf name = BUF_INIT;
	slug(prompt, &name);
	CLEANUP_PLAN struct plan *p = plan_new();
	struct task *t;
	if (!p || buf_check(&name) < 0 || plan_add_task(p, buf_cstr(&name), &t) < 0)
		return err_nomem(e);
	t->prompt = str_dup(prompt);
	p->name = str_printf("%s-%06x", buf_cstr(&name), short_digest(prompt) & 0xffffff);
	if (!t->prompt || !p->name)
		return err_nomem(e);
	*ret = TAKE(p);
	return 0;
}
