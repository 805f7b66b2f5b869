/* SPDX-License-Identifier: MIT */
/* Text from the world (paths, output, git's words) as JSON, which must be valid UTF-8. */
#ifndef RUN_JSON_TEXT_H
#define RUN_JSON_TEXT_H

#include <jansson.h>

/*
 * A string, or null for NULL. Text that is no UTF-8 has its bad bytes replaced by U+FFFD and its
 * control characters escaped. Owned; NULL when memory is out.
 */
json_t *json_text(const char *text);

#endif
