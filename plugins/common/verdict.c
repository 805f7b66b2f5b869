/* SPDX-License-Identifier: MIT */
#include "../common/verdict.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define DAY_MS (24 * INT64_C(3600000))

int verdict_of_status(long http_status)
{
	switch (http_status) {
	case 401:
	case 403:
		return ORCH_OUTCOME_AUTH_FAILED;
	case 429:
	case 503:
	case 529:
		return ORCH_OUTCOME_RATE_LIMITED;
	default:
		return ORCH_OUTCOME_AGENT_ERROR;
	}
}

/* Three digits, and not more, of an error. */
static long status_at(const char *p)
{
	p += strspn(p, " \t:=\"(");
	if (!isdigit((unsigned char)p[0]) || !isdigit((unsigned char)p[1]) ||
		!isdigit((unsigned char)p[2]) || isdigit((unsigned char)p[3]))
		return 0;
	long status = strtol(p, NULL, 10);
	return status >= 400 ? status : 0;
}

long verdict_status_in(const char *text)
{
	static const char *const before[] = {"status code", "status", "api error", "http",
		"\"code\"", "error code", "\"details\"", "("};
	for (size_t i = 0; text && i < sizeof(before) / sizeof(before[0]); i++) {
		const char *at = text;
		while ((at = strcasestr(at, before[i]))) {
			at += strlen(before[i]);
			long status = status_at(at);
			if (status)
				return status;
		}
	}
	return 0;
}

static bool says(const char *text, const char *const *words)
{
	for (; *words; words++)
		if (strcasestr(text, *words))
			return true;
	return false;
}

int verdict_of_text(const char *text)
{
	static const char *const auth[] = {"invalid api key", "incorrect api key", "no api key",
		"not logged in", "please run /login", "log in again", "unauthorized",
		"unauthenticated", "authentication", "set an auth method", "api key not", NULL};
	static const char *const limit[] = {"rate limit", "rate_limit", "usage limit",
		"limit reached", "hit your limit", "too many requests", "resource_exhausted",
		"exceeded your current quota", "overloaded", NULL};
	if (!text)
		return ORCH_OUTCOME_AGENT_ERROR;
	long status = verdict_status_in(text);
	if (status)
		return verdict_of_status(status);
	if (says(text, limit))
		return ORCH_OUTCOME_RATE_LIMITED;
	return says(text, auth) ? ORCH_OUTCOME_AUTH_FAILED : ORCH_OUTCOME_AGENT_ERROR;
}

/* "3 days 4 hours 12 minutes", "1m30s", "34.5s": its length in milliseconds, 0: no such thing. */
static int64_t span_at(const char *p)
{
	static const struct {
		const char *name;
		double ms;
	} units[] = {
		{"ms", 1}, {"mo", 0}, {"d", DAY_MS}, {"h", 3600000}, {"m", 60000}, {"s", 1000}};
	double sum = 0;
	for (;;) {
		p += strspn(p, " ,\":");
		char *end;
		double n = strtod(p, &end);
		if (end == p || n < 0 || n > 1e9)
			break;
		p = end + strspn(end, " ");
		size_t i = 0;
		while (i < sizeof(units) / sizeof(units[0]) &&
			strncasecmp(p, units[i].name, strlen(units[i].name)) != 0)
			i++;
		if (i == sizeof(units) / sizeof(units[0]))
			break;
		sum += n * units[i].ms;
		while (isalpha((unsigned char)*p))
			p++;
	}
	return sum < 366.0 * DAY_MS ? (int64_t)sum : 0;
}

int64_t verdict_reset_in(const char *text, int64_t now_ms)
{
	static const char *const before[] = {
		"try again in", "retry in", "retry after", "\"retryDelay\"", "resets in"};
	for (size_t i = 0; text && i < sizeof(before) / sizeof(before[0]); i++) {
		const char *at = strcasestr(text, before[i]);
		int64_t ms = at ? span_at(at + strlen(before[i])) : 0;
		if (ms > 0)
			return now_ms + ms;
	}
	const char *bar = text ? strstr(text, "reached|") : NULL;
	long long at = bar ? strtoll(bar + strlen("reached|"), NULL, 10) : 0;
	return at > 1000000000 && at < 100000000000 ? at * 1000 : 0;
}

int64_t verdict_retry_after(const char *value, int64_t now_ms)
{
	struct tm tm = {0};
	char *end;
	if (!value || !value[0])
		return 0;
	double seconds = strtod(value, &end);
	if (end != value && *end == '\0')
		return seconds > 0 && seconds < 366.0 * 86400 ? now_ms + (int64_t)(seconds * 1000)
							      : 0;
	end = strptime(value, "%a, %d %b %Y %H:%M:%S GMT", &tm);
	return end ? (int64_t)timegm(&tm) * 1000 : 0;
}
