/* SPDX-License-Identifier: MIT */
#include "git/submodule.h"

#include "base/log.h"
#include "git/gitlink.h"
#include "git/worktree.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define RECORD     "orch-submodules"
#define RECORD_MAX ((size_t)16 << 20)
#define MAX_DEPTH  16

void submodules_deinit(struct submodules *s)
{
	vec_foreach(m, &s->list) {
		free(m->path);
		free(m->module);
	}
	VEC_FREE(&s->list);
}

static int submodules_add(
	struct submodules *s, const char *path, const char *module, const struct git_oid *oid)
{
	struct submodule *m = VEC_PUSH(&s->list);
	if (!m)
		return -ENOMEM;
	m->oid = *oid;
	m->path = strdup(path);
	m->module = strdup(module);
	return m->path && m->module ? 0 : -ENOMEM;
}

static int record_write(const char *admin_dir, const struct submodules *s, struct err *e)
{
	CLEANUP_STR char *path = path_join(admin_dir, RECORD);
	CLEANUP_BUF struct buf b = BUF_INIT;
	vec_foreach(m, &s->list)
		buf_addf(&b, "%s%c%s%c%s%c", m->path, 0, m->module, 0, m->oid.hex, 0);
	if (!path || buf_check(&b) < 0)
		return err_nomem(e);
	return file_write_new(AT_FDCWD, path, b.data ? b.data : "", b.len, 0600, e);
}

static int record_read(const char *admin_dir, struct submodules *ret, struct err *e)
{
	CLEANUP_STR char *path = path_join(admin_dir, RECORD);
	CLEANUP_BUF struct buf b = BUF_INIT;
	CLEANUP_STRV char **parts = NULL;
	if (!path)
		return err_nomem(e);
	int r = file_read(AT_FDCWD, path, RECORD_MAX, &b, e);
	if (r == -ENOENT)
		return 0;
	if (r == 0)
		r = git_split_z(&b, &parts, e);
	if (r < 0)
		return r;
	for (size_t i = 0; parts && i + 2 < strv_len(parts); i += 3) {
		struct git_oid oid;
		if (git_oid_parse(parts[i + 2], &oid) < 0)
			continue;
		if (submodules_add(ret, parts[i], parts[i + 1], &oid) < 0)
			return err_nomem(e);
	}
	return 0;
}

/* The submodule's name must not lead out of modules/ (CVE-2018-11235). */
static bool module_name_is_safe(const char *name)
{
	if (!name[0] || name[0] == '/')
		return false;
	for (const char *part = name; part; part = strchr(part, '/')) {
		part += *part == '/';
		if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0'))
			return false;
	}
	return true;
}

/* From the NUL-terminated "submodule.<name>.path\n<path>" list; *ret is NULL when unknown. 0 or
 * -ENOMEM. */
static int module_name(const struct buf *names, const char *path, char **ret)
{
	size_t len;
	for (size_t at = 0; at < names->len; at += len + 1) {
		const char *line = names->data + at;
		len = strlen(line);
		const char *value = strchr(line, '\n');
		size_t key = value ? (size_t)(value - line) : 0;
		if (key <= strlen("submodule..path") || !str_eq(value + 1, path))
			continue;
		CLEANUP_STR char *name =
			strndup(line + strlen("submodule."), key - strlen("submodule..path"));
		if (!name)
			return -ENOMEM;
		if (module_name_is_safe(name)) {
			*ret = TAKE(name);
			return 0;
		}
	}
	return 0;
}

static int module_names(
	const struct git_ctx *ctx, const char *work_tree, struct git_output *o, struct err *e)
{
	const char *const argv[] = {"config", "-z", "-f", ".gitmodules", "--get-regexp",
		"^submodule\\..*\\.path$", NULL};
	int r = git_try(ctx,
		&(struct git_cmd){.argv = argv, .dir = work_tree, .git_dir = ctx->repo->common_dir},
		o, e);
	if (r == 0 && o->status > 1)
		log_warning("cannot read '%s/.gitmodules': its submodules stay empty", work_tree);
	if (r == 0 && o->status != 0)
		buf_reset(&o->out);
	return r;
}

/* A push from the agent's clone shall not land in the user's repository. */
static int real_url(const struct git_ctx *ctx, const char *module, char **ret_config, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const argv[] = {"config", "--get", "remote.origin.url", NULL};
	struct git_cmd cmd = {.argv = argv, .dir = module, .git_dir = module};
	int r = git_try(ctx, &cmd, &o, e);
	if (r < 0)
		return r;
	CLEANUP_STR char *url = str_trimmed(buf_cstr(&o.out), o.out.len);
	*ret_config = url ? str_printf("remote.origin.pushurl=%s", url[0] ? url : "none:") : NULL;
	return *ret_config ? 0 : err_nomem(e);
}

static int empty_dir(const char *path, struct err *e)
{
	int r = dir_remove_tree(AT_FDCWD, path, e);
	if (r == 0 && mkdir(path, 0777) < 0)
		r = err_errno(e, -errno, "cannot make '%s'", path);
	return r;
}

/* 0; 1 when the user's repository does not hold that commit. */
static int clone_at(const struct git_ctx *ctx, const char *module, const char *path,
	const struct git_oid *oid, struct err *e)
{
	CLEANUP_STR char *push_url = NULL;
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	int r = real_url(ctx, module, &push_url, e);
	if (r < 0)
		return r;
	const char *const clone[] = {"clone", "-q", "--shared", "--no-checkout",
		"--template=", "-c", push_url, "--", module, path, NULL};
	r = git_run_ok(ctx, &(struct git_cmd){.argv = clone, .dir = path}, &o, e);
	if (r < 0)
		return r;
	CLEANUP_STR char *git_dir = path_join(path, ".git");
	if (!git_dir)
		return err_nomem(e);
	const char *const checkout[] = {"checkout", "-q", "-f", "--detach", oid->hex, NULL};
	struct git_cmd cmd = {.argv = checkout, .dir = path, .git_dir = git_dir};
	r = git_try(ctx, &cmd, &o, e);
	if (r == 0 && o.status != 0) {
		log_warning("submodule '%s' stays empty: %.300s", path, buf_cstr(&o.err));
		r = empty_dir(path, e);
		return r < 0 ? r : 1;
	}
	return r;
}

struct populate {
	const struct git_ctx *ctx;
	const char *top;
	struct submodules *found;
	struct err *e;
};

static int populate_level(struct populate *p, const char *prefix, const char *git_dir,
	const char *repository, unsigned depth);

static int populate_one(struct populate *p, const char *path, const struct git_oid *oid,
	const char *module, unsigned depth)
{
	CLEANUP_STR char *full = path_join(p->top, path);
	if (!full)
		return err_nomem(p->e);
	int r = empty_dir(full, p->e);
	if (r < 0 || !module)
		return r;
	CLEANUP_STR char *module_head = path_join(module, "HEAD");
	if (!module_head)
		return err_nomem(p->e);
	if (!file_exists(AT_FDCWD, module_head))
		return 0;
	r = clone_at(p->ctx, module, full, oid, p->e);
	if (r != 0)
		return r < 0 ? r : 0;
	if (submodules_add(p->found, path, module, oid) < 0)
		return err_nomem(p->e);
	CLEANUP_STR char *git_dir = path_join(full, ".git");
	CLEANUP_STR char *prefix = str_printf("%s/", path);
	if (!git_dir || !prefix)
		return err_nomem(p->e);
	return populate_level(p, prefix, git_dir, module, depth + 1);
}

static int populate_level(struct populate *p, const char *prefix, const char *git_dir,
	const char *repository, unsigned depth)
{
	CLEANUP_STR char *work_tree = path_join(p->top, prefix);
	CLEANUP_STR char *gitmodules = work_tree ? path_join(work_tree, ".gitmodules") : NULL;
	if (!gitmodules)
		return err_nomem(p->e);
	if (depth > MAX_DEPTH || !file_exists(AT_FDCWD, gitmodules))
		return 0;
	CLEANUP(git_output_deinit) struct git_output names = GIT_OUTPUT_INIT;
	int r = module_names(p->ctx, work_tree, &names, p->e);
	if (r < 0)
		return r;
	CLEANUP(scan_deinit) struct scan scan = SCAN_INIT;
	r = scan_work_tree(p->ctx, work_tree, git_dir, NULL, &scan, p->e);
	if (r < 0)
		return r;
	vec_foreach(link, &scan.gitlinks) {
		CLEANUP_STR char *name = NULL;
		if (module_name(&names.out, link->path, &name) < 0)
			return err_nomem(p->e);
		CLEANUP_STR char *module =
			name ? str_printf("%s/modules/%s", repository, name) : NULL;
		CLEANUP_STR char *path = str_printf("%s%s", prefix, link->path);
		if (!path || (name && !module))
			return err_nomem(p->e);
		r = populate_one(p, path, &link->oid, module, depth);
		if (r < 0)
			return r;
	}
	return 0;
}

int submodules_populate(
	const struct git_ctx *ctx, const char *work_tree, const char *admin_dir, struct err *e)
{
	CLEANUP(submodules_deinit) struct submodules found = SUBMODULES_INIT;
	struct populate p = {.ctx = ctx, .top = work_tree, .found = &found, .e = e};
	int r = populate_level(&p, "", admin_dir, ctx->repo->common_dir, 0);
	if (r < 0)
		return r;
	CLEANUP_STR char *record = path_join(admin_dir, RECORD);
	if (!record)
		return err_nomem(e);
	return found.list.count > 0 || file_exists(AT_FDCWD, record)
		       ? record_write(admin_dir, &found, e)
		       : 0;
}

/* HEAD of a populated submodule ("" when it has none) and whether it has uncommitted changes. */
static int submodule_state(const struct git_ctx *ctx, const char *full, const char *git_dir,
	struct git_oid *ret_head, bool *ret_dirty, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	const char *const head[] = {"rev-parse", "-q", "--verify", "HEAD^{commit}", NULL};
	int r = git_try(
		ctx, &(struct git_cmd){.argv = head, .dir = full, .git_dir = git_dir}, &o, e);
	if (r < 0)
		return r;
	*ret_head = GIT_OID_NONE;
	if (o.status == 0) {
		r = git_output_oid(&o, "git rev-parse", ret_head, e);
		if (r < 0)
			return r;
	}
	const char *const status[] = {
		"status", "--porcelain", "-z", "--ignore-submodules=dirty", NULL};
	r = git_try(ctx, &(struct git_cmd){.argv = status, .dir = full, .git_dir = git_dir}, &o, e);
	if (r == 0)
		*ret_dirty = o.status != 0 || o.out.len > 0;
	return r;
}

static int keep_commit(const struct git_ctx *ctx, const char *full, const char *module,
	const char *ref, struct err *e)
{
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	CLEANUP_STR char *refspec = str_printf("+HEAD:%s", ref);
	if (!refspec)
		return err_nomem(e);
	const char *const argv[] = {"fetch", "-q", "--no-tags", "--no-write-fetch-head",
		"--no-auto-maintenance", "--recurse-submodules=no", "--", full, refspec, NULL};
	struct git_cmd cmd = {.argv = argv, .dir = module, .git_dir = module};
	return git_run_ok(ctx, &cmd, &o, e);
}

static int add_problem(char ***problems, const char *path, struct err *e)
{
	return strv_add(problems, path) < 0 ? err_nomem(e) : 0;
}

/* known: NULL for a submodule that was not there at the start. full has a .git. */
static int keep_one(const struct git_ctx *ctx, const char *full, const char *path,
	const struct submodule *known, const struct git_oid *start, const char *ref,
	char ***problems, struct err *e)
{
	CLEANUP_STR char *git_dir = path_join(full, ".git");
	if (!git_dir)
		return err_nomem(e);
	struct git_oid before = known ? known->oid : GIT_OID_NONE, head;
	bool dirty = false;
	int r = known ? 0 : git_resolve_path(ctx, start, path, &before, e);
	if (r == 0)
		r = submodule_state(ctx, full, git_dir, &head, &dirty, e);
	if (r < 0)
		return r;
	bool moved = !git_oid_eq(&head, &before);
	if (dirty || !head.hex[0] || (moved && !known))
		return add_problem(problems, path, e);
	return moved ? keep_commit(ctx, full, known->module, ref, e) : 0;
}

/* A gitlink to whose commit there is no repository any more: the user's has to hold it. */
static int check_link(const struct git_ctx *ctx, const struct scan_entry *link,
	const struct submodule *known, const struct git_oid *start, char ***problems, struct err *e)
{
	struct git_oid before;
	int r = git_resolve_path(ctx, start, link->path, &before, e);
	if (r < 0 || git_oid_eq(&before, &link->oid))
		return r;
	if (!known)
		return add_problem(problems, link->path, e);
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	CLEANUP_STR char *commit = str_printf("%s^{commit}", link->oid.hex);
	if (!commit)
		return err_nomem(e);
	const char *const argv[] = {"cat-file", "-e", commit, NULL};
	struct git_cmd cmd = {.argv = argv, .dir = known->module, .git_dir = known->module};
	r = git_try(ctx, &cmd, &o, e);
	return r == 0 && o.status != 0 ? add_problem(problems, link->path, e) : r;
}

static int has_repository(
	const char *work_tree, const char *path, char **ret_full, bool *ret, struct err *e)
{
	CLEANUP_STR char *full = path_join(work_tree, path);
	CLEANUP_STR char *git_dir = full ? path_join(full, ".git") : NULL;
	if (!git_dir)
		return err_nomem(e);
	*ret = file_exists(AT_FDCWD, git_dir);
	*ret_full = TAKE(full);
	return 0;
}

/* Files of a submodule in a submodule whose .git is gone are in no index: see gitlink.h for those
 * at the top. */
static int check_inner(const struct submodules *known, const char *work_tree,
	const struct submodule *m, const char *full, char ***problems, struct err *e)
{
	vec_foreach(outer, &known->list) {
		CLEANUP_STR char *outer_full = NULL;
		bool there = false, stray = false;
		if (outer == m || !git_path_contains(outer->path, m->path))
			continue;
		int r = has_repository(work_tree, outer->path, &outer_full, &there, e);
		if (r < 0)
			return r;
		if (there)
			r = gitlink_holds(AT_FDCWD, full, &stray, e);
		if (r < 0 || stray)
			return r < 0 ? r : add_problem(problems, m->path, e);
	}
	return 0;
}

static const struct submodule *find(const struct submodules *s, const char *path)
{
	vec_foreach(m, &s->list)
		if (str_eq(m->path, path))
			return m;
	return NULL;
}

int submodules_keep(const struct git_ctx *ctx, const char *work_tree, const char *admin_dir,
	const struct scan *scan, const struct git_oid *start, const char *ref, char ***problems,
	struct err *e)
{
	CLEANUP(submodules_deinit) struct submodules known = SUBMODULES_INIT;
	int r = record_read(admin_dir, &known, e);
	if (r < 0)
		return r;
	vec_foreach(m, &known.list) {
		CLEANUP_STR char *full = NULL;
		bool there = false;
		r = has_repository(work_tree, m->path, &full, &there, e);
		if (r == 0)
			r = there ? keep_one(ctx, full, m->path, m, start, ref, problems, e)
				  : check_inner(&known, work_tree, m, full, problems, e);
		if (r < 0)
			return r;
	}
	vec_foreach(link, &scan->gitlinks) {
		CLEANUP_STR char *full = NULL;
		const struct submodule *m = find(&known, link->path);
		bool there = false;
		r = has_repository(work_tree, link->path, &full, &there, e);
		if (r == 0 && !there)
			r = check_link(ctx, link, m, start, problems, e);
		else if (r == 0 && !m)
			r = keep_one(ctx, full, link->path, NULL, start, ref, problems, e);
		if (r < 0)
			return r;
	}
	return 0;
}
