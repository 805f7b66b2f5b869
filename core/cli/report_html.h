/* SPDX-License-Identifier: MIT */
/* A report (run/report.h) as one HTML page that needs nothing else: no script, nothing fetched. */
#ifndef CLI_REPORT_HTML_H
#define CLI_REPORT_HTML_H

#include "base/buf.h"

#include <jansson.h>

void report_html(const json_t *report, struct buf *out);
/* Milliseconds for a person: "1h 02m 03s". */
void report_duration(long long ms, struct buf *out);

#endif
