/* SPDX-License-Identifier: MIT */
#include "git/attempt.h"

#include "base/log.h"
#include "git/copy.h"
#include "git/gitlink.h"
#include "git/scan.h"
#include "git/submodule.h"
#include "git/way.h"
#include "git/worktree.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_PATHS 100
#define MAX_SHOWN 200 /* bytes of each path in a sentence */

void git_attempt_result_deinit(struct git_attempt_result *r)
{
	free(r->why);
	strv_free(r->paths);
	*r = GIT_ATTEMPT_RESULT_INIT;
}

/*
 * What a commit works on. admin is NULL when the agent has made git forget the worktree, and where
 * git's records of it (HEAD, index) are not to be relied on: then the tree is taken by itself.
 */
struct job {
	const struct git_ctx *ctx;
	const struct git_attempt *a;
	bool by_itself;
	char *ref;
	char *branch;
	char *admin;
	const char *git_dir; /* admin, or the common directory */
	char *index;         /* private */
	char **copied;
	struct scan scan;
	struct git_oid head, start_tree, at_ref, at_branch, tree, parent;
};

static void job_deinit(struct job *j)
{
	if (j->index)
		(void)unlink(j->index); /* nothing when it was installed */
	free(j->ref);
	free(j->branch);
	free(j->admin);
	free(j->index);
	strv_free(j->copied);
	scan_deinit(&j->scan);
}

static struct git_cmd in_worktree(const struct job *j, const char *const *argv)
{
	return (struct git_cmd){
		.argv = argv, .dir = j->a->worktree, .git_dir = j->git_dir, .index = j->index};
}

static int remove_private_index(const char *index, struct err *e)
{
	CLEANUP_STR char *lock = str_printf("%s.lock", index);
	if (!lock)
		return err_nomem(e);
	if ((unlink(index) < 0 && errno != ENOENT) || (unlink(lock) < 0 && errno != ENOENT))
		return err_errno(e, -errno, "cannot remove '%s'", index);
	return 0;
}

/*
 * The copy keeps the time stamp: git takes an entry that is as young as its index for possibly
 * changed (racy-git), which a younger copy would hide.
 */
static int copy_index(const struct job *j, bool *ret_copied, struct err *e)
{
	*ret_copied = false;
	CLEANUP_STR char *from = j->admin ? path_join(j->admin, "index") : NULL;
	CLEANUP_BUF struct buf data = BUF_INIT;
	struct stat st;
	if (j->admin && !from)
		return err_nomem(e);
	if (!from || stat(from, &st) < 0 || !S_ISREG(st.st_mode))
		return 0;
	int r = file_read(AT_FDCWD, from, (size_t)1 << 30, &data, e);
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	CLEANUP(closep) int out = open(j->index, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (out < 0)
		return err_errno(e, -errno, "cannot make '%s'", j->index);
	r = fd_write_all(out, data.data ? data.data : "", data.len);
	struct timespec times[2] = {st.st_atim, st.st_mtim};
	if (r == 0 && futimens(out, times) < 0)
		r = -errno;
	if (r < 0)
		return err_errno(e, r, "cannot write '%s'", j->index);
	*ret_copied = true;
	return 0;
}

static int index_from_start(const struct job *j, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	int r = remove_private_index(j->index, e);
	if (r < 0)
		return r;
	const char *const argv[] = {"read-tree", j->a->start.hex, NULL};
	struct git_cmd cmd = in_worktree(j, argv);
	return git_run_ok(j->ctx, &cmd, &o, e);
}

static int look(struct job *j, struct err *e)
{
	int r = scan_work_tree(j->ctx, j->a->worktree, j->git_dir, j->index, &j->scan, e);
	return r < 0 ? r
		     : gitlinks_adopt(j->ctx, j->a->worktree, j->git_dir, j->index, &j->scan, e);
}

static int open_index(struct job *j, struct err *e)
{
	const char *name = strrchr(j->a->worktree, '/');
	CLEANUP_STR char *dir = path_join(j->ctx->repo->common_dir, "orch");
	if (!dir || !name)
		return err_nomem(e);
	int r = dir_make(AT_FDCWD, dir, 0700, e);
	if (r < 0)
		return r;
	j->index = str_printf("%s/" GIT_INDEX_PREFIX "%s", dir, name + 1);
	if (!j->index)
		return err_nomem(e);
	r = remove_private_index(j->index, e);
	bool copied = false;
	if (r == 0)
		r = copy_index(j, &copied, e);
	if (r == 0 && !copied)
		r = index_from_start(j, e);
	if (r < 0)
		return r;
	r = look(j, e);
	if (r != -EBADMSG || !copied)
		return r;
	r = index_from_start(j, e); /* the agent's index is broken */
	return r < 0 ? r : look(j, e);
}

/* Where HEAD and the attempt's refs are now, in one process. */
static int read_state(struct job *j, struct err *e)
{
	char start_tree[80];
	snprintf(start_tree, sizeof(start_tree), "%s^{tree}", j->a->start.hex);
	const char *id = j->admin ? strrchr(j->admin, '/') + 1 : NULL;
	CLEANUP_STR char *head = id ? str_printf("worktrees/%s/HEAD", id) : strdup(j->a->start.hex);
	if (!head)
		return err_nomem(e);
	const char *const revs[] = {head, start_tree, j->ref, j->branch};
	struct git_oid at[4];
	int r = git_resolve_many(j->ctx, revs, 4, at, e);
	if (r < 0)
		return r;
	if (!at[1].hex[0])
		return err_set(e, -ENOENT, "there is no commit %s", j->a->start.hex);
	j->head = at[0];
	j->start_tree = at[1];
	j->at_ref = at[2];
	j->at_branch = at[3];
	return 0;
}

static int add_problem(struct git_attempt_result *res, const char *path)
{
	return strv_len(res->paths) < MAX_PATHS ? strv_add(&res->paths, path) : 0;
}

static int uncommittable(struct git_attempt_result *res, const char *what, struct err *e)
{
	CLEANUP_BUF struct buf why = BUF_INIT;
	size_t n = strv_len(res->paths);
	buf_adds(&why, what);
	for (size_t i = 0; res->paths && i < n && i < 10; i++) {
		const char *path = res->paths[i];
		size_t len = strlen(path), cut = utf8_cut(path, len, MAX_SHOWN);
		buf_addf(
			&why, "%s '%.*s%s'", i ? "," : ":", (int)cut, path, cut < len ? "..." : "");
	}
	if (n > 10)
		buf_addf(&why, " and %zu more", n - 10);
	free(res->why);
	res->why = buf_check(&why) < 0 ? NULL : buf_steal(&why);
	if (!res->why)
		return err_nomem(e);
	err_set(e, -EINVAL, "cannot commit: %s", res->why);
	return GIT_UNCOMMITTABLE;
}

static bool left_out(const struct job *j, const char *path)
{
	return copy_record_has(j->copied, path);
}

static int check_nested(const struct job *j, struct git_attempt_result *res, struct err *e)
{
	vec_foreach(path, &j->scan.untracked)
		if (str_ends(*path, "/") && !left_out(j, *path) && add_problem(res, *path) < 0)
			return err_nomem(e);
	return res->paths ? uncommittable(res,
				    "a repository of its own in the worktree, whose content "
				    "would be lost (remove its .git, or ignore it)",
				    e)
			  : 0;
}

/* 0, or -errno why the path cannot be read as what it is. */
static int probe(int dirfd, const char *path, int64_t *ret_size)
{
	struct stat st;
	*ret_size = 0;
	if (fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
	if (S_ISDIR(st.st_mode) || S_ISLNK(st.st_mode))
		return 0;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	*ret_size = st.st_size;
	CLEANUP(closep)
	int fd = openat(dirfd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : 0;
}

static int check_file(const char *path, int dirfd, struct git_attempt_result *res, struct err *e)
{
	int64_t size;
	int r = probe(dirfd, path, &size);
	if (err_is_machine(r))
		return err_errno(e, r, "cannot look at '%s'", path);
	return r < 0 && add_problem(res, path) < 0 ? err_nomem(e) : 0;
}

static int check_readable(
	const struct job *j, int dirfd, struct git_attempt_result *res, struct err *e)
{
	int r = 0;
	for (size_t i = 0; j->scan.unreadable && j->scan.unreadable[i]; i++)
		if (add_problem(res, j->scan.unreadable[i]) < 0)
			return err_nomem(e);
	vec_foreach(path, &j->scan.changed)
		if (r == 0)
			r = check_file(*path, dirfd, res, e);
	vec_foreach(path, &j->scan.untracked)
		if (r == 0 && !left_out(j, *path))
			r = check_file(*path, dirfd, res, e);
	if (r < 0)
		return r;
	return res->paths ? uncommittable(res, "not a file that can be read", e) : 0;
}

/* A file that was as large at the start commit is none of the agent's doing. */
static int large_at_start(
	const struct job *j, const char *path, const struct git_oid *now, bool *ret, struct err *e)
{
	struct git_oid before;
	int r = git_resolve_path(j->ctx, &j->a->start, path, &before, e);
	if (r == 0)
		*ret = now && git_oid_eq(&before, now);
	return r;
}

static int check_size(const struct job *j, int dirfd, struct git_attempt_result *res, struct err *e)
{
	int64_t size, max = j->a->max_file_bytes;
	if (max <= 0)
		return 0;
	vec_foreach(path, &j->scan.untracked)
		if (!left_out(j, *path) && probe(dirfd, *path, &size) == 0 && size > max &&
			add_problem(res, *path) < 0)
			return err_nomem(e);
	vec_foreach(path, &j->scan.changed)
		if (probe(dirfd, *path, &size) == 0 && size > max && add_problem(res, *path) < 0)
			return err_nomem(e);
	vec_foreach(entry, &j->scan.tracked) {
		struct stat st;
		if (fstatat(dirfd, entry->path, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			!S_ISREG(st.st_mode) || st.st_size <= max ||
			strv_contains(res->paths, entry->path))
			continue;
		bool old = false;
		int r = large_at_start(j, entry->path, &entry->oid, &old, e);
		if (r < 0)
			return r;
		if (!old && add_problem(res, entry->path) < 0)
			return err_nomem(e);
	}
	return res->paths ? uncommittable(res, "larger than max_file", e) : 0;
}

static int check_submodules(const struct job *j, struct git_attempt_result *res, struct err *e)
{
	if (j->scan.gitlinks.count == 0 || !j->admin)
		return 0;
	int r = submodules_keep(
		j->ctx, j->a->worktree, j->admin, &j->scan, &j->a->start, j->ref, &res->paths, e);
	if (r < 0)
		return r;
	return res->paths ? uncommittable(res,
				    "a submodule with uncommitted changes, or one whose commit is "
				    "in no repository of the checkout's",
				    e)
			  : 0;
}

static int check(const struct job *j, struct git_attempt_result *res, struct err *e)
{
	CLEANUP(closep) int dirfd = open(j->a->worktree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return err_errno(e, -errno, "cannot open the worktree '%s'", j->a->worktree);
	int r = check_nested(j, res, e);
	if (r == 0)
		r = check_readable(j, dirfd, res, e);
	if (r == 0)
		r = check_size(j, dirfd, res, e);
	if (r == 0)
		r = check_submodules(j, res, e);
	return r;
}

/* A name that git takes for an attack on its own directory is passed over, with a line that says so
 * and no failure. */
static int check_passed_over(const struct git_output *o, const struct buf *paths,
	struct git_attempt_result *res, struct err *e)
{
	static const char words[] = "Ignoring path ";
	for (const char *p = buf_cstr(&o->err); (p = strstr(p, words)); p += sizeof(words) - 1) {
		const char *said = p + sizeof(words) - 1;
		for (size_t at = 0, len; at < paths->len; at += len + 1) {
			const char *path = paths->data + at;
			len = strlen(path);
			bool named = str_starts(said, path) && (said[len] == '\n' || !said[len]);
			if (named && !strv_contains(res->paths, path) && add_problem(res, path) < 0)
				return err_nomem(e);
		}
	}
	return res->paths ? uncommittable(res, "a name that git does not take", e) : 0;
}

/* git's refusal of some content is an outcome; trouble with the machine is an error. */
static int update_index(const struct job *j, const char *const *argv, const struct buf *paths,
	struct git_attempt_result *res, struct err *e)
{
	if (paths->len == 0)
		return 0;
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	struct git_cmd cmd = in_worktree(j, argv);
	cmd.input = paths->data;
	cmd.input_len = paths->len;
	for (int try = 0; try < 2; try++) { /* content is refused again */
		git_output_deinit(&o);
		o = GIT_OUTPUT_INIT;
		int r = git_run_ok(j->ctx, &cmd, &o, e);
		if (r == 0)
			return check_passed_over(&o, paths, res, e);
		if (r != GIT_FAILED)
			return r;
	}
	int r = git_disk_check(j->ctx->repo, e);
	if (r < 0)
		return r;
	CLEANUP_STR char *what = str_trimmed(buf_cstr(&o.err), o.err.len);
	return what ? uncommittable(res, what, e) : err_nomem(e);
}

static void add_path(struct buf *paths, const char *path)
{
	buf_add(paths, path, strlen(path) + 1);
}

/* Into what git is to look at, and what it is to drop: files that were brought along, too, where
 * the agent staged or committed them itself. */
static int sort_paths(const struct job *j, struct buf *add, struct buf *drop)
{
	vec_foreach(path, &j->scan.changed)
		add_path(left_out(j, *path) ? drop : add, *path);
	vec_foreach(path, &j->scan.gone)
		add_path(drop, *path);
	vec_foreach(path, &j->scan.untracked)
		if (!left_out(j, *path))
			add_path(add, *path);
	if (j->copied)
		vec_foreach(entry, &j->scan.tracked)
			if (left_out(j, entry->path))
				add_path(drop, entry->path);
	return buf_check(add) < 0 || buf_check(drop) < 0 ? -ENOMEM : 0;
}

static int make_tree(struct job *j, struct git_attempt_result *res, struct err *e)
{
	CLEANUP_BUF struct buf paths = BUF_INIT, gone = BUF_INIT;
	if (sort_paths(j, &paths, &gone) < 0)
		return err_nomem(e);
	const char *const add[] = {
		"update-index", "--add", "--remove", "--replace", "-z", "--stdin", NULL};
	const char *const drop[] = {"update-index", "--force-remove", "-z", "--stdin", NULL};
	int r = update_index(j, drop, &gone, res, e);
	if (r == 0)
		r = update_index(j, add, &paths, res, e);
	if (r != 0)
		return r;
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {"write-tree", NULL};
	struct git_cmd cmd = in_worktree(j, argv);
	r = git_run_ok(j->ctx, &cmd, &o, e);
	return r < 0 ? r : git_output_oid(&o, "git write-tree", &j->tree, e);
}

/* Whether a commit between start and HEAD touched a file that was brought along. */
static int history_has_copied(const struct job *j, bool *ret, struct err *e)
{
	*ret = false;
	if (!j->copied)
		return 0;
	CLEANUP_STR char *range = str_printf("%s..%s", j->a->start.hex, j->head.hex);
	CLEANUP_STRV char **argv = NULL;
	if (!range)
		return err_nomem(e);
	const char *const fixed[] = {"rev-list", "-1", range, "--"};
	int r = 0;
	for (size_t i = 0; r == 0 && i < sizeof(fixed) / sizeof(fixed[0]); i++)
		r = strv_add(&argv, fixed[i]);
	for (size_t i = 0; r == 0 && j->copied[i]; i++)
		r = strv_add(&argv, j->copied[i]);
	if (r < 0)
		return err_nomem(e);
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	r = git_run_ok(j->ctx, &(struct git_cmd){.argv = (const char *const *)argv}, &o, e);
	*ret = o.out.len > 0;
	return r;
}

static int choose_parent(struct job *j, struct err *e)
{
	j->parent = j->a->start;
	if (!j->head.hex[0] || git_oid_eq(&j->head, &j->a->start))
		return 0;
	bool descends = false, tainted = false;
	int r = git_is_ancestor(j->ctx, &j->a->start, &j->head, &descends, e);
	if (r == 0 && descends)
		r = history_has_copied(j, &tainted, e);
	if (r == 0 && descends && !tainted)
		j->parent = j->head;
	return r;
}

static char *make_message(const struct job *j)
{
	const struct git_attempt *a = j->a;
	bool unchanged = a->unchanged && git_oid_eq(&j->tree, &j->start_tree);
	CLEANUP_BUF struct buf b = BUF_INIT;
	if (a->subject)
		buf_adds(&b, a->subject);
	else
		buf_addf(&b, "%s: attempt %u", a->task, a->attempt);
	if (a->body && a->body[0])
		buf_addf(&b, "\n\n%s", a->body);
	while (b.len > 0 && b.data[b.len - 1] == '\n')
		buf_truncate(&b, b.len - 1);
	buf_addf(&b, "\n\nOrch-Plan: %s\nOrch-Task: %s\nOrch-Attempt: %u\nOrch-Outcome: %s\n",
		a->plan, a->task, a->attempt, unchanged ? a->unchanged : a->outcome);
	return buf_check(&b) < 0 ? NULL : buf_steal(&b);
}

/* The attempt's ref is there already: ours from before a crash, or somebody else's. */
static int check_existing(const struct job *j, struct err *e)
{
	struct git_oid tree;
	bool descends = false;
	int r = git_tree_of(j->ctx, &j->at_ref, &tree, e);
	if (r == 0)
		r = git_is_ancestor(j->ctx, &j->a->start, &j->at_ref, &descends, e);
	if (r < 0)
		return r;
	if (descends && git_oid_eq(&tree, &j->tree))
		return 0;
	return err_set(e, -EEXIST,
		"%s exists with other content, left by an earlier plan '%s'; remove that with: "
		"orch cleanup",
		j->ref, j->a->plan);
}

/* refs: 2, or 1 for that of the attempt alone. */
static int publish_refs(
	const struct job *j, const struct git_oid *commit, size_t refs, struct err *e)
{
	struct git_oid at_ref = j->at_ref, at_branch = j->at_branch;
	for (int try = 0;; try++) {
		const struct git_ref_update updates[] = {
			{.ref = j->ref, .new = *commit, .old = at_ref},
			{.ref = j->branch, .new = *commit, .old = at_branch},
		};
		/* An agent may move the task's branch between our look and this. */
		int r = git_refs_update(j->ctx, updates, refs, "orch: attempt", e);
		if (r != GIT_MOVED || try == 3)
			return r == GIT_MOVED ? -ESTALE : r;
		const char *const revs[] = {j->ref, j->branch};
		struct git_oid now[2];
		r = git_resolve_many(j->ctx, revs, 2, now, e);
		if (r < 0)
			return r;
		if (git_oid_eq(&now[0], commit))
			at_ref = now[0]; /* git failed between the two */
		at_branch = now[1];
	}
}

/* Whether something but the machine may be in the way. */
static bool may_be_in_the_way(int r)
{
	return r < 0 && !err_is_machine(r) && r != -ECANCELED && r != -ETIMEDOUT;
}

/* The attempt's own ref holds the work: where the task's branch cannot be moved, it stays. */
static int publish(const struct job *j, const struct git_oid *commit, struct err *e)
{
	struct err why = ERR_INIT;
	way_unlock(j->ctx, j->ref);
	way_unlock(j->ctx, j->branch);
	int r = publish_refs(j, commit, 2, e);
	if (!may_be_in_the_way(r))
		return r;
	if (way_clear(j->ctx, j->ref, &why) < 0 || way_clear(j->ctx, j->branch, &why) < 0)
		log_warning("%s", why.msg);
	r = publish_refs(j, commit, 2, e);
	if (may_be_in_the_way(r) && publish_refs(j, commit, 1, &why) == 0) {
		log_warning(
			"%s could not be moved to %s: %s", j->branch, commit->hex, e ? e->msg : "");
		r = 0;
	}
	return r;
}

/* The worktree stands detached at the commit, with the private index as its own. */
static int settle(struct job *j, const struct git_oid *commit, struct err *e)
{
	if (!j->admin)
		return 0;
	if (!git_oid_eq(&j->head, commit)) {
		CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
		CLEANUP_STR char *lock = path_join(j->admin, "HEAD.lock");
		if (!lock)
			return err_nomem(e);
		(void)unlink(lock); /* its holder is gone: the unit has ended */
		const char *const argv[] = {"update-ref", "-m", "orch: attempt", "--no-deref",
			"HEAD", commit->hex, NULL};
		struct git_cmd cmd = in_worktree(j, argv);
		int r = git_run_ok(j->ctx, &cmd, &o, e);
		if (r < 0)
			return r;
	}
	CLEANUP_STR char *index = path_join(j->admin, "index");
	CLEANUP_STR char *lock = path_join(j->admin, "index.lock");
	if (!index || !lock)
		return err_nomem(e);
	(void)unlink(lock);
	return rename(j->index, index) < 0 ? err_errno(e, -errno, "cannot replace '%s'", index) : 0;
}

/* Whoever did it, a later try would find no more. */
static int check_worktree(const struct job *j, struct git_attempt_result *res, struct err *e)
{
	const char *trouble = git_worktree_trouble(j->a->worktree);
	if (!trouble)
		return 0;
	CLEANUP_STR char *what = str_printf("the worktree '%s' %s", j->a->worktree, trouble);
	return what ? uncommittable(res, what, e) : err_nomem(e);
}

static int job_init(struct job *j, struct git_attempt_result *res, struct err *e)
{
	const struct git_attempt *a = j->a;
	j->ref = git_ref_attempt(a->plan, a->task, a->attempt);
	j->branch = git_ref_task(a->plan, a->task);
	if (!j->ref || !j->branch)
		return err_nomem(e);
	int r = git_worktree_bring_back(j->ctx, a->worktree, e);
	if (r == 0)
		r = check_worktree(j, res, e);
	if (r != 0)
		return r;
	struct err unknown = ERR_INIT;
	CLEANUP_STR char *record = NULL;
	/* What was brought along is no work, also where git cannot use its record. */
	r = git_worktree_record(j->ctx, a->worktree, &record, &unknown);
	if (r == 0)
		r = copy_record_read(record, &j->copied, &unknown);
	if (r == 0 && !j->by_itself)
		r = git_worktree_admin_dir(j->ctx, a->worktree, &j->admin, &unknown);
	if (r < 0 && r != -ENOENT) {
		if (e)
			*e = unknown;
		return r;
	}
	j->git_dir = j->admin ? j->admin : j->ctx->repo->common_dir;
	r = 0;
	if (r == 0)
		r = read_state(j, e);
	return r < 0 ? r : open_index(j, e);
}

static int commit_and_publish(struct job *j, struct git_oid *ret, struct err *e)
{
	CLEANUP_STR char *message = make_message(j);
	if (!message)
		return err_nomem(e);
	int r = choose_parent(j, e);
	if (r == 0)
		r = git_commit_tree(j->ctx, &j->tree, &j->parent, 1, message, ret, e);
	return r < 0 ? r : publish(j, ret, e);
}

static int commit_by(struct job *j, struct git_attempt_result *ret, struct err *e)
{
	CLEANUP(git_attempt_result_deinit) struct git_attempt_result res = GIT_ATTEMPT_RESULT_INIT;
	int r = job_init(j, &res, e);
	if (r == 0 && j->by_itself && j->scan.gitlinks.count > 0)
		return err_set(e, GIT_FAILED, "it has submodules");
	if (r == 0)
		r = check(j, &res, e);
	if (r == 0)
		r = make_tree(j, &res, e);
	if (r == 0 && j->at_ref.hex[0]) {
		res.commit = j->at_ref;
		r = check_existing(j, e);
		/* A git that was killed may have moved the first of the two refs only. */
		if (r == 0 && !git_oid_eq(&j->at_branch, &j->at_ref))
			r = publish(j, &j->at_ref, e);
	} else if (r == 0) {
		r = commit_and_publish(j, &res.commit, e);
	}
	if (r == 0)
		r = settle(j, &res.commit, e);
	if (r < 0)
		return r;
	if (r == 0) {
		res.tree = j->tree;
		res.changed = !git_oid_eq(&j->tree, &j->start_tree);
	}
	*ret = res;
	res = GIT_ATTEMPT_RESULT_INIT;
	return r;
}

/* One failure need not mean that git's records are of no use: they follow where they can, or what
 * was committed would look changed. */
static void settle_by_itself(struct job *j, const struct git_oid *commit)
{
	struct err why = ERR_INIT;
	if (git_worktree_admin_dir(j->ctx, j->a->worktree, &j->admin, &why) < 0)
		return;
	j->git_dir = j->admin;
	if (settle(j, commit, &why) < 0)
		log_debug("%s stays as it is: %s", j->admin, why.msg);
}

static bool is_of_the_tree(int r)
{
	return r < 0 && !err_is_machine(r) && r != -ECANCELED && r != -ESTALE && r != -EEXIST;
}

/* Whether all else is well: the repository can be written, and the commit that the attempt began at
 * is there. */
static int check_repository(const struct job *j, struct err *e)
{
	struct git_oid tree;
	int r = git_disk_check(j->ctx->repo, e);
	return r < 0 ? r : git_tree_of(j->ctx, &j->a->start, &tree, e);
}

int git_attempt_commit(const struct git_ctx *ctx, const struct git_attempt *a,
	struct git_attempt_result *ret, struct err *e)
{
	CLEANUP(job_deinit) struct job first = {.ctx = ctx, .a = a};
	CLEANUP(job_deinit) struct job second = {.ctx = ctx, .a = a, .by_itself = true};
	struct err why = ERR_INIT, other = ERR_INIT;
	int r = commit_by(&first, ret, &why);
	if (is_of_the_tree(r) && r != -ETIMEDOUT) {
		r = commit_by(&second, ret, &other);
		if (r == 0)
			settle_by_itself(&second, &ret->commit);
	}
	if (is_of_the_tree(r))
		r = check_repository(&first, &other);
	else if (r >= 0)
		return r;
	if (r == 0) {
		*ret = GIT_ATTEMPT_RESULT_INIT;
		return uncommittable(ret, why.msg, e);
	}
	if (e)
		*e = other.code && is_of_the_tree(why.code) ? other : why;
	return err_prefix(e, "cannot commit %s/%s, attempt %u", a->plan, a->task, a->attempt);
}
