/* SPDX-License-Identifier: MIT */
/* After an engine that died: its git, and what that left locked. */
#include "base/clock.h"
#include "git/guard.h"
#include "git/worktree.h"
#include "os/file.h"
#include "os/lock.h"
#include "os/proc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_DEPTH 16

/* "123, 456"; owned, "" when none can be seen. */
static char *holders(const char *path)
{
	CLEANUP_BUF struct buf b = BUF_INIT;
	struct pids pids = {0};
	struct stat file;
	if (stat(path, &file) == 0)
		IGNORE(proc_find_holders(&file, &pids)); /* those that were found */
	vec_foreach(pid, &pids)
		buf_addf(&b, "%s%ld", b.len ? ", " : "", (long)*pid);
	VEC_FREE(&pids);
	return buf_check(&b) < 0 ? NULL : buf_steal(&b);
}

int git_lock_take(const char *state_dir, int64_t timeout_ms, int *ret_fd, struct err *e)
{
	CLEANUP_STR char *path = path_join(state_dir, "git.lock");
	if (!path)
		return err_nomem(e);
	int64_t deadline = timeout_ms > 0 ? deadline_after(timeout_ms) : 0;
	int r = lock_take(AT_FDCWD, path, deadline, ret_fd, e);
	if (r != LOCK_HELD)
		return r;
	CLEANUP_STR char *pids = holders(path);
	if (!pids)
		return err_nomem(e);
	r = err_set(e, -EBUSY, "git commands of an earlier engine still run: pid %s",
		pids[0] ? pids : "unknown");
	if (e)
		e->status = EXIT_UNAVAILABLE;
	return r;
}

static int remove_locks(const char *dir, unsigned depth, struct err *e)
{
	DIR *d = NULL;
	int r = depth < MAX_DEPTH ? dir_list(dir, &d, e) : 0;
	struct dirent *entry;
	while (d && r == 0 && (entry = readdir(d)) != NULL) {
		if (str_eq(entry->d_name, ".") || str_eq(entry->d_name, ".."))
			continue;
		CLEANUP_STR char *path = path_join(dir, entry->d_name);
		struct stat st;
		if (!path)
			r = err_nomem(e);
		else if (lstat(path, &st) == 0 && S_ISDIR(st.st_mode))
			r = remove_locks(path, depth + 1, e);
		else if (str_ends(path, ".lock") && unlink(path) < 0 && errno != ENOENT)
			r = err_errno(e, -errno, "cannot remove '%s'", path);
	}
	if (d)
		closedir(d);
	return r;
}

static bool is_live(char *const *live, const char *path)
{
	for (size_t i = 0; live && live[i]; i++) {
		char real[PATH_MAX];
		if (str_eq(live[i], path) || str_eq(realpath(live[i], real), path))
			return true;
	}
	return false;
}

/* What an `orch merge` or `orch cleanup` may be using is left to a later start. */
static int remove_leftovers(const struct git_repo *repo, bool merging, struct err *e)
{
	static const char *const prefixes[] = {
		GIT_INDEX_PREFIX, GIT_MERGE_PREFIX, GIT_TRASH_PREFIX};
	const size_t n = merging ? 1 : sizeof(prefixes) / sizeof(prefixes[0]);
	CLEANUP_STR char *state = git_state_dir(repo);
	DIR *d = NULL;
	int r = state ? dir_list(state, &d, e) : err_nomem(e);
	struct dirent *entry;
	while (d && r == 0 && (entry = readdir(d)) != NULL)
		for (size_t i = 0; r == 0 && i < n; i++)
			if (str_starts(entry->d_name, prefixes[i]))
				r = dir_remove_tree(dirfd(d), entry->d_name, e);
	if (d)
		closedir(d);
	return r;
}

/* Whether somebody merges beside us; else *ret_fd keeps them out until it is closed. */
static int look_for_merge(const struct git_repo *repo, int *ret_fd, bool *ret, struct err *e)
{
	CLEANUP_STR char *state = git_state_dir(repo);
	CLEANUP_STR char *path = state ? path_join(state, GIT_MERGE_LOCK) : NULL;
	int r = path ? dir_make(AT_FDCWD, state, 0700, e) : err_nomem(e);
	if (r == 0)
		r = lock_take(AT_FDCWD, path, 0, ret_fd, e);
	*ret = r == LOCK_HELD;
	return r == LOCK_HELD ? 0 : r;
}

static int mend_refs(const struct git_ctx *ctx, bool merging, struct err *e)
{
	static const char *const dirs[] = {"refs/heads/orch", "refs/orch", "logs/refs/heads/orch"};
	int r = remove_leftovers(ctx->repo, merging, e);
	/* A cleanup that is at work deletes refs of a plan that nobody else writes to: it does not
	 * miss its locks. */
	for (size_t i = 0; r == 0 && i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		CLEANUP_STR char *dir = path_join(ctx->repo->common_dir, dirs[i]);
		r = dir ? remove_locks(dir, 0, e) : err_nomem(e);
	}
	return r;
}

int git_mend_refs(const struct git_ctx *ctx, struct err *e)
{
	CLEANUP(closep) int merge_lock = -1;
	bool merging = false;
	int r = look_for_merge(ctx->repo, &merge_lock, &merging, e);
	return r < 0 ? r : mend_refs(ctx, merging, e);
}

int git_mend(const struct git_ctx *ctx, const char *worktree_root, char *const *live, struct err *e)
{
	CLEANUP(closep) int merge_lock = -1;
	CLEANUP_STRV char **paths = NULL;
	bool merging = false;
	int r = look_for_merge(ctx->repo, &merge_lock, &merging, e);
	if (r == 0)
		r = mend_refs(ctx, merging, e);
	if (r == 0)
		r = git_worktree_list(ctx, worktree_root, &paths, e);
	for (size_t i = 0; r == 0 && paths && paths[i]; i++) {
		CLEANUP_STR char *admin = NULL;
		struct err why = ERR_INIT;
		if (is_live(live, paths[i]) || (merging && str_ends(paths[i], "+" GIT_FINAL)))
			continue;
		r = git_worktree_admin_dir(ctx, paths[i], &admin, &why);
		if (r == 0)
			r = remove_locks(admin, 0, e);
		else if (err_is_shortage(r))
			r = err_set(e, r, "%s", why.msg);
		else
			r = 0; /* half made: prepare makes it anew */
	}
	return r;
}
