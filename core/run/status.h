/* SPDX-License-Identifier: MIT */
/*
 * What there is to tell about the plans of a site: the object of `status --json`, and the digest
 * over a plan's findings. Only reads; a few queries a plan, however many tasks it has.
 */
#ifndef RUN_STATUS_H
#define RUN_STATUS_H

#include "base/err.h"
#include "run/site.h"
#include "store/store.h"

#include <jansson.h>
#include <stdint.h>

/*
 * A chain over the findings of a plan, in order: h(0) is 64 zeros, h(n) = SHA-256 in hexadecimal of
 * h(n-1) "\n" task "\n" data. Two states with the same digest hold the same findings.
 */
struct findings {
	int64_t count;
	char sha256[65]; /* "" without findings */
};

int findings_digest(
	struct store *s, int64_t plan_id, struct findings *ret, struct err *e) MUST_CHECK;

/*
 * The whole object; owned. store NULL: nothing was ever dispatched, so there are no plans.
 * plan_id 0: all plans.
 */
int status_json(const struct site *site, struct store *store, int64_t plan_id, json_t **ret,
	struct err *e) MUST_CHECK;

#endif
