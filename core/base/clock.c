/* SPDX-License-Identifier: MIT */
#include "base/clock.h"

#include <limits.h>
#include <stdio.h>
#include <time.h>

static int64_t clock_ms(clockid_t id)
{
	struct timespec ts;
	clock_gettime(id, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t clock_mono_ms(void)
{
	return clock_ms(CLOCK_MONOTONIC);
}

int64_t clock_wall_ms(void)
{
	return clock_ms(CLOCK_REALTIME);
}

int64_t deadline_after(int64_t timeout_ms)
{
	int64_t at;
	if (__builtin_add_overflow(clock_mono_ms(), timeout_ms, &at))
		return DEADLINE_NONE;
	return at;
}

int deadline_poll_ms(int64_t deadline_ms)
{
	if (deadline_ms == DEADLINE_NONE)
		return -1;
	int64_t left = deadline_ms - clock_mono_ms();
	if (left <= 0)
		return 0;
	return left > INT_MAX ? INT_MAX : (int)left;
}

void format_time_iso(int64_t wall_ms, char ret[25])
{
	time_t secs = (time_t)(wall_ms / 1000);
	struct tm tm;
	gmtime_r(&secs, &tm);
	char day[21];
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(ret, 25, "%.19s.%03uZ", day, (unsigned)(wall_ms % 1000) % 1000U);
}
