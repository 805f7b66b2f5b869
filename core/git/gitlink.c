/* SPDX-License-Identifier: MIT */
#include "git/gitlink.h"

#include "git/worktree.h"
#include "os/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

struct bare_link {
	char *path;
	struct git_oid oid;
};

struct bare_links {
	struct VEC(struct bare_link) list;
};

static void bare_links_deinit(struct bare_links *s)
{
	vec_foreach(it, &s->list)
		free(it->path);
	VEC_FREE(&s->list);
}

int gitlink_holds(int dirfd, const char *path, bool *ret, struct err *e)
{
	*ret = false;
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_is_machine(-errno) ? err_errno(e, -errno, "cannot open '%s'", path) : 0;
	if (file_exists(fd, ".git")) {
		close(fd);
		return 0;
	}
	DIR *d = fdopendir(fd);
	if (!d) {
		int r = err_errno(e, -errno, "cannot read '%s'", path);
		close(fd);
		return r;
	}
	struct dirent *entry;
	while (!*ret && (entry = readdir(d)) != NULL)
		*ret = !str_eq(entry->d_name, ".") && !str_eq(entry->d_name, "..");
	closedir(d);
	return 0;
}

static int find(
	const char *work_tree, const struct scan *scan, struct bare_links *ret, struct err *e)
{
	CLEANUP(closep) int top = open(work_tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (top < 0)
		return err_errno(e, -errno, "cannot open the worktree '%s'", work_tree);
	vec_foreach(link, &scan->gitlinks) {
		bool stray = false;
		int r = gitlink_holds(top, link->path, &stray, e);
		if (r < 0)
			return r;
		if (!stray)
			continue;
		struct bare_link *s = VEC_PUSH(&ret->list);
		if (!s)
			return err_nomem(e);
		*s = (struct bare_link){.path = strdup(link->path), .oid = link->oid};
		if (!s->path)
			return err_nomem(e);
	}
	return 0;
}

static bool has_files(const struct scan *scan, const char *dir)
{
	size_t len = strlen(dir);
	vec_foreach(path, &scan->untracked)
		if (str_starts(*path, dir) && (*path)[len] == '/')
			return true;
	for (size_t i = 0; scan->unreadable && scan->unreadable[i]; i++)
		if (git_path_contains(dir, scan->unreadable[i]))
			return true;
	return false;
}

int gitlinks_adopt(const struct git_ctx *ctx, const char *work_tree, const char *git_dir,
	const char *index, struct scan *scan, struct err *e)
{
	CLEANUP(bare_links_deinit) struct bare_links found = {0};
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	CLEANUP_BUF struct buf gone = BUF_INIT;
	CLEANUP_BUF struct buf back = BUF_INIT;
	struct git_cmd cmd = {.dir = work_tree, .git_dir = git_dir, .index = index};
	int r = find(work_tree, scan, &found, e);
	if (r < 0 || found.list.count == 0)
		return r;
	vec_foreach(s, &found.list)
		buf_add(&gone, s->path, strlen(s->path) + 1);
	if (buf_check(&gone) < 0)
		return err_nomem(e);
	const char *const forget[] = {"update-index", "--force-remove", "-z", "--stdin", NULL};
	cmd.argv = forget;
	cmd.input = gone.data;
	cmd.input_len = gone.len;
	r = git_run_ok(ctx, &cmd, &o, e);
	scan_deinit(scan);
	if (r == 0)
		r = scan_work_tree(ctx, work_tree, git_dir, index, scan, e);
	if (r < 0)
		return r;
	vec_foreach(s, &found.list)
		if (!has_files(scan, s->path))
			buf_addf(&back, "160000 %s\t%s%c", s->oid.hex, s->path, 0);
	if (buf_check(&back) < 0)
		return err_nomem(e);
	if (back.len == 0)
		return 0;
	const char *const restore[] = {"update-index", "-z", "--index-info", NULL};
	cmd.argv = restore;
	cmd.input = back.data;
	cmd.input_len = back.len;
	r = git_run_ok(ctx, &cmd, &o, e);
	scan_deinit(scan);
	return r < 0 ? r : scan_work_tree(ctx, work_tree, git_dir, index, scan, e);
}
