/* SPDX-License-Identifier: MIT */
#include "config/presets.h"

#include "base/buf.h"
#include "base/json_text.h"
#include "base/str.h"
#include "config/ini.h"
#include "config/text_file.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>

/* config/presets.ini, see core/cmake/OrchEmbed.cmake. */
extern const char config_presets_ini[];
extern const size_t config_presets_ini_len;

#define MAX_PROJECT_FILE ((size_t)4 << 20)

static void preset_deinit(struct preset *p)
{
	vec_foreach(inv, &p->invariants)
		invariant_deinit(inv);
	VEC_FREE(&p->invariants);
	strv_free(p->files);
	free(p->name);
	free(p->help);
}

void presets_deinit(struct presets *p)
{
	vec_foreach(it, &p->list)
		preset_deinit(it);
	VEC_FREE(&p->list);
}

const struct preset *presets_find(const struct presets *p, const char *name)
{
	vec_foreach(it, &p->list)
		if (str_eq(it->name, name))
			return it;
	return NULL;
}

/* ---- what a project has ---- */

static bool is_file(const char *dir, const char *name)
{
	struct stat st;
	CLEANUP_STR char *path = path_join(dir, name);
	return path && stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

/* Whether package.json has the script; npm's own placeholder for "test" does not count. */
static bool has_script(const char *dir, const char *script)
{
	CLEANUP_STR char *path = path_join(dir, "package.json");
	CLEANUP_BUF struct buf text = BUF_INIT;
	if (!path || text_file_read(path, MAX_PROJECT_FILE, -1, &text, NULL) < 0)
		return false;
	json_t *root = NULL;
	if (json_text_parse(buf_cstr(&text), text.len, 0, &root, NULL) < 0)
		return false;
	const char *value =
		json_string_value(json_object_get(json_object_get(root, "scripts"), script));
	bool has = value && !strstr(value, "no test specified");
	json_decref(root);
	return has;
}

/* Whether a line of the Makefile names the target before a `:` (but not `:=`). */
static bool text_has_target(const char *text, const char *target)
{
	size_t len = strlen(target);
	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		size_t n = strcspn(line, ":=\n");
		if (line[0] == '\t' || line[n] != ':' || line[n + 1] == '=')
			continue;
		for (const char *at = line; at < line + n; at += strcspn(at, " \t:")) {
			at += strspn(at, " \t");
			if (strncmp(at, target, len) == 0 && strchr(" \t:", at[len]))
				return true;
		}
	}
	return false;
}

static bool has_target(const char *dir, char *const *files, const char *target)
{
	for (size_t i = 0; files && files[i]; i++) {
		CLEANUP_STR char *path = path_join(dir, files[i]);
		CLEANUP_BUF struct buf text = BUF_INIT;
		if (path && text_file_read(path, MAX_PROJECT_FILE, -1, &text, NULL) == 0)
			return text_has_target(buf_cstr(&text), target);
	}
	return false;
}

/* ---- reading ---- */

static int bad_text(struct err *e, const char *type, const char *label, const char *why)
{
	return err_set(e, -EBADMSG, "the compiled-in presets are broken: [%s:%s]: %s", type,
		label ? label : "", why);
}

static int read_preset(struct presets *all, const struct ini_section *s, struct err *e)
{
	const char *help = ini_value(s, "help"), *files = ini_value(s, "files");
	if (!s->label || !help || !files)
		return bad_text(e, s->type, s->label, "expected help and files");
	struct preset fresh = {
		.name = str_dup(s->label), .help = str_dup(help), .files = strv_split(files, ",")};
	struct preset *place =
		fresh.name && fresh.help && fresh.files ? VEC_PUSH(&all->list) : NULL;
	if (!place) {
		preset_deinit(&fresh);
		return err_nomem(e);
	}
	*place = fresh;
	return 0;
}

static int read_keys(struct invariant *inv, const struct ini_section *s, struct err *e)
{
	CLEANUP_BUF struct buf why = BUF_INIT;
	vec_foreach(entry, &s->entries) {
		const struct key_spec *spec = key_find(&invariant_keys, entry->key);
		if (!spec && (str_eq(entry->key, "script") || str_eq(entry->key, "target")))
			continue;
		int r = spec ? key_set(spec, inv, entry->value, &why) : -EINVAL;
		if (r < 0)
			return r == -EINVAL ? bad_text(e, s->type, s->label, entry->key)
					    : err_nomem(e);
	}
	return inv->command ? 0 : bad_text(e, s->type, s->label, "expected a command");
}

/* [invariant:KIND.NAME]; with a directory only when the project there has what it needs. */
static int read_invariant(
	struct presets *all, const struct ini_section *s, const char *dir, struct err *e)
{
	const char *dot = s->label ? strchr(s->label, '.') : NULL;
	struct preset *preset = NULL;
	vec_foreach(it, &all->list)
		if (dot && strlen(it->name) == (size_t)(dot - s->label) &&
			str_starts(s->label, it->name))
			preset = it;
	if (!preset)
		return bad_text(
			e, s->type, s->label, "expected KIND.NAME behind its [preset:KIND]");
	const char *script = ini_value(s, "script"), *target = ini_value(s, "target");
	if (dir && ((script && !has_script(dir, script)) ||
			   (target && !has_target(dir, preset->files, target))))
		return 0;
	struct invariant inv;
	if (invariant_init(&inv, dot + 1) < 0)
		return err_nomem(e);
	int r = read_keys(&inv, s, e);
	struct invariant *place = r == 0 ? VEC_PUSH(&preset->invariants) : NULL;
	if (!place) {
		invariant_deinit(&inv);
		return r < 0 ? r : err_nomem(e);
	}
	*place = inv;
	return 0;
}

static int load(const char *dir, struct presets *ret, struct err *e)
{
	CLEANUP(diags_deinit) struct diags d = DIAGS_INIT;
	CLEANUP_INI struct ini ini = INI_INIT;
	CLEANUP_PRESETS struct presets all = PRESETS_INIT;
	int r = ini_load_text("presets.ini", config_presets_ini, config_presets_ini_len, &ini, &d);
	if (r < 0)
		return err_nomem(e);
	if (d.errors > 0)
		return bad_text(e, "presets.ini", NULL, "not a valid INI file");
	for (size_t i = 0; r == 0 && i < ini.sections.count; i++) {
		const struct ini_section *s = &ini.sections.items[i];
		if (str_eq(s->type, "preset"))
			r = read_preset(&all, s, e);
		else
			r = read_invariant(&all, s, dir, e);
	}
	if (r < 0)
		return r;
	*ret = all;
	all = PRESETS_INIT;
	return 0;
}

int presets_load(struct presets *ret, struct err *e)
{
	return load(NULL, ret, e);
}

static bool recognises(const struct preset *p, const char *dir)
{
	for (size_t i = 0; p->files[i]; i++)
		if (is_file(dir, p->files[i]))
			return true;
	return false;
}

int presets_detect(const char *dir, struct presets *ret, struct err *e)
{
	struct presets all = PRESETS_INIT;
	int r = load(dir, &all, e);
	if (r < 0)
		return r;
	size_t kept = 0;
	vec_foreach(p, &all.list) {
		if (recognises(p, dir))
			all.list.items[kept++] = *p;
		else
			preset_deinit(p);
	}
	all.list.count = kept;
	*ret = all;
	return 0;
}
