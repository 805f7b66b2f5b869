/* SPDX-License-Identifier: MIT */
#include "config/config_keys.h"

#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

/* What agents find in their environment (the plan they work on and so on) is no configuration. */
static const char *const not_config[] = {"ORCH_PLAN", "ORCH_TASK", "ORCH_ATTEMPT", "ORCH_UNIT",
	"ORCH_PROMPT_FILE", "ORCH_SOCKET", "ORCH_AGENT_TOKEN", "ORCH_EVENT_FD", NULL};

const char *config_environment_get(char *const *environment, const char *name)
{
	size_t len = strlen(name);
	for (size_t i = 0; environment && environment[i]; i++)
		if (strncmp(environment[i], name, len) == 0 && environment[i][len] == '=')
			return environment[i] + len + 1;
	return NULL;
}

int config_user_file(char *const *environment, char **ret)
{
	const char *base = config_environment_get(environment, "XDG_CONFIG_HOME");
	const char *home = config_environment_get(environment, "HOME");
	bool by_base = base && base[0] == '/', by_home = home && home[0] == '/';
	*ret = by_base   ? str_printf("%s/orch/orch.ini", base)
	       : by_home ? str_printf("%s/.config/orch/orch.ini", home)
			 : NULL;
	return (by_base || by_home) && !*ret ? -ENOMEM : 0;
}

/* Appends the word as part of a variable's name: upper case, `_` for what cannot stand in one. */
static void add_upper(struct buf *out, const char *word)
{
	for (; *word; word++)
		buf_addc(out,
			isalnum((unsigned char)*word) ? (char)toupper((unsigned char)*word) : '_');
}

/* ORCH_<KEY> for [orch], ORCH_<SECTION>_<KEY>, ORCH_<SECTION>_<LABEL>_<KEY>. */
static void variable_name(struct buf *out, const char *section, const char *label, const char *key)
{
	buf_reset(out);
	buf_adds(out, "ORCH_");
	if (!str_eq(section, "orch")) {
		add_upper(out, section);
		buf_addc(out, '_');
	}
	if (label) {
		add_upper(out, label);
		buf_addc(out, '_');
	}
	add_upper(out, key);
}

/* The section and key that a variable sets; key owned, NULL when it sets none. */
struct target {
	const char *section;
	char *label;
	char *key;
};

static void target_deinit(struct target *t)
{
	free(t->label);
	free(t->key);
}

static void lower(char *s)
{
	for (; *s; s++)
		*s = (char)tolower((unsigned char)*s);
}

static int match_plain(const char *variable, struct target *ret)
{
	CLEANUP_BUF struct buf name = BUF_INIT;
	for (size_t i = 0; i < CONFIG_SECTIONS; i++) {
		const struct config_section *section = &config_sections[i];
		for (size_t k = 0; !section->labelled && k < section->keys->count; k++) {
			variable_name(&name, section->name, NULL, section->keys->keys[k].key);
			if (!str_eq(buf_cstr(&name), variable))
				continue;
			ret->section = section->name;
			ret->key = str_dup(section->keys->keys[k].key);
			return ret->key ? 0 : -ENOMEM;
		}
	}
	return buf_check(&name);
}

/* For a label that has a section already: any key, the longest label first. */
static int match_known_label(
	const char *variable, const char *section, const char *label, struct target *ret)
{
	CLEANUP_BUF struct buf prefix = BUF_INIT;
	variable_name(&prefix, section, label, "");
	if (buf_check(&prefix) < 0)
		return -ENOMEM;
	if (!str_starts(variable, buf_cstr(&prefix)) || variable[prefix.len] == '\0' ||
		(ret->label && strlen(ret->label) >= strlen(label)))
		return 0;
	char *key = str_dup(variable + prefix.len), *copy = str_dup(label);
	if (!key || !copy) {
		free(key);
		free(copy);
		return -ENOMEM;
	}
	lower(key);
	target_deinit(ret);
	*ret = (struct target){section, copy, key};
	return 0;
}

/* For a label without a section: one of the fixed keys, what stands before it is the label. */
static int match_new_label(
	const char *variable, const struct config_section *section, struct target *ret)
{
	CLEANUP_BUF struct buf prefix = BUF_INIT;
	variable_name(&prefix, section->name, NULL, "");
	if (buf_check(&prefix) < 0)
		return -ENOMEM;
	if (!str_starts(variable, buf_cstr(&prefix)))
		return 0;
	const char *rest = variable + prefix.len;
	for (size_t k = 0; k < section->keys->count; k++) {
		CLEANUP_BUF struct buf suffix = BUF_INIT;
		buf_addc(&suffix, '_');
		add_upper(&suffix, section->keys->keys[k].key);
		if (buf_check(&suffix) < 0)
			return -ENOMEM;
		if (!str_ends(rest, buf_cstr(&suffix)) || strlen(rest) == suffix.len)
			continue;
		char *label = strndup(rest, strlen(rest) - suffix.len);
		char *key = str_dup(section->keys->keys[k].key);
		if (!label || !key) {
			free(label);
			free(key);
			return -ENOMEM;
		}
		lower(label);
		*ret = (struct target){section->name, label, key};
		return 0;
	}
	return 0;
}

static int match(const struct config *c, const char *variable, struct target *ret)
{
	int r = match_plain(variable, ret);
	if (r < 0 || ret->key)
		return r;
	vec_foreach(h, &c->harnesses)
		if (r == 0)
			r = match_known_label(variable, "harness", h->name, ret);
	vec_foreach(inv, &c->invariants)
		if (r == 0)
			r = match_known_label(variable, "invariant", inv->name, ret);
	for (size_t i = 0; r == 0 && !ret->key && i < CONFIG_SECTIONS; i++)
		if (config_sections[i].labelled)
			r = match_new_label(variable, &config_sections[i], ret);
	return r;
}

/* Warns about a variable that is nearly one of ours; all others may be somebody else's. */
static int warn_near_miss(const char *variable, struct diags *d)
{
	struct suggestion near = SUGGESTION(variable);
	CLEANUP_STRV char **names = NULL;
	CLEANUP_BUF struct buf name = BUF_INIT;
	if (strv_contains((char *const *)not_config, variable))
		return 0;
	for (size_t i = 0; i < CONFIG_SECTIONS; i++) {
		const struct config_section *section = &config_sections[i];
		for (size_t k = 0; !section->labelled && k < section->keys->count; k++) {
			variable_name(&name, section->name, NULL, section->keys->keys[k].key);
			if (buf_check(&name) < 0 || strv_add(&names, buf_cstr(&name)) < 0)
				return -ENOMEM;
		}
	}
	for (size_t i = 0; names && names[i]; i++)
		suggest_feed(&near, names[i]);
	if (near.best && near.distance <= 2)
		diags_warning(d, NULL, 0, "environment %s sets nothing, did you mean %s?", variable,
			near.best);
	return 0;
}

static int load_variable(struct config *c, const char *variable, const char *value, struct diags *d)
{
	CLEANUP(target_deinit) struct target target = {0};
	int r = match(c, variable, &target);
	if (r < 0)
		return r;
	if (!target.key)
		return warn_near_miss(variable, d);
	CLEANUP_STR char *origin = str_printf("environment %s", variable);
	CLEANUP_BUF struct buf why = BUF_INIT;
	if (!origin)
		return -ENOMEM;
	struct config_setting s = {.section = target.section,
		.label = target.label,
		.key = target.key,
		.value = value,
		.origin = origin};
	r = utf8_is_valid(value, strlen(value)) ? config_apply(c, &s, &why) : -EINVAL;
	if (r != -EINVAL)
		return r;
	diags_error(d, origin, 0, "%s", why.len > 0 ? buf_cstr(&why) : "expected UTF-8");
	return 0;
}

int config_load_environment(struct config *c, char *const *environment, struct diags *d)
{
	int r = 0;
	for (size_t i = 0; r == 0 && environment && environment[i]; i++) {
		const char *equals = strchr(environment[i], '=');
		if (!equals || !equals[1] || !str_starts(environment[i], "ORCH_"))
			continue;
		CLEANUP_STR char *variable =
			strndup(environment[i], (size_t)(equals - environment[i]));
		r = variable ? load_variable(c, variable, equals + 1, d) : -ENOMEM;
	}
	return r;
}
