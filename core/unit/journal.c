/* SPDX-License-Identifier: MIT */
#include "unit/journal.h"

#include "base/json_text.h"
#include "base/str.h"
#include "os/file.h"
#include "unit/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define JOURNAL_VERSION 1

/* The length up to and with the last newline; -errno. A line has at most JOURNAL_LINE_MAX_BYTES. */
static int64_t whole_lines(int fd, int64_t size, int64_t *ret_seq)
{
	char tail[JOURNAL_LINE_MAX_BYTES + 1024];
	*ret_seq = 0;
	int64_t from = size > (int64_t)sizeof(tail) ? size - (int64_t)sizeof(tail) : 0;
	ssize_t n = pread(fd, tail, sizeof(tail), from);
	if (n < 0)
		return -errno;
	while (n > 0 && tail[n - 1] != '\n')
		n--;
	if (n == 0)
		return 0;
	ssize_t begin = n - 1;
	while (begin > 0 && tail[begin - 1] != '\n')
		begin--;
	/* A line that is no JSON has no number; but not for want of memory. */
	json_t *line = NULL;
	if (json_text_parse(tail + begin, (size_t)(n - begin), 0, &line, NULL) == -ENOMEM)
		return -ENOMEM;
	*ret_seq = json_integer_value(json_object_get(line, "seq"));
	json_decref(line);
	return from + n;
}

int journal_open(int dirfd, struct journal *ret, struct err *e)
{
	CLEANUP(closep)
	int fd = openat(dirfd, UNIT_FILE_JOURNAL,
		O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, -errno, "cannot open '%s'", UNIT_FILE_JOURNAL);
	struct journal j = {0};
	if (st.st_size > 0) {
		j.size_bytes = whole_lines(fd, st.st_size, &j.seq);
		if (j.size_bytes < 0 || ftruncate(fd, j.size_bytes) < 0)
			return err_errno(e, j.size_bytes < 0 ? (int)j.size_bytes : -errno,
				"cannot open '%s'", UNIT_FILE_JOURNAL);
	}
	j.fd = TAKE_FD(fd);
	*ret = j;
	return 0;
}

void journal_close(struct journal *j)
{
	if (j->fd >= 0)
		close(j->fd);
	buf_deinit(&j->pending);
	*j = (struct journal){.fd = -1};
}

/* A copy of a value in which no string is longer than max; *cut when one was. NULL: no memory. */
static json_t *shorten(const json_t *value, size_t max, bool *cut)
{
	if (json_is_string(value)) {
		size_t len = json_string_length(value);
		const char *s = json_string_value(value);
		*cut |= len > max;
		return json_stringn(s, len > max ? utf8_cut(s, len, max) : len);
	}
	if (json_is_array(value)) {
		json_t *copy = json_array();
		size_t i;
		json_t *item;
		json_array_foreach(value, i, item) {
			if (json_array_append_new(copy, shorten(item, max, cut)) < 0) {
				json_decref(copy);
				return NULL;
			}
		}
		return copy;
	}
	if (json_is_object(value)) {
		json_t *copy = json_object();
		const char *key;
		json_t *item;
		json_object_foreach((json_t *)(uintptr_t)value, key, item) {
			if (json_object_set_new(copy, key, shorten(item, max, cut)) < 0) {
				json_decref(copy);
				return NULL;
			}
		}
		return copy;
	}
	return json_deep_copy(value);
}

/* What has too many parts to be shortened string by string: its text, from the beginning. */
static json_t *flatten(const json_t *data)
{
	CLEANUP_STR char *text = json_text_dump(data, JSON_COMPACT);
	json_t *flat = json_object();
	if (!text || json_object_set_new(flat, "text",
			     json_stringn(text, utf8_cut(text, strlen(text), 8192))) < 0) {
		json_decref(flat);
		return NULL;
	}
	return flat;
}

/* Numbers, booleans, and strings stay; a nested value becomes its text. */
static json_t *flatten_member(const json_t *item)
{
	bool cut = false;
	if (!json_is_object(item) && !json_is_array(item))
		return shorten(item, 1024, &cut);
	CLEANUP_STR char *text = json_text_dump(item, JSON_COMPACT);
	return text ? json_stringn(text, utf8_cut(text, strlen(text), 4096)) : NULL;
}

static json_t *flatten_members(const json_t *data)
{
	json_t *flat = json_object();
	const char *key;
	json_t *item;
	json_object_foreach((json_t *)(uintptr_t)data, key, item) {
		if (json_object_set_new(flat, key, flatten_member(item)) < 0) {
			json_decref(flat);
			return NULL;
		}
	}
	return flat;
}

/* Consumes data. The line is in *out, or out->failed. */
static void format_line(
	struct buf *out, int64_t seq, int64_t at, const char *kind, json_t *data, bool cut)
{
	CLEANUP_STR char *text = data ? json_text_dump(data, JSON_COMPACT) : NULL;
	json_decref(data);
	buf_reset(out);
	if (!text) {
		out->failed = true;
		return;
	}
	buf_addf(out,
		"{\"v\":%d,\"seq\":%lld,\"at\":%lld,\"kind\":\"%s\",\"data\":", JOURNAL_VERSION,
		(long long)seq, (long long)at, kind);
	buf_adds(out, text);
	buf_adds(out, cut ? ",\"cut\":true}\n" : "}\n");
}

static int make_line(struct buf *out, int64_t seq, int64_t at, const char *kind, json_t *data)
{
	static const size_t limits[] = {48000, 12000, 3000, 500};
	format_line(out, seq, at, kind, json_incref(data), false);
	for (size_t i = 0; out->len > JOURNAL_LINE_MAX_BYTES && i < 4; i++) {
		bool cut = false;
		json_t *shorter = shorten(data, limits[i], &cut);
		format_line(out, seq, at, kind, shorter, true);
	}
	if (out->len > JOURNAL_LINE_MAX_BYTES)
		format_line(out, seq, at, kind, flatten_members(data), true);
	if (out->len > JOURNAL_LINE_MAX_BYTES)
		format_line(out, seq, at, kind, flatten(data), true);
	return buf_check(out);
}

int journal_flush(struct journal *j)
{
	if (j->pending.len == 0)
		return 0;
	/* Half a line that could not be taken back would take this one with it. */
	if (j->error && ftruncate(j->fd, j->size_bytes) < 0) {
		j->error = -errno;
		return JOURNAL_BLOCKED;
	}
	ssize_t n;
	do {
		n = write(j->fd, j->pending.data, j->pending.len);
	} while (n < 0 && errno == EINTR);
	if (n == (ssize_t)j->pending.len) {
		j->size_bytes += n;
		j->seq++;
		j->error = 0;
		buf_reset(&j->pending);
		return 0;
	}
	j->error = n < 0 ? -errno : -ENOSPC;
	/* Readers stop at the last newline, so half a line harms only the next write. */
	if (n > 0 && ftruncate(j->fd, j->size_bytes) < 0)
		j->error = -errno;
	return JOURNAL_BLOCKED;
}

int journal_append(struct journal *j, int64_t at_ms, const char *kind, json_t *data)
{
	if (j->pending.len > 0)
		return JOURNAL_BLOCKED;
	if (j->size_bytes >= JOURNAL_MAX_BYTES)
		return JOURNAL_FULL;
	json_t *object = data ? json_incref(data) : json_object();
	if (!object)
		return -ENOMEM;
	int r = make_line(&j->pending, j->seq + 1, at_ms, kind, object);
	json_decref(object);
	if (r < 0) {
		buf_reset(&j->pending);
		return r;
	}
	return journal_flush(j);
}

int journal_sync(struct journal *j, struct err *e)
{
	if (fdatasync(j->fd) < 0)
		return err_errno(e, -errno, "cannot sync '%s'", UNIT_FILE_JOURNAL);
	return 0;
}

/* 1: an event; 0: not one; -ENOMEM. */
static int parse_line(const char *text, size_t len, journal_fn fn, void *user, int *ret_result)
{
	json_t *line = NULL;
	if (json_text_parse(text, len, 0, &line, NULL) == -ENOMEM)
		return -ENOMEM;
	json_t *data = json_object_get(line, "data");
	const char *kind = json_string_value(json_object_get(line, "kind"));
	int is_event = json_is_object(data) && kind &&
		       json_integer_value(json_object_get(line, "v")) == JOURNAL_VERSION;
	if (is_event)
		*ret_result =
			fn(user, &(struct journal_line){
					 .seq = json_integer_value(json_object_get(line, "seq")),
					 .at = json_integer_value(json_object_get(line, "at")),
					 .kind = kind,
					 .data = data,
					 .cut = json_is_true(json_object_get(line, "cut")),
				 });
	json_decref(line);
	return is_event;
}

int journal_read(int dirfd, int64_t *offset, size_t max_bytes, journal_fn fn, void *user,
	int64_t *ret_bad, struct err *e)
{
	CLEANUP(closep)
	int fd = openat(dirfd, UNIT_FILE_JOURNAL, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0)
		return err_errno(e, -errno, "cannot read '%s'", UNIT_FILE_JOURNAL);
	if (max_bytes < JOURNAL_LINE_MAX_BYTES)
		max_bytes = JOURNAL_LINE_MAX_BYTES; /* room for one line at least */
	CLEANUP_BUF struct buf chunk = BUF_INIT;
	struct stat st;
	if (fstat(fd, &st) < 0)
		return err_errno(e, -errno, "cannot read '%s'", UNIT_FILE_JOURNAL);
	if (st.st_size <= *offset)
		return 0;
	if ((uint64_t)(st.st_size - *offset) < max_bytes)
		max_bytes = (size_t)(st.st_size - *offset);
	if (buf_reserve(&chunk, max_bytes) < 0)
		return err_nomem(e);
	ssize_t n = fd_pread_all(fd, chunk.data, max_bytes, *offset);
	if (n < 0)
		return err_errno(e, (int)n, "cannot read '%s'", UNIT_FILE_JOURNAL);
	int64_t not_events = 0;
	int result = 0;
	const char *p = chunk.data, *end = chunk.data + n;
	const char *newline;
	while (result == 0 && p < end && (newline = memchr(p, '\n', (size_t)(end - p)))) {
		int r = parse_line(p, (size_t)(newline - p), fn, user, &result);
		if (r < 0)
			return err_nomem(e); /* the lines before it were handed over */
		not_events += r == 0;
		*offset += newline + 1 - p;
		p = newline + 1;
	}
	if (ret_bad)
		*ret_bad = not_events;
	return result;
}

enum first_line { FIRST_IS_STARTED = 1, FIRST_IS_OTHER = 2 };

static int look_at_first(void *user, const struct journal_line *line)
{
	(void)user;
	return str_eq(line->kind, JOURNAL_KIND_STARTED) ? FIRST_IS_STARTED : FIRST_IS_OTHER;
}

int journal_has_started(int dirfd, struct err *e)
{
	int64_t offset = 0;
	int r = journal_read(dirfd, &offset, JOURNAL_LINE_MAX_BYTES, look_at_first, NULL, NULL, e);
	return r == FIRST_IS_OTHER ? 0 : r;
}
