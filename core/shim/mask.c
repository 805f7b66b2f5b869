/* SPDX-License-Identifier: MIT */
#include "shim/mask.h"

#include "base/str.h"

#include <errno.h>
#include <string.h>

#define REPLACEMENT "***"

static const char *env_value(char *const *env, const char *name)
{
	size_t len = strlen(name);
	for (size_t i = 0; env && env[i]; i++)
		if (strncmp(env[i], name, len) == 0 && env[i][len] == '=')
			return env[i] + len + 1;
	return NULL;
}

int mask_init(struct mask *m, char *const *names, char *const *env)
{
	*m = (struct mask){0};
	for (size_t i = 0; names && names[i]; i++) {
		const char *value = env_value(env, names[i]);
		if (!value || strlen(value) < MASK_MIN_BYTES)
			continue;
		if (strv_add(&m->values, value) < 0)
			return -ENOMEM;
		m->first[(unsigned char)value[0]] = true;
	}
	return 0;
}

void mask_deinit(struct mask *m)
{
	strv_free(m->values);
	*m = (struct mask){0};
}

/* The longest value that begins at p: its length. 0: none. *ret_partial: one may go on behind. */
static size_t match(const struct mask *m, const char *p, size_t left, bool *ret_partial)
{
	size_t best = 0;
	*ret_partial = false;
	for (size_t i = 0; m->values[i]; i++) {
		size_t len = strlen(m->values[i]);
		size_t n = len < left ? len : left;
		if (memcmp(p, m->values[i], n) != 0)
			continue;
		if (len > left)
			*ret_partial = true;
		else if (len > best)
			best = len;
	}
	return best;
}

void mask_feed(const struct mask *m, struct buf *carry, const void *data, size_t len,
	enum mask_more more, struct buf *out)
{
	buf_add(carry, data, len);
	size_t at = 0, plain = 0; /* [plain, at) is free of values and not yet copied */
	while (at < carry->len) {
		bool partial = false;
		size_t found = 0;
		if (m->first[(unsigned char)carry->data[at]])
			found = match(m, carry->data + at, carry->len - at, &partial);
		if (partial && more == MASK_MORE)
			break;
		if (found == 0) {
			at++;
			continue;
		}
		buf_add(out, carry->data + plain, at - plain);
		buf_adds(out, REPLACEMENT);
		at += found;
		plain = at;
	}
	if (at > plain)
		buf_add(out, carry->data + plain, at - plain);
	buf_consume(carry, at);
}

static json_t *mask_json_string(const struct mask *m, const json_t *value)
{
	CLEANUP_BUF struct buf carry = BUF_INIT;
	CLEANUP_BUF struct buf out = BUF_INIT;
	mask_feed(m, &carry, json_string_value(value), json_string_length(value), MASK_LAST, &out);
	if (carry.failed || out.failed)
		return NULL;
	/* Cut at bytes of a value, the rest is as valid as it was, unless the value was not. */
	return json_stringn_nocheck(buf_cstr(&out), out.len);
}

json_t *mask_json(const struct mask *m, const json_t *value)
{
	size_t i;
	const char *key;
	json_t *item;
	if (json_is_string(value))
		return mask_json_string(m, value);
	if (json_is_array(value)) {
		json_t *copy = json_array();
		json_array_foreach(value, i, item) {
			if (json_array_append_new(copy, mask_json(m, item)) < 0) {
				json_decref(copy);
				return NULL;
			}
		}
		return copy;
	}
	if (json_is_object(value)) {
		json_t *copy = json_object();
		json_object_foreach((json_t *)(uintptr_t)value, key, item) {
			if (json_object_set_new_nocheck(copy, key, mask_json(m, item)) < 0) {
				json_decref(copy);
				return NULL;
			}
		}
		return copy;
	}
	return json_incref((json_t *)(uintptr_t)value);
}

void mask_string(const struct mask *m, char **text)
{
	if (!*text || mask_is_empty(m))
		return;
	CLEANUP_BUF struct buf carry = BUF_INIT;
	CLEANUP_BUF struct buf out = BUF_INIT;
	mask_feed(m, &carry, *text, strlen(*text), MASK_LAST, &out);
	free(*text);
	*text = carry.failed ? NULL : buf_steal(&out);
}
