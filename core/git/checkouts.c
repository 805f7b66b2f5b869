/* SPDX-License-Identifier: MIT */
#include "git/checkouts.h"

#include "git/worktree.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

void checkouts_deinit(struct checkouts *c)
{
	vec_foreach(it, &c->list) {
		free(it->path);
		free(it->git_dir);
		free(it->branch);
		free(it->rebasing);
	}
	VEC_FREE(&c->list);
}

static int read_rebasing(struct checkout *c)
{
	static const char *const files[] = {"rebase-merge/head-name", "rebase-apply/head-name"};
	for (size_t i = 0; i < 2; i++) {
		CLEANUP_STR char *path = path_join(c->git_dir, files[i]);
		CLEANUP_BUF struct buf text = BUF_INIT;
		struct err ignored = ERR_INIT; /* no such operation */
		if (!path)
			return -ENOMEM;
		if (file_read(AT_FDCWD, path, 65536, &text, &ignored) < 0)
			continue;
		c->rebasing = str_trimmed(buf_cstr(&text), text.len);
		return c->rebasing ? 0 : -ENOMEM;
	}
	return 0;
}

#define NOTHING_CHECKED_OUT 1

static int finish(const struct git_ctx *ctx, struct checkout *c, bool is_main, struct err *e)
{
	struct err why = ERR_INIT;
	int r = 0;
	if (is_main)
		c->git_dir = strdup(ctx->repo->common_dir);
	else
		r = git_worktree_admin_dir(ctx, c->path, &c->git_dir, &why);
	if (r == -ENOENT && !c->branch)
		return NOTHING_CHECKED_OUT; /* its HEAD is gone */
	if (r < 0 && e)
		*e = why;
	if (r < 0)
		return err_prefix(e, "cannot look at the worktree '%s'", c->path);
	return !c->git_dir || read_rebasing(c) < 0 ? err_nomem(e) : 0;
}

/* One record of `git worktree list --porcelain -z`; *p is moved behind it. */
static int parse_one(const struct git_ctx *ctx, const char **p, const char *end, bool is_main,
	struct checkouts *ret, struct err *e)
{
	const char *path = NULL, *branch = NULL;
	bool skip = false;
	for (; *p < end && **p; *p += strlen(*p) + 1) {
		if (str_starts(*p, "worktree "))
			path = *p + strlen("worktree ");
		else if (str_starts(*p, "branch "))
			branch = *p + strlen("branch ");
		else if (str_eq(*p, "bare") || str_starts(*p, "prunable"))
			skip = true;
	}
	*p += 1;
	if (!path || skip)
		return 0;
	/* Of a checkout whose repository lies elsewhere git names the repository. */
	if (is_main && ctx->repo->toplevel && !ctx->repo->linked)
		path = ctx->repo->toplevel;
	struct checkout *c = VEC_PUSH(&ret->list);
	if (!c)
		return err_nomem(e);
	c->path = strdup(path);
	c->branch = str_dup(branch);
	if (!c->path || (branch && !c->branch))
		return err_nomem(e);
	int r = finish(ctx, c, is_main, e);
	if (r != NOTHING_CHECKED_OUT)
		return r;
	free(c->path);
	ret->list.count--;
	return 0;
}

int checkouts_list(const struct git_ctx *ctx, struct checkouts *ret, struct err *e)
{
	CLEANUP(checkouts_deinit) struct checkouts found = CHECKOUTS_INIT;
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {"worktree", "list", "--porcelain", "-z", NULL};
	CLEANUP(closep) int lock = -1;
	int r = git_worktrees_lock(ctx, &lock, e);
	if (r == 0)
		r = git_worktrees_unblock(ctx->repo, e);
	if (r == 0)
		r = git_run_ok(ctx, &(struct git_cmd){.argv = argv}, &o, e);
	if (r < 0)
		return r;
	close(TAKE_FD(lock));
	const char *p = buf_cstr(&o.out), *start = p, *end = p + o.out.len;
	while (p < end) {
		r = parse_one(ctx, &p, end, p == start, &found, e);
		if (r < 0)
			return r;
	}
	*ret = found;
	found = CHECKOUTS_INIT;
	return 0;
}
