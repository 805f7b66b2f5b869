/* SPDX-License-Identifier: MIT */
/*
 * The commit of an attempt: the whole tree that an agent left, by plumbing, with a private copy of
 * the index, so that locks, flags, hooks and signing in its worktree do not matter. Filters (LFS,
 * autocrlf) run as in `git add`.
 */
#ifndef GIT_ATTEMPT_H
#define GIT_ATTEMPT_H

#include "git/git.h"

struct git_attempt {
	const char *worktree; /* path, as given to git_worktree_prepare */
	struct git_oid start; /* the commit at which it was prepared */
	const char *plan;
	const char *task;
	unsigned attempt;
	const char *outcome;    /* Orch-Outcome */
	const char *unchanged;  /* the same where the tree is the start's; NULL: as outcome */
	const char *subject;    /* first line of the message; NULL: "<task>: attempt <n>" */
	const char *body;       /* NULL: none */
	int64_t max_file_bytes; /* <= 0: no limit */
};

struct git_attempt_result {
	struct git_oid commit;
	struct git_oid tree;
	bool changed; /* the tree differs from the start commit's */
	char *why;    /* GIT_UNCOMMITTABLE: a sentence that names the paths */
	char **paths; /* GIT_UNCOMMITTABLE: owned strv, at most 100 */
};

#define GIT_ATTEMPT_RESULT_INIT ((struct git_attempt_result){0})
void git_attempt_result_deinit(struct git_attempt_result *r);

/*
 * Commits what stands in the worktree, creates refs/orch/<plan>/<task>/<attempt> and moves
 * orch/<plan>/task/<task> in one transaction, then leaves the worktree detached at the commit. The
 * parent is the worktree's HEAD if that descends from the start commit (and holds none of the files
 * that were copied in), else the start commit. An unchanged tree is committed too (changed =
 * false). Safe to repeat after a crash at any point: the attempt's ref with the same tree is
 * returned as it is; with another tree it is -EEXIST (left by an earlier plan of that name).
 * GIT_UNCOMMITTABLE: nested repositories, dirty or unknown submodules, unreadable files, files over
 * the limit, names git refuses, or no worktree any more; why and (but for the last) paths are set,
 * no ref was made.
 */
int git_attempt_commit(const struct git_ctx *ctx, const struct git_attempt *a,
	struct git_attempt_result *ret, struct err *e) MUST_CHECK;

#endif
