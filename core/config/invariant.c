/* SPDX-License-Identifier: MIT */
#include "config/invariant.h"

#include "base/str.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define X(id, name) name,
static const char *const red_before_names[] = {RED_BEFORE_LIST(X) NULL};
#undef X

#define AT(member) .offset = offsetof(struct invariant, member)

static const struct key_spec keys[] = {
	{.key = "command",
		.type = KEY_TEXT,
		AT(command),
		.help = "what is run, by /bin/sh -c, in the worktree"},
	{.key = "timeout",
		.type = KEY_DURATION,
		AT(timeout_ms),
		.default_value = "300s",
		.min = 1,
		.max = INT64_MAX,
		.help = "wall-clock limit; then it has failed"},
	{.key = "expect",
		.type = KEY_INT,
		AT(expect),
		.default_value = "0",
		.min = 0,
		.max = 255,
		.help = "the exit code that passes"},
	{.key = "advisory",
		.type = KEY_BOOL,
		AT(advisory),
		.default_value = "no",
		.help = "yes: reported, does not block"},
	{.key = "red_before",
		.type = KEY_ENUM,
		AT(red_before),
		.default_value = "fail",
		.names = red_before_names,
		.help = "fail, or ignore: what it means when it was red on the start commit "
			"already"},
};

const struct key_table invariant_keys = {keys, sizeof(keys) / sizeof(keys[0])};

const char *red_before_name(enum red_before v)
{
	return red_before_names[v];
}

int invariant_init(struct invariant *inv, const char *name)
{
	*inv = (struct invariant){0};
	inv->name = str_dup(name);
	if (inv->name && keys_init(&invariant_keys, inv) == 0)
		return 0;
	invariant_deinit(inv);
	return -ENOMEM;
}

void invariant_deinit(struct invariant *inv)
{
	keys_deinit(&invariant_keys, inv);
	free(inv->name);
	free(inv->file);
	*inv = (struct invariant){0};
}

int invariant_copy(struct invariant *to, const struct invariant *from)
{
	*to = (struct invariant){.line = from->line};
	int r = keys_copy(&invariant_keys, to, from);
	to->name = str_dup(from->name);
	to->file = str_dup(from->file);
	if (r == 0 && to->name && (to->file || !from->file))
		return 0;
	invariant_deinit(to);
	return -ENOMEM;
}

bool invariant_equal(const struct invariant *a, const struct invariant *b)
{
	if (!str_eq(a->name, b->name))
		return false;
	for (size_t i = 0; i < invariant_keys.count; i++)
		if (!key_equal(&keys[i], a, b))
			return false;
	return true;
}

__extension__ typedef unsigned __int128 u128;

/* FNV-1a of 128 bits (draft-eastlake-fnv-17, section 5). */
static u128 fnv_add(u128 h, const char *s)
{
	static const u128 prime = ((u128)1 << 88) + 0x13b;
	do
		h = (h ^ (unsigned char)*s) * prime;
	while (*s++);
	return h;
}

void invariant_fingerprint(const struct invariant *inv, char ret[33])
{
	u128 h = (u128)0x6c62272e07bb0142 << 64 | 0x62b821756295c58d;
	char numbers[64];
	snprintf(numbers, sizeof(numbers), "1 %" PRId64 " %" PRId64, inv->timeout_ms, inv->expect);
	h = fnv_add(h, numbers);
	h = fnv_add(h, inv->command ? inv->command : "");
	snprintf(ret, 33, "%016" PRIx64 "%016" PRIx64, (uint64_t)(h >> 64), (uint64_t)h);
}
