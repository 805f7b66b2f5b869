/* SPDX-License-Identifier: MIT */
#include "run/record.h"

#include "base/clock.h"
#include "base/str.h"
#include "os/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>

#ifndef ORCH_VERSION /* set by the build */
#define ORCH_VERSION "unknown"
#endif

#define FILES_KEPT  10
#define BYTES_MAX   (64U << 20)
#define BLOCK_BYTES (64U << 10)

static const char full[] = "{\"full\":true}\n";

struct record {
	int fd; /* -1: it has ended */
	char *path;
	struct buf lines; /* not yet written */
	size_t written;
	int failed; /* negative: why it has ended, not yet told */
};

static void end(struct record *rec)
{
	close(rec->fd);
	rec->fd = -1;
	buf_deinit(&rec->lines);
}

static void write_lines(struct record *rec)
{
	int r = buf_check(&rec->lines);
	bool is_full = rec->written + rec->lines.len > BYTES_MAX - sizeof(full);
	if (is_full)
		r = fd_write_all(rec->fd, full, sizeof(full) - 1);
	else if (r == 0)
		r = fd_write_all(rec->fd, rec->lines.data, rec->lines.len);
	rec->failed = r;
	rec->written += rec->lines.len;
	buf_reset(&rec->lines);
	if (r < 0 || is_full)
		end(rec);
}

void record_call(void *ctx, const struct engine_call *call)
{
	struct record *rec = ctx;
	if (rec->fd < 0)
		return;
	engine_call_write(&rec->lines, call);
	bool decides =
		call->kind == CALL_BEGIN || call->kind == CALL_ADMIT || call->kind == CALL_STEP;
	if (decides || rec->lines.len >= BLOCK_BYTES)
		write_lines(rec);
}

int record_flush(struct record *rec, struct err *e)
{
	if (!rec)
		return 0;
	if (rec->fd >= 0)
		write_lines(rec);
	int code = rec->failed;
	rec->failed = 0;
	return code < 0 ? err_errno(e, code,
				  "the run goes on, but is not recorded any more: cannot write "
				  "'%s'",
				  rec->path)
			: 0;
}

/* ---- files ---- */

static int is_record(const struct dirent *entry)
{
	return str_ends(entry->d_name, ".jsonl");
}

/* Their names begin with the time. */
static void remove_old(int dir)
{
	struct dirent **found;
	int n = scandirat(dir, ".", &found, is_record, alphasort);
	for (int i = 0; i < n; i++) {
		if (i + FILES_KEPT <= n)
			unlinkat(dir, found[i]->d_name, 0);
		free(found[i]);
	}
	if (n >= 0)
		free(found);
}

static char *file_name(void)
{
	char now[25];
	format_time_iso(clock_wall_ms(), now);
	for (char *p = now; *p; p++)
		if (*p == ':')
			*p = '-';
	return str_printf("%s-%ld.jsonl", now, (long)getpid());
}

static int open_file(struct record *rec, const char *dir_path, struct err *e)
{
	CLEANUP(closep) int dir = -1;
	CLEANUP_STR char *name = file_name();
	rec->path = name ? path_join(dir_path, name) : NULL;
	if (!rec->path)
		return err_nomem(e);
	int r = dir_make(AT_FDCWD, dir_path, 0700, e);
	if (r == 0)
		r = dir_open(AT_FDCWD, dir_path, &dir, e);
	if (r < 0)
		return r;
	remove_old(dir);
	rec->fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return rec->fd < 0 ? err_errno(e, -errno, "cannot make '%s'", rec->path) : 0;
}

int record_open(const char *state_dir, struct record **ret, struct err *e)
{
	CLEANUP_STR char *dir_path = path_join(state_dir, RECORD_DIR);
	CLEANUP(record_closep) struct record *rec = calloc(1, sizeof(*rec));
	if (!dir_path || !rec)
		return err_nomem(e);
	rec->fd = -1;
	int r = open_file(rec, dir_path, e);
	if (r < 0)
		return err_prefix(e, "the run is not recorded");
	engine_call_write_head(&rec->lines, ORCH_VERSION);
	*ret = TAKE(rec);
	return 0;
}

void record_close(struct record *rec)
{
	if (!rec)
		return;
	if (rec->fd >= 0)
		write_lines(rec); /* nobody is there to be told of a failure */
	if (rec->fd >= 0)
		end(rec);
	buf_deinit(&rec->lines);
	free(rec->path);
	free(rec);
}
