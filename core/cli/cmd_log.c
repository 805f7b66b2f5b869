/* SPDX-License-Identifier: MIT */
/* orch log: what happened to a task. */
#include "cli/commands.h"

#include "base/clock.h"
#include "base/json_text.h"
#include "base/str.h"
#include "cli/log_text.h"
#include "os/file.h"
#include "unit/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>

#define FOLLOW_MS 500
#define RAW_MAX   ((size_t)1 << 30)

struct log {
	struct cli *cli;
	struct cli_site at;
	struct cli_task task;
	int64_t attempt; /* 0: all; for --raw the newest */
	bool told;       /* something was printed */
	bool follow, json, raw;
	struct log_cursor cursor;
	enum task_status status;
	char unit_id[UNIT_ID_LEN + 1];
};

/* ---- --json ---- */

static int print_event(void *ctx, const struct event_row *row)
{
	struct log *l = ctx;
	l->cursor.event = row->seq;
	if (l->attempt && row->attempt != l->attempt)
		return 0;
	char at[25];
	format_time_iso(row->at, at);
	json_t *data = NULL;
	if (json_text_parse(row->data, strlen(row->data), 0, &data, NULL) == -ENOMEM)
		return -ENOMEM;
	json_t *line = json_pack("{s:i, s:I, s:s, s:I, s:s, s:o}", "version", 1, "seq",
		(json_int_t)row->seq, "at", at, "attempt", (json_int_t)row->attempt, "kind",
		row->kind, "data", data ? data : json_object());
	return cli_put_json(line);
}

/* ---- --raw ---- */

static int note_unit(void *ctx, const struct attempt_row *row)
{
	struct log *l = ctx;
	if (l->attempt == 0 || row->number == l->attempt)
		snprintf(l->unit_id, sizeof(l->unit_id), "%s", row->unit_id);
	return 0;
}

/* A file gets the bytes as they were captured; a terminal never gets an agent's escapes. */
static int print_raw_text(const struct buf *text)
{
	if (!isatty(STDOUT_FILENO)) {
		fwrite(buf_cstr(text), 1, text->len, stdout);
		return 0;
	}
	CLEANUP_STR char *safe = str_printable(buf_cstr(text), text->len, true);
	if (!safe)
		return -ENOMEM;
	fputs(safe, stdout);
	return 0;
}

static int print_raw(struct log *l, struct err *e)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	int r = store_each_attempt(l->at.store, l->task.task_id, note_unit, l, e);
	if (r < 0)
		return r;
	if (!l->unit_id[0])
		return err_exit(e, EXIT_NOINPUT, "task '%s' has %s", l->task.task,
			l->attempt ? "no such attempt" : "not been attempted yet");
	CLEANUP_STR char *path =
		str_printf("%s/units/%s/" UNIT_FILE_OUTPUT, l->at.site->state_dir, l->unit_id);
	r = path ? file_read(AT_FDCWD, path, RAW_MAX, &text, e) : err_nomem(e);
	if (r == -ENOENT)
		return err_exit(e, EXIT_NOINPUT,
			"the output of this attempt is not kept any more, or there is none yet");
	if (r == 0 && print_raw_text(&text) < 0)
		r = err_nomem(e);
	return r;
}

/* ---- following ---- */

static int print_new(struct log *l, struct err *e)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	int r = l->json ? store_each_event(l->at.store, l->task.plan_id, l->task.task_id,
				  l->cursor.event, print_event, l, e)
			: log_text(l->at.store, &l->task, l->attempt, &l->cursor, &text, e);
	if (r < 0)
		return e->code ? r : err_set(e, r, "cannot print the log");
	fwrite(buf_cstr(&text), 1, text.len, stdout);
	l->told |= text.len > 0;
	return 0;
}

static int note_status(void *ctx, const struct task_row *row)
{
	struct log *l = ctx;
	l->status = row->status;
	return 0;
}

static bool is_over(enum task_status status)
{
	return status == TASK_PASSED || status == TASK_FAILED || status == TASK_ESCALATED;
}

static bool stopped(const struct cli *cli)
{
	struct pollfd p = {.fd = cli->signal_fd, .events = POLLIN};
	return poll(&p, 1, FOLLOW_MS) > 0;
}

static int follow(struct log *l)
{
	for (;;) {
		struct err e = ERR_INIT;
		/* First the state, then the log: what led to the end is in it. */
		int r = store_task(l->at.store, l->task.task_id, note_status, l, &e);
		if (r == 1)
			r = err_exit(&e, EXIT_NOINPUT, "task '%s' is gone", l->task.task);
		if (r == 0)
			r = print_new(l, &e);
		if (r < 0)
			return cli_error(l->cli, &e);
		if (!l->told && !l->json && !l->cli->quiet)
			printf("%s/%s: nothing has happened yet\n", l->task.plan, l->task.task);
		l->told = true;
		int status = cli_flush(0);
		if (status || !l->follow || is_over(l->status))
			return status;
		if (stopped(l->cli))
			return EXIT_INTERRUPTED;
	}
}

static int parse(struct log *l, int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'},
		{"follow", no_argument, NULL, 'f'}, {"raw", no_argument, NULL, 'r'},
		{"attempt", required_argument, NULL, 'a'}, CLI_OPTIONS};
	int val, status = -1;
	while ((val = cli_option(l->cli, argc, argv, options, &status)) != -1) {
		if (val == CLI_EXIT)
			return status;
		if (val == 'j')
			l->json = true;
		else if (val == 'f')
			l->follow = true;
		else if (val == 'r')
			l->raw = true;
		else if (val != 'a')
			return cli_usage(l->cli, "unknown option '-%c'", val);
		else if (parse_int64(optarg, 1, INT32_MAX, &l->attempt) < 0)
			return cli_usage(l->cli, "--attempt: expected a number, not '%s'", optarg);
	}
	if (l->raw && (l->json || l->follow))
		return cli_usage(l->cli, "--raw goes with neither --json nor -f");
	return optind + 1 == argc ? -1 : cli_usage(l->cli, "expected one task");
}

static int has_attempt(void *ctx, const struct attempt_row *row)
{
	(void)ctx;
	(void)row;
	return 0;
}

/* 66 for an attempt that was asked for and does not exist. */
static int check_attempt(struct log *l)
{
	struct err e = ERR_INIT;
	int r = l->attempt ? store_attempt(l->at.store, l->task.task_id, l->attempt, has_attempt,
				     NULL, &e)
			   : 0;
	if (r == 1)
		err_exit(&e, EXIT_NOINPUT, "task '%s' has no attempt %lld", l->task.task,
			(long long)l->attempt);
	return r == 0 ? 0 : cli_error(l->cli, &e);
}

int cmd_log(struct cli *cli, int argc, char **argv)
{
	struct log l = {.cli = cli, .at = CLI_SITE_INIT};
	struct err e = ERR_INIT;
	int status = parse(&l, argc, argv);
	if (status >= 0)
		return status;
	const char *name = argv[optind];
	status = cli_site_open(cli, CLI_LOOK, &l.at);
	if (status == 0)
		status = cli_find_task(cli, l.at.store, name, &l.task);
	if (status == 0)
		status = check_attempt(&l);
	if (status == 0 && l.raw)
		status = print_raw(&l, &e) < 0 ? cli_error(cli, &e) : cli_flush(0);
	else if (status == 0)
		status = follow(&l);
	cli_site_close(&l.at);
	return status;
}
