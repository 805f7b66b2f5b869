/* SPDX-License-Identifier: MIT */
#include "plugin/plugin.h"

#include "base/buf.h"
#include "base/str.h"
#include "os/file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define PREFIX "orch-harness-"
#define SUFFIX ".so"

void plugin_files_deinit(struct plugin_files *files)
{
	vec_foreach(file, &files->list) {
		free(file->name);
		free(file->path);
	}
	VEC_FREE(&files->list);
}

/* *ret: <directory of the running program>/plugins; NULL when there is none. 0 or -ENOMEM. */
static int beside_program(char **ret)
{
	char exe[4096];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	*ret = NULL;
	if (n <= 0)
		return 0;
	exe[n] = '\0';
	char *slash = strrchr(exe, '/');
	if (!slash)
		return 0;
	*slash = '\0';
	CLEANUP_STR char *dir = path_join(exe, "plugins");
	if (!dir)
		return -ENOMEM;
	struct stat st;
	if (stat(dir, &st) == 0 && S_ISDIR(st.st_mode))
		*ret = TAKE(dir);
	return 0;
}

char *plugin_path_default(const char *libdir)
{
	CLEANUP_BUF struct buf path = BUF_INIT;
	CLEANUP_STR char *beside = NULL;
	if (beside_program(&beside) < 0)
		return NULL;
	if (beside)
		buf_addf(&path, "%s:", beside);
	const char *data_home = getenv("XDG_DATA_HOME");
	const char *home = getenv("HOME");
	if (data_home && data_home[0] == '/')
		buf_addf(&path, "%s/orch/plugins:", data_home);
	else if (home && home[0] == '/')
		buf_addf(&path, "%s/.local/share/orch/plugins:", home);
	if (libdir)
		buf_addf(&path, "%s/orch/plugins:", libdir);
	if (path.len > 0)
		buf_truncate(&path, path.len - 1);
	return buf_steal(&path);
}

/* A relative part of the path as an absolute one; owned. */
static char *absolute(const char *dir)
{
	if (dir[0] == '/')
		return str_dup(dir);
	CLEANUP_STR char *cwd = getcwd(NULL, 0);
	return cwd ? path_join(cwd, dir) : NULL;
}

int plugin_find(const char *plugin_path, const char *name, char **ret, struct err *e)
{
	const char *why = NULL;
	if (!name_is_valid(name, &why))
		return err_set(e, PLUGIN_MISSING, "harness '%s' not found: the name %s", name, why);
	CLEANUP_STR char *file = str_printf("%s%s%s", PREFIX, name, SUFFIX);
	CLEANUP_STRV char **dirs = strv_split(plugin_path ? plugin_path : "", ":");
	if (!file || (plugin_path && !dirs))
		return err_nomem(e);
	for (size_t i = 0; dirs && dirs[i]; i++) {
		CLEANUP_STR char *dir = absolute(dirs[i]);
		CLEANUP_STR char *path = dir ? path_join(dir, file) : NULL;
		if (!path)
			return err_nomem(e);
		struct stat st;
		/* A broken link or a directory is found, too, and plugin_verify says so. */
		if (lstat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR)) {
			*ret = TAKE(path);
			return 0;
		}
	}
	return err_set(e, PLUGIN_MISSING, "harness '%s' not found: no %s in '%s'", name, file,
		plugin_path ? plugin_path : "");
}

static bool list_has(const struct plugin_files *files, const char *name)
{
	vec_foreach(file, &files->list)
		if (str_eq(file->name, name))
			return true;
	return false;
}

static int list_add(struct plugin_files *files, const char *dir, const char *file_name)
{
	if (!str_starts(file_name, PREFIX) || !str_ends(file_name, SUFFIX) ||
		strlen(file_name) <= strlen(PREFIX SUFFIX))
		return 0;
	CLEANUP_STR char *name = str_dup(file_name + strlen(PREFIX));
	if (!name)
		return -ENOMEM;
	name[strlen(name) - strlen(SUFFIX)] = '\0';
	if (!name_is_valid(name, NULL) || list_has(files, name))
		return 0;
	CLEANUP_STR char *path = path_join(dir, file_name);
	struct plugin_file *file = path ? VEC_PUSH(&files->list) : NULL;
	if (!file)
		return -ENOMEM;
	file->name = TAKE(name);
	file->path = TAKE(path);
	return 0;
}

static int list_directory(struct plugin_files *files, const char *dir, struct err *e)
{
	DIR *d = NULL;
	int r = dir_list(dir, &d, e);
	const struct dirent *entry;
	while (d && r == 0 && (entry = readdir(d)))
		if (list_add(files, dir, entry->d_name) < 0)
			r = err_nomem(e);
	if (d)
		closedir(d);
	return r;
}

static int compare_names(const void *a, const void *b)
{
	const struct plugin_file *x = a, *y = b;
	return strcmp(x->name, y->name);
}

int plugin_list(const char *plugin_path, struct plugin_files *ret, struct err *e)
{
	CLEANUP(plugin_files_deinit) struct plugin_files files = {0};
	CLEANUP_STRV char **dirs = strv_split(plugin_path, ":");
	if (!dirs)
		return err_nomem(e);
	for (size_t i = 0; dirs[i]; i++) {
		CLEANUP_STR char *dir = absolute(dirs[i]);
		int r = dir ? list_directory(&files, dir, e) : err_nomem(e);
		if (r < 0)
			return r;
	}
	if (files.list.count > 0)
		qsort(files.list.items, files.list.count, sizeof(files.list.items[0]),
			compare_names);
	*ret = files;
	files = (struct plugin_files){0};
	return 0;
}
