/* SPDX-License-Identifier: MIT */
/*
 * What a plan took, as an object: {version, plan, totals, tasks: [{..., attempts, findings}]}.
 * Times are milliseconds since the epoch, null while something has not ended; cost is in US
 * dollars, as the agents say it. Only reads.
 */
#ifndef RUN_REPORT_H
#define RUN_REPORT_H

#include "base/err.h"
#include "store/store.h"

#include <jansson.h>

int report_json(struct store *s, int64_t plan_id, json_t **ret, struct err *e) MUST_CHECK;

#endif
