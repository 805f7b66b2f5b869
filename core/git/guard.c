/* SPDX-License-Identifier: MIT */
#include "git/guard.h"

#include "git/checkouts.h"
#include "git/planrefs.h"
#include "git/worktree.h"
#include "os/file.h"
#include "os/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define EXCLUDE_LINE "/.orch"

char *git_state_dir(const struct git_repo *repo)
{
	return path_join(repo->common_dir, "orch");
}

static bool has_line(const struct buf *text, const char *line)
{
	size_t len = strlen(line);
	for (const char *p = buf_cstr(text); p; p = strchr(p, '\n') ? strchr(p, '\n') + 1 : NULL)
		if (strncmp(p, line, len) == 0 && (p[len] == '\n' || p[len] == '\r' || !p[len]))
			return true;
	return false;
}

/* Appended in one write: the file's mode, owner and links stay as they are. */
static int add_exclude(const struct git_repo *repo, struct err *e)
{
	CLEANUP_STR char *dir = path_join(repo->common_dir, "info");
	CLEANUP_STR char *path = dir ? path_join(dir, "exclude") : NULL;
	CLEANUP_BUF struct buf text = BUF_INIT;
	if (!path)
		return err_nomem(e);
	int r = dir_make(AT_FDCWD, dir, 0777, e);
	if (r < 0)
		return r;
	struct err missing = ERR_INIT;
	r = file_read(AT_FDCWD, path, (size_t)16 << 20, &text, &missing);
	if (r < 0 && r != -ENOENT) {
		if (e)
			*e = missing;
		return r;
	}
	if (has_line(&text, EXCLUDE_LINE))
		return 0;
	bool cut = text.len > 0 && text.data[text.len - 1] != '\n';
	const char *add = cut ? "\n" EXCLUDE_LINE "\n" : EXCLUDE_LINE "\n";
	CLEANUP(closep) int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
	if (fd < 0)
		return err_errno(e, -errno, "cannot open '%s'", path);
	r = fd_write_all(fd, add, strlen(add));
	return r < 0 ? err_errno(e, r, "cannot write '%s'", path) : 0;
}

/* .orch: where it is and where it is to lead, and what is there now; now owned, NULL: nothing. */
struct state_link {
	char *path, *target, *now;
};

static void state_link_deinit(struct state_link *l)
{
	free(l->path);
	free(l->target);
	free(l->now);
}

static int state_link_look(const struct git_repo *repo, struct state_link *ret, struct err *e)
{
	char now[4096];
	CLEANUP_STR char *state = git_state_dir(repo);
	CLEANUP_STR char *inside = path_join(repo->toplevel, ".git");
	ret->path = path_join(repo->toplevel, ".orch");
	if (!ret->path || !state || !inside)
		return err_nomem(e);
	/* Relative in the usual case, so that the repository can be moved. */
	ret->target = str_dup(str_eq(inside, repo->common_dir) ? ".git/orch" : state);
	ssize_t n = readlink(ret->path, now, sizeof(now) - 1);
	if (n < 0 && errno == EINVAL)
		return err_set(
			e, -EEXIST, "'%s' is in the way of orch's link; move it away", ret->path);
	if (n >= 0) {
		now[n] = '\0';
		ret->now = str_dup(now);
	}
	if (!ret->target || (n >= 0 && !ret->now))
		return err_nomem(e);
	if (ret->now && !str_eq(ret->now, ret->target) && !str_ends(ret->now, "/orch"))
		return err_set(e, -EEXIST, "'%s' is a link to '%s', which is not orch's", ret->path,
			ret->now);
	return 0;
}

int git_state_link_check(const struct git_repo *repo, struct err *e)
{
	CLEANUP(state_link_deinit) struct state_link link = {0};
	return repo->toplevel ? state_link_look(repo, &link, e) : 0;
}

int git_state_link(const struct git_repo *repo, struct err *e)
{
	CLEANUP(state_link_deinit) struct state_link link = {0};
	if (!repo->toplevel)
		return 0;
	int r = state_link_look(repo, &link, e);
	if (r < 0)
		return r;
	bool right = str_eq(link.now, link.target);
	if (link.now && !right && unlink(link.path) < 0)
		return err_errno(e, -errno, "cannot replace '%s'", link.path);
	if (!right && symlink(link.target, link.path) < 0 && errno != EEXIST)
		return err_errno(e, -errno, "cannot make '%s'", link.path);
	return add_exclude(repo, e);
}

static int check_refs(const struct git_ctx *ctx, const char *plan, struct diags *d, struct err *e)
{
	CLEANUP_STR char *branch = str_printf("refs/heads/orch/%s", plan ? plan : "x");
	CLEANUP_STR char *task = str_printf("refs/heads/orch/%s/task", plan ? plan : "x");
	CLEANUP_STR char *attempts = str_printf("refs/orch/%s", plan ? plan : "x");
	if (!branch || !task || !attempts)
		return err_nomem(e);
	const char *const revs[] = {"refs/heads/orch", "refs/orch", branch, task, attempts};
	size_t n = plan ? 5 : 2;
	struct git_oid at[5];
	int r = git_resolve_many(ctx, revs, n, at, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++)
		if (at[i].hex[0])
			diags_error(d, NULL, 0,
				"%s exists and blocks orch's own %s/...; rename it, for example: "
				"git branch -m %s %s-old",
				revs[i], revs[i],
				str_starts(revs[i], "refs/heads/") ? revs[i] + 11 : revs[i],
				str_starts(revs[i], "refs/heads/") ? revs[i] + 11 : revs[i]);
	if (str_eq(plan, "state"))
		diags_error(d, NULL, 0,
			"a plan cannot be called 'state': its refs would collide with "
			"refs/orch/state");
	return 0;
}

static int check_root(const struct git_repo *repo, const char *root, struct diags *d)
{
	const char *const dirs[] = {repo->toplevel, repo->common_dir};
	/* The deepest part of root that exists, resolved: the rest cannot be a link. */
	CLEANUP_STR char *part = strdup(root);
	CLEANUP_STR char *real = NULL;
	while (part && !(real = realpath(part, NULL)) && strrchr(part, '/') > part)
		*strrchr(part, '/') = '\0';
	if (!part)
		return -ENOMEM;
	CLEANUP_STR char *full =
		str_printf("%s%s", real && real[1] ? real : "", root + strlen(part));
	if (!full)
		return -ENOMEM;
	for (size_t i = 0; i < 2; i++)
		if (dirs[i] && git_path_contains(dirs[i], full))
			diags_error(d, NULL, 0,
				"worktree_root '%s' is inside the repository '%s': choose one "
				"outside",
				root, dirs[i]);
	return 0;
}

static int check_checkouts(const struct git_ctx *ctx, const char *plan, const char *root,
	struct diags *d, struct err *e)
{
	CLEANUP(checkouts_deinit) struct checkouts list = CHECKOUTS_INIT;
	CLEANUP_STR char *prefix = str_printf("refs/heads/orch/%s/", plan);
	CLEANUP_STR char *real = root ? realpath(root, NULL) : NULL;
	int r = prefix ? checkouts_list(ctx, &list, e) : err_nomem(e);
	if (r < 0)
		return r;
	vec_foreach(c, &list.list)
		if (str_starts(c->branch, prefix) && !(real && git_path_contains(real, c->path)))
			diags_warning(d, NULL, 0,
				"'%s' is checked out at '%s': orch moves the branch, that "
				"checkout will look changed",
				c->branch + strlen("refs/heads/"), c->path);
	return 0;
}

static bool on_path(const char *program)
{
	const char *path = getenv("PATH");
	CLEANUP_STRV char **dirs = strv_split(path ? path : "/usr/bin:/bin", ":");
	for (size_t i = 0; dirs && dirs[i]; i++) {
		CLEANUP_STR char *full = path_join(dirs[i], program);
		if (full && access(full, X_OK) == 0)
			return true;
	}
	return false;
}

/* The .gitattributes at the top is where `git lfs track` writes. */
static int check_lfs(const struct git_ctx *ctx, struct diags *d, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	CLEANUP_STR char *object = str_printf("%s:.gitattributes", ctx->repo->head.hex);
	if (!object)
		return err_nomem(e);
	const char *const revs[] = {object};
	struct git_oid blob;
	int r = git_resolve_many(ctx, revs, 1, &blob, e);
	if (r < 0 || !blob.hex[0])
		return r;
	const char *const argv[] = {"cat-file", "blob", blob.hex, NULL};
	struct git_cmd cmd = {.argv = argv, .max_output = (size_t)1 << 20};
	r = git_try(ctx, &cmd, &o, e);
	if (r == -E2BIG)
		return 0;
	if (r == 0 && o.status == 0 && strstr(buf_cstr(&o.out), "filter=lfs") &&
		!on_path("git-lfs"))
		diags_warning(d, NULL, 0,
			"the repository uses Git LFS, but git-lfs is not on PATH: agents will see "
			"pointer files");
	return r;
}

int git_preflight(const struct git_ctx *ctx, const char *plan, const char *worktree_root,
	struct diags *d, struct err *e)
{
	struct err unborn = ERR_INIT;
	if (git_require_commit(ctx->repo, &unborn) < 0)
		diags_error(d, NULL, 0, "%s", unborn.msg);
	int r = check_refs(ctx, plan, d, e);
	if (r == 0 && worktree_root && check_root(ctx->repo, worktree_root, d) < 0)
		r = err_nomem(e);
	if (r == 0 && plan)
		r = check_checkouts(ctx, plan, worktree_root, d, e);
	if (r == 0 && ctx->repo->head.hex[0])
		r = check_lfs(ctx, d, e);
	return r;
}

int git_preflight_new(const struct git_ctx *ctx, const char *plan, struct diags *d, struct err *e)
{
	CLEANUP(git_plan_refs_deinit) struct git_plan_refs refs = GIT_PLAN_REFS_INIT;
	CLEANUP_STR char *prefix = str_printf("refs/orch/%s/", plan);
	struct git_oid none = {0};
	int r = prefix ? git_plan_refs_list(ctx, plan, &none, &refs, e) : err_nomem(e);
	if (r < 0)
		return r;
	vec_foreach(it, &refs.list) {
		if (!str_starts(it->ref, prefix))
			continue;
		diags_error(d, NULL, 0,
			"%s was left by an earlier plan '%s' that the database does not know; give "
			"this plan another name, or remove what that one left with: orch cleanup "
			"%s --force",
			it->ref, plan, plan);
		break;
	}
	return 0;
}
