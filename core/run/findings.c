/* SPDX-License-Identifier: MIT */
#include "run/status.h"

#include "base/str.h"

#include <sodium.h>
#include <string.h>

static int chain(void *ctx, const char *task, const char *data)
{
	struct findings *f = ctx;
	unsigned char digest[crypto_hash_sha256_BYTES];
	crypto_hash_sha256_state state;
	crypto_hash_sha256_init(&state);
	const char *const parts[] = {f->sha256, "\n", task, "\n", data};
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		crypto_hash_sha256_update(
			&state, (const unsigned char *)parts[i], strlen(parts[i]));
	crypto_hash_sha256_final(&state, digest);
	hex_encode(digest, sizeof(digest), f->sha256);
	f->count++;
	return 0;
}

int findings_digest(struct store *s, int64_t plan_id, struct findings *ret, struct err *e)
{
	struct findings f = {0};
	memset(f.sha256, '0', sizeof(f.sha256) - 1);
	int r = store_each_finding(s, plan_id, chain, &f, e);
	if (r < 0)
		return r;
	if (f.count == 0)
		f.sha256[0] = '\0';
	*ret = f;
	return 0;
}
