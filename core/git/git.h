/* SPDX-License-Identifier: MIT */
/*
 * The git command, run the one way in which orch runs it, and questions about a repository.
 *
 * Every command has a session of its own, dies with the thread that started it, has none of the
 * caller's GIT_* variables (but the choice of config files and GIT_LFS_SKIP_SMUDGE), and runs with
 * hooks, signing, gc, maintenance, fsmonitor, pagers, editors and prompts off. What it commits is
 * by "orch <orch@localhost>", named by environment: no config is ever written.
 *
 * All functions block and may be called from several threads at once. On cancellation they return
 * -ECANCELED, past the deadline -ETIMEDOUT: the command then had SIGTERM (git removes its lock
 * files) and SIGKILL 2 s later. A full disk is -ENOSPC. Nothing else in the process may reap
 * children with waitpid(-1).
 */
#ifndef GIT_GIT_H
#define GIT_GIT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "os/spawn.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GIT_VERSION_MIN "2.38"

/* An object id in lower-case hexadecimal, SHA-1 or SHA-256; "" is none. */
struct git_oid {
	char hex[65];
};

#define GIT_OID_NONE ((struct git_oid){{0}})

bool git_oid_eq(const struct git_oid *a, const struct git_oid *b);
/* 40 or 64 hexadecimal digits; 0 or -EINVAL. */
int git_oid_parse(const char *hex, struct git_oid *ret) MUST_CHECK;

struct git_repo {
	char *common_dir; /* absolute: objects, refs, config; where orch/ lives */
	char *git_dir;    /* absolute: common_dir, or <common_dir>/worktrees/<id> */
	char *toplevel;   /* absolute; NULL for a bare repository */
	char *version;    /* of git: "2.39.5"; NULL before git_check_version */
	bool bare;
	bool linked;  /* opened from a linked worktree */
	bool shallow; /* history is cut */
	bool sha256;
	struct git_oid head; /* of the worktree it was opened from; "" while HEAD is unborn */
	char *head_branch;   /* "main"; NULL when HEAD is detached */
};

struct git_reader;

/* How to call git, and on which repository. Everything is borrowed; copy it to change a field. */
struct git_ctx {
	const struct git_repo *repo;
	int lock_fd;         /* flocked descriptor of git.lock that every git inherits; -1: none */
	int cancel_fd;       /* readable: give up; -1: none */
	int64_t deadline_ms; /* absolute, monotonic */
	const struct spawn_origin *origin;
	struct git_reader *reader; /* NULL: a process for each question */
};

#define GIT_CTX_INIT \
	((struct git_ctx){ \
		.lock_fd = -1, \
		.cancel_fd = -1, \
		.deadline_ms = INT64_MAX, \
	})

enum git_outcome {
	GIT_DONE = 0,
	GIT_NO_REPOSITORY = 1, /* git_open: dir is in no git repository */
	GIT_CONFLICT,          /* the merge has conflicts; nothing was made */
	GIT_UNCOMMITTABLE,     /* something in the tree cannot be committed; nothing was made */
	GIT_MOVED,   /* the ref is no longer at the expected commit; nothing was changed */
	GIT_REFUSED, /* a checkout of the user's is in the way; nothing was changed */
};

/*
 * Opens the repository that dir (any directory in it; NULL: ours) belongs to. ctx->repo is not
 * used. 0 and an owned repository, GIT_NO_REPOSITORY (err says so too), or an error that says how
 * to mend it: git missing (-ENOSYS), owned by somebody else (-EPERM), called from inside
 * .git (-EINVAL). A repository without a commit opens with head "".
 */
int git_open(const struct git_ctx *ctx, const char *dir, struct git_repo **ret_repo,
	struct err *e) MUST_CHECK;
/*
 * The same for who needs its directories only, without running git (find.c). dir is absolute and
 * free of links. 0, and *ret_repo stays NULL where only git can tell; GIT_NO_REPOSITORY.
 */
int git_find(const char *dir, struct git_repo **ret_repo, struct err *e) MUST_CHECK;
void git_repo_free(struct git_repo *repo);
DEFINE_FREEP(git_repo_freep, struct git_repo, git_repo_free)
/* -ENOSYS when git is too old for us to work with; looking works with any. */
int git_check_version(const struct git_ctx *ctx, struct git_repo *repo, struct err *e) MUST_CHECK;
/* -ENODATA and what to type when the repository has no commit yet. */
int git_require_commit(const struct git_repo *repo, struct err *e) MUST_CHECK;

/* --- one command --- */

struct git_cmd {
	const char *const *argv; /* after "git"; NULL-terminated */
	const char *dir;         /* where to run; NULL: the common directory, as GIT_DIR too */
	const char *git_dir;     /* GIT_DIR, with dir as GIT_WORK_TREE; NULL: git finds it */
	const char *index;       /* GIT_INDEX_FILE; NULL: the usual one */
	const void *input;       /* standard input; NULL: /dev/null */
	size_t input_len;
	size_t max_output; /* bytes of standard output, more is -E2BIG; 0: 256 MiB */
};

struct git_output {
	struct buf out;
	struct buf err; /* the first 16 KiB */
	int status;     /* as a shell shows it */
};

#define GIT_OUTPUT_INIT ((struct git_output){0})
void git_output_deinit(struct git_output *o);

/* 0 when git ran to its end, whatever its status. *ret is overwritten, also on errors. */
int git_run(const struct git_ctx *ctx, const struct git_cmd *cmd, struct git_output *ret,
	struct err *e) MUST_CHECK;
/* Whether a signal ended it: what it was doing is half done, and says nothing of its input. */
bool git_was_killed(const struct git_output *o);
/* What a git that failed says of the machine, or of permissions: a negative errno; 0: nothing. */
int git_trouble(const struct git_output *o);
/* As git_run, but a failure that the machine is to blame for is an error. */
int git_try(const struct git_ctx *ctx, const struct git_cmd *cmd, struct git_output *ret,
	struct err *e) MUST_CHECK;
/* Whether the repository can be written at all: a git that failed may not tell why. */
int git_disk_check(const struct git_repo *repo, struct err *e) MUST_CHECK;
/* git failed for a reason of its own: what it was given, or what it found. Exit status 74. */
#define GIT_FAILED (-EPROTO)
/* As git_run, but a status other than 0 is an error (GIT_FAILED, -ENOSPC, ...) in git's own words.
 */
int git_run_ok(const struct git_ctx *ctx, const struct git_cmd *cmd, struct git_output *ret,
	struct err *e) MUST_CHECK;

/* The strings of NUL-terminated output; owned strv. */
int git_split_z(const struct buf *b, char ***ret, struct err *e) MUST_CHECK;
/* The one object id that `what` printed. */
int git_output_oid(const struct git_output *o, const char *what, struct git_oid *ret,
	struct err *e) MUST_CHECK;

/* --- questions --- */

/* The commit that a branch, tag, id or expression stands for; -ENOENT when there is none. */
int git_resolve(
	const struct git_ctx *ctx, const char *rev, struct git_oid *ret, struct err *e) MUST_CHECK;
/* Like git_resolve for n object expressions in one process, not only commits; "" where there is
 * none. */
int git_resolve_many(const struct git_ctx *ctx, const char *const *revs, size_t n,
	struct git_oid *ret, struct err *e) MUST_CHECK;
/* The object at a path, whatever bytes that has, in the tree of a commit; "" where there is none.
 */
int git_resolve_path(const struct git_ctx *ctx, const struct git_oid *commit, const char *path,
	struct git_oid *ret, struct err *e) MUST_CHECK;
int git_tree_of(const struct git_ctx *ctx, const struct git_oid *commit, struct git_oid *ret,
	struct err *e) MUST_CHECK;
int git_is_ancestor(const struct git_ctx *ctx, const struct git_oid *ancestor,
	const struct git_oid *descendant, bool *ret, struct err *e) MUST_CHECK;
/* Whether the trees of two commits differ. */
int git_changed(const struct git_ctx *ctx, const struct git_oid *from, const struct git_oid *to,
	bool *ret, struct err *e) MUST_CHECK;
/* `git diff --stat` between two commits, cut at max bytes; owned. */
int git_diff_stat(const struct git_ctx *ctx, const struct git_oid *from, const struct git_oid *to,
	size_t max_bytes, char **ret_text, struct err *e) MUST_CHECK;
/* Paths that differ between two commits; owned strv. */
int git_diff_paths(const struct git_ctx *ctx, const struct git_oid *from, const struct git_oid *to,
	char ***ret_paths, struct err *e) MUST_CHECK;

/* --- making objects and moving refs --- */

/* A commit of tree with n_parents parents, by orch. */
int git_commit_tree(const struct git_ctx *ctx, const struct git_oid *tree,
	const struct git_oid *parents, size_t n_parents, const char *message, struct git_oid *ret,
	struct err *e) MUST_CHECK;

struct git_ref_update {
	const char *ref;    /* full name */
	struct git_oid new; /* "": delete it */
	struct git_oid old; /* what it must be at; "": it must not exist */
};

/* All of them or none. GIT_MOVED (with a message) when one is not at its old value. */
int git_refs_update(const struct git_ctx *ctx, const struct git_ref_update *updates, size_t n,
	const char *reflog, struct err *e) MUST_CHECK;

/*
 * Puts one file into the tree at the tip of ref (made when it does not exist) and moves ref there
 * by compare-and-swap. *ret_changed is false, and nothing is made, when it holds those bytes
 * already.
 */
int git_commit_file(const struct git_ctx *ctx, const char *ref, const char *name, const void *data,
	size_t len, const char *message, struct git_oid *ret, bool *ret_changed,
	struct err *e) MUST_CHECK;

/* Full ref names; owned, NULL when memory is out. */
char *git_ref_attempt(const char *plan, const char *task, unsigned attempt) MUST_CHECK;
char *git_ref_task(const char *plan, const char *task) MUST_CHECK;
char *git_ref_integration(const char *plan) MUST_CHECK;

#endif
