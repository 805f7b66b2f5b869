/* SPDX-License-Identifier: MIT */
#include "cli/status_text.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"
#include "plan/words.h"

#include <string.h>

#define NAME_WIDTH_MAX 40
#define REASON_MAX     200
#define AWAITED_MAX    5

/* One line, escaped, cut. */
static void put_line(struct buf *out, const char *text)
{
	size_t len = strcspn(text, "\n");
	CLEANUP_STR char *safe = str_printable(text, utf8_cut(text, len, REASON_MAX), false);
	if (safe)
		buf_adds(out, safe);
	else
		out->failed = true;
	if (len > REASON_MAX || text[len])
		buf_adds(out, " ...");
}

static void put_awaited(
	struct buf *out, const struct status_plan *p, const struct status_task *t, const char *sep)
{
	size_t n = 0;
	vec_foreach(i, &t->depends_on) {
		if (!status_waits_for(p, t, *i))
			continue;
		if (n < AWAITED_MAX)
			buf_addf(out, "%s%s", n ? ", " : sep, p->tasks.items[*i].name);
		n++;
	}
	if (n > AWAITED_MAX)
		buf_addf(out, " and %zu more", n - AWAITED_MAX);
}

static void put_task(
	struct buf *out, const struct status_plan *p, const struct status_task *t, int width)
{
	bool first = true;
	buf_addf(out, "  %-*s  %-15s", width, t->name, task_status_name(t->status));
	if (t->attempt > 0)
		buf_addf(out, "  attempt %lld", (long long)t->attempt);
	if (t->paused) {
		buf_adds(out, "  paused");
		first = false;
	}
	if (t->reason) {
		buf_adds(out, first ? "  " : "; ");
		put_line(out, t->reason);
		first = false;
	}
	put_awaited(out, p, t, first ? "  waits for " : "; waits for ");
	while (out->len > 0 && out->data[out->len - 1] == ' ')
		buf_truncate(out, out->len - 1);
	buf_addc(out, '\n');
}

static void put_halt(struct buf *out, const struct status_plan *p)
{
	char at[25];
	format_time_iso(p->halt_at, at);
	buf_addf(out, " (%s", halt_reason_name(p->halt));
	for (int i = 0; i < HALT_COUNT; i++)
		if (p->halt_also & (1U << i))
			buf_addf(out, ", %s", halt_reason_name((enum halt_reason)i));
	buf_addf(out, ", %s)", at);
}

static void put_plan_line(struct buf *out, const struct status_plan *p)
{
	size_t passed = 0;
	vec_foreach(t, &p->tasks)
		passed += t->status == TASK_PASSED;
	buf_addf(out, "%s: %s", p->name, plan_status_name(p->status));
	if (p->halted && !str_eq(halt_reason_name(p->halt), plan_status_name(p->status)))
		put_halt(out, p);
	if (p->paused)
		buf_adds(out, ", paused");
	buf_addf(out, ", %zu of %zu passed", passed, p->tasks.count);
	if (p->branch)
		buf_addf(out, ", branch %s", p->branch);
	if (p->tokens[0] || p->tokens[1])
		buf_addf(out, ", tokens: %lld in, %lld out", (long long)p->tokens[0],
			(long long)p->tokens[1]);
	if (p->findings.count > 0)
		buf_addf(out, ", %lld finding%s", (long long)p->findings.count,
			p->findings.count == 1 ? "" : "s");
	buf_addc(out, '\n');
}

static void put_plan(struct buf *out, const struct status_plan *p)
{
	size_t width = 0;
	put_plan_line(out, p);
	vec_foreach(t, &p->tasks) {
		size_t len = strlen(t->name);
		width = len > width ? len : width;
	}
	if (width > NAME_WIDTH_MAX)
		width = NAME_WIDTH_MAX;
	vec_foreach(t, &p->tasks)
		put_task(out, p, t, (int)width);
}

char *status_text(const struct status *s)
{
	CLEANUP_BUF struct buf out = BUF_INIT;
	if (s->engine.running)
		buf_addf(&out, "engine: running, pid %d\n", s->engine.pid);
	if (s->waits)
		buf_addf(&out, "waiting: %s\n", s->waits);
	if (s->plans.count == 0)
		buf_adds(&out, "no plans\n");
	vec_foreach(p, &s->plans) {
		if (p != s->plans.items)
			buf_addc(&out, '\n');
		put_plan(&out, p);
	}
	return buf_steal(&out);
}
