/* SPDX-License-Identifier: MIT */
/* Events in the form of plugin_api.h. */
#include "../common/drive.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void drive_event(struct orch_agent *a, int kind, json_t *data)
{
	char *text = data ? json_dumps(data, JSON_COMPACT) : NULL;
	int r = text ? a->host->event(a->host, kind, text) : -ENOMEM;
	if (r < 0)
		a->host->log(a->host, ORCH_LOG_ERROR, "an event was lost: %s", strerror(-r));
	free(text);
	json_decref(data);
}

void drive_text(struct orch_agent *a, int kind, const char *text)
{
	if (text && text[0])
		(void)a->host->event_text(a->host, kind, text, strlen(text));
}

void drive_pieces_end(struct orch_agent *a)
{
	if (a->pieces_len > 0)
		(void)a->host->event_text(a->host, ORCH_EVENT_MESSAGE, a->pieces, a->pieces_len);
	a->pieces_len = 0;
}

void drive_piece(struct orch_agent *a, const char *piece)
{
	for (size_t left = strlen(piece); left > 0;) {
		size_t room = sizeof(a->pieces) - a->pieces_len, n = left < room ? left : room;
		memcpy(a->pieces + a->pieces_len, piece, n);
		a->pieces_len += n;
		piece += n;
		left -= n;
		if (a->pieces_len == sizeof(a->pieces))
			drive_pieces_end(a);
	}
}

void drive_session(struct orch_agent *a, const char *id)
{
	if (!id || !id[0] || (a->session_id && strcmp(a->session_id, id) == 0))
		return;
	char *copy = strdup(id);
	if (copy) {
		free(a->session_id);
		a->session_id = copy;
	}
	drive_event(a, ORCH_EVENT_SESSION, json_pack("{s:s}", "id", id));
}

static json_t *borrowed(const json_t *value)
{
	return value ? json_deep_copy(value) : json_null();
}

void drive_tool_call(struct orch_agent *a, const char *id, const char *name, const json_t *input)
{
	a->answered = true;
	drive_event(a, ORCH_EVENT_TOOL_CALL,
		json_pack("{s:s, s:s, s:o}", "id", id ? id : "", "name", name ? name : "", "input",
			borrowed(input)));
}

void drive_tool_result(struct orch_agent *a, const char *id, bool ok, const json_t *output)
{
	drive_event(a, ORCH_EVENT_TOOL_RESULT,
		json_pack("{s:s, s:b, s:o}", "id", id ? id : "", "ok", (int)ok, "output",
			borrowed(output)));
}

void drive_waits(struct orch_agent *a, int64_t until, const char *text)
{
	json_t *data = json_pack("{s:s}", "text", text ? text : "it waits");
	if (data && until > 0)
		(void)json_object_set_new(data, "until", json_integer(until));
	drive_event(a, ORCH_EVENT_RATE_LIMIT, data);
}

void drive_usage(struct orch_agent *a, const struct drive_usage *u)
{
	json_t *data = json_pack("{s:I, s:I, s:I, s:I}", "input", (json_int_t)u->input, "output",
		(json_int_t)u->output, "cache_read", (json_int_t)u->cache_read, "cache_write",
		(json_int_t)u->cache_write);
	if (data && u->id)
		(void)json_object_set_new(data, "id", json_string(u->id));
	if (data && u->total)
		(void)json_object_set_new(data, "total", json_true());
	if (data && u->cost >= 0)
		(void)json_object_set_new(data, "cost", json_real(u->cost));
	drive_event(a, ORCH_EVENT_USAGE, data);
}
