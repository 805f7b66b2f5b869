/* SPDX-License-Identifier: MIT */
#include "plan/plan.h"

#include "base/str.h"
#include "plan/words.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct plan *parse(const char *text)
{
	struct plan *p = NULL;
	CLEANUP(diags_deinit) struct diags d = DIAGS_INIT;
	struct err e = ERR_INIT;
	int r = plan_parse_text("p.ini", NULL, text, strlen(text), NULL, &p, &d, &e);
	if (r < 0)
		diags_print(&d, stderr);
	assert_int_equal(r, 0);
	return p;
}

static uint64_t next_random(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static unsigned below(uint64_t *seed, unsigned n)
{
	return (unsigned)(next_random(seed) % n);
}

/* A text that begins or ends with anything, and holds what INI files are bad at. */
static char *nasty_text(uint64_t *seed)
{
	static const char *const atoms[] = {" ", "\t", "\n", "\r\n", "\r", ";", "#", "=", "[plan]",
		"%", "%0A", "\"", "x", "word", "\n\n", "\n  ", "\n# ", "\n; ", "\n[x]\n", "\nk = v",
		"\xc3\xa4", "\x1b[1m", ","};
	struct buf out = BUF_INIT;
	for (unsigned n = below(seed, 15); n > 0; n--)
		buf_adds(&out, atoms[below(seed, sizeof(atoms) / sizeof(atoms[0]))]);
	buf_adds(&out, "e");
	if (below(seed, 2))
		buf_adds(&out, atoms[below(seed, sizeof(atoms) / sizeof(atoms[0]))]);
	return buf_steal(&out);
}

static void set_text(char **place, char *value)
{
	free(*place);
	*place = value;
}

/* 1 in 3: unset. */
static void set_maybe(char **place, uint64_t *seed, const char *value)
{
	set_text(place, below(seed, 3) ? str_dup(value) : NULL);
}

static struct plan_state *random_state(uint64_t *seed, bool of_task)
{
	struct plan_state *s = calloc(1, sizeof(*s));
	assert_non_null(s);
	s->status = str_dup(
		of_task ? task_status_name((enum task_status)below(seed, TASK_STATUS_COUNT))
			: plan_status_name((enum plan_status)below(seed, PLAN_STATUS_COUNT)));
	set_text(&s->reason, nasty_text(seed));
	set_maybe(&s->commit, seed, "0123456789abcdef0123456789abcdef01234567");
	s->tokens = (struct plan_tokens){below(seed, 3), below(seed, 1000), 0, below(seed, 9)};
	if (of_task) {
		s->attempt = below(seed, 4);
		if (s->attempt)
			s->outcome = str_dup(
				outcome_name((enum outcome)(1 + below(seed, OUTCOME_COUNT - 1))));
	}
	return s;
}

/* A plan of ten tasks with every field set to something. */
static struct plan *random_plan(uint64_t *seed)
{
	struct buf text = BUF_INIT;
	buf_adds(&text, "[plan]\nname = p\n");
	if (below(seed, 2))
		buf_addf(&text, "invariants = %s\n", below(seed, 2) ? "i1" : "");
	for (unsigned i = 0; i < 3; i++)
		buf_addf(&text,
			"[invariant:i%u]\ncommand = c\ntimeout = %ums\nexpect = %u\n"
			"advisory = %s\nred_before = %s\n",
			i, 1 + below(seed, 100000), below(seed, 256), below(seed, 2) ? "yes" : "no",
			below(seed, 2) ? "fail" : "ignore");
	for (unsigned i = 0; i < 10; i++) {
		unsigned name = (i * 7) % 10;
		buf_addf(&text,
			"[task:t%u]\n%s = x\nscope = %s\ngate = %s\npriority = %d\n"
			"retry_max = %u\nallow_empty = %s\n",
			name, below(seed, 2) ? "prompt" : "command",
			scope_name((enum scope)below(seed, SCOPE_COUNT)),
			gate_name((enum gate)below(seed, GATE_COUNT)), (int)below(seed, 9) - 4,
			below(seed, 9), below(seed, 2) ? "yes" : "no");
		if (name > 1 && below(seed, 2))
			buf_addf(&text, "depends_on = t%u, t%u\n", name - 1, name - 2);
		if (below(seed, 2))
			buf_adds(&text, "invariants = i2, i0\n");
		if (below(seed, 2))
			buf_addf(&text, "timeout = %s\n", below(seed, 2) ? "off" : "1h1ms");
		if (below(seed, 2))
			buf_adds(&text, "token_budget = 77\n");
	}
	struct plan *p = parse(buf_cstr(&text));
	buf_deinit(&text);
	set_maybe(&p->base, seed, "feature/x");
	set_maybe(&p->harness, seed, "claude");
	set_text(&p->setup, below(seed, 2) ? nasty_text(seed) : NULL);
	if (below(seed, 2))
		p->copy = strv_split(".env, a b/*.x, \xc3\xa4", ",");
	if (below(seed, 2))
		p->state = random_state(seed, false);
	vec_foreach(inv, &p->invariant_defs)
		set_text(&inv->command, nasty_text(seed));
	vec_foreach(t, &p->tasks) {
		set_text(t->prompt ? &t->prompt : &t->command, nasty_text(seed));
		set_maybe(&t->harness, seed, "codex");
		set_maybe(&t->tag, seed, " a; tag # ");
		if (below(seed, 2))
			t->state = random_state(seed, true);
	}
	return p;
}

static void assert_same_state(const struct plan_state *a, const struct plan_state *b)
{
	assert_int_equal(a == NULL, b == NULL);
	if (!a)
		return;
	assert_true(str_eq(a->status, b->status) && str_eq(a->outcome, b->outcome));
	assert_true(str_eq(a->reason, b->reason) && str_eq(a->commit, b->commit));
	assert_int_equal(a->attempt, b->attempt);
	assert_memory_equal(&a->tokens, &b->tokens, sizeof(a->tokens));
}

static void assert_same_plan(const struct plan *a, const struct plan *b)
{
	CLEANUP(plan_diff_deinit) struct plan_diff d = PLAN_DIFF_INIT;
	assert_int_equal(plan_diff(a, b, &d), 0);
	vec_foreach(c, &d.changes) {
		CLEANUP_STR char *text = plan_change_text(c, a, b);
		print_error("%s\n", text);
	}
	assert_int_equal(d.changes.count, 0);
	assert_int_equal(a->has_invariants, b->has_invariants);
	assert_same_state(a->state, b->state);
	vec_foreach(t, &a->tasks) {
		const struct task *u = &b->tasks.items[plan_find_task(b, t->name)];
		assert_same_state(t->state, u->state);
		assert_int_equal(t->n_deps, u->n_deps);
		for (uint32_t i = 0; i < t->n_deps; i++)
			assert_string_equal(
				a->tasks.items[t->deps[i]].name, b->tasks.items[u->deps[i]].name);
	}
}

static void test_an_export_parses_back_to_the_same_plan(void **state)
{
	(void)state;
	uint64_t seed = 42;
	for (int round = 0; round < 1000; round++) {
		CLEANUP_PLAN struct plan *p = random_plan(&seed);
		CLEANUP_BUF struct buf text = BUF_INIT, again = BUF_INIT;
		assert_int_equal(plan_export(p, PLAN_EXPORT_STATE, &text), 0);
		CLEANUP_PLAN struct plan *q = parse(buf_cstr(&text));
		assert_same_plan(p, q);
		assert_int_equal(plan_export(q, PLAN_EXPORT_STATE, &again), 0);
		assert_string_equal(buf_cstr(&text), buf_cstr(&again));
	}
}

static void test_the_form_of_an_export(void **state)
{
	(void)state;
	CLEANUP_PLAN struct plan *p = parse(
		"[task:b]\nprompt = two\n  lines\ndepends_on=a\ngate = auto\n"
		"[state:b]\nstatus = failed\nattempt = 2\noutcome = agent_error\nreason = a; b\n"
		"tokens = input 1, cache_write 2\ncommit = "
		"0123456789abcdef0123456789abcdef01234567\n"
		"[task:a]\ncommand=true\n[plan]\nbase=main\nname=p\ninvariants =\n"
		"[state]\nstatus = halted\n");
	CLEANUP_BUF struct buf text = BUF_INIT;
	assert_int_equal(plan_export(p, PLAN_EXPORT_STATE, &text), 0);
	assert_string_equal(buf_cstr(&text),
		"[plan]\nname = p\nbase = main\ninvariants =\n\n"
		"[task:a]\ncommand = true\n\n"
		"[task:b]\nprompt =\n    two\n    lines\ndepends_on = a\n\n"
		"[state]\nstatus = halted\n\n"
		"[state:b]\nstatus = failed\nattempt = 2\noutcome = agent_error\nreason = a; b\n"
		"commit = 0123456789abcdef0123456789abcdef01234567\n"
		"tokens = input 1, output 0, cache_read 0, cache_write 2\n");
	buf_reset(&text);
	assert_int_equal(plan_export(p, PLAN_EXPORT_DEFINITION, &text), 0);
	assert_null(strstr(buf_cstr(&text), "state"));
}

static void test_mistakes_in_a_saved_state(void **state)
{
	(void)state;
	static const char *const cases[] = {
		"[state:b]\nstatus = passed\n",
		"[state:a]\nattempt = 1\n",
		"[state:a]\nstatus = draft\n",
		"[state:a]\nstatus = failed\noutcome = odd\n",
		"[state:a]\nstatus = failed\ncommit = main\n",
		"[state:a]\nstatus = failed\ntokens = 3\n",
		"[state]\nstatus = halted\nattempt = 1\n",
		"[state]\nstatus = halted\nwhen = now\n",
		"[state]\nstatus = halted\n[state]\nstatus = halted\n",
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CLEANUP_STR char *text =
			str_printf("[plan]\nname = p\n[task:a]\nprompt = x\n%s", cases[i]);
		struct plan *p = NULL;
		CLEANUP(diags_deinit) struct diags d = DIAGS_INIT;
		struct err e = ERR_INIT;
		assert_int_equal(
			plan_parse_text("p", NULL, text, strlen(text), NULL, &p, &d, &e), -EBADMSG);
		assert_int_equal(d.errors, 1);
		assert_true(d.list.items[0].line >= 5);
	}
}

/* ---- differences ---- */

static const char old_text[] = "[plan]\nname = p\nmax_agents = 2\n[invariant:i]\ncommand = x\n"
			       "[task:gone]\nprompt = x\n[task:a]\nprompt = x\ninvariants = i\n"
			       "[task:b]\nprompt = x\ndepends_on = a, c\n[task:c]\nprompt = x\n";

static void test_differences_are_told_field_by_field(void **state)
{
	(void)state;
	CLEANUP_PLAN struct plan *from = parse(old_text);
	CLEANUP_PLAN struct plan *to =
		parse("[plan]\nname = p\nmax_agents = 3\nbase = dev\n[invariant:i]\ncommand = y\n"
		      "[invariant:j]\ncommand = y\n"
		      "[task:c]\nprompt = x\n[task:b]\nprompt = x\ndepends_on = c, a\n"
		      "[task:a]\nprompt = longer\n  than a line\ninvariants = i\ntimeout = 5m\n"
		      "gate = human_review\n[task:new]\nprompt = x\n");
	CLEANUP(plan_diff_deinit) struct plan_diff d = PLAN_DIFF_INIT;
	assert_int_equal(plan_diff(from, to, &d), 0);
	CLEANUP_BUF struct buf got = BUF_INIT;
	vec_foreach(c, &d.changes) {
		CLEANUP_STR char *text = plan_change_text(c, from, to);
		buf_addf(&got, "%s %s\n", c->when_started ? "+" : "-", text);
	}
	assert_string_equal(buf_cstr(&got), "- base: (unset) -> dev\n"
					    "+ max_agents: 2 -> 3\n"
					    "+ invariant 'i': command: x -> y\n"
					    "+ invariant 'j': added\n"
					    "- task 'gone': removed\n"
					    "- task 'a': prompt: x -> longer\\x0athan a line\n"
					    "+ task 'a': gate: auto -> human_review\n"
					    "+ task 'a': timeout: 0s -> 5m\n"
					    "+ task 'new': added\n");
	plan_diff_deinit(&d);
	CLEANUP_PLAN struct plan *same = parse(old_text);
	assert_int_equal(plan_diff(from, same, &d), 0);
	assert_int_equal(d.changes.count, 0);
}

/* ---- plan set ---- */

static void check_set(
	struct plan *p, const char *task, const char *key, const char *value, const char *mistake)
{
	struct err e = ERR_INIT;
	CLEANUP_BUF struct buf before = BUF_INIT, after = BUF_INIT;
	assert_int_equal(plan_export(p, PLAN_EXPORT_STATE, &before), 0);
	int r = plan_set(p, task, key, value, NULL, &e);
	if (!mistake) {
		assert_int_equal(r, 0);
		return;
	}
	assert_true(r < 0);
	assert_string_equal(e.msg, mistake);
	assert_int_equal(plan_export(p, PLAN_EXPORT_STATE, &after), 0);
	assert_string_equal(buf_cstr(&before), buf_cstr(&after));
}

static void test_setting_a_key_checks_the_whole_plan(void **state)
{
	(void)state;
	CLEANUP_PLAN struct plan *p = parse(old_text);
	const struct task *b = &p->tasks.items[2], *c = &p->tasks.items[3];
	check_set(p, "b", "depends_on", "c", NULL);
	assert_int_equal(b->n_deps, 1);
	check_set(p, "c", "depends_on", "b", "depends_on: expected no cycle, found b -> c -> b");
	assert_int_equal(c->n_deps, 0);
	check_set(p, "b", "timeout", "5m", NULL);
	assert_int_equal(b->timeout_ms, 300000);
	check_set(p, "b", "timeout", "", NULL);
	assert_int_equal(b->timeout_ms, 0);
	check_set(p, "b", "command", "true", NULL);
	assert_non_null(b->prompt);
	assert_string_equal(b->command, "true");
	check_set(p, "b", "prompt", "", NULL);
	assert_null(b->prompt);
	check_set(p, "b", "command", "",
		"command: expected a value: a task has a prompt or a command");
	check_set(p, "b", "invariants", "none",
		"invariants: expected an invariant of the plan or of orch.ini, found 'none'");
	check_set(p, "b", "piority", "3", "unknown key 'piority', did you mean 'priority'?");
	check_set(p, "nobody", "priority", "3", "plan 'p' has no task 'nobody'");
	check_set(p, NULL, "name", "q", "name: a plan cannot be renamed");
	check_set(p, NULL, "copy", "../x",
		"copy: expected paths without '..' and '.git', found '../x'");
	check_set(p, NULL, "invariants", "i", NULL);
	assert_true(p->has_invariants);
	assert_int_equal(p->n_invariants, 1);
}

static void test_fingerprints_change_with_the_definition(void **state)
{
	(void)state;
	CLEANUP_PLAN struct plan *p =
		parse("[plan]\nname = p\n[invariant:a]\ncommand = x\n[invariant:b]\ncommand = x\n"
		      "advisory = yes\n[invariant:c]\ncommand = y\n[invariant:d]\ncommand = x\n"
		      "expect = 1\n[invariant:e]\ncommand = x\ntimeout = 1s\n");
	char prints[5][33];
	for (size_t i = 0; i < 5; i++)
		invariant_fingerprint(&p->invariant_defs.items[i], prints[i]);
	assert_string_equal(prints[0], "3f405094bd9c5c1133a3fd454ca5cc05");
	assert_string_equal(prints[0], prints[1]);
	for (size_t i = 2; i < 5; i++)
		assert_string_not_equal(prints[0], prints[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_export_parses_back_to_the_same_plan),
		cmocka_unit_test(test_the_form_of_an_export),
		cmocka_unit_test(test_mistakes_in_a_saved_state),
		cmocka_unit_test(test_differences_are_told_field_by_field),
		cmocka_unit_test(test_setting_a_key_checks_the_whole_plan),
		cmocka_unit_test(test_fingerprints_change_with_the_definition),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
