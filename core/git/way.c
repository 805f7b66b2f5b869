/* SPDX-License-Identifier: MIT */
#include "git/way.h"

#include "base/log.h"
#include "git/guard.h"
#include "git/worktree.h"
#include "os/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ASIDE     "refs/orch/+in-the-way/"
#define ASIDE_DIR "in-the-way"
#define MAX_DEPTH 32
#define MAX_TRIES 1000

void way_unlock(const struct git_ctx *ctx, const char *ref)
{
	CLEANUP_STR char *lock = str_printf("%s/%s.lock", ctx->repo->common_dir, ref);
	if (lock)
		(void)unlink(lock); /* most often there is none; else git says it */
}

/* The length of the namespace that is ours. */
static size_t namespace_len(const char *ref)
{
	return strlen(str_starts(ref, "refs/heads/") ? "refs/heads/orch" : "refs/orch");
}

/* "refs/a/b" as one component, "a+b". */
static char *flat_name(const char *ref)
{
	char *name = strdup(ref + strlen("refs/"));
	for (char *p = name; p && *p; p++)
		if (*p == '/')
			*p = '+';
	return name;
}

static int move_ref(
	const struct git_ctx *ctx, const char *ref, const struct git_oid *at, struct err *e)
{
	CLEANUP_STR char *name = flat_name(ref);
	CLEANUP_STR char *to = name ? str_printf(ASIDE "%s+%s", name, at->hex) : NULL;
	if (!to)
		return err_nomem(e);
	const struct git_ref_update gone = {.ref = ref, .old = *at};
	struct git_ref_update kept = {.ref = to, .new = *at};
	const char *const revs[] = {to};
	bool takes_ours = str_eq(ref, "refs/orch"); /* nothing can be below it while it is there */
	int r = takes_ours ? git_refs_update(ctx, &gone, 1, "orch: in the way", e) : 0;
	if (r == 0)
		r = git_resolve_many(ctx, revs, 1, &kept.old, e);
	if (r == 0 && !git_oid_eq(&kept.old, at))
		r = git_refs_update(ctx, &kept, 1, "orch: in the way", e);
	if (r == 0 && !takes_ours)
		r = git_refs_update(ctx, &gone, 1, "orch: in the way", e);
	if (r == 0)
		log_warning("%s stood in the way, and is %s now", ref, to);
	return r > 0 ? -ESTALE : r;
}

/* Refs whose names begin with ours, and those of which ours would be a part. */
static int move_refs(const struct git_ctx *ctx, const char *ref, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	CLEANUP_STRV char **args = NULL;
	CLEANUP_STR char *below = str_printf("%s/", ref);
	int r = below ? strv_add(&args, "for-each-ref") : -ENOMEM;
	if (r == 0)
		r = strv_add(&args, "--format=%(objectname) %(refname)");
	if (r == 0)
		r = strv_add(&args, below);
	for (size_t len = namespace_len(ref); r == 0 && ref[len]; len++) {
		if (ref[len] != '/')
			continue;
		CLEANUP_STR char *above = strndup(ref, len);
		r = above ? strv_add(&args, above) : -ENOMEM;
	}
	if (r < 0)
		return err_nomem(e);
	r = git_run_ok(ctx, &(struct git_cmd){.argv = (const char *const *)args}, &o, e);
	for (char *line = o.out.data, *end; r == 0 && line && *line; line = end + 1) {
		struct git_oid at;
		char *space = strchr(line, ' ');
		end = strchr(line, '\n');
		if (!end || !space || space > end)
			return err_set(e, -EIO, "git for-each-ref answered '%.200s'", line);
		*end = *space = '\0';
		/* A pattern also matches what is below it: of those above, only they themselves. */
		if ((str_starts(space + 1, below) || git_path_contains(space + 1, ref)) &&
			!str_eq(space + 1, ref) && git_oid_parse(line, &at) == 0)
			r = move_ref(ctx, space + 1, &at, e);
	}
	return r;
}

static int move_file(const struct git_ctx *ctx, const char *path, const char *ref, struct err *e)
{
	CLEANUP_STR char *state = git_state_dir(ctx->repo);
	CLEANUP_STR char *dir = state ? path_join(state, ASIDE_DIR) : NULL;
	CLEANUP_STR char *name = flat_name(ref);
	if (!dir || !name)
		return err_nomem(e);
	int r = dir_make(AT_FDCWD, dir, 0700, e);
	for (int i = 0; r == 0 && i < MAX_TRIES; i++) {
		CLEANUP_STR char *to = str_printf("%s/%s+%d", dir, name, i);
		if (!to)
			return err_nomem(e);
		if (renameat2(AT_FDCWD, path, AT_FDCWD, to, RENAME_NOREPLACE) == 0) {
			log_warning(
				"'%s' is no ref and stood in the way; it is '%s' now", path, to);
			return 0;
		}
		if (errno != EEXIST)
			return err_errno(e, -errno, "cannot move '%s' to '%s'", path, to);
	}
	return r < 0 ? r : err_set(e, -EEXIST, "'%s' is full", dir);
}

/* Empty directories are no obstacle to git. */
static bool holds_files(const char *path, unsigned depth)
{
	struct err ignored = ERR_INIT; /* then it stays, and git says so */
	DIR *d = NULL;
	if (depth > MAX_DEPTH || dir_list(path, &d, &ignored) < 0 || !d)
		return false;
	bool found = false;
	struct dirent *entry;
	while (!found && (entry = readdir(d)) != NULL) {
		if (str_eq(entry->d_name, ".") || str_eq(entry->d_name, ".."))
			continue;
		CLEANUP_STR char *inner = path_join(path, entry->d_name);
		struct stat st;
		found = inner && lstat(inner, &st) == 0 &&
			(!S_ISDIR(st.st_mode) || holds_files(inner, depth + 1));
	}
	closedir(d);
	return found;
}

/* What is left after the refs are gone is none that git can read. */
static int move_files(const struct git_ctx *ctx, const char *ref, struct err *e)
{
	struct git_oid at;
	const char *const revs[] = {ref};
	int r = git_resolve_many(ctx, revs, 1, &at, e);
	for (size_t len = namespace_len(ref); r == 0; len++) {
		if (ref[len] && ref[len] != '/')
			continue;
		CLEANUP_STR char *part = strndup(ref, len);
		CLEANUP_STR char *path = part ? path_join(ctx->repo->common_dir, part) : NULL;
		struct stat st;
		if (!path)
			return err_nomem(e);
		bool there = lstat(path, &st) == 0;
		if (there && S_ISDIR(st.st_mode) ? !ref[len] && holds_files(path, 0)
						 : there && (ref[len] || !at.hex[0]))
			r = move_file(ctx, path, part, e);
		if (!ref[len])
			break;
	}
	return r;
}

int way_clear(const struct git_ctx *ctx, const char *ref, struct err *e)
{
	int r = move_refs(ctx, ref, e);
	return r < 0 ? r : move_files(ctx, ref, e);
}
