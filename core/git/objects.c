/* SPDX-License-Identifier: MIT */
#include "git/branchfile.h"
#include "git/git.h"

#include "base/vec.h"

#include <errno.h>
#include <string.h>

int git_output_oid(const struct git_output *o, const char *what, struct git_oid *ret, struct err *e)
{
	CLEANUP_STR char *hex = str_trimmed(buf_cstr(&o->out), o->out.len);
	if (!hex)
		return err_nomem(e);
	if (git_oid_parse(hex, ret) < 0)
		return err_set(e, -EIO, "%s answered '%.100s', which is no object id", what, hex);
	return 0;
}

int git_commit_tree(const struct git_ctx *ctx, const struct git_oid *tree,
	const struct git_oid *parents, size_t n_parents, const char *message, struct git_oid *ret,
	struct err *e)
{
	CLEANUP_STRV char **args = NULL;
	int r = strv_add(&args, "commit-tree");
	for (size_t i = 0; r == 0 && i < n_parents; i++) {
		r = strv_add(&args, "-p");
		if (r == 0)
			r = strv_add(&args, parents[i].hex);
	}
	if (r == 0)
		r = strv_add(&args, tree->hex);
	if (r < 0)
		return err_nomem(e);
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	struct git_cmd cmd = {
		.argv = (const char *const *)args, .input = message, .input_len = strlen(message)};
	r = git_run_ok(ctx, &cmd, &o, e);
	return r < 0 ? r : git_output_oid(&o, "git commit-tree", ret, e);
}

static int ref_updates_text(
	const struct git_ctx *ctx, const struct git_ref_update *updates, size_t n, struct buf *text)
{
	const char *zero =
		ctx->repo->sha256
			? "0000000000000000000000000000000000000000000000000000000000000000"
			: "0000000000000000000000000000000000000000";
	for (size_t i = 0; i < n; i++) {
		const struct git_ref_update *u = &updates[i];
		const char *old = u->old.hex[0] ? u->old.hex : zero;
		if (u->new.hex[0])
			buf_addf(text, "update %s%c%s%c%s%c", u->ref, 0, u->new.hex, 0, old, 0);
		else
			buf_addf(text, "delete %s%c%s%c", u->ref, 0, old, 0);
	}
	return buf_check(text);
}

/* git's exit status is the same for a lost race and for a full disk: ask where the refs are. */
static int ref_failure(
	const struct git_ctx *ctx, const struct git_ref_update *updates, size_t n, struct err *e)
{
	CLEANUP(freep) const char **names = calloc(n, sizeof(*names));
	CLEANUP(freep) struct git_oid *now = calloc(n, sizeof(*now));
	if (!names || !now)
		return err_nomem(e);
	for (size_t i = 0; i < n; i++)
		names[i] = updates[i].ref;
	struct err why = ERR_INIT;
	int r = git_resolve_many(ctx, names, n, now, &why);
	if (r < 0)
		return e ? e->code : r; /* the first failure is the one to tell */
	for (size_t i = 0; i < n; i++) {
		if (git_oid_eq(&now[i], &updates[i].old))
			continue;
		err_set(e, -ESTALE, "%s is at %s, not at %s", updates[i].ref,
			now[i].hex[0] ? now[i].hex : "nothing",
			updates[i].old.hex[0] ? updates[i].old.hex : "nothing");
		return GIT_MOVED;
	}
	return e ? e->code : -EIO;
}

/* Locks of a git that we saw die; refs that are ours alone. */
static void drop_locks(const struct git_ctx *ctx, const struct git_ref_update *updates, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		CLEANUP_STR char *lock =
			str_printf("%s/%s.lock", ctx->repo->common_dir, updates[i].ref);
		if (lock && (str_starts(updates[i].ref, "refs/orch/") ||
				    str_starts(updates[i].ref, "refs/heads/orch/")))
			(void)unlink(lock); /* what stays is removed by the next start */
	}
}

int git_refs_update(const struct git_ctx *ctx, const struct git_ref_update *updates, size_t n,
	const char *reflog, struct err *e)
{
	if (n == 0)
		return 0;
	CLEANUP_BUF struct buf text = BUF_INIT;
	if (ref_updates_text(ctx, updates, n, &text) < 0)
		return err_nomem(e);
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {
		"update-ref", "-m", reflog, "--no-deref", "--stdin", "-z", NULL};
	struct git_cmd cmd = {.argv = argv, .input = text.data, .input_len = text.len};
	struct err failure = ERR_INIT;
	int r = git_run_ok(ctx, &cmd, &o, &failure);
	if (r == 0)
		return 0;
	if (e)
		*e = failure;
	if (git_was_killed(&o))
		drop_locks(ctx, updates, n);
	/* Killed between two refs it may have moved the first: nobody else did. */
	if (r == -ECANCELED || r == -ETIMEDOUT || r == -ENOMEM || git_was_killed(&o))
		return r;
	int outcome = ref_failure(ctx, updates, n, e);
	return outcome == 0 ? r : outcome;
}

char *git_ref_attempt(const char *plan, const char *task, unsigned attempt)
{
	return str_printf("refs/orch/%s/%s/%u", plan, task, attempt);
}

char *git_ref_task(const char *plan, const char *task)
{
	return str_printf("refs/heads/orch/%s/task/%s", plan, task);
}

char *git_ref_integration(const char *plan)
{
	return str_printf("refs/heads/orch/%s/integration", plan);
}

/* The tree of `ref` with one file replaced. */
int git_tree_with_file(const struct git_ctx *ctx, const struct git_oid *commit, const char *name,
	const struct git_oid *blob, struct git_oid *ret, struct err *e)
{
	CLEANUP_BUF struct buf entries = BUF_INIT;
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	if (commit->hex[0]) {
		const char *const argv[] = {"ls-tree", "-z", commit->hex, NULL};
		int r = git_run_ok(ctx, &(struct git_cmd){.argv = argv}, &o, e);
		if (r < 0)
			return r;
	}
	size_t len = 0;
	for (size_t at = 0; at < o.out.len; at += len + 1) {
		const char *entry = o.out.data + at;
		len = strlen(entry);
		const char *tab = strchr(entry, '\t');
		if (tab && !str_eq(tab + 1, name))
			buf_add(&entries, entry, len + 1);
	}
	buf_addf(&entries, "100644 blob %s\t%s%c", blob->hex, name, 0);
	if (buf_check(&entries) < 0)
		return err_nomem(e);
	const char *const argv[] = {"mktree", "-z", NULL};
	struct git_cmd cmd = {.argv = argv, .input = entries.data, .input_len = entries.len};
	int r = git_run_ok(ctx, &cmd, &o, e);
	return r < 0 ? r : git_output_oid(&o, "git mktree", ret, e);
}

int git_blob_write(
	const struct git_ctx *ctx, const void *data, size_t len, struct git_oid *ret, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {"hash-object", "-w", "--stdin", NULL};
	struct git_cmd cmd = {.argv = argv, .input = data ? data : "", .input_len = len};
	int r = git_run_ok(ctx, &cmd, &o, e);
	return r < 0 ? r : git_output_oid(&o, "git hash-object", ret, e);
}

int git_commit_file(const struct git_ctx *ctx, const char *ref, const char *name, const void *data,
	size_t len, const char *message, struct git_oid *ret, bool *ret_changed, struct err *e)
{
	struct git_oid blob, tree, commit, now[2];
	int r = git_blob_write(ctx, data, len, &blob, e);
	if (r < 0)
		return r;
	CLEANUP_STR char *file = str_printf("%s:%s", ref, name);
	if (!file)
		return err_nomem(e);
	const char *const revs[] = {ref, file};
	r = git_resolve_many(ctx, revs, 2, now, e);
	if (r < 0)
		return r;
	if (git_oid_eq(&now[1], &blob)) {
		*ret = now[0];
		*ret_changed = false;
		return 0;
	}
	r = git_tree_with_file(ctx, &now[0], name, &blob, &tree, e);
	if (r == 0)
		r = git_commit_tree(ctx, &tree, now, now[0].hex[0] ? 1 : 0, message, &commit, e);
	if (r < 0)
		return r;
	struct git_ref_update update = {.ref = ref, .new = commit, .old = now[0]};
	r = git_refs_update(ctx, &update, 1, "orch: save state", e);
	if (r != 0)
		return r;
	*ret = commit;
	*ret_changed = true;
	return 0;
}
