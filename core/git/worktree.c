/* SPDX-License-Identifier: MIT */
#include "git/worktree.h"

#include "base/clock.h"
#include "git/copy.h"
#include "git/integrate.h"
#include "git/scan.h"
#include "git/submodule.h"
#include "os/file.h"
#include "os/lock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define LOCK_TIMEOUT_MS 60000

char *git_worktree_path(const char *root, const char *plan, const char *task)
{
	/* '+' is in no name, so no two pairs share a path, nor git's name for the worktree. */
	return str_printf("%s/%s+%s", root, plan, task);
}

static bool name_is_ours(const char *name)
{
	char plan[NAME_MAX + 1];
	size_t len = strcspn(name, "+");
	if (name[len] != '+' || len >= sizeof(plan))
		return false;
	memcpy(plan, name, len);
	plan[len] = '\0';
	return name_is_valid(plan, NULL);
}

/* path with everything but its last component resolved, as git records it. */
static int canonical(const char *path, char **ret, struct err *e)
{
	CLEANUP_STR char *dir = strdup(path);
	if (!dir)
		return err_nomem(e);
	for (size_t len = strlen(dir); len > 1 && dir[len - 1] == '/'; len--)
		dir[len - 1] = '\0';
	char *slash = strrchr(dir, '/');
	if (path[0] != '/' || !slash || !name_is_ours(slash + 1))
		return err_set(e, -EINVAL, "'%s' is no worktree of orch's", path);
	*slash = '\0';
	CLEANUP_STR char *parent = realpath(dir[0] ? dir : "/", NULL);
	if (!parent && errno == ENOENT)
		parent = strdup(dir);
	if (!parent)
		return err_errno(e, -errno, "cannot resolve '%s'", dir);
	*ret = path_join(parent, slash + 1);
	return *ret ? 0 : err_nomem(e);
}

bool git_path_contains(const char *dir, const char *path)
{
	size_t len = strlen(dir);
	return strncmp(dir, path, len) == 0 && (path[len] == '/' || path[len] == '\0');
}

static bool overlaps(const char *a, const char *b)
{
	return a && b && (git_path_contains(a, b) || git_path_contains(b, a));
}

/* Appends what a gitdir file holds; nothing where it cannot be read. */
static int read_gitdir(const char *file, struct buf *text, struct err *e)
{
	struct err why = ERR_INIT;
	int r = file_read(AT_FDCWD, file, 65536, text, &why);
	return err_is_shortage(r) ? err_set(e, r, "%s", why.msg) : 0;
}

/* 1: admin's gitdir file names path; 0: not, or it cannot be read. */
static int admin_is_for(const char *admin, const char *path, struct err *e)
{
	CLEANUP_STR char *file = path_join(admin, "gitdir");
	CLEANUP_STR char *want = path_join(path, ".git");
	CLEANUP_BUF struct buf text = BUF_INIT;
	if (!file || !want)
		return err_nomem(e);
	int r = read_gitdir(file, &text, e);
	if (r < 0)
		return r;
	while (text.len > 0 && text.data[text.len - 1] == '\n')
		buf_truncate(&text, text.len - 1);
	return str_eq(buf_cstr(&text), want);
}

static int find_admin(
	const struct git_repo *repo, const char *path, char **ret_admin, struct err *e)
{
	CLEANUP_STR char *dir = path_join(repo->common_dir, "worktrees");
	CLEANUP_STR char *likely = dir ? path_join(dir, strrchr(path, '/') + 1) : NULL;
	if (!likely)
		return err_nomem(e);
	int r = admin_is_for(likely, path, e);
	if (r != 0) {
		*ret_admin = r > 0 ? TAKE(likely) : NULL;
		return r < 0 ? r : 0;
	}
	DIR *d = NULL;
	r = dir_list(dir, &d, e);
	struct dirent *entry;
	while (d && r == 0 && (entry = readdir(d)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		CLEANUP_STR char *admin = path_join(dir, entry->d_name);
		r = admin ? admin_is_for(admin, path, e) : err_nomem(e);
		if (r > 0)
			*ret_admin = TAKE(admin);
	}
	if (d)
		closedir(d);
	if (r == 0)
		return err_set(e, -ENOENT, "git knows no worktree at '%s'", path);
	return r < 0 ? r : 0;
}

/* 1, or 0: without HEAD and commondir git takes the record for no repository; at a FIFO it waits
 * for ever. */
static int is_usable(const char *admin, struct err *e)
{
	static const char *const names[] = {"HEAD", "commondir", "index", "config.worktree"};
	CLEANUP(closep) int fd = -1;
	int r = dir_open(AT_FDCWD, admin, &fd, e);
	if (r < 0)
		return err_is_shortage(r) ? r : 0;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (file_is_fifo(fd, names[i]))
			return 0;
	return file_exists(fd, "HEAD") && file_exists(fd, "commondir");
}

int git_worktree_record(const struct git_ctx *ctx, const char *path, char **ret, struct err *e)
{
	CLEANUP_STR char *real = realpath(path, NULL);
	if (!real && err_is_shortage(-errno))
		return err_errno(e, -errno, "cannot resolve '%s'", path);
	return find_admin(ctx->repo, real ? real : path, ret, e);
}

int git_worktree_admin_dir(const struct git_ctx *ctx, const char *path, char **ret, struct err *e)
{
	CLEANUP_STR char *admin = NULL;
	int r = git_worktree_record(ctx, path, &admin, e);
	if (r == 0)
		r = is_usable(admin, e);
	if (r == 0)
		return err_set(e, -ENOENT, "git cannot use '%s'", admin);
	if (r > 0)
		*ret = TAKE(admin);
	return r < 0 ? r : 0;
}

static int run_in(const struct git_ctx *ctx, const char *path, const char *admin,
	const char *const *argv, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	struct git_cmd cmd = {.argv = argv, .dir = path, .git_dir = admin};
	return git_run_ok(ctx, &cmd, &o, e);
}

static int checkout(const struct git_ctx *ctx, const char *path, const char *admin,
	const struct git_oid *commit, struct err *e)
{
	const char *const argv[] = {"checkout", "-q", "-f", "--detach", commit->hex, NULL};
	return run_in(ctx, path, admin, argv, e);
}

int git_worktrees_lock(const struct git_ctx *ctx, int *ret_fd, struct err *e)
{
	CLEANUP_STR char *state = path_join(ctx->repo->common_dir, "orch");
	CLEANUP_STR char *path = state ? path_join(state, "git-worktrees") : NULL;
	if (!path)
		return err_nomem(e);
	int r = dir_make(AT_FDCWD, state, 0700, e);
	if (r < 0)
		return r;
	int64_t deadline = deadline_after(LOCK_TIMEOUT_MS);
	if (ctx->deadline_ms < deadline)
		deadline = ctx->deadline_ms;
	r = lock_take(AT_FDCWD, path, deadline, ret_fd, e);
	return r == LOCK_HELD ? err_set(e, -ETIMEDOUT, "'%s' stayed locked", path) : r;
}

/* In one step out of git's sight, and not while git reads the records: one that is half gone, or
 * goes while it is read, makes other git commands fail. */
static int remove_admin(const struct git_ctx *ctx, const char *admin, struct err *e)
{
	CLEANUP(closep) int lock = -1;
	CLEANUP_STR char *state = path_join(ctx->repo->common_dir, "orch");
	CLEANUP_STR char *trash =
		state ? str_printf("%s/" GIT_TRASH_PREFIX "%s", state, strrchr(admin, '/') + 1)
		      : NULL;
	if (!trash)
		return err_nomem(e);
	int r = dir_make(AT_FDCWD, state, 0700, e);
	if (r == 0)
		r = dir_remove_tree(AT_FDCWD, trash, e);
	if (r == 0)
		r = git_worktrees_lock(ctx, &lock, e);
	if (r == 0 && rename(admin, trash) < 0)
		r = err_errno(e, -errno, "cannot remove '%s'", admin);
	if (lock >= 0)
		close(TAKE_FD(lock));
	return r < 0 ? r : dir_remove_tree(AT_FDCWD, trash, e);
}

static int remove_all(const struct git_ctx *ctx, const char *path, struct err *e)
{
	struct err unknown = ERR_INIT;
	CLEANUP_STR char *admin = NULL;
	int found = find_admin(ctx->repo, path, &admin, &unknown);
	if (found < 0 && found != -ENOENT) {
		if (e)
			*e = unknown;
		return found;
	}
	int r = dir_remove_tree(AT_FDCWD, path, e);
	if (r == 0 && admin)
		r = remove_admin(ctx, admin, e);
	return r;
}

/* Records for a worktree of this name that a killed `git worktree add` has only begun: they name no
 * place yet, and git itself keeps them for ever. The lock on worktrees is held. */
static int remove_half_made(const struct git_repo *repo, const char *name, struct err *e)
{
	CLEANUP_STR char *dir = path_join(repo->common_dir, "worktrees");
	DIR *d = NULL;
	int r = dir ? dir_list(dir, &d, e) : err_nomem(e);
	struct dirent *entry;
	while (d && r == 0 && (entry = readdir(d)) != NULL) {
		/* git appends a number to a name that is taken */
		if (!str_starts(entry->d_name, name) ||
			entry->d_name[strlen(name) +
				      strspn(entry->d_name + strlen(name), "0123456789")])
			continue;
		CLEANUP_STR char *file = str_printf("%s/%s/gitdir", dir, entry->d_name);
		struct stat st;
		if (!file)
			r = err_nomem(e);
		else if (lstat(file, &st) < 0 ? errno == ENOENT : st.st_size == 0)
			r = dir_remove_tree(dirfd(d), entry->d_name, e);
	}
	if (d)
		closedir(d);
	return r;
}

int git_worktrees_unblock(const struct git_repo *repo, struct err *e)
{
	static const char *const names[] = {"gitdir", "HEAD", "commondir", "locked"};
	CLEANUP_STR char *dir = path_join(repo->common_dir, "worktrees");
	DIR *d = NULL;
	int r = dir ? dir_list(dir, &d, e) : err_nomem(e);
	struct dirent *entry;
	while (d && r == 0 && (entry = readdir(d)) != NULL)
		for (size_t i = 0; r == 0 && i < sizeof(names) / sizeof(names[0]); i++) {
			CLEANUP_STR char *file =
				str_printf("%s/%s/%s", dir, entry->d_name, names[i]);
			if (!file)
				r = err_nomem(e);
			else if (file_is_fifo(AT_FDCWD, file) && unlink(file) < 0 &&
				 errno != ENOENT)
				r = err_errno(e, -errno, "cannot remove '%s'", file);
		}
	if (d)
		closedir(d);
	return r;
}

static int add(const struct git_ctx *ctx, const char *path, const struct git_oid *commit,
	char **ret_admin, struct err *e)
{
	CLEANUP(closep) int lock = -1;
	int r = remove_all(ctx, path, e);
	if (r == 0)
		r = git_worktrees_lock(ctx, &lock, e);
	if (r == 0)
		r = remove_half_made(ctx->repo, strrchr(path, '/') + 1, e);
	if (r == 0)
		r = git_worktrees_unblock(ctx->repo, e);
	if (r < 0)
		return r;
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {
		"worktree", "add", "-q", "--detach", "--no-checkout", path, commit->hex, NULL};
	r = git_run_ok(ctx, &(struct git_cmd){.argv = argv}, &o, e);
	close(TAKE_FD(lock));
	if (r == 0)
		r = find_admin(ctx->repo, path, ret_admin, e);
	return r < 0 ? r : checkout(ctx, path, *ret_admin, commit, e);
}

/* All that is not the worktree itself: operations in progress, locks, notes of ours. */
static int clear_admin(const char *admin, struct err *e)
{
	static const char *const kept[] = {
		".", "..", "HEAD", "commondir", "gitdir", "index", "logs", NULL};
	CLEANUP(closep) int fd = -1;
	int r = dir_open(AT_FDCWD, admin, &fd, e);
	if (r < 0)
		return r;
	int list_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	DIR *d = list_fd < 0 ? NULL : fdopendir(list_fd);
	if (!d) {
		r = err_errno(e, -errno, "cannot read '%s'", admin);
		closep(&list_fd);
		return r;
	}
	struct dirent *entry;
	while (r == 0 && (entry = readdir(d)) != NULL)
		if (!strv_contains((char *const *)kept, entry->d_name))
			r = dir_remove_tree(fd, entry->d_name, e);
	closedir(d);
	return r;
}

/* <path>/.git as git made it, whatever the agent put there. */
static int mend_git_file(const char *path, const char *admin, struct err *e)
{
	CLEANUP_STR char *file = path_join(path, ".git");
	CLEANUP_STR char *want = str_printf("gitdir: %s\n", admin);
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct stat st;
	struct err ignored = ERR_INIT;
	if (!file || !want)
		return err_nomem(e);
	bool regular = lstat(file, &st) == 0 && S_ISREG(st.st_mode);
	if (regular && file_read(AT_FDCWD, file, 65536, &text, &ignored) == 0 &&
		str_eq(buf_cstr(&text), want))
		return 0;
	int r = dir_remove_tree(AT_FDCWD, file, e);
	return r < 0 ? r : file_write_new(AT_FDCWD, file, want, strlen(want), 0644, e);
}

/* config.worktree may be the agent's, and reftable keeps HEAD elsewhere: such are made anew. So is
 * one with a mount in it, which `git clean` would empty. */
static bool can_reset(const char *path, const char *admin)
{
	CLEANUP_STR char *config = path_join(admin, "config.worktree");
	CLEANUP_STR char *reftable = path_join(admin, "reftable");
	CLEANUP_STR char *commondir = path_join(admin, "commondir");
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct err ignored = ERR_INIT;
	struct stat st;
	return config && reftable && commondir && lstat(path, &st) == 0 && S_ISDIR(st.st_mode) &&
	       !file_exists(AT_FDCWD, config) && !file_exists(AT_FDCWD, reftable) &&
	       file_read(AT_FDCWD, commondir, 4096, &text, &ignored) == 0 &&
	       str_eq(buf_cstr(&text), "../..\n") && !dir_has_mounts(path);
}

static int reset(const struct git_ctx *ctx, const char *path, const char *admin,
	const struct git_oid *commit, struct err *e)
{
	int r = clear_admin(admin, e);
	if (r == 0)
		r = mend_git_file(path, admin, e);
	CLEANUP(scan_deinit) struct scan scan = SCAN_INIT;
	if (r == 0)
		r = scan_work_tree(ctx, path, admin, NULL, &scan, e);
	if (r < 0)
		return r;
	vec_foreach(link, &scan.gitlinks) {
		CLEANUP_STR char *full = path_join(path, link->path);
		r = full ? dir_remove_tree(AT_FDCWD, full, e) : err_nomem(e);
		if (r < 0)
			return r;
	}
	r = checkout(ctx, path, admin, commit, e);
	if (r < 0)
		return r;
	const char *const clean[] = {"clean", "-ffdxq", NULL};
	return run_in(ctx, path, admin, clean, e);
}

static bool given_up(int r)
{
	return r == -ECANCELED || r == -ETIMEDOUT || r == -ENOSPC || err_is_shortage(r);
}

static int bring_along(const struct git_ctx *ctx, const char *path, const char *admin,
	char *const *copy, struct err *e)
{
	if (!copy || !copy[0] || !ctx->repo->toplevel)
		return 0;
	CLEANUP_STRV char **copied = NULL;
	int r = copy_files(ctx->repo->toplevel, path, copy, &copied, e);
	return r < 0 ? r : copy_record_write(admin, copied, e);
}

static int prepare(const struct git_ctx *ctx, const char *path, const struct git_oid *commit,
	char *const *copy, char **ret_admin, struct err *e)
{
	const struct git_repo *repo = ctx->repo;
	if (overlaps(path, repo->toplevel) || overlaps(path, repo->common_dir))
		return err_set(e, -EINVAL,
			"the worktree '%s' would overlap the repository: choose another "
			"worktree_root",
			path);
	CLEANUP_STR char *admin = NULL;
	struct err why = ERR_INIT;
	int r = find_admin(repo, path, &admin, &why);
	if (r == 0)
		r = is_usable(admin, &why);
	if (r >= 0)
		r = r && can_reset(path, admin) ? reset(ctx, path, admin, commit, &why) : -ENOENT;
	if (r < 0 && given_up(r)) {
		if (e)
			*e = why;
		return r;
	}
	if (r < 0) {
		free(TAKE(admin));
		r = add(ctx, path, commit, &admin, e);
	}
	if (r == 0)
		r = submodules_populate(ctx, path, admin, e);
	if (r == 0)
		r = bring_along(ctx, path, admin, copy, e);
	if (r == 0)
		*ret_admin = TAKE(admin);
	return r;
}

static int make_root(const char *path, struct err *e)
{
	CLEANUP_STR char *root = strdup(path);
	char *slash = root ? strrchr(root, '/') : NULL;
	if (!root)
		return err_nomem(e);
	if (!slash || slash == root)
		return 0;
	*slash = '\0';
	return dir_make(AT_FDCWD, root, 0700, e);
}

/* A git that failed is asked again (whoever removes a worktree without our lock makes it fail), and
 * the disk whether it was its fault. */
static int prepare_surely(const struct git_ctx *ctx, const char *path, const struct git_oid *commit,
	char *const *copy, char **ret_admin, struct err *e)
{
	int r = prepare(ctx, path, commit, copy, ret_admin, e);
	if (r != GIT_FAILED)
		return r;
	if (git_disk_check(ctx->repo, e) < 0)
		return e ? e->code : -EIO;
	free(TAKE(*ret_admin));
	return prepare(ctx, path, commit, copy, ret_admin, e);
}

int git_worktree_prepare(const struct git_ctx *ctx, const char *path, const struct git_oid *commit,
	char *const *copy, struct err *e)
{
	CLEANUP_STR char *real = NULL;
	CLEANUP_STR char *admin = NULL;
	int r = make_root(path, e);
	if (r == 0)
		r = canonical(path, &real, e);
	if (r == 0)
		r = prepare_surely(ctx, real, commit, copy, &admin, e);
	return r < 0 ? err_prefix(e, "cannot prepare the worktree '%s'", path) : 0;
}

int git_worktree_continue(const struct git_ctx *ctx, const char *path, const struct git_oid *tip,
	const struct git_oid *attempt, char *const *copy, char ***ret_conflicts, struct err *e)
{
	CLEANUP_STR char *real = NULL;
	CLEANUP_STR char *admin = NULL;
	CLEANUP_STRV char **conflicts = NULL;
	struct git_oid tree;
	int r = git_merge_trees(ctx, tip, attempt, &tree, &conflicts, NULL, e);
	if (r < 0)
		return r;
	r = make_root(path, e);
	if (r == 0)
		r = canonical(path, &real, e);
	if (r == 0)
		r = prepare_surely(ctx, real, tip, NULL, &admin, e);
	if (r < 0)
		return err_prefix(e, "cannot prepare the worktree '%s'", path);
	const char *const argv[] = {"read-tree", "-m", "-u", tip->hex, tree.hex, NULL};
	r = run_in(ctx, real, admin, argv, e);
	if (r == 0)
		r = submodules_populate(ctx, real, admin, e);
	if (r == 0)
		r = bring_along(ctx, real, admin, copy, e);
	if (r == 0)
		*ret_conflicts = TAKE(conflicts);
	return r;
}

static bool head_is_at(const char *admin, const struct git_oid *commit)
{
	CLEANUP_STR char *file = path_join(admin, "HEAD");
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct err ignored = ERR_INIT; /* then HEAD is set anew */
	if (!file || file_read(AT_FDCWD, file, 4096, &text, &ignored) < 0)
		return false;
	return text.len == strlen(commit->hex) + 1 && str_starts(text.data, commit->hex);
}

/* An index without locks and without flags that hide changes. */
static int mend_index(const struct git_ctx *ctx, const char *path, const char *admin,
	const struct git_oid *commit, struct err *e)
{
	CLEANUP_STR char *index = path_join(admin, "index");
	CLEANUP_STR char *index_lock = path_join(admin, "index.lock");
	CLEANUP_STR char *head_lock = path_join(admin, "HEAD.lock");
	if (!index || !index_lock || !head_lock)
		return err_nomem(e);
	(void)unlink(index_lock); /* its holder is gone: the unit has ended */
	(void)unlink(head_lock);
	CLEANUP(scan_deinit) struct scan scan = SCAN_INIT;
	int r = scan_work_tree(ctx, path, admin, NULL, &scan, e);
	if (r != -EBADMSG)
		return r;
	if (unlink(index) < 0)
		return err_errno(e, -errno, "cannot remove '%s'", index);
	const char *const argv[] = {"read-tree", commit->hex, NULL};
	return run_in(ctx, path, admin, argv, e);
}

/* Where git's record under path's own name says that it is, beside it; NULL: nowhere else. */
static int moved_to(
	const struct git_ctx *ctx, const char *path, char **ret_file, char **ret_at, struct err *e)
{
	const char *name = strrchr(path, '/') + 1;
	CLEANUP_STR char *file = str_printf("%s/worktrees/%s/gitdir", ctx->repo->common_dir, name);
	CLEANUP_BUF struct buf text = BUF_INIT;
	if (!file)
		return err_nomem(e);
	int r = read_gitdir(file, &text, e);
	CLEANUP_STR char *at = r == 0 ? str_trimmed(buf_cstr(&text), text.len) : NULL;
	if (!at)
		return r < 0 ? r : err_nomem(e);
	if (!str_ends(at, "/.git"))
		return 0;
	at[strlen(at) - strlen("/.git")] = '\0';
	const char *slash = strrchr(at, '/');
	size_t dir = (size_t)(name - path);
	if (!slash || (size_t)(slash + 1 - at) != dir || strncmp(at, path, dir) != 0)
		return 0;
	*ret_file = TAKE(file);
	*ret_at = TAKE(at);
	return 0;
}

int git_worktree_bring_back(const struct git_ctx *ctx, const char *path, struct err *e)
{
	CLEANUP_STR char *real = NULL;
	CLEANUP_STR char *file = NULL;
	CLEANUP_STR char *at = NULL;
	if (file_exists(AT_FDCWD, path))
		return 0;
	int r = canonical(path, &real, e);
	if (r == 0)
		r = moved_to(ctx, real, &file, &at, e);
	if (r < 0 || !at || !file_exists(AT_FDCWD, at))
		return r;
	CLEANUP_STR char *text = str_printf("%s/.git\n", real);
	if (!text)
		return err_nomem(e);
	if (rename(at, real) < 0)
		return err_errno(e, -errno, "cannot bring '%s' back to '%s'", at, real);
	return file_write_atomic(AT_FDCWD, file, text, strlen(text), 0644, e);
}

const char *git_worktree_trouble(const char *path)
{
	static const struct {
		const char *name, *trouble;
	} read_by_git[] = {
		{".gitattributes", "has a FIFO for its .gitattributes"},
		{".gitignore", "has a FIFO for its .gitignore"},
		{".gitmodules", "has a FIFO for its .gitmodules"},
	};
	struct stat st;
	if (lstat(path, &st) == 0 ? !S_ISDIR(st.st_mode) : errno == ENOENT || errno == ENOTDIR)
		return "is gone";
	CLEANUP(closep) int dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0 || faccessat(dirfd, ".", X_OK, 0) < 0)
		return errno == EACCES ? "cannot be read" : NULL;
	for (size_t i = 0; i < sizeof(read_by_git) / sizeof(read_by_git[0]); i++)
		if (file_is_fifo(dirfd, read_by_git[i].name))
			return read_by_git[i].trouble;
	return NULL;
}

static int reset_tracked(const struct git_ctx *ctx, const char *path, const char *admin,
	const struct git_oid *commit, char ***ret_changed, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	int r = mend_git_file(path, admin, e);
	if (r == 0)
		r = mend_index(ctx, path, admin, commit, e);
	if (r < 0)
		return r;
	const char *const diff[] = {"diff", "--name-only", "-z", "--no-ext-diff", "--no-textconv",
		"--no-renames", "--ignore-submodules=dirty", commit->hex, NULL};
	struct git_cmd cmd = {.argv = diff, .dir = path, .git_dir = admin};
	r = git_run_ok(ctx, &cmd, &o, e);
	if (r == 0 && o.out.len > 0)
		r = git_split_z(&o.out, ret_changed, e);
	if (r == 0 && (*ret_changed || !head_is_at(admin, commit)))
		r = checkout(ctx, path, admin, commit, e);
	return r;
}

int git_worktree_reset_tracked(const struct git_ctx *ctx, const char *path,
	const struct git_oid *commit, char ***ret_changed, struct err *e)
{
	CLEANUP_STR char *admin = NULL;
	CLEANUP_STRV char **changed = NULL;
	struct err why = ERR_INIT;
	int r = git_worktree_admin_dir(ctx, path, &admin, &why);
	if (r == 0)
		r = git_worktree_trouble(path)
			    ? -ENOENT
			    : reset_tracked(ctx, path, admin, commit, &changed, &why);
	/* Whatever an invariant did to it: all that counts was committed before. */
	if (r < 0 && !given_up(r)) {
		why = ERR_INIT;
		r = git_worktree_prepare(ctx, path, commit, NULL, &why);
		if (r == 0 && !changed && strv_add(&changed, ".") < 0)
			r = err_nomem(&why);
	}
	if (r < 0) {
		if (e)
			*e = why;
		return r;
	}
	*ret_changed = TAKE(changed);
	return 0;
}

int git_worktree_set_aside(const char *path, unsigned number, char **ret, struct err *e)
{
	CLEANUP_STR char *to = str_printf("%s+%u", path, number);
	CLEANUP_STR char *link = to ? path_join(to, ".git") : NULL;
	struct stat st;
	*ret = NULL;
	if (!link)
		return err_nomem(e);
	if (renameat2(AT_FDCWD, path, AT_FDCWD, to, RENAME_NOREPLACE) < 0)
		return errno == ENOENT || errno == EEXIST
			       ? 0
			       : err_errno(e, -errno, "cannot move '%s' aside", path);
	/* It leads to git's record of the worktree that comes in its place. */
	if (lstat(link, &st) == 0 && S_ISREG(st.st_mode))
		(void)unlink(link);
	*ret = TAKE(to);
	return 0;
}

int git_worktree_remove(const struct git_ctx *ctx, const char *path, struct err *e)
{
	CLEANUP_STR char *real = NULL;
	int r = canonical(path, &real, e);
	if (r < 0 || !real)
		return r;
	if (overlaps(real, ctx->repo->toplevel) || overlaps(real, ctx->repo->common_dir))
		return err_set(e, -EINVAL, "'%s' is no worktree of orch's", path);
	return remove_all(ctx, real, e);
}

static int list_dir(const char *root, char ***paths, struct err *e)
{
	DIR *d = NULL;
	int r = dir_list(root, &d, e);
	struct dirent *entry;
	while (d && r == 0 && (entry = readdir(d)) != NULL) {
		CLEANUP_STR char *path = path_join(root, entry->d_name);
		struct stat st;
		if (!path)
			r = err_nomem(e);
		else if (name_is_ours(entry->d_name) && lstat(path, &st) == 0 &&
			 S_ISDIR(st.st_mode) && strv_add(paths, path) < 0)
			r = err_nomem(e);
	}
	if (d)
		closedir(d);
	return r;
}

/* Those that git records below root and that are no longer there. */
static int list_records(const struct git_repo *repo, const char *root, char ***paths, struct err *e)
{
	CLEANUP_STR char *dir = path_join(repo->common_dir, "worktrees");
	DIR *d = NULL;
	int r = dir ? dir_list(dir, &d, e) : err_nomem(e);
	struct dirent *entry;
	while (d && r == 0 && (entry = readdir(d)) != NULL) {
		CLEANUP_STR char *file = str_printf("%s/%s/gitdir", dir, entry->d_name);
		CLEANUP_BUF struct buf text = BUF_INIT;
		if (entry->d_name[0] == '.')
			continue;
		r = file ? read_gitdir(file, &text, e) : err_nomem(e);
		if (r < 0 || text.len < strlen("/.git\n"))
			continue;
		buf_truncate(&text, text.len - strlen("/.git\n"));
		const char *name = strrchr(text.data, '/');
		if (name && git_path_contains(root, text.data) && name_is_ours(name + 1) &&
			!strv_contains(*paths, text.data) && strv_add(paths, text.data) < 0)
			r = err_nomem(e);
	}
	if (d)
		closedir(d);
	return r;
}

int git_worktree_list(const struct git_ctx *ctx, const char *root, char ***ret_paths, struct err *e)
{
	CLEANUP_STRV char **paths = NULL;
	CLEANUP_STR char *real = realpath(root, NULL);
	if (!real && errno != ENOENT)
		return err_errno(e, -errno, "cannot resolve '%s'", root);
	int r = real ? list_dir(real, &paths, e) : 0;
	if (r == 0)
		r = list_records(ctx->repo, real ? real : root, &paths, e);
	if (r == 0)
		*ret_paths = TAKE(paths);
	return r;
}
