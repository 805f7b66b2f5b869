/* SPDX-License-Identifier: MIT */
/*
 * The repository of a directory without asking git, which takes longer than all the rest of a verb
 * that only looks. For the plain case alone, a repository of ours with its checkout beside .git;
 * whatever might make git say something else is left to git.
 */
#include "git/git.h"

#include "base/str.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONFIG_MAX_BYTES 65536

/* HEAD, objects and refs are what git knows a repository by. */
static bool looks_like_one(int dirfd)
{
	struct stat st;
	return fstatat(dirfd, "HEAD", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       fstatat(dirfd, "objects", &st, 0) == 0 && fstatat(dirfd, "refs", &st, 0) == 0;
}

/* Only what `git init` writes: no other work tree, no further files. */
static bool config_is_plain(int git_dir)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct err ignored = ERR_INIT; /* git says what is wrong with it */
	if (file_read(git_dir, "config", CONFIG_MAX_BYTES, &text, &ignored) < 0)
		return false;
	const char *config = buf_cstr(&text);
	return strstr(config, "bare = false") && !strcasestr(config, "worktree") &&
	       !strcasestr(config, "include");
}

enum seen { NOTHING, PLAIN, DOUBTFUL };

static enum seen look_into(const char *dir, dev_t device)
{
	struct stat top, git;
	CLEANUP(closep) int fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &top) < 0 || top.st_dev != device || looks_like_one(fd))
		return DOUBTFUL;
	if (fstatat(fd, ".git", &git, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? NOTHING : DOUBTFUL;
	CLEANUP(closep)
	int git_fd = openat(fd, ".git", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	bool ours = top.st_uid == geteuid() && git.st_uid == geteuid();
	return git_fd >= 0 && ours && looks_like_one(git_fd) && config_is_plain(git_fd) ? PLAIN
											: DOUBTFUL;
}

int git_find(const char *dir, struct git_repo **ret_repo, struct err *e)
{
	struct stat st;
	CLEANUP_STR char *at = str_dup(dir);
	if (!at)
		return err_nomem(e);
	if (stat(at, &st) < 0)
		return 0;
	enum seen seen;
	while ((seen = look_into(*at ? at : "/", st.st_dev)) == NOTHING && *at)
		*strrchr(at, '/') = '\0';
	if (seen == NOTHING)
		return GIT_NO_REPOSITORY;
	if (seen != PLAIN || !*at)
		return 0;
	CLEANUP(git_repo_freep) struct git_repo *repo = calloc(1, sizeof(*repo));
	if (!repo)
		return err_nomem(e);
	repo->common_dir = path_join(at, ".git");
	repo->git_dir = path_join(at, ".git");
	repo->toplevel = TAKE(at);
	if (!repo->common_dir || !repo->git_dir)
		return err_nomem(e);
	*ret_repo = TAKE(repo);
	return 0;
}
