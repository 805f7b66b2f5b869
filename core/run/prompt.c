/* SPDX-License-Identifier: MIT */
/*
 * The prompt of an attempt, from a template: the task, what its dependencies did, its invariants,
 * the feedback of the last attempt, the agent's verbs. $XDG_CONFIG_HOME/orch/prompt.md, or
 * <repo>/.orch-prompt.md, stands in for the built-in template. A line that holds only {{name}} is
 * dropped when the name is empty.
 */
#include "run/state.h"

#include "base/json_text.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define TAIL_BYTES     2000
#define WORDS_BYTES    600
#define TEMPLATE_LIMIT (1 << 20)
#define FEEDBACK_LIMIT 16384

static const char builtin_template[] =
	"{{prompt}}\n"
	"\n"
	"{{dependencies}}\n"
	"{{invariants}}\n"
	"{{feedback}}\n"
	"## Working here\n"
	"You are attempt {{attempt}} at task {{task}} of plan {{plan}} (scope: {{scope}}), alone "
	"in "
	"a git\nworktree of your own; what you leave there is committed for you when you end.\n"
	"`orch task` prints this text, `orch check` runs the checks above, `orch progress TEXT` "
	"reports,\n"
	"`orch finding --severity=S --title=T` records what a person should know (body on standard "
	"input),\n"
	"`orch done` ends (`--blocked=REASON`: a person is needed; `--not-needed=REASON`: nothing "
	"to do).\n";

struct prompt {
	struct live *live;
	struct buf dependencies;
	struct buf invariants;
	struct buf feedback;
	char *scope;
	struct err *err; /* of what fails in a callback */
};

/* The last bytes of a text, from the start of a line where there is one. */
static const char *tail(const char *text, size_t limit)
{
	size_t len = text ? strlen(text) : 0;
	if (len <= limit)
		return text ? text : "";
	const char *from = text + len - limit;
	const char *line = strchr(from, '\n');
	return line && line[1] ? line + 1 : from;
}

/* The beginning of a text, its lines indented below a list's item. */
static void add_words(struct buf *out, const char *what, const char *text)
{
	CLEANUP_STR char *words = str_trimmed(text, utf8_cut(text, strlen(text), WORDS_BYTES));
	if (!words)
		out->failed = true;
	if (!words || !words[0])
		return;
	buf_addf(out, "  %s: ", what);
	for (const char *c = words; *c; c++) {
		buf_addc(out, *c);
		if (*c == '\n')
			buf_adds(out, "  ");
	}
	buf_adds(out, strlen(text) > WORDS_BYTES ? " [cut]\n" : "\n");
}

/* What it was to do, and its agent's last words. */
static int add_deeds(struct prompt *p, const struct task_row *row)
{
	CLEANUP_STR char *prompt = NULL;
	CLEANUP_STR char *command = NULL;
	CLEANUP(freep) char *data = NULL;
	struct store *s = p->live->run->store;
	int r = store_task_text(s, row->id, &prompt, &command, p->err);
	if (r == 0)
		r = store_last_event(s, row->id, row->attempt, "message", &data, p->err);
	if (r < 0)
		return r;
	if (prompt)
		add_words(&p->dependencies, "it was asked", prompt);
	json_t *message = NULL;
	if (data && json_text_parse(data, strlen(data), 0, &message, NULL) == -ENOMEM)
		return err_nomem(p->err);
	const char *text = json_string_value(json_object_get(message, "text"));
	if (text)
		add_words(&p->dependencies, "it said at the end", text);
	json_decref(message);
	return 0;
}

static int add_dependency(void *ctx, const struct task_row *row)
{
	struct prompt *p = ctx;
	if (p->dependencies.len == 0)
		buf_adds(&p->dependencies,
			"## What this task depends on (done, and in your worktree)\n");
	buf_addf(&p->dependencies, "- %s", row->name);
	if (row->commit_oid)
		buf_addf(&p->dependencies, " (commit %.12s)", row->commit_oid);
	buf_addc(&p->dependencies, '\n');
	return add_deeds(p, row);
}

struct needs {
	struct VEC(int64_t) list;
};

static int note_need(void *ctx, int64_t dependency)
{
	struct needs *needs = ctx;
	int64_t *slot = VEC_PUSH(&needs->list);
	if (!slot)
		return -ENOMEM;
	*slot = dependency;
	return 0;
}

static int add_invariant(void *ctx, const struct invariant_row *row)
{
	struct prompt *p = ctx;
	if (p->invariants.len == 0)
		buf_adds(&p->invariants, "## How the work is judged\n");
	buf_addf(&p->invariants, "- %s: `%s` must exit with %lld%s\n", row->name, row->command,
		(long long)row->expect, row->advisory ? " (advisory)" : "");
	return 0;
}

static int add_result(void *ctx, const struct gate_result_row *row)
{
	struct prompt *p = ctx;
	if (row->passed || row->advisory || str_eq(row->stage, "baseline") ||
		str_eq(row->stage, "check"))
		return 0;
	buf_addf(&p->feedback, "\n%s failed%s", row->invariant,
		str_eq(row->stage, "merge") ? " on the merged tree" : "");
	if (row->timed_out)
		buf_adds(&p->feedback, " (timed out)");
	else if (row->signal)
		buf_addf(&p->feedback, " (signal %lld)", (long long)row->signal);
	else
		buf_addf(&p->feedback, " (exit %lld)", (long long)row->exit_code);
	buf_addf(&p->feedback, "%s:\n",
		row->red_before ? "; it was red before the task began, too" : "");
	const char *out = tail(row->out, TAIL_BYTES), *errout = tail(row->errout, TAIL_BYTES);
	if (out[0])
		buf_addf(&p->feedback, "--- end of its output\n%s%s", out,
			str_ends(out, "\n") ? "" : "\n");
	if (errout[0])
		buf_addf(&p->feedback, "--- end of its errors\n%s%s", errout,
			str_ends(errout, "\n") ? "" : "\n");
	return 0;
}

static int add_attempt(void *ctx, const struct attempt_row *row)
{
	struct prompt *p = ctx;
	buf_addf(&p->feedback, "## Attempt %lld did not pass\n", (long long)row->number);
	if (row->reason)
		buf_addf(&p->feedback, "%s\n", row->reason);
	if (row->feedback)
		buf_addf(&p->feedback, "%s\n", row->feedback);
	/* An agent that goes on with its conversation believes its files to be there. */
	if (row->commit_oid && !p->live->carried && p->live->plan->worktrees)
		buf_addf(&p->feedback,
			"The worktree is as it was before that attempt. What it left is the commit "
			"%.12s:\n`git diff HEAD %.12s` shows it, `git checkout %.12s -- PATH` "
			"takes a "
			"file from it.\n",
			row->commit_oid, row->commit_oid, row->commit_oid);
	return 0;
}

static int note_scope(void *ctx, const struct task_row *row)
{
	struct prompt *p = ctx;
	p->scope = str_dup(scope_name(row->scope));
	return p->scope ? 0 : -ENOMEM;
}

/* A blank line behind a section, where there is one. */
static void close_section(struct buf *section)
{
	if (section->len > 0)
		buf_addc(section, '\n');
}

static int collect(struct prompt *p, struct err *e)
{
	struct live *l = p->live;
	struct store *s = l->run->store;
	struct needs needs = {0};
	int code = store_each_need(s, l->id, note_need, &needs, e);
	for (size_t i = 0; code == 0 && i < needs.list.count; i++)
		code = store_task(s, needs.list.items[i], add_dependency, p, e);
	VEC_FREE(&needs.list);
	if (code == 0)
		code = store_task(s, l->id, note_scope, p, e);
	if (code == 0)
		code = store_each_task_invariant(s, l->id, add_invariant, p, e);
	for (int64_t last = l->attempt - 1; code == 0 && last >= 1; last = 0) {
		code = store_attempt(s, l->id, last, add_attempt, p, e);
		if (code == 1)
			code = 0;
		if (code == 0)
			code = store_each_gate_result(s, l->id, last, add_result, p, e);
	}
	if (l->attempt > 1 && l->last_stat && l->last_stat[0])
		buf_addf(&p->feedback, "\n--- what attempt %u had changed\n%s%s", l->attempt - 1,
			l->last_stat, str_ends(l->last_stat, "\n") ? "" : "\n");
	if (p->feedback.len > FEEDBACK_LIMIT) {
		buf_truncate(
			&p->feedback, utf8_cut(p->feedback.data, p->feedback.len, FEEDBACK_LIMIT));
		buf_adds(&p->feedback, "\n[cut]\n");
	}
	close_section(&p->dependencies);
	close_section(&p->invariants);
	close_section(&p->feedback);
	if (code == 0 && (buf_check(&p->dependencies) < 0 || buf_check(&p->invariants) < 0 ||
				 buf_check(&p->feedback) < 0))
		code = err_nomem(e);
	return code;
}

static const char *lookup(const struct prompt *p, const char *name, size_t len, char number[24])
{
	const struct live *l = p->live;
	const struct {
		const char *name;
		const char *value;
	} table[] = {
		{"prompt", l->prompt ? l->prompt : l->command},
		{"dependencies", buf_cstr(&p->dependencies)},
		{"invariants", buf_cstr(&p->invariants)},
		{"feedback", buf_cstr(&p->feedback)},
		{"plan", l->plan->name},
		{"task", l->name},
		{"scope", p->scope},
		{"attempt", number},
	};
	snprintf(number, 24, "%u", l->attempt);
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (strlen(table[i].name) == len && memcmp(table[i].name, name, len) == 0)
			return table[i].value ? table[i].value : "";
	return NULL;
}

/* {{name}} becomes its value; a line that held only empty names is dropped. */
static void expand(const struct prompt *p, const char *text, struct buf *out)
{
	while (*text) {
		size_t line = strcspn(text, "\n");
		size_t start = out->len;
		bool named = false, other = false;
		for (size_t i = 0; i < line;) {
			char number[24];
			const char *end = text[i] == '{' && text[i + 1] == '{'
						  ? memmem(text + i, line - i, "}}", 2)
						  : NULL;
			const char *value =
				end ? lookup(p, text + i + 2, (size_t)(end - text) - i - 2, number)
				    : NULL;
			if (value) {
				buf_adds(out, value);
				named = true;
				i = (size_t)(end - text) + 2;
			} else {
				other = true;
				buf_addc(out, text[i++]);
			}
		}
		if (!named || other || out->len > start)
			if (out->len == start || out->data[out->len - 1] != '\n' || !named || other)
				buf_addc(out, '\n');
		text += line + (text[line] == '\n');
	}
}

/* The user's or the repository's own template, else the built-in one; owned. */
static int load_template(struct run *r, struct buf *ret, struct err *e)
{
	const char *xdg = environment_get(r->site->environment, "XDG_CONFIG_HOME");
	const char *home = environment_get(r->site->environment, "HOME");
	CLEANUP_STR char *user = xdg && xdg[0] == '/' ? path_join(xdg, "orch/prompt.md")
				 : home               ? path_join(home, ".config/orch/prompt.md")
						      : NULL;
	CLEANUP_STR char *repo = path_join(r->site->root, ".orch-prompt.md");
	if (!repo || (!user && ((xdg && xdg[0] == '/') || home)))
		return err_nomem(e);
	const char *const paths[] = {repo, user};
	for (size_t i = 0; i < 2; i++) {
		if (!paths[i] || !file_exists(AT_FDCWD, paths[i]))
			continue;
		return file_read(AT_FDCWD, paths[i], TEMPLATE_LIMIT, ret, e);
	}
	buf_adds(ret, builtin_template);
	return buf_check(ret) < 0 ? err_nomem(e) : 0;
}

int prompt_build(struct live *l, char **ret, struct err *e)
{
	struct prompt p = {.live = l, .err = e};
	CLEANUP_BUF struct buf template = BUF_INIT;
	CLEANUP_BUF struct buf out = BUF_INIT;
	int code = load_template(l->run, &template, e);
	if (code == 0)
		code = collect(&p, e);
	if (code == 0) {
		expand(&p, buf_cstr(&template), &out);
		char *text = buf_steal(&out);
		if (text)
			*ret = text;
		else
			code = err_nomem(e);
	}
	buf_deinit(&p.dependencies);
	buf_deinit(&p.invariants);
	buf_deinit(&p.feedback);
	free(p.scope);
	return code;
}
