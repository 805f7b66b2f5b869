/* SPDX-License-Identifier: MIT */
/* The one place that moves a branch of the user's: the final merge. */
#include "git/integrate.h"

#include "base/vec.h"
#include "git/checkouts.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static const char *const operations[] = {
	"MERGE_HEAD",
	"CHERRY_PICK_HEAD",
	"REVERT_HEAD",
	"rebase-merge",
	"rebase-apply",
	"sequencer",
	"BISECT_START",
	"index.lock",
};

static int refuse(struct err *e, const char *branch, const char *path, const char *why)
{
	err_set(e, -EBUSY, "'%s' is checked out at '%s', %s", branch, path, why);
	return GIT_REFUSED;
}

static int check_idle(const struct checkout *c, const char *branch, struct err *e)
{
	for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		CLEANUP_STR char *path = path_join(c->git_dir, operations[i]);
		CLEANUP_STR char *why =
			str_printf("where git is in the middle of something (%s)", operations[i]);
		if (!path || !why)
			return err_nomem(e);
		if (file_exists(AT_FDCWD, path))
			return refuse(e, branch, c->path, why);
	}
	return 0;
}

static int check_clean(
	const struct git_ctx *ctx, const struct checkout *c, const char *branch, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {"status", "--porcelain", "-z", "--untracked-files=no",
		"--ignore-submodules=dirty", NULL};
	struct git_cmd cmd = {.argv = argv, .dir = c->path, .git_dir = c->git_dir};
	int r = git_run_ok(ctx, &cmd, &o, e);
	if (r < 0)
		return r;
	return o.out.len > 0 ? refuse(e, branch, c->path,
				       "where files have uncommitted changes; commit or stash them")
			     : 0;
}

/* *ret_at: index into list of the checkout that has the branch, SIZE_MAX for none. */
static int check_checkouts(const struct git_ctx *ctx, const struct checkouts *list,
	const char *branch, size_t *ret_at, struct err *e)
{
	CLEANUP_STR char *ref = str_printf("refs/heads/%s", branch);
	size_t at = SIZE_MAX;
	if (!ref)
		return err_nomem(e);
	for (size_t i = 0; i < list->list.count; i++) {
		const struct checkout *c = &list->list.items[i];
		if (str_eq(c->rebasing, ref))
			return refuse(e, branch, c->path, "where it is being rebased");
		if (!str_eq(c->branch, ref))
			continue;
		if (at != SIZE_MAX)
			return refuse(e, branch, c->path, "and in another worktree too");
		at = i;
	}
	if (at != SIZE_MAX) {
		const struct checkout *c = &list->list.items[at];
		int r = check_idle(c, branch, e);
		if (r == 0)
			r = check_clean(ctx, c, branch, e);
		if (r != 0)
			return r;
	}
	*ret_at = at;
	return 0;
}

static int check_at(const struct git_ctx *ctx, const char *branch, const struct git_oid *old,
	struct checkouts *list, size_t *ret_at, struct err *e)
{
	CLEANUP_STR char *ref = str_printf("refs/heads/%s", branch);
	if (!ref)
		return err_nomem(e);
	const char *const revs[] = {ref};
	struct git_oid now;
	int r = git_resolve_many(ctx, revs, 1, &now, e);
	if (r < 0)
		return r;
	if (!now.hex[0])
		return err_set(e, -ENOENT, "there is no branch '%s'", branch);
	if (!git_oid_eq(&now, old)) {
		err_set(e, -ESTALE, "branch '%s' is at %s, not at %s", branch, now.hex, old->hex);
		return GIT_MOVED;
	}
	r = checkouts_list(ctx, list, e);
	return r < 0 ? r : check_checkouts(ctx, list, branch, ret_at, e);
}

int git_base_check(
	const struct git_ctx *ctx, const char *branch, const struct git_oid *old, struct err *e)
{
	CLEANUP(checkouts_deinit) struct checkouts list = CHECKOUTS_INIT;
	size_t at = SIZE_MAX;
	return check_at(ctx, branch, old, &list, &at, e);
}

/* git's own fast-forward: it holds index.lock, refuses to overwrite anything, and moves HEAD's
 * branch by compare-and-swap. */
static int fast_forward(const struct git_ctx *ctx, const struct checkout *c, const char *branch,
	const struct git_oid *new, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {"merge", "--ff-only", "--no-overwrite-ignore", "--no-stat",
		"--no-autostash", "-q", new->hex, NULL};
	struct git_cmd cmd = {.argv = argv, .dir = c->path, .git_dir = c->git_dir};
	int r = git_run_ok(ctx, &cmd, &o, e);
	if (r != GIT_FAILED && r != -EACCES)
		return r;
	CLEANUP_STR char *words = str_trimmed(buf_cstr(&o.err), o.err.len);
	CLEANUP_STR char *why =
		str_printf("which git cannot bring along: %.600s", words ? words : "");
	return why ? refuse(e, branch, c->path, why) : err_nomem(e);
}

int git_base_publish(const struct git_ctx *ctx, const char *branch, const struct git_oid *old,
	const struct git_oid *new, struct err *e)
{
	CLEANUP(checkouts_deinit) struct checkouts list = CHECKOUTS_INIT;
	CLEANUP_STR char *ref = str_printf("refs/heads/%s", branch);
	size_t at = SIZE_MAX;
	bool descends = false;
	if (!ref)
		return err_nomem(e);
	int r = git_is_ancestor(ctx, old, new, &descends, e);
	if (r < 0)
		return r;
	if (!descends)
		return err_set(e, -EINVAL, "%s is no descendant of %s", new->hex, old->hex);
	r = check_at(ctx, branch, old, &list, &at, e);
	if (r != 0)
		return r;
	if (at != SIZE_MAX)
		return fast_forward(ctx, &list.list.items[at], branch, new, e);
	struct git_ref_update u = {.ref = ref, .new = *new, .old = *old};
	return git_refs_update(ctx, &u, 1, "orch merge", e);
}
