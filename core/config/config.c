/* SPDX-License-Identifier: MIT */
#include "config/config.h"

#include "base/str.h"
#include "config/config_keys.h"
#include "config/ini.h"

#include <errno.h>
#include <string.h>

/* ---- one value ---- */

static struct config_value *value_find(
	const struct config *c, const char *section, const char *label, const char *key)
{
	vec_foreach(v, &c->values)
		if (str_eq(v->section, section) && str_eq(v->label, label) && str_eq(v->key, key))
			return v;
	return NULL;
}

static void value_deinit(struct config_value *v)
{
	free(v->label);
	free(v->key);
	free(v->value);
	free(v->origin);
}

static int value_note(struct config *c, const char *section, const struct config_setting *s)
{
	struct config_value *v = value_find(c, section, s->label, s->key);
	if (v) {
		int r = str_replace(&v->value, s->value);
		return r < 0 ? r : str_replace(&v->origin, s->origin);
	}
	struct config_value fresh = {
		.section = section,
		.label = str_dup(s->label),
		.key = str_dup(s->key),
		.value = str_dup(s->value),
		.origin = str_dup(s->origin),
	};
	if (fresh.key && fresh.value && fresh.origin && (fresh.label || !s->label))
		v = VEC_PUSH(&c->values);
	if (!v) {
		value_deinit(&fresh);
		return -ENOMEM;
	}
	*v = fresh;
	return 0;
}

static struct config_harness *harness_get(struct config *c, const char *name)
{
	vec_foreach(h, &c->harnesses)
		if (str_eq(h->name, name))
			return h;
	char *copy = str_dup(name);
	struct config_harness *h = copy ? VEC_PUSH(&c->harnesses) : NULL;
	if (!h) {
		free(copy);
		return NULL;
	}
	h->name = copy;
	return h;
}

static struct invariant *invariant_get(struct config *c, const struct config_setting *s)
{
	vec_foreach(inv, &c->invariants)
		if (str_eq(inv->name, s->label))
			return inv;
	struct invariant fresh;
	if (invariant_init(&fresh, s->label) < 0)
		return NULL;
	fresh.file = str_dup(s->file ? s->file : s->origin);
	fresh.line = s->line;
	struct invariant *inv = fresh.file ? VEC_PUSH(&c->invariants) : NULL;
	if (!inv) {
		invariant_deinit(&fresh);
		return NULL;
	}
	*inv = fresh;
	return inv;
}

static int option_set(struct config_harness *h, const struct config_setting *s)
{
	vec_foreach(o, &h->options) {
		if (str_eq(o->key, s->key)) {
			int r = str_replace(&o->value, s->value);
			return r < 0 ? r : str_replace(&o->origin, s->origin);
		}
	}
	struct config_option fresh = {str_dup(s->key), str_dup(s->value), str_dup(s->origin)};
	struct config_option *o =
		fresh.key && fresh.value && fresh.origin ? VEC_PUSH(&h->options) : NULL;
	if (!o) {
		free(fresh.key);
		free(fresh.value);
		free(fresh.origin);
		return -ENOMEM;
	}
	*o = fresh;
	return 0;
}

static const struct config_section *section_check(const struct config_setting *s, struct buf *why)
{
	const struct config_section *section = config_section_find(s->section);
	const char *what;
	if (!section) {
		struct suggestion near = SUGGESTION(s->section);
		buf_addf(why, "unknown section [%s]", s->section);
		for (size_t i = 0; i < CONFIG_SECTIONS; i++)
			suggest_feed(&near, config_sections[i].name);
		suggest_add(&near, why);
		if (!near.best) {
			buf_adds(why, ", expected ");
			for (size_t i = 0; i < CONFIG_SECTIONS; i++)
				buf_addf(why, "%s[%s%s]", i ? ", " : "", config_sections[i].name,
					config_sections[i].labelled ? ":NAME" : "");
		}
	} else if (section->labelled && !s->label) {
		buf_addf(why, "expected [%s:NAME], found [%s]", section->name, section->name);
		section = NULL;
	} else if (!section->labelled && s->label) {
		buf_addf(why, "expected [%s], found [%s:%s]", section->name, section->name,
			s->label);
		section = NULL;
	} else if (s->label && !name_is_valid(s->label, &what)) {
		buf_addf(why, "expected a name in [%s:%s], it %s", section->name, s->label, what);
		section = NULL;
	}
	return section;
}

/* The struct that the section's keys are stored in. */
static void *section_object(
	struct config *c, const struct config_section *section, const struct config_setting *s)
{
	if (!section->labelled)
		return (char *)c + section->offset;
	if (section->keys == &config_harness_keys)
		return harness_get(c, s->label);
	return invariant_get(c, s);
}

int config_apply_section(struct config *c, const struct config_setting *s, struct buf *why)
{
	const struct config_section *section = section_check(s, why);
	if (!section)
		return -EINVAL;
	return section_object(c, section, s) ? 0 : -ENOMEM;
}

int config_apply(struct config *c, const struct config_setting *s, struct buf *why)
{
	const struct config_section *section = section_check(s, why);
	if (!section)
		return -EINVAL;
	const struct key_spec *spec = key_find(section->keys, s->key);
	bool is_harness = section->keys == &config_harness_keys;
	if (!spec && !is_harness) {
		struct suggestion near = SUGGESTION(s->key);
		suggest_keys(&near, section->keys);
		buf_addf(why, "unknown key '%s' in [%s]", s->key, section->name);
		suggest_add(&near, why);
		return -EINVAL;
	}
	void *object = section_object(c, section, s);
	if (!object)
		return -ENOMEM;
	CLEANUP_BUF struct buf reason = BUF_INIT;
	int r = spec ? key_set(spec, object, s->value, &reason) : option_set(object, s);
	if (r == -EINVAL)
		buf_addf(why, "%s: %s", s->key, buf_cstr(&reason));
	return r < 0 ? r : value_note(c, section->name, s);
}

/* ---- layers ---- */

static int load_section(
	struct config *c, const char *file, const struct ini_section *section, struct diags *d)
{
	CLEANUP_BUF struct buf why = BUF_INIT;
	struct config_setting s = {.section = section->type,
		.label = section->label,
		.file = file,
		.line = section->line,
		.origin = file};
	int r = config_apply_section(c, &s, &why);
	if (r == -EINVAL) {
		diags_error(d, file, section->line, "%s", buf_cstr(&why));
		return 0;
	}
	for (size_t i = 0; r == 0 && i < section->entries.count; i++) {
		const struct ini_entry *entry = &section->entries.items[i];
		CLEANUP_STR char *origin = str_printf("%s:%u", file, entry->line);
		if (!origin)
			return -ENOMEM;
		s.key = entry->key;
		s.value = entry->value;
		s.origin = origin;
		buf_reset(&why);
		r = config_apply(c, &s, &why);
		if (r == -EINVAL) {
			diags_error(d, file, entry->line, "%s", buf_cstr(&why));
			r = 0;
		}
	}
	return r;
}

static int load_file(struct config *c, const char *path, bool required, int cancel_fd,
	struct diags *d, struct err *e)
{
	if (!path)
		return 0;
	CLEANUP_INI struct ini ini = INI_INIT;
	int r = ini_load_file(path, cancel_fd, &ini, d, e);
	if ((r == -ENOENT || r == -ENOTDIR) && !required)
		return 0;
	for (size_t i = 0; r == 0 && i < ini.sections.count; i++)
		r = load_section(c, ini.file, &ini.sections.items[i], d);
	return r == -ENOMEM ? err_nomem(e) : r;
}

/* What can only be judged when all layers are there. */
static void check_whole(const struct config *c, struct diags *d)
{
	vec_foreach(inv, &c->invariants)
		if (!inv->command)
			diags_error(d, inv->file, inv->line, "[invariant:%s] needs a command",
				inv->name);
	/* A lower maximum alone shortens the built-in wait. */
	if (c->retry.backoff_ms > c->retry.backoff_max_ms &&
		value_find(c, "retry", NULL, "backoff"))
		diags_error(d, config_origin(c, "retry", NULL, "backoff"), 0,
			"backoff: expected at most backoff_max");
	const char *root = c->orch.worktree_root;
	if (root && root[0] != '/')
		diags_error(d, config_origin(c, "orch", NULL, "worktree_root"), 0,
			"worktree_root: expected an absolute path, or one that begins with ~/");
}

/* ~/x -> $HOME/x, also behind a ':' in a search path. */
static int expand_home(char **path, const char *home)
{
	if (!*path || !home)
		return 0;
	CLEANUP_BUF struct buf out = BUF_INIT;
	for (const char *p = *path;; p++) {
		size_t n = strcspn(p, ":");
		if (p[0] == '~' && (n == 1 || p[1] == '/')) {
			buf_adds(&out, home);
			buf_add(&out, p + 1, n - 1);
		} else {
			buf_add(&out, p, n);
		}
		p += n;
		if (!*p)
			break;
		buf_addc(&out, ':');
	}
	char *expanded = buf_steal(&out);
	if (!expanded)
		return -ENOMEM;
	free(*path);
	*path = expanded;
	return 0;
}

static int expand_homes(struct config *c, char *const *environment)
{
	const char *home = config_environment_get(environment, "HOME");
	int r = expand_home(&c->orch.plugin_path, home);
	if (r == 0)
		r = expand_home(&c->orch.worktree_root, home);
	vec_foreach(h, &c->harnesses)
		if (r == 0)
			r = expand_home(&h->env_file, home);
	return r;
}

static struct config *config_new(void)
{
	CLEANUP_CONFIG struct config *c = calloc(1, sizeof(*c));
	for (size_t i = 0; c && i < CONFIG_SECTIONS; i++) {
		const struct config_section *section = &config_sections[i];
		if (!section->labelled && keys_init(section->keys, (char *)c + section->offset) < 0)
			return NULL;
	}
	return TAKE(c);
}

int config_load(
	const struct config_sources *sources, struct config **ret, struct diags *d, struct err *e)
{
	CLEANUP_CONFIG struct config *c = config_new();
	if (!c)
		return err_nomem(e);
	const char *explicit_file = sources->explicit_file;
	int cancel_fd = sources->cancel_fd;
	int r = load_file(c, sources->system_file, false, cancel_fd, d, e);
	if (r == 0)
		r = load_file(c, sources->user_file, false, cancel_fd, d, e);
	if (r == 0)
		r = load_file(c, explicit_file ? explicit_file : sources->repo_file,
			explicit_file != NULL, cancel_fd, d, e);
	if (r < 0)
		return r;
	if (config_load_environment(c, sources->environment, d) < 0 ||
		expand_homes(c, sources->environment) < 0)
		return err_nomem(e);
	check_whole(c, d);
	*ret = TAKE(c);
	return 0;
}

int config_set(struct config *c, const char *section, const char *label, const char *key,
	const char *value, const char *origin, struct err *e)
{
	CLEANUP_BUF struct buf why = BUF_INIT;
	struct config_setting s = {
		.section = section, .label = label, .key = key, .value = value, .origin = origin};
	int r = config_apply(c, &s, &why);
	if (r == -EINVAL)
		return err_exit(e, EXIT_USAGE, "%s: %s", origin, buf_cstr(&why));
	return r < 0 ? err_nomem(e) : 0;
}

void config_free(struct config *c)
{
	if (!c)
		return;
	for (size_t i = 0; i < CONFIG_SECTIONS; i++)
		if (!config_sections[i].labelled)
			keys_deinit(config_sections[i].keys, (char *)c + config_sections[i].offset);
	vec_foreach(h, &c->harnesses) {
		keys_deinit(&config_harness_keys, h);
		vec_foreach(o, &h->options) {
			free(o->key);
			free(o->value);
			free(o->origin);
		}
		VEC_FREE(&h->options);
		free(h->name);
	}
	VEC_FREE(&c->harnesses);
	vec_foreach(inv, &c->invariants)
		invariant_deinit(inv);
	VEC_FREE(&c->invariants);
	vec_foreach(v, &c->values)
		value_deinit(v);
	VEC_FREE(&c->values);
	free(c);
}

/* ---- questions ---- */

const struct config_harness *config_harness_find(const struct config *c, const char *name)
{
	vec_foreach(h, &c->harnesses)
		if (str_eq(h->name, name))
			return h;
	return NULL;
}

const char *config_harness_plugin(const struct config *c, const char *name)
{
	const struct config_harness *h = config_harness_find(c, name);
	return h && h->plugin ? h->plugin : name;
}

const struct invariant *config_invariant_find(const struct config *c, const char *name)
{
	vec_foreach(inv, &c->invariants)
		if (str_eq(inv->name, name))
			return inv;
	return NULL;
}

const char *config_origin(
	const struct config *c, const char *section, const char *label, const char *key)
{
	const struct config_value *v = value_find(c, section, label, key);
	return v ? v->origin : "built in";
}
