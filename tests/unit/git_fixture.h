/* SPDX-License-Identifier: MIT */
/*
 * Real repositories for the tests of core/git: a private directory and HOME for each test, scripts
 * run in it by sh, and the user's side of a repository as text, to compare before and after.
 */
#ifndef GIT_FIXTURE_H
#define GIT_FIXTURE_H

#include "base/clock.h"
#include "base/log.h"
#include "git/attempt.h"
#include "git/integrate.h"
#include "git/worktree.h"
#include "os/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

struct fixture {
	char *dir;  /* private */
	char *root; /* worktree root */
	struct git_repo *repo;
	struct git_ctx ctx;
	struct err e;
};

/* The status of `sh -c script` in dir; its standard output (owned) in *ret_out. */
static inline int fixture_sh(const char *dir, const char *script, char **ret_out)
{
	int fds[2];
	assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
	char *argv[] = {"sh", "-ec", (char *)(uintptr_t)script, NULL};
	struct spawn s = SPAWN_INIT;
	s.argv = argv;
	s.cwd = dir;
	s.stdio[1] = fds[1];
	s.stdio[2] = 2;
	pid_t pid;
	struct err e = ERR_INIT;
	if (spawn_process(&s, &pid, NULL, &e) != 0)
		fail_msg("%s", e.msg);
	close(fds[1]);
	struct buf out = BUF_INIT;
	char chunk[4096];
	ssize_t n;
	while ((n = read(fds[0], chunk, sizeof(chunk))) > 0)
		buf_add(&out, chunk, (size_t)n);
	close(fds[0]);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	char *text = buf_steal(&out);
	assert_non_null(text);
	if (ret_out)
		*ret_out = text;
	else
		free(text);
	return spawn_shell_status(status);
}

/* Runs a script in dir and expects it to succeed. */
PRINTF_LIKE(2, 3) static inline void sh(const char *dir, const char *fmt, ...)
{
	char *script = NULL;
	va_list ap;
	va_start(ap, fmt);
	assert_true(vasprintf(&script, fmt, ap) >= 0);
	va_end(ap);
	int status = fixture_sh(dir, script, NULL);
	if (status != 0)
		fail_msg("status %d of: %s", status, script);
	free(script);
}

/* The output of a script without its last newline; owned. */
PRINTF_LIKE(2, 3) static inline char *output(const char *dir, const char *fmt, ...)
{
	char *script = NULL, *out = NULL;
	va_list ap;
	va_start(ap, fmt);
	assert_true(vasprintf(&script, fmt, ap) >= 0);
	va_end(ap);
	int status = fixture_sh(dir, script, &out);
	if (status != 0)
		fail_msg("status %d of: %s", status, script);
	free(script);
	size_t len = strlen(out);
	if (len > 0 && out[len - 1] == '\n')
		out[len - 1] = '\0';
	return out;
}

#define assert_output(dir, expected, ...) \
	do { \
		char *output_ = output(dir, __VA_ARGS__); \
		assert_string_equal(output_, expected); \
		free(output_); \
	} while (0)

static inline char *fixture_path(const struct fixture *f, const char *name)
{
	char *p = path_join(f->dir, name);
	assert_non_null(p);
	return p;
}

static inline int fixture_setup(void **state)
{
	/* Whatever a git or a filter leaves behind becomes our child, so that teardown sees it. */
	prctl(PR_SET_CHILD_SUBREAPER, 1UL);
	log_set_level(LOG_LEVEL_ERROR);
	struct fixture *f = calloc(1, sizeof(*f));
	char *dir = strdup("/tmp/orch-test-git-XXXXXX");
	if (!f || !dir || !mkdtemp(dir))
		return -1;
	f->dir = dir;
	f->root = fixture_path(f, "worktrees");
	f->ctx = GIT_CTX_INIT;
	setenv("HOME", dir, 1);
	unsetenv("XDG_CONFIG_HOME");
	setenv("GIT_CONFIG_NOSYSTEM", "1", 1);
	*state = f;
	return 0;
}

static inline void fixture_close(struct fixture *f)
{
	git_repo_free(f->repo);
	f->repo = NULL;
	f->ctx.repo = NULL;
}

static inline int fixture_teardown(void **state)
{
	struct fixture *f = *state;
	fixture_close(f);
	/* What does not end by itself ends this program. */
	alarm(20);
	while (waitpid(-1, NULL, 0) > 0 || errno == EINTR)
		;
	alarm(0);
	char *argv[] = {"rm", "-rf", f->dir, NULL};
	struct spawn s = SPAWN_INIT;
	s.argv = argv;
	pid_t pid;
	struct err e = ERR_INIT;
	if (spawn_process(&s, &pid, NULL, &e) == 0)
		waitpid(pid, NULL, 0);
	free(f->root);
	free(f->dir);
	free(f);
	return 0;
}

#define assert_done(f, call) \
	do { \
		int done_ = (call); \
		if (done_ != 0) \
			fail_msg("%s: %d: %s", #call, done_, (f)->e.msg); \
	} while (0)

/* A repository <dir>/<name> with a commit, an identity of the user's, staged and unstaged changes,
 * an untracked file and a stash: what has to stay as it is. */
static inline void make_repo(const struct fixture *f, const char *name, const char *init_args)
{
	sh(f->dir, "git init -q -b main %s '%s'", init_args, name);
	char *repo = fixture_path(f, name);
	sh(repo, "git config user.name User; git config user.email user@example.org\n"
		 "mkdir -p src 'späce d'\n"
		 "printf 'one\\n' >a; printf 'int main;\\n' >src/main.c; printf 'x\\n' >'späce "
		 "d/ü'\n"
		 "printf '*.o\\n.env\\nbuild/\\n' >.gitignore\n"
		 "git add .; git commit -qm 'First'\n"
		 "printf 'two\\n' >>a; git commit -qam 'Second'\n"
		 "printf 'stashed\\n' >>a; git stash -q\n"
		 "printf 'staged\\n' >staged; git add staged; printf 'dirty\\n' >>src/main.c\n"
		 "printf 'untracked\\n' >untracked; printf 'SECRET=1\\n' >.env");
	free(repo);
}

static inline void open_repo(struct fixture *f, const char *name)
{
	char *dir = fixture_path(f, name);
	fixture_close(f);
	assert_done(f, git_open(&f->ctx, dir, &f->repo, &f->e));
	f->ctx.repo = f->repo;
	free(dir);
}

/* Everything of the user's that must not change; owned. */
static inline char *user_side(const struct git_repo *repo)
{
	return output(repo->toplevel ? repo->toplevel : repo->common_dir,
		"export GIT_OPTIONAL_LOCKS=0\n"
		"git rev-parse --is-bare-repository | grep -q true || git status --porcelain=v2 "
		"--branch --ignored\n"
		"cd '%s'; sha1sum config info/exclude; test ! -e '%s/index' || sha1sum '%s/index'\n"
		"ls -l hooks 2>/dev/null || true; cat hooks/* 2>/dev/null | sha1sum\n"
		"cat '%s/HEAD'; cat logs/refs/stash 2>/dev/null || true\n"
		"git for-each-ref | grep -v -e refs/orch/ -e refs/heads/orch/ || true",
		repo->common_dir, repo->git_dir, repo->git_dir, repo->git_dir);
}

static inline struct git_attempt attempt_of(
	const char *worktree, const struct git_oid *start, const char *task, unsigned n)
{
	return (struct git_attempt){
		.worktree = worktree,
		.start = *start,
		.plan = "plan",
		.task = task,
		.attempt = n,
		.outcome = "ok",
		.max_file_bytes = 1 << 20,
	};
}

#endif
