/* SPDX-License-Identifier: MIT */
#include "git/integrate.h"

#include "base/log.h"
#include "git/worktree.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define MOVED_MAX    5
#define MAX_MESSAGES ((size_t)64 << 10)

int git_integration_find(
	const struct git_ctx *ctx, const char *plan, struct git_oid *ret_tip, struct err *e)
{
	CLEANUP_STR char *ref = git_ref_integration(plan);
	if (!ref)
		return err_nomem(e);
	struct err why = ERR_INIT;
	*ret_tip = GIT_OID_NONE;
	int r = git_resolve(ctx, ref, ret_tip, &why);
	return r < 0 && r != -ENOENT ? err_set(e, r, "%s", why.msg) : 0;
}

int git_integration_ensure(const struct git_ctx *ctx, const char *plan, const struct git_oid *base,
	struct git_oid *ret_tip, struct err *e)
{
	CLEANUP_STR char *ref = git_ref_integration(plan);
	struct git_oid tip;
	int r = ref ? git_integration_find(ctx, plan, &tip, e) : err_nomem(e);
	if (r == 0 && !tip.hex[0]) {
		struct git_ref_update u = {.ref = ref, .new = *base};
		r = git_refs_update(ctx, &u, 1, "orch: integration branch", e);
		tip = *base;
	}
	if (r == 0)
		*ret_tip = tip;
	return r == GIT_MOVED ? -ESTALE : r;
}

/* Whether the branch, at tip, has lost what it held. */
static int has_lost(const struct git_ctx *ctx, const struct git_oid *tip,
	const struct git_oid *known, bool *ret, struct err *e)
{
	bool holds = git_oid_eq(tip, known) || !known->hex[0];
	int r = 0;
	if (!holds && tip->hex[0])
		r = git_is_ancestor(ctx, known, tip, &holds, e);
	*ret = !holds;
	return r;
}

int git_integration_tip(const struct git_ctx *ctx, const char *plan, const struct git_oid *known,
	struct git_oid *ret_tip, bool *ret_mended, struct err *e)
{
	CLEANUP_STR char *ref = git_ref_integration(plan);
	*ret_mended = false;
	if (!ref)
		return err_nomem(e);
	for (int try = 0; try < MOVED_MAX; try++) {
		struct git_oid tip;
		bool lost = false;
		int r = git_integration_find(ctx, plan, &tip, e);
		if (r == 0)
			r = has_lost(ctx, &tip, known, &lost, e);
		if (r < 0)
			return r;
		if (!lost) {
			*ret_tip = tip;
			return 0;
		}
		struct git_ref_update u = {.ref = ref, .new = *known, .old = tip};
		r = git_refs_update(ctx, &u, 1, "orch: put back", e);
		if (r < 0)
			return r;
		*ret_mended |= r == 0;
	}
	return err_set(e, -ESTALE, "somebody moves %s again and again", ref);
}

/* "<tree>\0", then with conflicts "<path>\0"... "\0", then messages: git-merge-tree(1) -z. */
static int parse_merge(const struct buf *out, struct git_oid *ret_tree, char ***ret_conflicts,
	char **ret_messages, struct err *e)
{
	CLEANUP_STRV char **conflicts = NULL;
	CLEANUP_BUF struct buf messages = BUF_INIT;
	const char *p = buf_cstr(out), *end = p + out->len;
	if (git_oid_parse(p, ret_tree) < 0)
		return err_set(e, -EIO, "git merge-tree answered '%.100s'", p);
	for (p += strlen(p) + 1; p < end && *p; p += strlen(p) + 1)
		if (strv_add(&conflicts, p) < 0)
			return err_nomem(e);
	/* Each message: count, paths, kind, text; the text is the one field that ends a line. */
	for (p += 1; p < end && messages.len < MAX_MESSAGES; p += strlen(p) + 1)
		if (str_ends(p, "\n"))
			buf_adds(&messages, p);
	if (buf_check(&messages) < 0)
		return err_nomem(e);
	if (ret_messages) {
		*ret_messages = buf_steal(&messages);
		if (!*ret_messages)
			return err_nomem(e);
	}
	*ret_conflicts = TAKE(conflicts);
	return 0;
}

/*
 * merge-tree has no work tree, and so no .gitattributes with merge drivers: a directory that holds
 * the one at the top of `commit`. *ret_dir is owned, NULL when there is none.
 */
static int make_attributes(
	const struct git_ctx *ctx, const struct git_oid *commit, char **ret_dir, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	CLEANUP_STR char *object = str_printf("%s:.gitattributes", commit->hex);
	CLEANUP_STR char *state = path_join(ctx->repo->common_dir, "orch");
	CLEANUP_STR char *dir = state ? path_join(state, GIT_MERGE_PREFIX "XXXXXX") : NULL;
	if (!object || !dir)
		return err_nomem(e);
	const char *const revs[] = {object};
	struct git_oid blob;
	int r = git_resolve_many(ctx, revs, 1, &blob, e);
	if (r < 0 || !blob.hex[0])
		return r;
	const char *const argv[] = {"cat-file", "blob", blob.hex, NULL};
	r = git_run_ok(ctx, &(struct git_cmd){.argv = argv}, &o, e);
	if (r < 0)
		return r;
	r = dir_make(AT_FDCWD, state, 0700, e);
	if (r < 0)
		return r;
	if (!mkdtemp(dir))
		return err_errno(e, -errno, "cannot make '%s'", dir);
	*ret_dir = dir;
	CLEANUP_STR char *file = path_join(TAKE(dir), ".gitattributes");
	return file ? file_write_new(AT_FDCWD, file, buf_cstr(&o.out), o.out.len, 0600, e)
		    : err_nomem(e);
}

static void remove_attributes(char **dir)
{
	struct err e = ERR_INIT;
	if (*dir && dir_remove_tree(AT_FDCWD, *dir, &e) < 0)
		log_warning("%s", e.msg); /* a few bytes in the state directory */
	free(*dir);
}

int git_merge_trees(const struct git_ctx *ctx, const struct git_oid *ours,
	const struct git_oid *theirs, struct git_oid *ret_tree, char ***ret_conflicts,
	char **ret_messages, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {"merge-tree", "--write-tree", "-z", "--name-only", "--messages",
		ours->hex, theirs->hex, NULL};
	CLEANUP(remove_attributes) char *attributes = NULL;
	int r = make_attributes(ctx, ours, &attributes, e);
	struct git_cmd cmd = {.argv = argv, .dir = attributes, .git_dir = ctx->repo->common_dir};
	if (r == 0)
		r = git_try(ctx, &cmd, &o, e);
	if (r < 0)
		return r;
	if (o.status > 1)
		return err_set(e, -EIO, "cannot merge %s into %s: %.600s", theirs->hex, ours->hex,
			buf_cstr(&o.err));
	r = parse_merge(&o.out, ret_tree, ret_conflicts, ret_messages, e);
	if (r < 0)
		return r;
	return o.status == 1 ? GIT_CONFLICT : 0;
}

int git_checkout_refused(const struct git_ctx *ctx, const char *path, const struct git_oid *base,
	const struct git_oid *commit, char **ret_why, struct err *e)
{
	CLEANUP_STR char *admin = NULL;
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {"checkout", "-q", "-f", "--detach", commit->hex, NULL};
	int r = git_worktree_prepare(ctx, path, base, NULL, e);
	if (r == 0)
		r = git_worktree_admin_dir(ctx, path, &admin, e);
	if (r < 0)
		return r;
	r = git_try(ctx, &(struct git_cmd){.argv = argv, .dir = path, .git_dir = admin}, &o, e);
	if (r < 0 || o.status == 0)
		return r;
	*ret_why = str_trimmed(buf_cstr(&o.err), o.err.len);
	return *ret_why ? 0 : err_nomem(e);
}

/* *ret_tree: the commit's, when the tip is its only parent; then that is what a merge comes to. */
static int tree_upon(const struct git_ctx *ctx, const struct git_oid *tip,
	const struct git_oid *commit, struct git_oid *ret_tree, struct err *e)
{
	char first[80], second[80], tree[80];
	snprintf(first, sizeof(first), "%s^1", commit->hex);
	snprintf(second, sizeof(second), "%s^2", commit->hex);
	snprintf(tree, sizeof(tree), "%s^{tree}", commit->hex);
	const char *const revs[] = {first, second, tree};
	struct git_oid found[3];
	int r = git_resolve_many(ctx, revs, 3, found, e);
	if (r == 0)
		*ret_tree =
			git_oid_eq(&found[0], tip) && !found[1].hex[0] ? found[2] : GIT_OID_NONE;
	return r;
}

int git_merge(const struct git_ctx *ctx, const struct git_oid *tip, const struct git_oid *commit,
	const char *message, struct git_oid *ret_merge, char ***ret_conflicts, char **ret_messages,
	struct err *e)
{
	struct git_oid tree;
	int r = tree_upon(ctx, tip, commit, &tree, e);
	bool holds = false;
	if (r == 0 && !tree.hex[0])
		r = git_is_ancestor(ctx, commit, tip, &holds, e);
	if (r < 0)
		return r;
	if (holds) {
		*ret_merge = *tip;
		return 0;
	}
	CLEANUP_STRV char **conflicts = NULL;
	CLEANUP_STR char *messages = NULL;
	if (!tree.hex[0])
		r = git_merge_trees(ctx, tip, commit, &tree, &conflicts, &messages, e);
	if (r == GIT_CONFLICT) {
		err_set(e, -EAGAIN, "%zu conflicting files, first '%s'", strv_len(conflicts),
			conflicts && conflicts[0] ? conflicts[0] : "");
		*ret_conflicts = TAKE(conflicts);
		*ret_messages = TAKE(messages);
	}
	if (r != 0)
		return r;
	const struct git_oid parents[] = {*tip, *commit};
	return git_commit_tree(ctx, &tree, parents, 2, message, ret_merge, e);
}

int git_integration_publish(const struct git_ctx *ctx, const char *plan, const struct git_oid *old,
	const struct git_oid *new, struct err *e)
{
	CLEANUP_STR char *ref = git_ref_integration(plan);
	if (!ref)
		return err_nomem(e);
	struct git_ref_update u = {.ref = ref, .new = *new, .old = *old};
	int r = git_refs_update(ctx, &u, 1, "orch: merge", e);
	if (r != GIT_MOVED)
		return r;
	const char *const revs[] = {ref};
	struct git_oid now;
	int seen = git_resolve_many(ctx, revs, 1, &now, e);
	if (seen < 0)
		return seen;
	return git_oid_eq(&now, new) ? 0 : GIT_MOVED; /* done before a crash */
}
