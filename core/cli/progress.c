/* SPDX-License-Identifier: MIT */
#include "cli/progress.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "base/vec.h"
#include "cli/cli.h"
#include "cli/outlet.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define LIVE_LINES_MAX 30
#define LIVE_MS        1000 /* between two looks of the block */
#define PUMP_MS        5000 /* what a slow reader has not taken is offered again */
#define HURRY_MS       200

/* A task under way, for the live display. */
struct row {
	char *task;
	char *state;
	char *last;
	int64_t since;
	int64_t attempt;
};

struct progress {
	enum progress_mode mode;
	struct outlet *out, *errout;
	struct VEC(struct row) rows;
	unsigned drawn; /* lines of the live block that are on the screen */
	struct run_halt halt;
	char *halt_plan;
	size_t changes;
	bool halted;
};

int progress_new(enum progress_mode mode, int stop_fd, struct progress **ret, struct err *e)
{
	CLEANUP(progress_freep) struct progress *p = calloc(1, sizeof(*p));
	if (!p)
		return err_nomem(e);
	p->mode = mode;
	int r = outlet_open(&stdout, STDOUT_FILENO, stop_fd, &p->out, e);
	if (r == 0)
		r = outlet_open(&stderr, STDERR_FILENO, stop_fd, &p->errout, e);
	if (r < 0)
		return r;
	*ret = TAKE(p);
	return 0;
}

static void row_clear(struct row *r)
{
	free(r->task);
	free(r->state);
	free(r->last);
}

void progress_free(struct progress *p)
{
	if (!p)
		return;
	vec_foreach(r, &p->rows)
		row_clear(r);
	VEC_FREE(&p->rows);
	free(p->halt_plan);
	outlet_close(p->out);
	outlet_close(p->errout);
	free(p);
}

/* ---- the live block ---- */

static void live_erase(struct progress *p)
{
	if (p->drawn)
		printf("\033[%uA\033[J", p->drawn);
	p->drawn = 0;
}

/* One that does not tell its size is taken for the usual one. */
static struct winsize terminal_size(void)
{
	struct winsize size;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
		size = (struct winsize){0};
	if (size.ws_col == 0)
		size.ws_col = 80;
	if (size.ws_row == 0)
		size.ws_row = 24;
	return size;
}

/* The cursor goes up no further than to the top of the screen, and not over a line that was wrapped
 * as one: the block is lower than the screen and each line of it narrower. */
static void live_draw(struct progress *p)
{
	struct winsize size = terminal_size();
	size_t max = size.ws_row <= LIVE_LINES_MAX ? size.ws_row - 1U : LIVE_LINES_MAX;
	size_t shown = p->rows.count <= max ? p->rows.count : max ? max - 1 : 0;
	int64_t now = clock_mono_ms();
	vec_foreach(r, &p->rows) {
		if (p->drawn >= shown)
			break;
		int64_t secs = (now - r->since) / 1000;
		char line[1024];
		snprintf(line, sizeof(line), "  %-24.40s %-11s %3lld:%02lld  %s", r->task, r->state,
			(long long)(secs / 60), (long long)(secs % 60), r->last ? r->last : "");
		line[strcspn(line, "\n")] = '\0';
		size_t cut = utf8_cut(line, strlen(line), size.ws_col - 1U);
		printf("%.*s\n", (int)cut, line);
		p->drawn++;
	}
	if (shown < p->rows.count && max > 0) {
		char line[32];
		snprintf(line, sizeof(line), "  (%zu more)", p->rows.count - shown);
		printf("%.*s\n", (int)size.ws_col - 1, line);
		p->drawn++;
	}
	fflush(stdout);
}

static struct row *row_find(struct progress *p, const char *task)
{
	vec_foreach(r, &p->rows)
		if (strcmp(r->task, task) == 0)
			return r;
	return NULL;
}

static bool is_under_way(const char *state)
{
	return str_eq(state, "assigned") || str_eq(state, "running") || str_eq(state, "checking") ||
	       str_eq(state, "integrating");
}

static void live_change(struct progress *p, const struct run_change *c)
{
	struct row *r = row_find(p, c->task);
	if (r && !is_under_way(c->to)) {
		row_clear(r);
		*r = p->rows.items[--p->rows.count];
		return;
	}
	if (!is_under_way(c->to))
		return;
	if (!r) {
		r = VEC_PUSH(&p->rows);
		if (!r)
			return;
		r->task = str_dup(c->task);
		r->since = clock_mono_ms();
	}
	r->attempt = c->attempt;
	free(r->state);
	r->state = str_dup(c->to);
	if (!r->task || !r->state)
		row_clear(&p->rows.items[--p->rows.count]);
}

/* ---- lines ---- */

static void print_change_json(const struct run_change *c)
{
	json_t *line = json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:I, s:s?, s:s?}", "version", 1,
		"type", "task", "plan", c->plan, "task", c->task, "from", c->from, "to", c->to,
		"attempt", (json_int_t)c->attempt, "outcome", c->outcome[0] ? c->outcome : NULL,
		"reason", c->reason);
	if (cli_put_json(line) < 0)
		log_warning("out of memory: a line of the output is missing");
	fflush(stdout);
}

static void print_change(const struct run_change *c)
{
	CLEANUP_STR char *reason =
		c->reason ? str_printable(c->reason, strlen(c->reason), false) : NULL;
	if (reason)
		reason[utf8_cut(reason, strlen(reason), 300)] = '\0';
	char attempt[32] = "";
	if (c->attempt > 0)
		snprintf(attempt, sizeof(attempt), " (attempt %lld)", (long long)c->attempt);
	printf("%s: %s%s%s%s\n", c->task, c->to, attempt, reason ? ": " : "", reason ? reason : "");
	fflush(stdout);
}

static void on_change(void *ctx, const struct run_change *c)
{
	struct progress *p = ctx;
	p->changes++;
	switch (p->mode) {
	case PROGRESS_JSON:
		print_change_json(c);
		break;
	case PROGRESS_PLAIN:
		print_change(c);
		break;
	case PROGRESS_LIVE:
		live_erase(p);
		if (!is_under_way(c->to))
			print_change(c);
		live_change(p, c);
		live_draw(p);
		break;
	case PROGRESS_QUIET:
		break;
	}
}

static void on_activity(void *ctx, const char *plan, const char *task, const char *text)
{
	struct progress *p = ctx;
	(void)plan;
	struct row *r = p->mode == PROGRESS_LIVE ? row_find(p, task) : NULL;
	if (!r)
		return;
	size_t len = strcspn(text, "\n");
	free(r->last);
	r->last = str_printable(text, len < 200 ? len : utf8_cut(text, len, 200), false);
}

static void on_halt(void *ctx, const struct run_halt *halt)
{
	struct progress *p = ctx;
	p->halted = true;
	p->halt = *halt;
	free(p->halt_plan);
	p->halt_plan = str_dup(halt->plan);
	p->halt.plan = p->halt_plan;
}

static void on_warning(void *ctx, const char *text)
{
	struct progress *p = ctx;
	if (p->mode == PROGRESS_LIVE)
		live_erase(p);
	CLEANUP_STR char *safe = str_printable(text, strlen(text), true);
	fprintf(stderr, "orch: warning: %s\n", safe ? safe : "out of memory");
	if (p->mode == PROGRESS_LIVE)
		live_draw(p);
}

static void on_tick(void *ctx)
{
	struct progress *p = ctx;
	if (p->mode == PROGRESS_LIVE) {
		live_erase(p);
		live_draw(p);
	}
	outlet_pump(p->out);
	outlet_pump(p->errout);
}

struct run_listener progress_listener(struct progress *p)
{
	return (struct run_listener){
		.ctx = p,
		.change = on_change,
		.activity = on_activity,
		.halt = on_halt,
		.warning = on_warning,
		.tick = on_tick,
		.tick_ms = p->mode == PROGRESS_LIVE ? LIVE_MS : PUMP_MS,
	};
}

bool progress_halted(const struct progress *p, struct run_halt *ret)
{
	if (p->halted)
		*ret = p->halt;
	return p->halted;
}

/* ---- the end ---- */

void progress_summary(struct progress *p, struct summary *s)
{
	if (p->mode == PROGRESS_LIVE)
		live_erase(p);
	s->idle = p->changes == 0;
	if (p->mode == PROGRESS_JSON)
		summary_json(s);
	else if (p->mode != PROGRESS_QUIET || halt_reason_status(s->halt->reason) != 0)
		summary_text(s);
}

int progress_drain(struct progress *p, bool in_a_hurry)
{
	int patience_ms = in_a_hurry ? HURRY_MS : -1;
	int r = outlet_drain(p->out, patience_ms);
	(void)!outlet_drain(p->errout, patience_ms); /* there is nowhere to tell it */
	return r;
}
