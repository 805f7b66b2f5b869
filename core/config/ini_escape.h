/* SPDX-License-Identifier: MIT */
/* Percent-encoding, for what inih is fed and for `key*` values; private to config. */
#ifndef CONFIG_INI_ESCAPE_H
#define CONFIG_INI_ESCAPE_H

#include "base/buf.h"

#include <stdbool.h>

/* Encodes every byte that is white space, a control character or means something to inih. */
void ini_escape(struct buf *out, const char *s, size_t len);
void ini_escape_byte(struct buf *out, char c);
/* Decodes %XX; false at a `%` that begins no escape. */
bool ini_unescape(struct buf *out, const char *s);

#endif
