/* SPDX-License-Identifier: MIT */
/*
 * jansson's texts with an honest answer when memory is out. By itself its parser calls that a
 * mistake in the text, or leaves bytes out of a string and runs over its end (jansson 2.14, load.c:
 * lex_save() ignores that its buffer did not grow); its writer leaves out a part and succeeds all
 * the same. So a good file would be taken for a broken one, or a broken one be written.
 */
#ifndef BASE_JSON_TEXT_H
#define BASE_JSON_TEXT_H

#include "base/cleanup.h"

#include <jansson.h>
#include <stddef.h>

/* Flags and ret_why (may be NULL) are those of json_loadb. 0 with *ret owned; -ENOMEM; -EBADMSG. */
int json_text_parse(
	const char *text, size_t len, size_t flags, json_t **ret, json_error_t *ret_why) MUST_CHECK;

/* json_dumps, owned; NULL: memory is out, or a text in it is no UTF-8. */
char *json_text_dump(const json_t *json, size_t flags) MUST_CHECK;

#endif
