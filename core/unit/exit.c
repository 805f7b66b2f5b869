/* SPDX-License-Identifier: MIT */
#include "unit/exit.h"

#include "base/json_text.h"
#include "base/str.h"
#include "os/file.h"
#include "unit/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define EXIT_VERSION  1
#define TEXT_MAX      1024
#define MESSAGE_MAX   4096
#define UNIT_FILE_TMP "exit.json.tmp"

#define X(id, name)   name,
static const char *const cause_names[] = {UNIT_CAUSES(X)};
#undef X

const char *unit_cause_name(enum unit_cause cause)
{
	return cause_names[cause];
}

int unit_cause_parse(const char *name, enum unit_cause *ret)
{
	for (int i = 0; name && i < CAUSE_COUNT; i++) {
		if (str_eq(cause_names[i], name)) {
			*ret = (enum unit_cause)i;
			return 0;
		}
	}
	return -EINVAL;
}

#define FIELD(key, field) \
	{ \
		key, offsetof(struct unit_exit, field) \
	}
static const struct {
	const char *key;
	size_t offset;
	size_t max;
} strings[] = {
	{"text", offsetof(struct unit_exit, text), TEXT_MAX},
	{"outcome", offsetof(struct unit_exit, outcome), 64},
	{"outcome_text", offsetof(struct unit_exit, outcome_text), TEXT_MAX},
	{"session", offsetof(struct unit_exit, session), TEXT_MAX},
	{"last_message", offsetof(struct unit_exit, last_message), MESSAGE_MAX},
	{"containment", offsetof(struct unit_exit, containment), 64},
};
static const struct {
	const char *key;
	size_t offset;
} numbers[] = {
	FIELD("started_at", started_at),
	FIELD("ended_at", ended_at),
	FIELD("duration_ms", duration_ms),
	FIELD("error", error),
	FIELD("reset_at", reset_at),
	FIELD("left", left),
	FIELD("killed", killed),
	FIELD("sweep_ms", sweep_ms),
	FIELD("bytes", bytes),
	FIELD("events", events),
};
static const struct {
	const char *key;
	size_t offset;
} tokens[] = {
	FIELD("input", usage.input),
	FIELD("output", usage.output),
	FIELD("cache_read", usage.cache_read),
	FIELD("cache_write", usage.cache_write),
};
#undef FIELD

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static char **string_at(const struct unit_exit *x, size_t offset)
{
	return (char **)(void *)((char *)(uintptr_t)x + offset);
}

static int64_t *number_at(const struct unit_exit *x, size_t offset)
{
	return (int64_t *)(void *)((char *)(uintptr_t)x + offset);
}

void unit_exit_deinit(struct unit_exit *x)
{
	for (size_t i = 0; i < COUNT(strings); i++)
		free(*string_at(x, strings[i].offset));
	*x = UNIT_EXIT_INIT;
}

/* Consumes value. */
static int set(json_t *object, const char *key, json_t *value)
{
	return json_object_set_new(object, key, value) < 0 ? -ENOMEM : 0;
}

static int set_text(json_t *object, const char *key, const char *text, size_t max)
{
	size_t len = strlen(text);
	if (utf8_is_valid(text, len))
		return set(object, key, json_stringn(text, utf8_cut(text, len, max)));
	CLEANUP_STR char *clean = str_printable(text, len, true);
	if (!clean)
		return -ENOMEM;
	len = strlen(clean);
	return set(object, key, json_stringn(clean, utf8_cut(clean, len, max)));
}

static json_t *usage_to_json(const struct unit_exit *x)
{
	json_t *usage = json_object();
	for (size_t i = 0; usage && i < COUNT(tokens); i++)
		if (set(usage, tokens[i].key, json_integer(*number_at(x, tokens[i].offset))) < 0) {
			json_decref(usage);
			return NULL;
		}
	if (usage && set(usage, "cost", json_real(x->usage.cost)) < 0) {
		json_decref(usage);
		return NULL;
	}
	return usage;
}

static int exit_to_json(const struct unit_exit *x, json_t *o)
{
	int r = set(o, "v", json_integer(EXIT_VERSION));
	r |= set(o, "cause", json_string(unit_cause_name(x->cause)));
	for (size_t i = 0; i < COUNT(strings); i++) {
		const char *text = *string_at(x, strings[i].offset);
		if (text)
			r |= set_text(o, strings[i].key, text, strings[i].max);
	}
	for (size_t i = 0; i < COUNT(numbers); i++)
		r |= set(o, numbers[i].key, json_integer(*number_at(x, numbers[i].offset)));
	r |= set(o, "exit_code", json_integer(x->exit_code));
	r |= set(o, "signal", json_integer(x->signal));
	r |= set(o, "contained", json_boolean(x->contained));
	r |= set(o, "usage", usage_to_json(x));
	return r < 0 ? -ENOMEM : 0;
}

int unit_exit_reserve(int dirfd, int *ret_fd, struct err *e)
{
	CLEANUP(closep)
	int fd = openat(
		dirfd, UNIT_FILE_TMP, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(e, -errno, "cannot make '%s'", UNIT_FILE_TMP);
	/* fallocate(2) itself: where a file system has none there is nothing to reserve. */
	int reserved;
	do {
		reserved = fallocate(fd, 0, 0, UNIT_EXIT_MAX_BYTES);
	} while (reserved < 0 && errno == EINTR);
	if (reserved < 0 && errno != EOPNOTSUPP && errno != ENOSYS) {
		int r = err_errno(e, -errno, "cannot reserve space for '%s'", UNIT_FILE_EXIT);
		unlinkat(dirfd, UNIT_FILE_TMP, 0);
		return r;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static int commit(int dirfd, int fd, const char *text)
{
	size_t len = strlen(text);
	int r = fd_pwrite_all(fd, text, len, 0);
	if (r == 0 && ftruncate(fd, (off_t)len) < 0)
		r = -errno;
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 && renameat(dirfd, UNIT_FILE_TMP, dirfd, UNIT_FILE_EXIT) < 0)
		r = -errno;
	return r;
}

int unit_exit_commit(int dirfd, int reserve_fd, const struct unit_exit *x, struct err *e)
{
	CLEANUP(closep) int fd = reserve_fd;
	if (fd < 0) {
		int r = unit_exit_reserve(dirfd, &fd, e);
		if (r < 0)
			return r;
	}
	json_t *o = json_object();
	if (!o)
		return err_nomem(e);
	CLEANUP_STR char *text = exit_to_json(x, o) == 0 ? json_text_dump(o, JSON_INDENT(1)) : NULL;
	if (text && strlen(text) > UNIT_EXIT_MAX_BYTES) {
		/* Control characters take six bytes each. */
		(void)json_object_del(o, "last_message"); /* not there: nothing to do */
		free(text);
		text = json_text_dump(o, JSON_INDENT(1));
	}
	json_decref(o);
	if (!text)
		return err_nomem(e);
	int r = commit(dirfd, fd, text);
	if (r < 0) {
		unlinkat(dirfd, UNIT_FILE_TMP, 0);
		return err_errno(e, r, "cannot write '%s'", UNIT_FILE_EXIT);
	}
	return dir_sync(dirfd, UNIT_FILE_EXIT, e);
}

static int read_exit(const json_t *o, struct unit_exit *x, struct err *e)
{
	if (json_integer_value(json_object_get(o, "v")) != EXIT_VERSION)
		return err_set(e, -EBADMSG, UNIT_FILE_EXIT ": written by another version");
	if (unit_cause_parse(json_string_value(json_object_get(o, "cause")), &x->cause) < 0)
		return err_set(e, -EBADMSG, UNIT_FILE_EXIT ": no valid cause");
	for (size_t i = 0; i < COUNT(strings); i++)
		if (str_replace(string_at(x, strings[i].offset),
			    json_string_value(json_object_get(o, strings[i].key))) < 0)
			return err_nomem(e);
	if (!x->text && str_replace(&x->text, "") < 0)
		return err_nomem(e);
	for (size_t i = 0; i < COUNT(numbers); i++)
		*number_at(x, numbers[i].offset) =
			json_integer_value(json_object_get(o, numbers[i].key));
	const json_t *usage = json_object_get(o, "usage");
	for (size_t i = 0; i < COUNT(tokens); i++)
		*number_at(x, tokens[i].offset) =
			json_integer_value(json_object_get(usage, tokens[i].key));
	x->usage.cost = json_number_value(json_object_get(usage, "cost"));
	x->exit_code = (int)json_integer_value(json_object_get(o, "exit_code"));
	x->signal = (int)json_integer_value(json_object_get(o, "signal"));
	x->contained = json_is_true(json_object_get(o, "contained"));
	return 0;
}

int unit_exit_load(int dirfd, struct unit_exit *ret, struct err *e)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	int r = file_read(dirfd, UNIT_FILE_EXIT, UNIT_EXIT_MAX_BYTES * 2, &text, e);
	if (r < 0)
		return r;
	json_error_t error;
	json_t *o = NULL;
	r = json_text_parse(buf_cstr(&text), text.len, 0, &o, &error);
	if (r == -ENOMEM)
		return err_nomem(e);
	if (r < 0)
		return err_set(e, -EBADMSG, UNIT_FILE_EXIT ": %s", error.text);
	CLEANUP_UNIT_EXIT struct unit_exit x = UNIT_EXIT_INIT;
	r = read_exit(o, &x, e);
	json_decref(o);
	if (r < 0)
		return r;
	*ret = x;
	x = UNIT_EXIT_INIT;
	return 0;
}
