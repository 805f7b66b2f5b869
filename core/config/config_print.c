/* SPDX-License-Identifier: MIT */
#include "config/config.h"

#include "base/str.h"
#include "config/config_keys.h"
#include "config/ini.h"

#include <errno.h>
#include <string.h>

static void put_origin(struct buf *out, const char *origin)
{
	CLEANUP_STR char *safe = str_printable(origin, strlen(origin), false);
	if (!safe)
		out->failed = true;
	else
		buf_addf(out, "; %s\n", safe);
}

static const struct config_value *find(
	const struct config *c, const char *section, const char *label, const char *key)
{
	vec_foreach(v, &c->values)
		if (str_eq(v->section, section) && str_eq(v->label, label) && str_eq(v->key, key))
			return v;
	return NULL;
}

static void put_keys(struct buf *out, const struct config *c, const struct config_section *section,
	const char *label)
{
	ini_put_section(out, section->name, label);
	for (size_t i = 0; i < section->keys->count; i++) {
		const struct key_spec *spec = &section->keys->keys[i];
		const struct config_value *v = find(c, section->name, label, spec->key);
		put_origin(out, v ? v->origin : "built in");
		if (v)
			ini_put(out, spec->key, v->value);
		else if (spec->default_value)
			ini_put(out, spec->key, spec->default_value);
		else
			buf_addf(out, ";%s =\n", spec->key);
	}
}

int config_print(const struct config *c, FILE *out)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	for (size_t i = 0; i < CONFIG_SECTIONS; i++)
		if (!config_sections[i].labelled)
			put_keys(&text, c, &config_sections[i], NULL);
	vec_foreach(h, &c->harnesses) {
		put_keys(&text, c, config_section_find("harness"), h->name);
		vec_foreach(o, &h->options) {
			put_origin(&text, o->origin);
			ini_put(&text, o->key, o->value);
		}
	}
	vec_foreach(inv, &c->invariants)
		put_keys(&text, c, config_section_find("invariant"), inv->name);
	if (buf_check(&text) < 0)
		return -ENOMEM;
	if (fwrite(buf_cstr(&text), 1, text.len, out) != text.len || fflush(out) != 0)
		return errno ? -errno : -EIO;
	return 0;
}
