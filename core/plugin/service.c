/* SPDX-License-Identifier: MIT */
#include "plugin/service.h"

#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define LOG_TEXT_MAX 2000

/* Of a thread, because kill and send may fail while wait does. */
static _Thread_local char fail_text[512];

const char *service_fail_text(void)
{
	return fail_text;
}

void service_fail_clear(void)
{
	fail_text[0] = '\0';
}

static struct service *service_of(const struct orch_host *host)
{
	return (struct service *)(uintptr_t)host;
}

static void service_log(const struct orch_host *host, int level, const char *format, ...)
{
	struct service *s = service_of(host);
	char text[LOG_TEXT_MAX];
	va_list ap;
	va_start(ap, format);
	int n = vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	size_t len = n < 0 ? 0 : (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1;
	while (len > 0 && text[len - 1] == '\n')
		len--;
	json_t *clean = event_text_data(text, len);
	const json_t *clean_text = json_object_get(clean, "text");
	if (level < ORCH_LOG_ERROR || level > ORCH_LOG_DEBUG)
		level = ORCH_LOG_INFO;
	if (clean)
		s->emit_log(s, (enum orch_log_level)level, json_string_value(clean_text),
			json_string_length(clean_text));
	json_decref(clean);
}

static int service_fail(const struct orch_host *host, int error, const char *format, ...)
{
	(void)host;
	va_list ap;
	va_start(ap, format);
	(void)vsnprintf(fail_text, sizeof(fail_text), format, ap); /* cut when too long */
	va_end(ap);
	return error;
}

static const char *service_option(const struct orch_host *host, const char *key)
{
	const struct option_value *v = option_values_get(service_of(host)->options, key);
	return v ? v->text : NULL;
}

static int64_t service_option_int(const struct orch_host *host, const char *key)
{
	const struct option_value *v = option_values_get(service_of(host)->options, key);
	return v ? v->number : 0;
}

/* Consumes data. */
static int emit(struct service *s, enum orch_event_kind kind, json_t *data)
{
	size_t len = 0;
	CLEANUP_STR char *text = data ? event_encode(kind, data, &len) : NULL;
	json_decref(data);
	return text ? s->emit_event(s, text, len) : -ENOMEM;
}

static int service_event(const struct orch_host *host, int kind, const char *json)
{
	json_t *data = NULL;
	if (!event_kind_name(kind) || !json)
		return -EINVAL;
	int r = event_parse((enum orch_event_kind)kind, json, strlen(json), &data, NULL);
	return r < 0 ? r : emit(service_of(host), (enum orch_event_kind)kind, data);
}

static int service_event_text(const struct orch_host *host, int kind, const char *text, size_t len)
{
	if (kind != ORCH_EVENT_MESSAGE && kind != ORCH_EVENT_PROGRESS && kind != ORCH_EVENT_ERROR &&
		kind != ORCH_EVENT_RATE_LIMIT)
		return -EINVAL;
	return emit(service_of(host), (enum orch_event_kind)kind, event_text_data(text, len));
}

static int service_event_line(const struct orch_host *host, const char *line, size_t len)
{
	enum orch_event_kind kind;
	json_t *data = NULL;
	int r = event_parse_line(line, len, &kind, &data, NULL);
	if (r == -EINVAL)
		return 1;
	return r < 0 ? r : emit(service_of(host), kind, data);
}

void service_init(struct service *s, const struct option_values *options)
{
	*s = (struct service){
		.api = {.size = sizeof(struct orch_host),
			.minor = ORCH_ABI_MINOR,
			.log = service_log,
			.fail = service_fail,
			.option = service_option,
			.option_int = service_option_int,
			.event = service_event,
			.event_text = service_event_text,
			.event_line = service_event_line},
		.options = options,
	};
}
