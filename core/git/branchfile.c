/* SPDX-License-Identifier: MIT */
#include "git/branchfile.h"

#include "base/clock.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PUT_BACK_MS 1000

const char *git_under_way(const struct git_repo *repo)
{
	static const struct {
		const char *file;
		const char *what;
	} marks[] = {
		{"rebase-merge", "a rebase"},
		{"rebase-apply", "a rebase"},
		{"MERGE_HEAD", "a merge"},
		{"CHERRY_PICK_HEAD", "a cherry-pick"},
		{"REVERT_HEAD", "a revert"},
		{"sequencer", "a cherry-pick or revert"},
		{"BISECT_LOG", "a bisection"},
	};
	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		CLEANUP_STR char *path = path_join(repo->git_dir, marks[i].file);
		if (path && file_exists(AT_FDCWD, path))
			return marks[i].what;
	}
	return NULL;
}

struct branch_file {
	const struct git_ctx *ctx;
	const char *name;
	const void *data;
	size_t len;
	char *ref; /* refs/heads/... */
	struct git_oid head;
	struct git_oid was; /* the file on the branch; "": not there */
	struct git_oid blob;
	struct git_oid indexed; /* the file in the index; "": not there */
};

static int PRINTF_LIKE(2, 3) refuse(struct err *e, const char *fmt, ...)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	va_list ap;
	va_start(ap, fmt);
	buf_addv(&text, fmt, ap);
	va_end(ap);
	err_set(e, -EBUSY, "%s", buf_cstr(&text));
	return GIT_REFUSED;
}

/* Runs git in the checkout, where it finds index and HEAD by itself. */
static int run_here(const struct branch_file *f, const char *const *argv, struct git_output *o,
	bool may_fail, struct err *e)
{
	struct git_cmd cmd = {.argv = argv, .dir = f->ctx->repo->toplevel};
	return may_fail ? git_try(f->ctx, &cmd, o, e) : git_run_ok(f->ctx, &cmd, o, e);
}

/* HEAD, looked at anew: the user may have gone elsewhere since the dispatch began. */
static int read_head(struct branch_file *f, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {"symbolic-ref", "--quiet", "HEAD", NULL};
	int r = run_here(f, argv, &o, true, e);
	if (r < 0)
		return r;
	if (o.status != 0)
		return refuse(e, "HEAD is detached: there is no current branch to commit to");
	f->ref = str_trimmed(buf_cstr(&o.out), o.out.len);
	CLEANUP_STR char *file = f->ref ? str_printf("%s:%s", f->ref, f->name) : NULL;
	if (!file)
		return err_nomem(e);
	const char *const revs[] = {f->ref, file};
	struct git_oid now[2];
	r = git_resolve_many(f->ctx, revs, 2, now, e);
	if (r < 0)
		return r;
	f->head = now[0];
	f->was = now[1];
	return f->head.hex[0] ? 0 : refuse(e, "the current branch has no commit yet");
}

static int check_index_lock(const struct branch_file *f, struct err *e)
{
	CLEANUP_STR char *lock = path_join(f->ctx->repo->git_dir, "index.lock");
	if (!lock)
		return err_nomem(e);
	return file_exists(AT_FDCWD, lock)
		       ? refuse(e, "'%s' is held: another git is at work, or died", lock)
		       : 0;
}

static int check_unmerged(const struct branch_file *f, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {"ls-files", "--unmerged", "-z", NULL};
	int r = run_here(f, argv, &o, false, e);
	if (r < 0)
		return r;
	return o.out.len ? refuse(e, "there are unmerged paths in the checkout") : 0;
}

/* What the user has done to this very file, in the index or in the checkout, is the user's. */
static int check_file(struct branch_file *f, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const entry[] = {"ls-files", "--stage", "-z", "--", f->name, NULL};
	int r = run_here(f, entry, &o, false, e);
	if (r < 0)
		return r;
	/* "<mode> <oid> <stage>\t<name>" */
	const char *space = o.out.len ? strchr(o.out.data, ' ') : NULL;
	CLEANUP_STR char *hex = space ? strndup(space + 1, strcspn(space + 1, " ")) : NULL;
	if (hex && git_oid_parse(hex, &f->indexed) < 0)
		return err_set(e, -EIO, "git ls-files answered something else");
	if (!git_oid_eq(&f->indexed, &f->was) && !git_oid_eq(&f->indexed, &f->blob))
		return refuse(e, "'%s' has staged changes that are not orch's", f->name);

	CLEANUP_STR char *path = path_join(f->ctx->repo->toplevel, f->name);
	struct stat st;
	if (!path)
		return err_nomem(e);
	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : err_errno(e, -errno, "cannot look at '%s'", path);
	struct git_oid now = GIT_OID_NONE;
	if (S_ISREG(st.st_mode)) {
		const char *const hash[] = {"hash-object", "--", f->name, NULL};
		r = run_here(f, hash, &o, false, e);
		if (r == 0)
			r = git_output_oid(&o, "git hash-object", &now, e);
		if (r < 0)
			return r;
	}
	if (now.hex[0] && (git_oid_eq(&now, &f->was) || git_oid_eq(&now, &f->blob)))
		return 0;
	return refuse(e, "'%s' is there and not as orch left it; move it away", f->name);
}

static int check_ignored(const struct branch_file *f, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	/* It refuses to work on literal paths; the name has no character that means anything. */
	const char *const argv[] = {
		"--no-literal-pathspecs", "check-ignore", "--quiet", "--", f->name, NULL};
	int r = run_here(f, argv, &o, true, e);
	if (r == 0 && o.status > 1)
		r = run_here(f, argv, &o, false, e);
	if (r < 0)
		return r;
	return o.status == 0 ? refuse(e, "'%s' is ignored by git here", f->name) : 0;
}

/* The index entry becomes that blob; "": it is removed. */
static int set_entry(const struct branch_file *f, const struct git_oid *blob, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	CLEANUP_STR char *info = str_printf("100644,%s,%s", blob->hex, f->name);
	if (!info)
		return err_nomem(e);
	const char *const add[] = {"update-index", "--add", "--cacheinfo", info, NULL};
	const char *const remove[] = {"update-index", "--force-remove", "--", f->name, NULL};
	return run_here(f, blob->hex[0] ? add : remove, &o, false, e);
}

static int write_file(const struct branch_file *f, struct err *e)
{
	CLEANUP_STR char *path = path_join(f->ctx->repo->toplevel, f->name);
	CLEANUP_BUF struct buf now = BUF_INIT;
	if (!path)
		return err_nomem(e);
	if (file_read(AT_FDCWD, path, f->len, &now, NULL) == 0 && now.len == f->len &&
		(f->len == 0 || memcmp(now.data, f->data, f->len) == 0))
		return 0;
	return file_write_atomic(AT_FDCWD, path, f->data, f->len, 0644, e);
}

static int check_all(struct branch_file *f, struct err *e)
{
	const char *under_way = git_under_way(f->ctx->repo);
	if (!f->ctx->repo->toplevel)
		return refuse(e, "a bare repository has no current branch to commit to");
	if (under_way)
		return refuse(e, "%s is in progress in the checkout", under_way);
	return check_index_lock(f, e);
}

/*
 * The index first, since a lock or a read-only directory shows there; it is put back when the
 * branch does not move.
 */
static int publish(struct branch_file *f, const struct git_oid *commit, struct err *e)
{
	int r = set_entry(f, &f->blob, e);
	if (r < 0)
		return r;
	struct git_ref_update update = {.ref = f->ref, .new = *commit, .old = f->head};
	r = git_refs_update(f->ctx, &update, 1, "orch: save state", e);
	if (r != 0) {
		/* The deadline may be past, and but half a change would be worse. */
		struct git_ctx again = *f->ctx;
		again.deadline_ms = deadline_after(PUT_BACK_MS);
		again.cancel_fd = -1;
		struct branch_file back = *f;
		back.ctx = &again;
		struct err ignored = ERR_INIT;
		(void)set_entry(
			&back, &f->indexed, &ignored); /* the first failure is the one to tell */
	}
	return r;
}

static int commit_file(struct branch_file *f, const char *message, struct git_oid *ret,
	bool *ret_changed, struct err *e)
{
	struct git_oid tree, commit;
	int r = check_all(f, e);
	if (r == 0)
		r = read_head(f, e);
	if (r == 0)
		r = git_blob_write(f->ctx, f->data, f->len, &f->blob, e);
	if (r != 0)
		return r;
	if (git_oid_eq(&f->blob, &f->was)) {
		*ret = f->head;
		*ret_changed = false;
		return 0;
	}
	r = check_unmerged(f, e);
	if (r == 0)
		r = check_ignored(f, e);
	if (r == 0)
		r = check_file(f, e);
	if (r == 0)
		r = git_tree_with_file(f->ctx, &f->head, f->name, &f->blob, &tree, e);
	if (r == 0)
		r = git_commit_tree(f->ctx, &tree, &f->head, 1, message, &commit, e);
	if (r == 0)
		r = publish(f, &commit, e);
	if (r != 0)
		return r;
	*ret = commit;
	*ret_changed = true;
	return write_file(f, e);
}

int git_commit_on_branch(const struct git_ctx *ctx, const char *name, const void *data, size_t len,
	const char *message, struct git_oid *ret, bool *ret_changed, struct err *e)
{
	struct branch_file f = {.ctx = ctx, .name = name, .data = data, .len = len};
	*ret = GIT_OID_NONE;
	int r = commit_file(&f, message, ret, ret_changed, e);
	free(f.ref);
	return r;
}
