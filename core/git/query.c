/* SPDX-License-Identifier: MIT */
#include "git/reader.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

bool git_oid_eq(const struct git_oid *a, const struct git_oid *b)
{
	return strcmp(a->hex, b->hex) == 0;
}

int git_oid_parse(const char *hex, struct git_oid *ret)
{
	size_t len = strspn(hex, "0123456789abcdef");
	if ((len != 40 && len != 64) || hex[len])
		return -EINVAL;
	memcpy(ret->hex, hex, len + 1);
	return 0;
}

int git_resolve_many(const struct git_ctx *ctx, const char *const *revs, size_t n,
	struct git_oid *ret, struct err *e)
{
	CLEANUP_BUF struct buf input = BUF_INIT;
	for (size_t i = 0; i < n; i++) {
		if (!revs[i][0] || strchr(revs[i], '\n'))
			return err_set(e, -EINVAL, "'%s' names no object", revs[i]);
		buf_addf(&input, "%s\n", revs[i]);
	}
	if (buf_check(&input) < 0)
		return err_nomem(e);
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {"cat-file", "--batch-check=%(objectname)", NULL};
	struct git_cmd cmd = {.argv = argv, .input = input.data, .input_len = input.len};
	int r = git_reader_ask(ctx, &input, n, &o.out);
	if (r == -ECANCELED || r == -ETIMEDOUT)
		return err_set(e, r, "git cat-file was stopped: %s",
			r == -ECANCELED ? "on request" : "it took too long");
	if (r < 0)
		r = git_run_ok(ctx, &cmd, &o, e);
	if (r < 0)
		return r;
	char *line = o.out.data;
	for (size_t i = 0; i < n; i++) {
		char *end = line ? strchr(line, '\n') : NULL;
		if (!end)
			return err_set(e, -EIO, "git cat-file answered too little");
		*end = '\0';
		/* Anything else is "<name> missing" or "<name> ambiguous". */
		if (git_oid_parse(line, &ret[i]) < 0)
			ret[i] = GIT_OID_NONE;
		line = end + 1;
	}
	return 0;
}

/* What cat-file does not say: of a path with a newline, and of a submodule's commit, which is in
 * another repository. */
static int ask_tree(const struct git_ctx *ctx, const struct git_oid *commit, const char *path,
	struct git_oid *ret, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {
		"ls-tree", "-z", "--full-tree", "--object-only", commit->hex, "--", path, NULL};
	int r = git_run_ok(ctx, &(struct git_cmd){.argv = argv}, &o, e);
	if (r < 0)
		return r;
	if (o.out.len == 0 || git_oid_parse(o.out.data, ret) < 0)
		*ret = GIT_OID_NONE;
	return 0;
}

int git_resolve_path(const struct git_ctx *ctx, const struct git_oid *commit, const char *path,
	struct git_oid *ret, struct err *e)
{
	CLEANUP_STR char *rev = str_printf("%s:%s", commit->hex, path);
	if (!rev)
		return err_nomem(e);
	const char *const revs[] = {rev};
	struct git_oid found = GIT_OID_NONE;
	int r = strchr(path, '\n') ? 0 : git_resolve_many(ctx, revs, 1, &found, e);
	if (r == 0 && !found.hex[0])
		r = ask_tree(ctx, commit, path, &found, e);
	if (r == 0)
		*ret = found;
	return r;
}

/* A reader that has run for long may lack the descriptor to open a ref, and calls it missing. */
static int ask_anew(const struct git_ctx *ctx, const char *rev, struct git_oid *ret, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {"rev-parse", "--verify", "--end-of-options", rev, NULL};
	int r = git_try(ctx, &(struct git_cmd){.argv = argv}, &o, e);
	if (r < 0)
		return r;
	if (o.out.len > 0)
		buf_truncate(&o.out, strcspn(o.out.data, "\n"));
	if (o.status != 0 || git_oid_parse(buf_cstr(&o.out), ret) < 0)
		*ret = GIT_OID_NONE;
	return 0;
}

int git_resolve(const struct git_ctx *ctx, const char *rev, struct git_oid *ret, struct err *e)
{
	CLEANUP_STR char *commit = str_printf("%s^{commit}", rev);
	if (!commit)
		return err_nomem(e);
	const char *const revs[] = {commit};
	struct git_oid oid = GIT_OID_NONE;
	int r = git_resolve_many(ctx, revs, 1, &oid, e);
	if (r == 0 && !oid.hex[0])
		r = ask_anew(ctx, commit, &oid, e);
	if (r < 0)
		return r;
	if (!oid.hex[0])
		return err_set(e, -ENOENT, "there is no commit '%s'", rev);
	*ret = oid;
	return 0;
}

int git_tree_of(
	const struct git_ctx *ctx, const struct git_oid *commit, struct git_oid *ret, struct err *e)
{
	char rev[80];
	snprintf(rev, sizeof(rev), "%s^{tree}", commit->hex);
	const char *const revs[] = {rev};
	struct git_oid oid = GIT_OID_NONE;
	int r = git_resolve_many(ctx, revs, 1, &oid, e);
	if (r < 0)
		return r;
	if (!oid.hex[0])
		return err_set(e, -ENOENT, "there is no commit %s", commit->hex);
	*ret = oid;
	return 0;
}

int git_is_ancestor(const struct git_ctx *ctx, const struct git_oid *ancestor,
	const struct git_oid *descendant, bool *ret, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {
		"merge-base", "--is-ancestor", ancestor->hex, descendant->hex, NULL};
	struct git_cmd cmd = {.argv = argv};
	int r = git_try(ctx, &cmd, &o, e);
	if (r < 0)
		return r;
	if (o.status > 1)
		return err_set(e, -EIO, "cannot compare %s with %s: %.500s", ancestor->hex,
			descendant->hex, buf_cstr(&o.err));
	*ret = o.status == 0;
	return 0;
}

int git_changed(const struct git_ctx *ctx, const struct git_oid *from, const struct git_oid *to,
	bool *ret, struct err *e)
{
	char rev_from[80], rev_to[80];
	snprintf(rev_from, sizeof(rev_from), "%s^{tree}", from->hex);
	snprintf(rev_to, sizeof(rev_to), "%s^{tree}", to->hex);
	const char *const revs[] = {rev_from, rev_to};
	struct git_oid trees[2];
	int r = git_resolve_many(ctx, revs, 2, trees, e);
	if (r < 0)
		return r;
	if (!trees[0].hex[0] || !trees[1].hex[0])
		return err_set(
			e, -ENOENT, "there is no commit %s", trees[0].hex[0] ? to->hex : from->hex);
	*ret = !git_oid_eq(&trees[0], &trees[1]);
	return 0;
}

int git_diff_stat(const struct git_ctx *ctx, const struct git_oid *from, const struct git_oid *to,
	size_t max_bytes, char **ret_text, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {"diff", "--no-ext-diff", "--no-textconv", "--no-color",
		"--stat=100", "--stat-count=200", from->hex, to->hex, NULL};
	struct git_cmd cmd = {.argv = argv};
	int r = git_run_ok(ctx, &cmd, &o, e);
	if (r < 0)
		return r;
	if (o.out.len > max_bytes)
		buf_truncate(&o.out, utf8_cut(o.out.data, o.out.len, max_bytes));
	char *text = buf_steal(&o.out);
	if (!text)
		return err_nomem(e);
	*ret_text = text;
	return 0;
}

int git_diff_paths(const struct git_ctx *ctx, const struct git_oid *from, const struct git_oid *to,
	char ***ret_paths, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {
		"diff-tree", "-r", "-z", "--name-only", "--no-renames", from->hex, to->hex, NULL};
	struct git_cmd cmd = {.argv = argv};
	int r = git_run_ok(ctx, &cmd, &o, e);
	if (r < 0)
		return r;
	return git_split_z(&o.out, ret_paths, e);
}

int git_split_z(const struct buf *b, char ***ret, struct err *e)
{
	CLEANUP_STRV char **v = NULL;
	size_t n = 0;
	for (size_t i = 0; i < b->len; i++)
		n += b->data[i] == '\0';
	v = calloc(n + 1, sizeof(*v));
	if (!v)
		return err_nomem(e);
	const char *s = b->data;
	for (size_t i = 0; i < n; i++, s += strlen(s) + 1) {
		v[i] = strdup(s);
		if (!v[i])
			return err_nomem(e);
	}
	*ret = TAKE(v);
	return 0;
}
