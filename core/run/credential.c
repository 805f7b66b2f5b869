/* SPDX-License-Identifier: MIT */
#include "run/credential.h"

#include "base/buf.h"
#include "base/str.h"
#include "run/environ.h"

#include <sodium.h>
#include <stdlib.h>
#include <string.h>

static bool tells_who(const char *key)
{
	static const char *const keys[] = {
		"agent", "auth_method", "command", "config_dir", "home", "program", NULL};
	return strv_contains((char *const *)keys, key);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What the harness's units have beyond every unit's environment. */
static int add_variables(const struct site *s, const char *harness, char ***parts, struct err *e)
{
	CLEANUP_STRV char **all = NULL;
	CLEANUP_STRV char **own = NULL;
	struct err unreadable = ERR_INIT; /* env_file: its units will not start, and say why */
	int r = environ_base(s, &all, e);
	if (r < 0)
		return r;
	r = environ_of_harness(s, harness, &own, &unreadable);
	if (r < 0)
		return err_is_shortage(r) ? err_set(e, r, "%s", unreadable.msg) : 0;
	for (size_t i = 0; r == 0 && own[i]; i++)
		if (!strv_contains(all, own[i]) && strv_add(parts, own[i]) < 0)
			r = err_nomem(e);
	return r;
}

static int add_options(const struct config_harness *h, char ***parts, struct err *e)
{
	vec_foreach(o, &h->options) {
		CLEANUP_STR char *part =
			tells_who(o->key) ? str_printf(".%s=%s", o->key, o->value) : NULL;
		if (tells_who(o->key) && (!part || strv_add(parts, part) < 0))
			return err_nomem(e);
	}
	return 0;
}

static void digest(char **parts, char ret[2 * crypto_hash_sha256_BYTES + 1])
{
	crypto_hash_sha256_state state;
	unsigned char bits[crypto_hash_sha256_BYTES];
	qsort(parts, strv_len(parts), sizeof(*parts), compare);
	crypto_hash_sha256_init(&state);
	for (size_t i = 0; parts[i]; i++)
		crypto_hash_sha256_update(
			&state, (const unsigned char *)parts[i], strlen(parts[i]) + 1);
	crypto_hash_sha256_final(&state, bits);
	hex_encode(bits, sizeof(bits), ret);
}

int credential_name(const struct site *s, const char *harness, char **ret, struct err *e)
{
	const struct config_harness *h = config_harness_find(s->config, harness);
	const char *plugin = config_harness_plugin(s->config, harness);
	CLEANUP_STRV char **parts = NULL;
	char hex[2 * crypto_hash_sha256_BYTES + 1] = "";
	int r = h ? add_variables(s, harness, &parts, e) : 0;
	if (r == 0 && h)
		r = add_options(h, &parts, e);
	if (r < 0)
		return r;
	if (parts)
		digest(parts, hex);
	*ret = str_printf("%s%s%s", plugin, hex[0] ? " " : "", hex);
	return *ret ? 0 : err_nomem(e);
}
