/* SPDX-License-Identifier: MIT */
#include "git/planrefs.h"

#include "base/map.h"
#include "git/checkouts.h"
#include "git/submodule.h"
#include "git/worktree.h"

#include <errno.h>
#include <string.h>

void git_plan_refs_deinit(struct git_plan_refs *r)
{
	vec_foreach(it, &r->list)
		free(it->ref);
	VEC_FREE(&r->list);
}

static int list_refs(const struct git_ctx *ctx, const char *plan, const char *merged_arg,
	struct git_output *o, struct err *e)
{
	CLEANUP_STR char *attempts = str_printf("refs/orch/%s/", plan);
	CLEANUP_STR char *branches = str_printf("refs/heads/orch/%s/", plan);
	if (!attempts || !branches)
		return err_nomem(e);
	const char *const argv[] = {"for-each-ref", "--format=%(objectname) %(refname)", attempts,
		branches, merged_arg, NULL};
	return git_run_ok(ctx, &(struct git_cmd){.argv = argv}, o, e);
}

/* Calls fn with each "<oid> <ref>" line. */
static int each_line(struct buf *out, int (*fn)(void *arg, char *oid, char *ref), void *arg)
{
	for (char *line = out->data; line && *line;) {
		char *end = strchr(line, '\n'), *space = strchr(line, ' ');
		if (!end || !space || space > end)
			return -EIO;
		*end = *space = '\0';
		int r = fn(arg, line, space + 1);
		if (r < 0)
			return r;
		line = end + 1;
	}
	return 0;
}

static int add_merged(void *arg, char *oid, char *ref)
{
	(void)oid;
	return map_put(arg, ref, arg);
}

struct collect {
	struct git_plan_refs *refs;
	const struct map *merged;
};

static int add_ref(void *arg, char *oid, char *ref)
{
	struct collect *c = arg;
	struct git_plan_ref *r = VEC_PUSH(&c->refs->list);
	if (!r)
		return -ENOMEM;
	r->merged = map_get(c->merged, ref) != NULL;
	r->ref = strdup(ref);
	return r->ref ? git_oid_parse(oid, &r->oid) : -ENOMEM;
}

int git_plan_refs_list(const struct git_ctx *ctx, const char *plan, const struct git_oid *base,
	struct git_plan_refs *ret, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	CLEANUP(map_deinit) struct map merged = MAP_INIT;
	CLEANUP(git_plan_refs_deinit) struct git_plan_refs refs = GIT_PLAN_REFS_INIT;
	int r = 0;
	if (base->hex[0]) {
		CLEANUP_STR char *arg = str_printf("--merged=%s", base->hex);
		if (!arg)
			return err_nomem(e);
		r = list_refs(ctx, plan, arg, &o, e);
		if (r == 0 && each_line(&o.out, add_merged, &merged) < 0)
			return err_nomem(e);
	}
	if (r == 0)
		r = list_refs(ctx, plan, NULL, &o, e);
	if (r < 0)
		return r;
	struct collect c = {.refs = &refs, .merged = &merged};
	r = each_line(&o.out, add_ref, &c);
	if (r < 0)
		return err_errno(e, r, "cannot list the refs of plan '%s'", plan);
	*ret = refs;
	refs = GIT_PLAN_REFS_INIT;
	return 0;
}

static int check_not_in_use(const struct git_ctx *ctx, const struct git_plan_refs *refs,
	const char *worktree_root, struct err *e)
{
	CLEANUP(checkouts_deinit) struct checkouts list = CHECKOUTS_INIT;
	CLEANUP_STR char *root = realpath(worktree_root, NULL);
	int r = checkouts_list(ctx, &list, e);
	if (r < 0)
		return r;
	vec_foreach(c, &list.list) {
		if (!c->branch || (root && git_path_contains(root, c->path)))
			continue;
		vec_foreach(ref, &refs->list) {
			if (!str_eq(ref->ref, c->branch))
				continue;
			err_set(e, -EBUSY, "'%s' is checked out at '%s'",
				ref->ref + strlen("refs/heads/"), c->path);
			return GIT_REFUSED;
		}
	}
	return 0;
}

int git_plan_refs_delete(const struct git_ctx *ctx, const char *plan,
	const struct git_plan_refs *refs, const char *worktree_root, struct err *e)
{
	int r = check_not_in_use(ctx, refs, worktree_root, e);
	if (r != 0)
		return r;
	CLEANUP(freep)
	struct git_ref_update *updates = calloc(refs->list.count + 1, sizeof(*updates));
	if (!updates)
		return err_nomem(e);
	for (size_t i = 0; i < refs->list.count; i++)
		updates[i] = (struct git_ref_update){
			.ref = refs->list.items[i].ref, .old = refs->list.items[i].oid};
	r = git_refs_update(ctx, updates, refs->list.count, "orch cleanup", e);
	return r != 0 ? r : submodules_forget(ctx, plan, e);
}
