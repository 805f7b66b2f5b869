/* SPDX-License-Identifier: MIT */
#include "git/scan.h"

#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

void scan_deinit(struct scan *s)
{
	buf_deinit(&s->text);
	VEC_FREE(&s->tracked);
	VEC_FREE(&s->gitlinks);
	VEC_FREE(&s->changed);
	VEC_FREE(&s->gone);
	VEC_FREE(&s->untracked);
	VEC_FREE(&s->hidden);
	strv_free(s->unreadable);
	*s = SCAN_INIT;
}

#define PUSH(vec, value) \
	__extension__({ \
		__typeof__((vec)->items) slot_ = VEC_PUSH(vec); \
		if (slot_) \
			*slot_ = (value); \
		slot_ ? 0 : -ENOMEM; \
	})

static bool path_exists(const char *work_tree, const char *path)
{
	struct stat st;
	CLEANUP_STR char *full = path_join(work_tree, path);
	return full && lstat(full, &st) == 0;
}

/* "<tag> <mode> <oid> <stage>\t<path>", see git-ls-files(1) -v and -s. */
static int parse_cached(struct scan *s, const char *work_tree, char *line)
{
	char *path = strchr(line, '\t');
	char *oid = path && strlen(line) > 9 ? line + 9 : NULL;
	char *stage = oid ? memchr(oid, ' ', (size_t)(path - oid)) : NULL;
	if (!stage || line[1] != ' ' || line[8] != ' ')
		return -EBADMSG;
	*path++ = '\0';
	*stage++ = '\0';
	struct scan_entry entry = {.path = path};
	if (git_oid_parse(oid, &entry.oid) < 0)
		return -EBADMSG;
	char tag = line[0];
	if (tag == 'C' || stage[0] != '0')
		return PUSH(&s->changed, (const char *)path);
	bool assumed = tag >= 'a' && tag <= 'z';
	bool skipped = tag == 'S' || tag == 's';
	if (assumed || (skipped && path_exists(work_tree, path)))
		if (PUSH(&s->hidden, (const char *)path) < 0)
			return -ENOMEM;
	bool gitlink = strncmp(line + 2, "160000", 6) == 0;
	return gitlink ? PUSH(&s->gitlinks, entry) : PUSH(&s->tracked, entry);
}

static int parse_list(struct scan *s, const char *work_tree)
{
	size_t len;
	for (size_t at = 0; at < s->text.len; at += len + 1) {
		char *line = s->text.data + at;
		len = strlen(line);
		int r = line[0] == '?' && line[1] == ' '
				? PUSH(&s->untracked, (const char *)line + 2)
				: parse_cached(s, work_tree, line);
		if (r < 0)
			return r;
	}
	return 0;
}

/* 1, 0, -errno: whether a directory of the path is a symbolic link. */
static int beyond_link(int dirfd, const char *path)
{
	struct stat st;
	for (const char *slash = strchr(path, '/'); slash; slash = strchr(slash + 1, '/')) {
		CLEANUP_STR char *dir = strndup(path, (size_t)(slash - path));
		if (!dir)
			return -ENOMEM;
		if (fstatat(dirfd, dir, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return err_is_machine(-errno) ? -errno : 0;
		if (S_ISLNK(st.st_mode))
			return 1;
	}
	return 0;
}

/* What lies behind a link in place of its directory is another file, which git does not look at,
 * and what was there is gone: from the index, too, which takes --force-remove. */
static int part_gone(struct scan *s, const char *work_tree)
{
	size_t kept = 0;
	CLEANUP(closep) int dirfd = open(work_tree, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return -errno;
	for (size_t i = 0; i < s->changed.count; i++) {
		int r = beyond_link(dirfd, s->changed.items[i]);
		if (r > 0)
			r = PUSH(&s->gone, s->changed.items[i]);
		else if (r == 0)
			s->changed.items[kept++] = s->changed.items[i];
		if (r < 0)
			return r;
	}
	s->changed.count = kept;
	kept = 0;
	for (size_t i = 0; i < s->gitlinks.count; i++) {
		int r = beyond_link(dirfd, s->gitlinks.items[i].path);
		if (r == 0)
			s->gitlinks.items[kept++] = s->gitlinks.items[i];
		if (r < 0)
			return r;
	}
	s->gitlinks.count = kept;
	return 0;
}

/* ls-files goes on past a directory that it cannot read, and says so only here: ": <why>" follows,
 * but git cuts a line at 4 KiB. */
static int parse_warnings(struct scan *s, const char *text)
{
	static const char words[] = "could not open directory '";
	for (const char *p = text; (p = strstr(p, words)) != NULL;) {
		p += sizeof(words) - 1;
		const char *end = strstr(p, "': "), *next = strstr(p, "\nwarning: ");
		if (!end || (next && next < end))
			end = strchrnul(p, '\n');
		CLEANUP_STR char *path = strndup(p, (size_t)(end - p));
		if (!path || strv_add(&s->unreadable, path) < 0)
			return -ENOMEM;
		p = end;
	}
	return 0;
}

/* What git reads to list files: of the worktree's it is its agent's doing, else nobody can work. */
static int refuse_fifos(const struct git_ctx *ctx, const char *work_tree, struct err *e)
{
	const struct {
		const char *dir, *name;
		int code;
	} files[] = {
		{work_tree, ".gitignore", -EINVAL},
		{work_tree, ".gitattributes", -EINVAL},
		{ctx->repo->common_dir, "info/exclude", -EIO},
		{ctx->repo->common_dir, "info/attributes", -EIO},
	};
	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
		CLEANUP_STR char *path = path_join(files[i].dir, files[i].name);
		if (!path)
			return err_nomem(e);
		if (file_is_fifo(AT_FDCWD, path))
			return err_set(e, files[i].code,
				"'%s' is a FIFO, at which git would wait for ever", path);
	}
	return 0;
}

static int list(const struct git_ctx *ctx, const char *work_tree, const char *git_dir,
	const char *index, struct scan *ret, struct err *e)
{
	int refused = refuse_fifos(ctx, work_tree, e);
	if (refused < 0)
		return refused;
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {
		"ls-files", "-z", "-v", "-s", "-c", "-m", "-o", "--exclude-standard", NULL};
	struct git_cmd cmd = {.argv = argv, .dir = work_tree, .git_dir = git_dir, .index = index};
	int r = git_try(ctx, &cmd, &o, e);
	if (r < 0)
		return r;
	if (o.status != 0)
		return err_set(e, -EBADMSG, "cannot list the files of '%s': %.500s", work_tree,
			buf_cstr(&o.err));
	CLEANUP(scan_deinit) struct scan s = SCAN_INIT;
	s.text = o.out;
	o.out = BUF_INIT;
	r = parse_list(&s, work_tree);
	if (r == 0)
		r = part_gone(&s, work_tree);
	if (r == 0)
		r = parse_warnings(&s, buf_cstr(&o.err));
	if (r < 0)
		return err_errno(e, r, "cannot list the files of '%s'", work_tree);
	*ret = s;
	s = SCAN_INIT;
	return 0;
}

static int clear_flag(const struct git_ctx *ctx, const char *work_tree, const char *git_dir,
	const char *index, const char *flag, const struct buf *paths, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {"update-index", flag, "-z", "--stdin", NULL};
	struct git_cmd cmd = {.argv = argv,
		.dir = work_tree,
		.git_dir = git_dir,
		.index = index,
		.input = paths->data,
		.input_len = paths->len};
	return git_run_ok(ctx, &cmd, &o, e);
}

int scan_work_tree(const struct git_ctx *ctx, const char *work_tree, const char *git_dir,
	const char *index, struct scan *ret, struct err *e)
{
	CLEANUP(scan_deinit) struct scan s = SCAN_INIT;
	int r = list(ctx, work_tree, git_dir, index, &s, e);
	if (r == 0 && s.hidden.count > 0) {
		CLEANUP_BUF struct buf paths = BUF_INIT;
		vec_foreach(path, &s.hidden)
			buf_add(&paths, *path, strlen(*path) + 1);
		if (buf_check(&paths) < 0)
			return err_nomem(e);
		r = clear_flag(ctx, work_tree, git_dir, index, "--no-assume-unchanged", &paths, e);
		if (r == 0)
			r = clear_flag(
				ctx, work_tree, git_dir, index, "--no-skip-worktree", &paths, e);
		scan_deinit(&s);
		if (r == 0)
			r = list(ctx, work_tree, git_dir, index, &s, e);
	}
	if (r < 0)
		return r;
	*ret = s;
	s = SCAN_INIT;
	return 0;
}
