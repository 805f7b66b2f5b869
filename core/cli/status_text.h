/* SPDX-License-Identifier: MIT */
/* The object of `status --json` (run/status.h) as lines for a person. */
#ifndef CLI_STATUS_TEXT_H
#define CLI_STATUS_TEXT_H

#include "base/cleanup.h"

#include <jansson.h>

/* Owned, escaped for a terminal; NULL when memory is out. */
char *status_text(const json_t *status) MUST_CHECK;

#endif
