/* SPDX-License-Identifier: MIT */
/*
 * Gitlinks without a repository. git looks at nothing below the path of a gitlink, also when the
 * .git that was there is gone: files in it would be passed over in silence.
 */
#ifndef GIT_GITLINK_H
#define GIT_GITLINK_H

#include "git/scan.h"

/*
 * The gitlinks in *scan whose directory has no .git, and holds files that git does not ignore,
 * leave the index, so that those are files like others. Then *scan is made anew. The arguments are
 * those of scan_work_tree.
 */
int gitlinks_adopt(const struct git_ctx *ctx, const char *work_tree, const char *git_dir,
	const char *index, struct scan *scan, struct err *e) MUST_CHECK;

/* Whether `path` is a directory that holds something, and no .git. One that may not be read does
 * not. */
int gitlink_holds(int dirfd, const char *path, bool *ret, struct err *e) MUST_CHECK;

#endif
