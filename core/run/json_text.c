/* SPDX-License-Identifier: MIT */
#include "run/json_text.h"

#include "base/str.h"

#include <string.h>

json_t *json_text(const char *text)
{
	if (!text)
		return json_null();
	size_t len = strlen(text);
	if (utf8_is_valid(text, len))
		return json_stringn_nocheck(text, len);
	CLEANUP_STR char *clean = str_printable(text, len, true);
	return clean ? json_string(clean) : NULL;
}
