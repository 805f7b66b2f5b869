/* SPDX-License-Identifier: MIT */
/*
 * Files brought along into a new worktree from the user's checkout, and the record of them, by
 * which a commit leaves them out.
 */
#ifndef GIT_COPY_H
#define GIT_COPY_H

#include "git/git.h"

/*
 * Copies what the patterns (paths or globs, relative, without "..") name below from to the same
 * place below to: files, symlinks (as they are) and directories, with their modes. What exists is
 * not overwritten, no symlink is followed in `to`, .git and .orch are never copied. A pattern that
 * matches nothing is no error. *ret_copied (owned strv, NULL when none) are the topmost paths that
 * were made.
 */
int copy_files(const char *from, const char *to, char *const *patterns, char ***ret_copied,
	struct err *e) MUST_CHECK;

/* The record in the worktree's admin directory; a missing one reads as NULL. */
int copy_record_write(const char *admin_dir, char *const *copied, struct err *e) MUST_CHECK;
int copy_record_read(const char *admin_dir, char ***ret_copied, struct err *e) MUST_CHECK;
/* Whether path is one of them or lies below one. */
bool copy_record_has(char *const *copied, const char *path);

#endif
