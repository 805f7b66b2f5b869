/* SPDX-License-Identifier: MIT */
#include "git/submodule.h"

#include "os/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define MAX_DEPTH 32

static int forget_in(const struct git_ctx *ctx, const char *module, const char *plan, struct err *e)
{
	CLEANUP_STR char *below = str_printf("refs/orch/%s/", plan);
	CLEANUP(git_output_deinit) struct git_output o = GIT_OUTPUT_INIT;
	if (!below)
		return err_nomem(e);
	const char *const list[] = {"for-each-ref", "--format=delete %(refname)", below, NULL};
	struct git_cmd cmd = {.argv = list, .dir = module, .git_dir = module};
	int r = git_run_ok(ctx, &cmd, &o, e);
	if (r < 0 || o.out.len == 0)
		return r;
	CLEANUP(git_output_deinit) struct git_output done = GIT_OUTPUT_INIT;
	const char *const delete[] = {"update-ref", "--stdin", NULL};
	cmd = (struct git_cmd){.argv = delete,
		.dir = module,
		.git_dir = module,
		.input = o.out.data,
		.input_len = o.out.len};
	return git_run_ok(ctx, &cmd, &done, e);
}

/* dir is a modules/ directory, or a part of a submodule name that has slashes. */
static int forget_below(
	const struct git_ctx *ctx, const char *dir, const char *plan, unsigned depth, struct err *e)
{
	DIR *d = NULL;
	int r = depth < MAX_DEPTH ? dir_list(dir, &d, e) : 0;
	struct dirent *entry;
	while (d && r == 0 && (entry = readdir(d)) != NULL) {
		if (entry->d_name[0] == '.' || entry->d_type == DT_REG)
			continue;
		CLEANUP_STR char *path = path_join(dir, entry->d_name);
		CLEANUP_STR char *objects = path ? path_join(path, "objects") : NULL;
		CLEANUP_STR char *nested = path ? path_join(path, "modules") : NULL;
		if (!objects || !nested) {
			r = err_nomem(e);
		} else if (file_exists(AT_FDCWD, objects)) {
			r = forget_in(ctx, path, plan, e);
			if (r == 0)
				r = forget_below(ctx, nested, plan, depth + 1, e);
		} else {
			r = forget_below(ctx, path, plan, depth + 1, e);
		}
	}
	if (d)
		closedir(d);
	return r;
}

int submodules_forget(const struct git_ctx *ctx, const char *plan, struct err *e)
{
	CLEANUP_STR char *modules = path_join(ctx->repo->common_dir, "modules");
	return modules ? forget_below(ctx, modules, plan, 0, e) : err_nomem(e);
}
