/* SPDX-License-Identifier: MIT */
/*
 * The one clock. Deadlines are absolute milliseconds on CLOCK_MONOTONIC; times that are stored or
 * shown are milliseconds since the epoch on CLOCK_REALTIME.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

#define DEADLINE_NONE INT64_MAX

int64_t clock_mono_ms(void);
int64_t clock_wall_ms(void);
/* now + timeout, DEADLINE_NONE for a timeout that is off or overflows. */
int64_t deadline_after(int64_t timeout_ms);
/* For poll(2): milliseconds until the deadline, 0 when passed, -1 for DEADLINE_NONE. */
int deadline_poll_ms(int64_t deadline_ms);
/* ISO 8601 in UTC with milliseconds: "2026-01-31T12:34:56.789Z". ret holds 25 bytes. */
void format_time_iso(int64_t wall_ms, char ret[25]);

#endif
