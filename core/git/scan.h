/* SPDX-License-Identifier: MIT */
/*
 * One look at a work tree through an index, whatever the agent did to either: what changed, what is
 * new, which entries are submodules, and index flags that hide changes.
 */
#ifndef GIT_SCAN_H
#define GIT_SCAN_H

#include "base/vec.h"
#include "git/git.h"

struct scan_entry {
	const char *path; /* points into scan.text */
	struct git_oid oid;
};

struct scan {
	struct buf text;
	struct VEC(struct scan_entry) tracked;  /* files and symlinks, stage 0 */
	struct VEC(struct scan_entry) gitlinks; /* stage 0 */
	struct VEC(const char *) changed;       /* modified, deleted or unmerged; may repeat */
	struct VEC(const char *) gone;          /* changed, its directory is a symlink now */
	struct VEC(const char *) untracked;     /* not ignored; "dir/" is a nested repository */
	struct VEC(const char *) hidden; /* flagged assume-unchanged, or skip-worktree yet there */
	char **unreadable;               /* directories; owned */
};

#define SCAN_INIT ((struct scan){0})
void scan_deinit(struct scan *s);

/*
 * work_tree seen through index, with git_dir. Flags that hide changes are removed from that index
 * first. *ret must be SCAN_INIT. -EBADMSG when git cannot read the index.
 */
int scan_work_tree(const struct git_ctx *ctx, const char *work_tree, const char *git_dir,
	const char *index, struct scan *ret, struct err *e) MUST_CHECK;

#endif
