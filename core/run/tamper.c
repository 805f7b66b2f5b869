/* SPDX-License-Identifier: MIT */
/*
 * What changes in the repository that all worktrees share while agents run: refs outside orch/,
 * config, hooks, exclude, stash. It is looked at before an agent starts and after it has ended; a
 * difference is a finding of the attempt that ended, once. Nobody can tell which of several agents
 * it was, or whether it was a person: the finding names those that ran. What was seen last is a
 * row, so that an agent that outlives its engine is compared with it, too.
 */
#include "run/state.h"

#include "base/clock.h"
#include "base/json_text.h"
#include "base/log.h"
#include "git/guard.h"
#include "run/json_text.h"
#include "run/tamper.h"

#include <string.h>

#define TITLE_BYTES 200
#define BODY_BYTES  8000
#define MOVES_MAX   64

void tamper_look(const struct git_ctx *ctx, struct tamper_view *ret)
{
	struct err ignored = ERR_INIT;
	ret->at = clock_mono_ms();
	/* Without a view nothing is compared; the attempt is not to suffer for it. */
	if (git_tamper_snapshot(ctx, &ret->text, &ignored) < 0)
		ret->text = NULL;
}

void tamper_view_deinit(struct tamper_view *v)
{
	free(v->text);
	v->text = NULL;
}

void tamper_forget(struct run *r)
{
	tamper_view_deinit(&r->tamper);
	vec_foreach(m, &r->moves)
		free((char *)m->ref);
	VEC_FREE(&r->moves);
}

/* Announced before it happens, and kept, since a look may be of before or after. */
int run_ref_moves(struct run *r, const struct git_ref_update *move, struct err *e)
{
	if (r->moves.count == MOVES_MAX) {
		free((char *)r->moves.items[0].ref);
		memmove(r->moves.items, r->moves.items + 1,
			--r->moves.count * sizeof(*r->moves.items));
	}
	char *ref = str_dup(move->ref);
	struct git_ref_update *slot = ref ? VEC_PUSH(&r->moves) : NULL;
	if (!slot) {
		free(ref);
		return err_nomem(e);
	}
	*slot = *move;
	slot->ref = ref;
	return 0;
}

/* An engine that comes after us while agents run starts from here. */
static int keep(struct run *r, struct tamper_view *v, struct err *e)
{
	bool same = str_eq(r->tamper.text, v->text);
	tamper_view_deinit(&r->tamper);
	r->tamper = *v;
	v->text = NULL;
	return same ? 0 : store_seen_set(r->store, r->tamper.text, e);
}

/* The other tasks whose agents ran since the last look. */
static void others(const struct live *l, struct buf *out)
{
	vec_foreach(it, &l->run->live)
		if (*it && *it != l && (*it)->tamper_due)
			buf_addf(out, "%s%s/%s", out->len ? ", " : "", (*it)->plan->name,
				(*it)->name);
}

/* Other attempts whose agents may have changed something that nobody has looked at yet. */
static bool others_are_due(const struct live *l)
{
	vec_foreach(it, &l->run->live)
		if (*it && *it != l && (*it)->tamper_due)
			return true;
	return false;
}

int tamper_begin(struct live *l, struct tamper_view *v, struct err *e)
{
	l->tamper_due = true;
	/* What changed while nobody ran is the user's own; else whoever ends next reports it. */
	if (!v->text || (l->run->tamper.text && others_are_due(l)))
		return 0;
	return keep(l->run, v, e);
}

int tamper_resume(struct live *l, struct err *e)
{
	struct run *r = l->run;
	l->tamper_due = true;
	if (r->tamper.text)
		return 0;
	r->tamper.at = 0;
	return store_seen(r->store, &r->tamper.text, e);
}

void tamper_moved(struct store *s, const struct git_ref_update *move)
{
	CLEANUP_STR char *text = NULL;
	struct err e = ERR_INIT;
	int r = store_seen(s, &text, &e);
	if (r < 0 || !text)
		return;
	git_tamper_follow(text, NULL, move, 1);
	if (store_seen_set(s, text, &e) < 0)
		log_debug("%s", e.msg); /* the next engine will find the move, and say so */
}

int run_finding(const struct live *l, const char *title, const char *body, struct err *e)
{
	return run_event(l, "finding",
		json_pack("{s:s, s:o, s:o}", "severity", "high", "title", json_text(title), "body",
			json_text(body)),
		e);
}

static int add_finding(struct live *l, char *const *changes, struct err *e)
{
	CLEANUP_BUF struct buf running = BUF_INIT;
	CLEANUP_STR char *list = strv_join(changes, "\n");
	others(l, &running);
	if (!list || buf_check(&running) < 0)
		return err_nomem(e);
	size_t n = strv_len(changes);
	CLEANUP_STR char *title = str_printf("the shared repository was changed: %.*s%s",
		(int)utf8_cut(changes[0], strlen(changes[0]), TITLE_BYTES), changes[0],
		n > 1 ? ", and more" : "");
	CLEANUP_STR char *body = str_printf("%.*s%s%s\n",
		(int)utf8_cut(list, strlen(list), BODY_BYTES), list,
		running.len ? "\nor another agent's doing, for these ran at the same time: " : "",
		buf_cstr(&running));
	return title && body ? run_finding(l, title, body, e) : err_nomem(e);
}

int tamper_end(struct live *l, struct tamper_view *v, struct err *e)
{
	struct run *r = l->run;
	CLEANUP_STRV char **changes = NULL;
	l->tamper_due = false;
	/* A view older than what is known would show everything backwards. */
	if (!v->text || (r->tamper.text && v->at < r->tamper.at))
		return 0;
	if (r->tamper.text)
		git_tamper_follow(r->tamper.text, v->text, r->moves.items, r->moves.count);
	int code = r->tamper.text ? git_tamper_diff(r->tamper.text, v->text, &changes) : 0;
	if (code < 0)
		return err_nomem(e);
	code = keep(r, v, e);
	if (code < 0)
		return code;
	if (!changes || !changes[0])
		return 0;
	run_warn(r, "%s/%s: the shared repository was changed while its agent ran: %s%s",
		l->plan->name, l->name, changes[0], changes[1] ? ", and more" : "");
	return add_finding(l, changes, e);
}
