/* SPDX-License-Identifier: MIT */
#include "cli/report_html.h"

#include "base/clock.h"
#include "base/map.h"
#include "base/str.h"

#include <string.h>

#define GANTT_LEFT  220
#define GANTT_WIDTH 760
#define ROW_HEIGHT  24
#define NODE_WIDTH  170
#define NODE_HEIGHT 34
#define GAP_X       60
#define GAP_Y       16
#define SHOWN_NAME  26 /* bytes of a name in a picture */

static const char style[] =
	"body{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:1020px;padding:0 1em;"
	"color:#1a1d21;background:#fff}h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}"
	"table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #d8dce2;"
	"padding:.3em .6em;text-align:left;vertical-align:top}td.n,th.n{text-align:right;"
	"font-variant-numeric:tabular-nums}.reason{color:#5b6470}svg{display:block;max-width:100%;"
	"height:auto}svg text{font:12px system-ui,sans-serif;fill:#1a1d21}.box{overflow-x:auto}"
	".passed,.ok{fill:#2f8f4e;color:#2f8f4e}.failed,.escalated,.bad{fill:#c23b3b;color:#c23b3b}"
	".awaiting_review{fill:#b7791f;color:#b7791f}.open,.running,.checking,.integrating,"
	".assigned{fill:#2d6cc0;color:#2d6cc0}.pending{fill:#9aa3ae;color:#6a737d}"
	".edge{stroke:#9aa3ae;fill:none}.grid{stroke:#e4e7eb}svg .on{fill:#fff}"
	"@media(prefers-color-scheme:dark){body{background:#14171a;color:#e3e6ea}"
	"svg text{fill:#e3e6ea}td,th{border-color:#31373d}.grid{stroke:#2a2f35}"
	".reason{color:#9aa3ae}}";

static const char *text_of(const json_t *object, const char *key)
{
	const char *s = json_string_value(json_object_get(object, key));
	return s ? s : "";
}

static long long number_of(const json_t *object, const char *key)
{
	return (long long)json_integer_value(json_object_get(object, key));
}

/* Whatever an agent or a person wrote is text, never markup; control characters are dropped. */
static void put_text(struct buf *out, const char *text, size_t max)
{
	size_t len = strlen(text), cut = len > max ? utf8_cut(text, len, max) : len;
	for (size_t i = 0; i < cut; i++) {
		unsigned char c = (unsigned char)text[i];
		if (c == '&')
			buf_adds(out, "&amp;");
		else if (c == '<')
			buf_adds(out, "&lt;");
		else if (c == '>')
			buf_adds(out, "&gt;");
		else if (c == '"')
			buf_adds(out, "&quot;");
		else if (c >= ' ' && c != 0x7f)
			buf_addc(out, (char)c);
		else
			buf_addc(out, ' ');
	}
	if (cut < len)
		buf_adds(out, "…");
}

void report_duration(long long ms, struct buf *out)
{
	long long s = ms / 1000;
	if (s >= 3600)
		buf_addf(out, "%lldh %02lldm %02llds", s / 3600, s / 60 % 60, s % 60);
	else if (s >= 60)
		buf_addf(out, "%lldm %02llds", s / 60, s % 60);
	else
		buf_addf(out, "%lld.%llds", s, ms % 1000 / 100);
}

/* The class by which an attempt is coloured. */
static const char *attempt_class(const json_t *attempt)
{
	const char *outcome = text_of(attempt, "outcome");
	if (!outcome[0])
		return "open";
	return str_eq(outcome, "ok") || str_eq(outcome, "not_needed") ? "ok" : "bad";
}

/* ---- the Gantt picture ---- */

struct scale {
	long long from, to;
};

static double at(const struct scale *s, long long ms)
{
	double span = (double)(s->to > s->from ? s->to - s->from : 1);
	double x = (double)(ms - s->from) / span;
	return GANTT_LEFT + GANTT_WIDTH * (x < 0 ? 0 : x > 1 ? 1 : x);
}

static void put_bar(struct buf *out, const struct scale *s, const json_t *attempt, size_t row)
{
	long long from = number_of(attempt, "started_at"), to = number_of(attempt, "ended_at");
	if (from == 0)
		return;
	double x = at(s, from), width = at(s, to ? to : s->to) - x;
	buf_addf(out,
		"<rect class=\"%s\" x=\"%.1f\" y=\"%zu\" width=\"%.1f\" height=\"%d\" rx=\"2\">"
		"<title>attempt %lld, ",
		attempt_class(attempt), x, row * ROW_HEIGHT + 4, width < 2 ? 2 : width,
		ROW_HEIGHT - 8, number_of(attempt, "number"));
	put_text(out, text_of(attempt, "harness"), 100);
	buf_adds(out, ": ");
	put_text(out, text_of(attempt, "outcome")[0] ? text_of(attempt, "outcome") : "under way",
		100);
	buf_adds(out, ", ");
	report_duration(number_of(attempt, "duration_ms"), out);
	buf_adds(out, "</title></rect>");
}

static void put_gantt(struct buf *out, const json_t *report)
{
	const json_t *tasks = json_object_get(report, "tasks");
	const json_t *totals = json_object_get(report, "totals");
	struct scale s = {number_of(totals, "started_at"), number_of(totals, "ended_at")};
	size_t i, k, rows = json_array_size(tasks);
	json_t *task, *attempt;
	if (s.from == 0) {
		buf_adds(out, "<p>Nothing has run yet.</p>");
		return;
	}
	if (s.to <= s.from)
		s.to = s.from + 1;
	buf_addf(out, "<div class=\"box\"><svg id=\"gantt\" viewBox=\"0 0 %d %zu\" width=\"%d\">",
		GANTT_LEFT + GANTT_WIDTH + 20, rows * ROW_HEIGHT + 24,
		GANTT_LEFT + GANTT_WIDTH + 20);
	for (int tick = 0; tick <= 4; tick++) {
		int x = GANTT_LEFT + GANTT_WIDTH * tick / 4;
		buf_addf(out, "<line class=\"grid\" x1=\"%d\" y1=\"0\" x2=\"%d\" y2=\"%zu\"/>", x,
			x, rows * ROW_HEIGHT);
		buf_addf(out, "<text x=\"%d\" y=\"%zu\" text-anchor=\"%s\">", x,
			rows * ROW_HEIGHT + 16,
			tick == 4 ? "end"
			: tick    ? "middle"
				  : "start");
		report_duration((s.to - s.from) * tick / 4, out);
		buf_adds(out, "</text>");
	}
	json_array_foreach(tasks, i, task) {
		buf_addf(out, "<text x=\"0\" y=\"%zu\">", i * ROW_HEIGHT + 16);
		put_text(out, text_of(task, "name"), SHOWN_NAME);
		buf_adds(out, "</text>");
		json_array_foreach(json_object_get(task, "attempts"), k, attempt)
			put_bar(out, &s, attempt, i);
	}
	buf_adds(out, "</svg></div>");
}

/* ---- the graph ---- */

struct node {
	const json_t *task;
	unsigned column; /* the longest way from a task that needs nothing */
	unsigned row;
};

struct graph {
	struct node *nodes;
	size_t n;
	struct map by_name; /* name -> struct node */
	unsigned *heights;  /* of each column */
	unsigned columns;
};

/* Right of all that it needs. Tasks mostly stand behind what they need, so this takes few rounds; a
 * plan has no cycle. */
static void set_columns(struct graph *g)
{
	size_t k;
	json_t *name;
	for (bool moved = true; moved;) {
		moved = false;
		for (size_t i = 0; i < g->n; i++) {
			struct node *n = &g->nodes[i];
			unsigned column = 0;
			json_array_foreach(json_object_get(n->task, "depends_on"), k, name) {
				const struct node *d =
					map_get(&g->by_name, json_string_value(name));
				if (d && d->column + 1 > column)
					column = d->column + 1;
			}
			moved |= column > n->column;
			n->column = column > n->column ? column : n->column;
		}
	}
}

static bool graph_init(struct graph *g, const json_t *tasks)
{
	size_t i;
	json_t *task;
	g->n = json_array_size(tasks);
	g->nodes = calloc(g->n + 1, sizeof(*g->nodes));
	g->heights = calloc(g->n + 1, sizeof(*g->heights));
	bool good = g->nodes && g->heights;
	json_array_foreach(tasks, i, task) {
		if (!good)
			break;
		g->nodes[i].task = task;
		good = map_put(&g->by_name, text_of(task, "name"), &g->nodes[i]) == 0;
	}
	if (good)
		set_columns(g);
	for (i = 0; good && i < g->n; i++) {
		struct node *n = &g->nodes[i];
		n->row = g->heights[n->column]++;
		if (n->column + 1 > g->columns)
			g->columns = n->column + 1;
	}
	return good;
}

static unsigned node_x(const struct node *n)
{
	return n->column * (NODE_WIDTH + GAP_X) + 4;
}

static unsigned node_y(const struct node *n)
{
	return n->row * (NODE_HEIGHT + GAP_Y) + 4;
}

static void put_edges(struct buf *out, const struct graph *g, const struct node *n)
{
	size_t k;
	json_t *name;
	json_array_foreach(json_object_get(n->task, "depends_on"), k, name) {
		const struct node *d = map_get(&g->by_name, json_string_value(name));
		if (!d)
			continue;
		unsigned x1 = node_x(d) + NODE_WIDTH, y1 = node_y(d) + NODE_HEIGHT / 2;
		unsigned x2 = node_x(n), y2 = node_y(n) + NODE_HEIGHT / 2;
		buf_addf(out,
			"<path class=\"edge\" d=\"M%u %uC%u %u %u %u %u %u\" "
			"marker-end=\"url(#arrow)\"/>",
			x1, y1, x1 + GAP_X / 2, y1, x2 - GAP_X / 2, y2, x2, y2);
	}
}

static void put_node(struct buf *out, const struct node *n)
{
	buf_addf(out,
		"<g><title>%s</title><rect class=\"%s\" x=\"%u\" y=\"%u\" width=\"%d\" "
		"height=\"%d\" rx=\"5\"/><text class=\"on\" x=\"%u\" y=\"%u\">",
		text_of(n->task, "status"), text_of(n->task, "status"), node_x(n), node_y(n),
		NODE_WIDTH, NODE_HEIGHT, node_x(n) + 8, node_y(n) + 22);
	put_text(out, text_of(n->task, "name"), SHOWN_NAME - 4);
	buf_adds(out, "</text></g>");
}

static void put_graph(struct buf *out, const json_t *tasks)
{
	struct graph g = {0};
	if (!graph_init(&g, tasks))
		out->failed = true;
	unsigned height = 0;
	for (unsigned c = 0; !out->failed && c < g.columns; c++)
		height = g.heights[c] > height ? g.heights[c] : height;
	unsigned w = g.columns * (NODE_WIDTH + GAP_X), h = height * (NODE_HEIGHT + GAP_Y) + 8;
	buf_addf(out,
		"<div class=\"box\"><svg id=\"dag\" viewBox=\"0 0 %u %u\" width=\"%u\"><defs>"
		"<marker id=\"arrow\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" "
		"markerHeight=\"8\" orient=\"auto\"><path class=\"pending\" "
		"d=\"M0 0L8 4L0 8z\"/></marker></defs>",
		w, h, w);
	for (size_t i = 0; !out->failed && i < g.n; i++)
		put_edges(out, &g, &g.nodes[i]);
	for (size_t i = 0; !out->failed && i < g.n; i++)
		put_node(out, &g.nodes[i]);
	buf_adds(out, "</svg></div>");
	free(g.nodes);
	free(g.heights);
	map_deinit(&g.by_name);
}

/* ---- tables ---- */

static void put_outcomes(struct buf *out, const json_t *task)
{
	size_t k;
	json_t *attempt;
	json_array_foreach(json_object_get(task, "attempts"), k, attempt) {
		buf_addf(out, "%s<span class=\"%s\">", k ? ", " : "", attempt_class(attempt));
		put_text(out,
			text_of(attempt, "outcome")[0] ? text_of(attempt, "outcome") : "under way",
			100);
		buf_adds(out, "</span>");
	}
}

static void put_task_row(struct buf *out, const json_t *task)
{
	const json_t *tokens = json_object_get(task, "tokens");
	buf_adds(out, "<tr><td>");
	put_text(out, text_of(task, "name"), 200);
	if (text_of(task, "reason")[0]) {
		buf_adds(out, "<br><span class=\"reason\">");
		put_text(out, text_of(task, "reason"), 300);
		buf_adds(out, "</span>");
	}
	buf_addf(out, "</td><td><span class=\"%s\">%s</span></td><td>", text_of(task, "status"),
		text_of(task, "status"));
	put_outcomes(out, task);
	buf_adds(out, "</td><td class=\"n\">");
	report_duration(number_of(task, "duration_ms"), out);
	buf_addf(out,
		"</td><td class=\"n\">%lld</td><td class=\"n\">%lld</td><td class=\"n\">%lld</td>"
		"<td class=\"n\">%.4f</td><td class=\"n\">%zu</td></tr>\n",
		number_of(tokens, "input"), number_of(tokens, "output"),
		number_of(tokens, "cache_read") + number_of(tokens, "cache_write"),
		json_real_value(json_object_get(task, "cost")),
		json_array_size(json_object_get(task, "findings")));
}

static void put_findings(struct buf *out, const json_t *tasks)
{
	size_t i, k, n = 0;
	json_t *task, *finding;
	json_array_foreach(tasks, i, task) {
		json_array_foreach(json_object_get(task, "findings"), k, finding) {
			if (n++ == 0)
				buf_adds(out, "<h2>Findings</h2><table><tr><th>Severity</th>"
					      "<th>Task</th><th>What</th></tr>\n");
			buf_adds(out, "<tr><td>");
			put_text(out, text_of(finding, "severity"), 20);
			buf_adds(out, "</td><td>");
			put_text(out, text_of(task, "name"), 200);
			buf_adds(out, "</td><td>");
			put_text(out, text_of(finding, "title"), 500);
			if (text_of(finding, "body")[0]) {
				buf_adds(out, "<br><span class=\"reason\">");
				put_text(out, text_of(finding, "body"), 4000);
				buf_adds(out, "</span>");
			}
			buf_adds(out, "</td></tr>\n");
		}
	}
	if (n)
		buf_adds(out, "</table>\n");
}

static void put_summary(struct buf *out, const json_t *report)
{
	const json_t *plan = json_object_get(report, "plan");
	const json_t *totals = json_object_get(report, "totals");
	const json_t *tokens = json_object_get(totals, "tokens");
	const char *status;
	json_t *count;
	char from[25] = "never";
	if (number_of(totals, "started_at"))
		format_time_iso(number_of(totals, "started_at"), from);
	buf_addf(out, "<p>%s", text_of(plan, "status"));
	if (text_of(plan, "halt")[0] && !str_eq(text_of(plan, "halt"), text_of(plan, "status")))
		buf_addf(out, " (%s)", text_of(plan, "halt"));
	json_object_foreach(json_object_get((json_t *)totals, "tasks"), status, count)
		buf_addf(out, ", %lld %s", (long long)json_integer_value(count), status);
	buf_addf(out, ". Begun %s, ", from);
	report_duration(number_of(totals, "ended_at") - number_of(totals, "started_at"), out);
	buf_adds(out, " by the clock, ");
	report_duration(number_of(totals, "agents_ms"), out);
	buf_addf(out,
		" of agents in %lld attempts. Tokens: %lld in, %lld out, %lld read from and %lld "
		"written to caches; cost %.4f USD.</p>\n",
		number_of(totals, "attempts"), number_of(tokens, "input"),
		number_of(tokens, "output"), number_of(tokens, "cache_read"),
		number_of(tokens, "cache_write"), json_real_value(json_object_get(totals, "cost")));
}

void report_html(const json_t *report, struct buf *out)
{
	const json_t *plan = json_object_get(report, "plan");
	const json_t *tasks = json_object_get(report, "tasks");
	size_t i;
	json_t *task;
	buf_adds(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
		      "<meta name=\"viewport\" content=\"width=device-width\"><title>orch: ");
	put_text(out, text_of(plan, "name"), 100);
	buf_addf(out, "</title><style>%s</style></head><body>\n<h1>Plan ", style);
	put_text(out, text_of(plan, "name"), 100);
	buf_adds(out, "</h1>\n");
	put_summary(out, report);
	buf_adds(out, "<h2>The run</h2>\n");
	put_gantt(out, report);
	buf_adds(out, "\n<h2>The tasks</h2>\n");
	put_graph(out, tasks);
	buf_adds(out, "\n<table><tr><th>Task</th><th>Status</th><th>Attempts</th>"
		      "<th class=\"n\">Time</th><th class=\"n\">Tokens in</th>"
		      "<th class=\"n\">out</th><th class=\"n\">cached</th>"
		      "<th class=\"n\">USD</th><th class=\"n\">Findings</th></tr>\n");
	json_array_foreach(tasks, i, task)
		put_task_row(out, task);
	buf_adds(out, "</table>\n");
	put_findings(out, tasks);
	buf_adds(out, "</body></html>\n");
}
