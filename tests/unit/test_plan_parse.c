/* SPDX-License-Identifier: MIT */
#include "plan/plan.h"

#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define HEAD "[plan]\nname = p\n"

static struct plan *parse_good_in(const char *dir, const char *text, const struct plan_context *c)
{
	struct plan *p = NULL;
	CLEANUP(diags_deinit) struct diags d = DIAGS_INIT;
	struct err e = ERR_INIT;
	int r = plan_parse_text("p.ini", dir, text, strlen(text), c, &p, &d, &e);
	if (r < 0)
		diags_print(&d, stderr);
	assert_int_equal(r, 0);
	return p;
}

static struct plan *parse_good(const char *text)
{
	return parse_good_in(NULL, text, NULL);
}

/* All mistakes as "line: text\n" in the order of lines. */
static void check_mistakes_in(const char *dir, const char *text, const char *expected)
{
	struct plan *p = NULL;
	CLEANUP(diags_deinit) struct diags d = DIAGS_INIT;
	struct err e = ERR_INIT;
	int r = plan_parse_text("p.ini", dir, text, strlen(text), NULL, &p, &d, &e);
	char *out = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&out, &len);
	diags_print(&d, f);
	fclose(f);
	CLEANUP_BUF struct buf got = BUF_INIT;
	for (char *line = out; *line; line = strchr(line, '\n') + 1) {
		const char *at = line + strlen("p.ini:");
		buf_add(&got, at, (size_t)(strchr(line, '\n') + 1 - at));
	}
	free(out);
	assert_string_equal(buf_cstr(&got), expected);
	assert_int_equal(r, -EBADMSG);
	assert_int_equal(err_status(&e), EXIT_DATA);
	assert_null(p);
}

static void check_mistakes(const char *text, const char *expected)
{
	check_mistakes_in(NULL, text, expected);
}

static void test_everything_in_a_plan_arrives(void **state)
{
	(void)state;
	CLEANUP_PLAN struct plan *p = parse_good(
		"[plan]\nname = add-auth\n; c\nbase = main\nharness = claude\n"
		"token_budget = 500000\nmax_agents = 4\nisolation = worktree\ninvariants = build\n"
		"setup = npm ci\n  npm run x\ncopy = .env, conf/*.local\n\n"
		"[invariant:build]\ncommand = make -j2\ntimeout = 10s\nexpect = 3\nadvisory = yes\n"
		"red_before = ignore\n\n[invariant:test]\ncommand = make test\n"
		"[task:define-types]\nprompt = Create src/auth.h.\n\n    # Notes\n    Indented.\n"
		"scope = narrow\ngate = human_review\ninvariants = build, test\n"
		"depends_on = other,\n    another\nharness = codex\nretry_max = 5\ntimeout = 30m\n"
		"priority = -7\ntag = core\ntoken_budget = 9\nallow_empty = yes\n"
		"[task:other]\ncommand = true ; x # y\n[task:another]\nprompt = y\n");
	assert_string_equal(p->name, "add-auth");
	assert_string_equal(p->base, "main");
	assert_string_equal(p->harness, "claude");
	assert_int_equal(p->token_budget, 500000);
	assert_int_equal(p->max_agents, 4);
	assert_int_equal(p->isolation, ISOLATION_WORKTREE);
	assert_string_equal(p->setup, "npm ci\nnpm run x");
	assert_string_equal(p->copy[1], "conf/*.local");
	assert_true(p->has_invariants);
	assert_int_equal(p->n_invariants, 1);
	const struct invariant *inv = &p->invariant_defs.items[p->invariants[0]];
	assert_string_equal(inv->command, "make -j2");
	assert_int_equal(inv->timeout_ms, 10000);
	assert_int_equal(inv->expect, 3);
	assert_true(inv->advisory);
	assert_int_equal(inv->red_before, RED_BEFORE_IGNORE);
	assert_int_equal(p->invariant_defs.items[1].timeout_ms, 300000);
	assert_int_equal(p->tasks.count, 3);
	const struct task *t = &p->tasks.items[0];
	assert_string_equal(t->prompt, "Create src/auth.h.\n\n# Notes\nIndented.");
	assert_null(t->command);
	assert_int_equal(t->scope, SCOPE_NARROW);
	assert_int_equal(t->gate, GATE_HUMAN_REVIEW);
	assert_int_equal(t->n_invariants, 2);
	assert_int_equal(t->n_deps, 2);
	assert_int_equal(t->deps[0], 1);
	assert_int_equal(t->deps[1], 2);
	assert_string_equal(t->harness, "codex");
	assert_int_equal(t->retry_max, 5);
	assert_int_equal(t->timeout_ms, 1800000);
	assert_int_equal(t->priority, -7);
	assert_string_equal(t->tag, "core");
	assert_int_equal(t->token_budget, 9);
	assert_true(t->allow_empty);
	assert_string_equal(p->tasks.items[1].command, "true ; x # y");
	assert_int_equal(plan_find_task(p, "another"), 2);
	assert_int_equal(plan_find_task(p, "nobody"), -1);
}

static void test_defaults(void **state)
{
	(void)state;
	CLEANUP_PLAN struct plan *p = parse_good(HEAD "[task:a]\nprompt = x\n");
	const struct task *t = &p->tasks.items[0];
	assert_int_equal(t->gate, GATE_AUTO);
	assert_int_equal(t->scope, SCOPE_MEDIUM);
	assert_int_equal(t->retry_max, 3);
	assert_int_equal(t->timeout_ms, 0);
	assert_int_equal(t->priority, 0);
	assert_false(t->allow_empty);
	assert_int_equal(p->isolation, ISOLATION_WORKTREE);
	assert_int_equal(p->max_agents, 0);
	assert_false(p->has_invariants);
	assert_null(p->base);
}

static void test_every_mistake_is_told_in_one_run(void **state)
{
	(void)state;
	check_mistakes(
		"[plan]\nname = ../x\nbase = --evil\nisolaton = none\nisolation = tree\n"
		"max_agents = 0\ncopy = /etc/passwd\ninvariants = nope\n"
		"[invariant:bad name]\ncommand = x\n"
		"[invariant:build]\nexpect = 256\ntimeout = soon\nadvisory = maybe\n"
		"[task:a]\nprompt = x\nprompt_file = y\nretry_max = -1\ngate = human-review\n"
		"depends_on = b, missing, b, bb\n"
		"[task:b]\ntimeout = 0\ninvariants = biuld\ndepends_on = bb\n"
		"[task:bb]\nprompt =\n"
		"[task]\n[tsak:c]\n[plan:x]\n[task:a]\nfoo = 1\n",
		"2: error: name: expected a name, found '../x', which must begin with a letter or "
		"a digit\n"
		"3: error: base: expected a branch or commit, found '--evil'\n"
		"4: error: unknown key 'isolaton' in [plan], did you mean 'isolation'?\n"
		"5: error: isolation: expected worktree or none, found 'tree'\n"
		"6: error: max_agents: expected a number from 1 to 100000, found '0'\n"
		"7: error: copy: expected paths inside the checkout, found '/etc/passwd'\n"
		"8: error: invariants: expected an invariant of the plan or of orch.ini, found "
		"'nope'\n"
		"9: error: expected a name in [invariant:NAME], it may hold only letters, digits, "
		"'.', '_' and '-'\n"
		"11: error: [invariant:build] needs a command\n"
		"12: error: expect: expected a number from 0 to 255, found '256'\n"
		"13: error: timeout: expected a duration such as 90s or 1h30m, or off, more than "
		"0, found 'soon'\n"
		"14: error: advisory: expected yes or no, found 'maybe'\n"
		"17: error: prompt_file: cannot read y: No such file or directory\n"
		"17: error: expected one of prompt and prompt_file, found prompt_file besides "
		"prompt on line 16\n"
		"18: error: retry_max: expected a number from 0 to 1000000, found '-1'\n"
		"19: error: gate: expected auto, human_review or human_approve, found "
		"'human-review', did you mean 'human_review'?\n"
		"20: error: depends_on: task 'a' depends on 'missing', which is not in the plan\n"
		"20: error: depends_on: expected each name once, found 'b' again\n"
		"21: error: [task:b] needs one of prompt, prompt_file and command\n"
		"22: error: timeout: expected a duration such as 90s or 1h30m, or off, more than "
		"0, found '0'\n"
		"23: error: invariants: expected an invariant of the plan or of orch.ini, found "
		"'biuld', did you mean 'build'?\n"
		"26: error: prompt: expected a value, found nothing\n"
		"27: error: expected a name in [task:NAME], it is missing\n"
		"28: error: expected [plan], [task:NAME] or [invariant:NAME], found [tsak:c], did "
		"you mean 'task'?\n"
		"29: error: expected [plan], found [plan:x]\n"
		"30: error: duplicate section [task:a], first defined on line 15\n"
		"30: error: [task:a] needs one of prompt, prompt_file and command\n"
		"31: error: unknown key 'foo' in [task:a]\n");
	check_mistakes("[plan]\nname = state\n[task:a]\nprompt = x\ncommand = y\n",
		"2: error: name: a plan cannot be called 'state', the refs of its attempts would "
		"be those of saved states\n");
	check_mistakes("", " warning: the plan has no [task:NAME] section\n"
			   "1: error: expected a [plan] section with a name\n");
}

static void test_unknown_dependencies_are_told_with_a_suggestion(void **state)
{
	(void)state;
	check_mistakes(HEAD
		"[task:define]\nprompt = x\n[task:b]\nprompt = y\ndepends_on = defnie, zz\n",
		"7: error: depends_on: task 'b' depends on 'defnie', which is not in the plan, did "
		"you mean 'define'?\n"
		"7: error: depends_on: task 'b' depends on 'zz', which is not in the plan\n");
}

static void test_every_cycle_is_named_whole(void **state)
{
	(void)state;
	check_mistakes(HEAD "[task:a]\nprompt = x\ndepends_on = b\n"
			    "[task:b]\nprompt = x\ndepends_on = c\n"
			    "[task:c]\nprompt = x\ndepends_on = d, b\n"
			    "[task:d]\nprompt = x\n"
			    "[task:self]\nprompt = x\ndepends_on = self\n"
			    "[task:hub]\nprompt = x\ndepends_on = x, y, a\n"
			    "[task:x]\nprompt = x\ndepends_on = y\n"
			    "[task:y]\nprompt = x\ndepends_on = x\n",
		"8: error: depends_on: expected no cycle, found b -> c -> b\n"
		"16: error: depends_on: expected no cycle, found self -> self\n"
		"22: error: depends_on: expected no cycle, found x -> y -> x\n");
}

static void test_shared_invariants_are_taken_along(void **state)
{
	(void)state;
	struct invariant shared[2];
	assert_int_equal(invariant_init(&shared[0], "build"), 0);
	assert_int_equal(invariant_init(&shared[1], "lint"), 0);
	shared[0].command = str_dup("make");
	shared[1].command = str_dup("lint it");
	struct plan_context context = {.shared = shared, .n_shared = 2};
	CLEANUP_PLAN struct plan *p = parse_good_in(NULL,
		HEAD "[task:a]\nprompt = x\ninvariants = lint, build\n[task:b]\nprompt = "
		     "x\ninvariants = lint\n"
		     "[invariant:build]\ncommand = own\n",
		&context);
	invariant_deinit(&shared[0]);
	invariant_deinit(&shared[1]);
	assert_int_equal(p->invariant_defs.count, 2);
	assert_string_equal(p->invariant_defs.items[0].command, "own");
	assert_string_equal(p->invariant_defs.items[1].command, "lint it");
	assert_int_equal(p->tasks.items[0].invariants[0], 1);
	assert_int_equal(p->tasks.items[0].invariants[1], 0);
	assert_int_equal(p->tasks.items[1].invariants[0], 1);
}

/* ---- files ---- */

struct dir {
	char path[64];
};

static void write_file(const struct dir *dir, const char *name, const char *data, size_t len)
{
	CLEANUP_STR char *path = path_join(dir->path, name);
	FILE *f = fopen(path, "we");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static void remove_file(const struct dir *dir, const char *name)
{
	CLEANUP_STR char *path = path_join(dir->path, name);
	assert_int_equal(unlink(path), 0);
}

static void test_prompt_files_lie_beside_the_plan(void **state)
{
	(void)state;
	struct dir dir = {"/tmp/test-plan-XXXXXX"};
	assert_non_null(mkdtemp(dir.path));
	const char plan[] = HEAD "[task:a]\nprompt_file = a.md\n";
	const char prompt[] = "\n# Title ;\r\nwhole \t\n";
	write_file(&dir, "p.ini", plan, strlen(plan));
	write_file(&dir, "a.md", prompt, strlen(prompt));
	write_file(&dir, "nul.md", "a\0b", 3);
	write_file(&dir, "empty.md", " \n", 2);
	CLEANUP_STR char *path = path_join(dir.path, "p.ini");
	CLEANUP_PLAN struct plan *p = NULL;
	CLEANUP(diags_deinit) struct diags d = DIAGS_INIT;
	struct err e = ERR_INIT;
	assert_int_equal(plan_parse_file(path, NULL, &p, &d, &e), 0);
	assert_string_equal(p->tasks.items[0].prompt, prompt);
	CLEANUP_BUF struct buf why = BUF_INIT;
	buf_addf(&why,
		"4: error: prompt_file: cannot read %s/none.md: No such file or directory\n"
		"6: error: prompt_file: expected a file of UTF-8 text without NUL bytes\n"
		"8: error: prompt_file: expected a prompt, the file is empty\n"
		"10: error: prompt_file: expected a path, found nothing\n",
		dir.path);
	check_mistakes_in(dir.path,
		HEAD "[task:a]\nprompt_file = none.md\n[task:b]\nprompt_file = nul.md\n"
		     "[task:c]\nprompt_file = empty.md\n[task:d]\nprompt_file =\n",
		buf_cstr(&why));
	remove_file(&dir, "p.ini");
	remove_file(&dir, "a.md");
	remove_file(&dir, "nul.md");
	remove_file(&dir, "empty.md");
	assert_int_equal(rmdir(dir.path), 0);
	assert_int_equal(plan_parse_file(path, NULL, &p, &d, &e), -ENOENT);
	assert_int_equal(err_status(&e), EXIT_NOINPUT);
}

static void test_a_plan_from_a_prompt(void **state)
{
	(void)state;
	CLEANUP_PLAN struct plan *p = NULL;
	struct err e = ERR_INIT;
	assert_int_equal(plan_from_prompt("Fix the (broken) tests, and\nmore; of everything "
					  "please",
				 &p, &e),
		0);
	assert_true(str_starts(p->name, "fix-the-broken-tests-and-more-of-"));
	assert_true(name_is_valid(p->name, NULL));
	assert_int_equal(p->tasks.count, 1);
	assert_true(name_is_valid(p->tasks.items[0].name, NULL));
	plan_free(p);
	p = NULL;
	assert_int_equal(plan_from_prompt("\xc3\xa4\xc3\xb6 ...", &p, &e), 0);
	assert_true(str_starts(p->name, "prompt-"));
	plan_free(p);
	p = NULL;
	assert_true(plan_from_prompt(" \n", &p, &e) < 0);
	assert_int_equal(err_status(&e), EXIT_USAGE);
	assert_true(plan_from_prompt("\xff", &p, &e) < 0);
}

static void test_a_hundred_thousand_tasks(void **state)
{
	(void)state;
	enum { N = 100000 };
	CLEANUP_BUF struct buf text = BUF_INIT;
	buf_adds(&text, HEAD "[invariant:build]\ncommand = make\n");
	for (int i = 0; i < N; i++) {
		buf_addf(&text, "[task:t%d]\nprompt = do a thing, number %d; carefully\n", i, i);
		buf_adds(&text, "invariants = build\nscope = narrow\n");
		if (i > 0)
			buf_addf(&text, "depends_on = t%d, t%d\n", i - 1,
				i / 2 == i - 1 ? 0 : i / 2);
		if (i == 1)
			buf_truncate(&text, text.len - strlen("depends_on = t0, t0\n"));
	}
	buf_adds(&text, "[task:join]\ncommand = true\ndepends_on = t0");
	for (int i = 1; i < N; i++)
		buf_addf(&text, ", t%d", i);
	buf_addc(&text, '\n');
	/* The process's own time: other tests may run beside it. */
	clock_t begin = clock();
	CLEANUP_PLAN struct plan *p = parse_good(buf_cstr(&text));
	long took = (clock() - begin) / (CLOCKS_PER_SEC / 1000);
	print_message("100000 tasks: %ld ms\n", took);
	assert_int_equal(p->tasks.count, N + 1);
	assert_int_equal(p->tasks.items[N].n_deps, N);
	assert_true(took < 10000); /* bounds the order of growth; sanitizers are slow */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_everything_in_a_plan_arrives),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_every_mistake_is_told_in_one_run),
		cmocka_unit_test(test_unknown_dependencies_are_told_with_a_suggestion),
		cmocka_unit_test(test_every_cycle_is_named_whole),
		cmocka_unit_test(test_shared_invariants_are_taken_along),
		cmocka_unit_test(test_prompt_files_lie_beside_the_plan),
		cmocka_unit_test(test_a_plan_from_a_prompt),
		cmocka_unit_test(test_a_hundred_thousand_tasks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
