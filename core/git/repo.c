/* SPDX-License-Identifier: MIT */
#include "git/git.h"

#include "git/guard.h"
#include "git/worktree.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void git_repo_free(struct git_repo *repo)
{
	if (!repo)
		return;
	free(repo->common_dir);
	free(repo->git_dir);
	free(repo->toplevel);
	free(repo->version);
	free(repo->head_branch);
	free(repo);
}

/* Cuts the next line off *p; NULL behind the last. */
static char *next_line(char **p)
{
	char *line = *p;
	if (!line || !*line)
		return NULL;
	char *end = strchr(line, '\n');
	*p = end ? end + 1 : NULL;
	if (end)
		*end = '\0';
	return line;
}

int git_check_version(const struct git_ctx *ctx, struct git_repo *repo, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {"version", NULL};
	int r = git_run_ok(ctx, &(struct git_cmd){.argv = argv, .dir = "/"}, &o, e);
	if (r < 0)
		return r;
	int major = 0, minor = 0, need_major = 0, need_minor = 0;
	char version[64] = "";
	if (sscanf(buf_cstr(&o.out), "git version %63s", version) != 1 ||
		sscanf(version, "%d.%d", &major, &minor) != 2 ||
		sscanf(GIT_VERSION_MIN, "%d.%d", &need_major, &need_minor) != 2)
		return err_set(e, -ENOSYS, "cannot tell the version of git from '%.100s'",
			buf_cstr(&o.out));
	if (major < need_major || (major == need_major && minor < need_minor))
		return err_set(
			e, -ENOSYS, "git %s is too old: " GIT_VERSION_MIN " is needed", version);
	return str_replace(&repo->version, version) < 0 ? err_nomem(e) : 0;
}

static int open_failure(const char *dir, const char *words, struct err *e)
{
	if (strstr(words, "dubious ownership"))
		return err_set(e, -EPERM,
			"the repository at '%s' belongs to another user; if you trust it, type: "
			"git "
			"config --global --add safe.directory '%s'",
			dir, dir);
	if (strstr(words, "not a git repository")) {
		err_set(e, -ENOENT, "'%s' is not in a git repository", dir);
		return GIT_NO_REPOSITORY;
	}
	return err_set(e, -EIO, "cannot open the repository at '%s': %.500s", dir, words);
}

static int read_head(
	const struct git_ctx *ctx, const char *dir, struct git_repo *repo, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const symbolic[] = {"symbolic-ref", "-q", "HEAD", NULL};
	int r = git_try(ctx, &(struct git_cmd){.argv = symbolic, .dir = dir}, &o, e);
	if (r < 0)
		return r;
	CLEANUP_STR char *ref = str_trimmed(buf_cstr(&o.out), o.out.len);
	if (!ref)
		return err_nomem(e);
	if (o.status == 0 && str_starts(ref, "refs/heads/") &&
		str_replace(&repo->head_branch, ref + strlen("refs/heads/")) < 0)
		return err_nomem(e);
	const char *const verify[] = {"rev-parse", "-q", "--verify", "HEAD^{commit}", NULL};
	r = git_try(ctx, &(struct git_cmd){.argv = verify, .dir = dir}, &o, e);
	if (r < 0 || o.status != 0)
		return r;
	CLEANUP_STR char *hex = str_trimmed(buf_cstr(&o.out), o.out.len);
	if (!hex)
		return err_nomem(e);
	return git_oid_parse(hex, &repo->head) < 0
		       ? err_set(e, -EIO, "git names HEAD '%.100s', which is no object id", hex)
		       : 0;
}

/* One command for all. It fails at toplevel in a bare repository, and at HEAD while that is unborn:
 * what comes behind is asked for by itself then. */
static int read_layout(
	const struct git_ctx *ctx, const char *dir, struct git_repo *repo, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {"rev-parse", "--path-format=absolute", "--is-bare-repository",
		"--is-inside-work-tree", "--is-shallow-repository", "--show-object-format",
		"--git-dir", "--git-common-dir", "--show-toplevel", "HEAD^{commit}",
		"--symbolic-full-name", "HEAD", NULL};
	int r = git_try(ctx, &(struct git_cmd){.argv = argv, .dir = dir}, &o, e);
	if (r == -ENOENT && access(dir, F_OK) == 0)
		return err_set(e, -ENOSYS, "git is not installed, or not on PATH");
	if (r < 0)
		return r;
	char *rest = o.out.data, *line[9];
	size_t n = 0;
	while (n < 9 && (line[n] = next_line(&rest)) != NULL)
		n++;
	if (n > 0 && str_starts(line[0], "--")) /* an option that this git does not know */
		r = git_check_version(ctx, repo, e);
	if (r < 0)
		return r;
	if (n < 6)
		return open_failure(dir, buf_cstr(&o.err), e);
	repo->bare = str_eq(line[0], "true");
	bool inside = str_eq(line[1], "true");
	repo->shallow = str_eq(line[2], "true");
	repo->sha256 = str_eq(line[3], "sha256");
	if (!repo->bare && !inside)
		return err_exit(e, EXIT_NOINPUT,
			"'%s' is inside the repository's own directory; go to its work tree", dir);
	if (str_replace(&repo->git_dir, line[4]) < 0 || str_replace(&repo->common_dir, line[5]) < 0)
		return err_nomem(e);
	if (!file_exists(AT_FDCWD, repo->common_dir))
		return err_exit(e, EXIT_NOINPUT,
			"the path of the repository at '%s' holds a line break, with which git "
			"and orch cannot work here",
			dir);
	repo->linked = !str_eq(repo->git_dir, repo->common_dir);
	if (inside && n < 7)
		return open_failure(dir, buf_cstr(&o.err), e);
	if (inside && str_replace(&repo->toplevel, line[6]) < 0)
		return err_nomem(e);
	if (o.status != 0 || n < 9 || git_oid_parse(line[7], &repo->head) < 0)
		return read_head(ctx, dir, repo, e);
	return str_starts(line[8], "refs/heads/") &&
			       str_replace(&repo->head_branch, line[8] + strlen("refs/heads/")) < 0
		       ? err_nomem(e)
		       : 0;
}

int git_open(const struct git_ctx *ctx, const char *dir, struct git_repo **ret_repo, struct err *e)
{
	CLEANUP_STR char *here = realpath(dir ? dir : ".", NULL);
	if (!here)
		return err_errno(e, -errno, "cannot open '%s'", dir ? dir : ".");
	CLEANUP(git_repo_freep) struct git_repo *repo = calloc(1, sizeof(*repo));
	if (!repo)
		return err_nomem(e);
	int r = read_layout(ctx, here, repo, e);
	if (r == 0)
		*ret_repo = TAKE(repo);
	return r;
}

int git_require_commit(const struct git_repo *repo, struct err *e)
{
	if (repo->head.hex[0])
		return 0;
	const char *where = repo->toplevel ? repo->toplevel : repo->common_dir;
	return err_set(e, -ENODATA,
		"the repository '%s' has no commit to start from; make one, for example: git "
		"commit --allow-empty -m 'First commit'",
		where);
}

int git_disk_check(const struct git_repo *repo, struct err *e)
{
	static const char block[65536];
	CLEANUP_STR char *dir = git_state_dir(repo);
	CLEANUP_STR char *probe =
		dir ? str_printf("%s/" GIT_INDEX_PREFIX "probe-%ld", dir, (long)gettid()) : NULL;
	if (!probe)
		return err_nomem(e);
	int r = dir_make(AT_FDCWD, dir, 0700, e);
	if (r == 0)
		r = file_write_new(AT_FDCWD, probe, block, sizeof(block), 0600, e);
	(void)unlink(probe);
	return r;
}
