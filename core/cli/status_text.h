/* SPDX-License-Identifier: MIT */
/* The state of the plans as lines for a person. */
#ifndef CLI_STATUS_TEXT_H
#define CLI_STATUS_TEXT_H

#include "base/cleanup.h"

#include "run/status.h"

/* Owned, escaped for a terminal; NULL when memory is out. */
char *status_text(const struct status *s) MUST_CHECK;

#endif
