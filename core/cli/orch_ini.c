/* SPDX-License-Identifier: MIT */
#include "cli/orch_ini.h"

#include "base/str.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

void orch_ini_deinit(struct orch_ini *f)
{
	free(f->path);
	buf_deinit(&f->text);
	*f = ORCH_INI_INIT;
}

static int choose_path(
	const struct site *site, const char *config_file, enum orch_ini_which which, char **ret)
{
	if (which == ORCH_INI_USER)
		return config_user_file(site->environment, ret);
	*ret = str_dup(config_file ? config_file : site->repo_config);
	return *ret ? 0 : -ENOMEM;
}

int orch_ini_read(const struct site *site, const char *config_file, enum orch_ini_which which,
	struct orch_ini *ret, struct err *e)
{
	CLEANUP(orch_ini_deinit) struct orch_ini f = ORCH_INI_INIT;
	CLEANUP_STR char *path = NULL;
	if (choose_path(site, config_file, which, &path) < 0)
		return err_nomem(e);
	if (!path)
		return err_exit(e, EXIT_CANTCREAT,
			"there is no place for the user's configuration: neither "
			"XDG_CONFIG_HOME nor HOME is set");
	char *resolved = realpath(path, NULL);
	f.path = resolved ? resolved : TAKE(path);
	int r = file_read(AT_FDCWD, f.path, INI_MAX_BYTES, &f.text, e);
	if (r < 0 && r != -ENOENT)
		return r;
	f.existed = r == 0;
	*e = ERR_INIT;
	*ret = f;
	f = ORCH_INI_INIT;
	return 0;
}

int orch_ini_write(const struct orch_ini *f, struct err *e)
{
	struct stat st;
	mode_t mode = stat(f->path, &st) == 0 ? st.st_mode & 0777 : 0644;
	CLEANUP_STR char *dir = str_dup(f->path);
	char *slash = dir ? strrchr(dir, '/') : NULL;
	const char *name = f->path;
	CLEANUP(closep) int fd = -1;
	int r = buf_check(&f->text);
	if (!dir || r < 0)
		return err_nomem(e);
	if (slash) {
		name = f->path + (slash - dir) + 1;
		*slash = '\0';
		const char *parent = dir[0] ? dir : "/";
		r = dir_make(AT_FDCWD, parent, 0777, e);
		fd = r == 0 ? open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
		if (r == 0 && fd < 0)
			r = err_errno(e, -errno, "cannot open '%s'", parent);
	}
	if (r == 0)
		r = file_write_atomic(
			slash ? fd : AT_FDCWD, name, buf_cstr(&f->text), f->text.len, mode, e);
	if (r < 0 && r != -ENOSPC && r != -EIO)
		e->status = EXIT_CANTCREAT;
	return r;
}

int orch_ini_find_invariant(
	const struct orch_ini *f, const char *name, unsigned *ret_line, struct err *e)
{
	CLEANUP_INI struct ini ini = INI_INIT;
	struct diags d = DIAGS_INIT;
	int r = ini_load_text(f->path, buf_cstr(&f->text), f->text.len, &ini, &d);
	if (r < 0)
		err_nomem(e);
	else if (d.errors)
		r = err_exit(e, EXIT_CONFIG, "'%s' has mistakes; `orch config check` lists them",
			f->path);
	diags_deinit(&d);
	if (r < 0)
		return r;
	const struct ini_section *s = ini_find(&ini, "invariant", name);
	*ret_line = s ? s->line : 0;
	return 0;
}

static int put_key(struct orch_ini *f, const struct invariant *inv,
	const struct invariant *defaults, const struct key_spec *spec, struct err *e)
{
	CLEANUP_STR char *value = key_format(spec, inv);
	if (!value)
		return err_nomem(e);
	if (!key_equal(spec, inv, defaults))
		return ini_edit_set(&f->text, "invariant", inv->name, spec->key, value, e);
	int r = ini_edit_remove(&f->text, "invariant", inv->name, spec->key, e);
	if (r != -ENOENT)
		return r;
	*e = ERR_INIT;
	return 0;
}

int orch_ini_put_invariant(struct orch_ini *f, const struct invariant *inv, struct err *e)
{
	CLEANUP(invariant_deinit) struct invariant defaults = {0};
	if (invariant_init(&defaults, inv->name) < 0)
		return err_nomem(e);
	int r = 0;
	for (size_t i = 0; r == 0 && i < invariant_keys.count; i++)
		r = put_key(f, inv, &defaults, &invariant_keys.keys[i], e);
	return r;
}
