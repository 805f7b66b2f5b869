/* SPDX-License-Identifier: MIT */
/* The INI reader takes any bytes; what the editor sets is read back, all else stays. */
#include "fuzz.h"

#include "base/str.h"
#include "config/ini.h"

#include <assert.h>

static void check_same_but(
	const struct ini *before, const struct ini *after, const char *type, const char *key)
{
	vec_foreach(s, &before->sections) {
		const struct ini_section *t = ini_find(after, s->type, s->label);
		assert(t);
		vec_foreach(entry, &s->entries) {
			if (str_eq(s->type, type) && !s->label && str_eq(entry->key, key))
				continue;
			assert(str_eq(ini_value(t, entry->key), entry->value));
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP(diags_deinit) struct diags d = DIAGS_INIT, none = DIAGS_INIT;
	CLEANUP_INI struct ini before = INI_INIT, after = INI_INIT;
	struct err e = ERR_INIT;
	if (ini_load_text("fuzz", (const char *)data, size, &before, &d) < 0 || d.errors > 0)
		return 0;
	CLEANUP_BUF struct buf text = BUF_INIT;
	buf_add(&text, data, size);
	int r = ini_edit_set(&text, "plan", NULL, "name", " new\nvalue", &e);
	assert(r == 0);
	r = ini_load_text("edited", buf_cstr(&text), text.len, &after, &none);
	assert(r == 0 && none.errors == 0);
	const struct ini_section *s = ini_find(&after, "plan", NULL);
	assert(s && str_eq(ini_value(s, "name"), " new\nvalue"));
	check_same_but(&before, &after, "plan", "name");
	r = ini_edit_remove(&text, "plan", NULL, NULL, &e);
	assert(r == 0);
	return 0;
}
