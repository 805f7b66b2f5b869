/* SPDX-License-Identifier: MIT */
#include "config/config.h"

#include "base/str.h"
#include "config/ini.h"
#include "config/schema.h"
#include "config/text_file.h"

#include <ctype.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#ifndef SOURCE_DIR
#error "tests/CMakeLists.txt defines SOURCE_DIR"
#endif

struct fixture {
	char dir[64];
	char system[96], user[96], repo[96], other[96];
	struct diags d;
	struct config *c;
	struct err e;
};

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	assert_non_null(f);
	strcpy(f->dir, "/tmp/test-config-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->system, sizeof(f->system), "%s/system.ini", f->dir);
	snprintf(f->user, sizeof(f->user), "%s/user.ini", f->dir);
	snprintf(f->repo, sizeof(f->repo), "%s/repo.ini", f->dir);
	snprintf(f->other, sizeof(f->other), "%s/other.ini", f->dir);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	unlink(f->system);
	unlink(f->user);
	unlink(f->repo);
	unlink(f->other);
	assert_int_equal(rmdir(f->dir), 0);
	diags_deinit(&f->d);
	config_free(f->c);
	free(f);
	return 0;
}

static void write_text(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static int load(struct fixture *f, const char *explicit_file, char *const *environment)
{
	struct config_sources sources = {
		.system_file = f->system,
		.user_file = f->user,
		.repo_file = f->repo,
		.explicit_file = explicit_file,
		.environment = environment,
	};
	diags_deinit(&f->d);
	config_free(f->c);
	f->c = NULL;
	return config_load(&sources, &f->c, &f->d, &f->e);
}

static void check_mistakes(struct fixture *f, const char *expected)
{
	char *out = NULL;
	size_t len = 0;
	FILE *memory = open_memstream(&out, &len);
	diags_print(&f->d, memory);
	fclose(memory);
	CLEANUP_BUF struct buf got = BUF_INIT;
	for (char *p = out; *p;) {
		if (str_starts(p, f->dir)) {
			p += strlen(f->dir) + 1;
			continue;
		}
		buf_addc(&got, *p++);
	}
	free(out);
	assert_string_equal(buf_cstr(&got), expected);
}

static void test_built_in_values(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(load(f, NULL, NULL), 0);
	assert_int_equal(f->d.list.count, 0);
	const struct config *c = f->c;
	assert_null(c->orch.plugin_path);
	assert_null(c->orch.default_harness);
	assert_int_equal(c->orch.max_agents, 4);
	assert_int_equal(c->orch.task_timeout_ms, 1800000);
	assert_int_equal(c->orch.silence_timeout_ms, 900000);
	assert_int_equal(c->orch.drain_timeout_ms, 10000);
	assert_int_equal(c->orch.kill_grace_ms, 5000);
	assert_int_equal(c->orch.callback_timeout_ms, 10000);
	assert_int_equal(c->orch.on_crash, CONFIG_ON_CRASH_ADOPT);
	assert_int_equal(c->orch.containment, CONFIG_CONTAINMENT_AUTO);
	assert_int_equal(c->orch.keep_worktrees, CONFIG_KEEP_WORKTREES_FAILED);
	assert_int_equal(c->orch.min_free_memory_bytes, (int64_t)1 << 30);
	assert_int_equal(c->orch.min_free_disk_bytes, (int64_t)2 << 30);
	assert_int_equal(c->orch.max_file_bytes, (int64_t)100 << 20);
	assert_int_equal(c->retry.backoff_ms, 10000);
	assert_int_equal(c->retry.backoff_max_ms, 300000);
	assert_int_equal(c->retry.max_wait_ms, 6 * 3600000);
	assert_int_equal(c->retry.breaker, 5);
	assert_int_equal(c->halt.commit, CONFIG_HALT_COMMIT_REF);
	assert_null(c->hook.on_halt);
	assert_int_equal(c->daemon.stop_timeout_ms, 30000);
	assert_true(c->daemon.idle_timeout_ms == DURATION_OFF);
	assert_int_equal(c->daemon.agents, CONFIG_DAEMON_AGENTS_STOP);
	assert_int_equal(c->log.level, LOG_LEVEL_INFO);
	assert_true(c->log.keep_ms == 30 * (int64_t)86400000);
	assert_string_equal(config_origin(c, "orch", NULL, "max_agents"), "built in");
	assert_string_equal(config_harness_plugin(c, "shell"), "shell");
}

static void test_later_layers_win_and_each_value_has_an_origin(void **state)
{
	struct fixture *f = *state;
	write_text(f->system,
		"[orch]\nmax_agents = 1\nkill_grace = 1s\ndrain_timeout = 1s\n"
		"default_harness = sys\n[invariant:build]\ncommand = sys\nexpect = 7\n");
	write_text(f->user,
		"[orch]\nmax_agents = 2\nkill_grace = 2s\ndrain_timeout = 2s\n"
		"[harness:my-claude]\nplugin = claude\nmodel = small\npass_env = A, B\n");
	write_text(f->repo, "[orch]\nmax_agents = 3\nkill_grace = 3s\n[invariant:build]\ncommand = "
			    "repo\n[harness:my-claude]\nmodel = large\n");
	char *environment[] = {"ORCH_MAX_AGENTS=9", "ORCH_RETRY_BREAKER=8", "ORCH_LOG_LEVEL=debug",
		"ORCH_HARNESS_MY_CLAUDE_MODEL=huge", "ORCH_HARNESS_CODEX_MAX_AGENTS=2",
		"ORCH_INVARIANT_BUILD_TIMEOUT=7s", "ORCH_DEFAULT_HARNESS=", "ORCH_PLAN=p",
		"ORCH_TASK=t", "ORCH_ATTEMPT=1", "ORCH_UNIT=u", "ORCH_PROMPT_FILE=x",
		"ORCH_SOCKET=s", "ORCH_AGENT_TOKEN=secret", "ORCH_EVENT_FD=3", "ORCH_OTHER_TOOL=1",
		"HOME=/home/me", NULL};
	assert_int_equal(load(f, NULL, environment), 0);
	check_mistakes(f, "");
	assert_int_equal(f->c->orch.max_agents, 9);
	assert_string_equal(
		config_origin(f->c, "orch", NULL, "max_agents"), "environment ORCH_MAX_AGENTS");
	assert_int_equal(f->c->orch.kill_grace_ms, 3000);
	CLEANUP_STR char *origin = str_printf("%s:3", f->repo);
	assert_string_equal(config_origin(f->c, "orch", NULL, "kill_grace"), origin);
	assert_int_equal(f->c->orch.drain_timeout_ms, 2000);
	assert_string_equal(f->c->orch.default_harness, "sys");
	assert_int_equal(f->c->retry.breaker, 8);
	assert_int_equal(f->c->log.level, LOG_LEVEL_DEBUG);
	const struct config_harness *h = config_harness_find(f->c, "my-claude");
	assert_non_null(h);
	assert_string_equal(config_harness_plugin(f->c, "my-claude"), "claude");
	assert_string_equal(h->pass_env[1], "B");
	assert_int_equal(h->options.count, 1);
	assert_string_equal(h->options.items[0].value, "huge");
	assert_int_equal(config_harness_find(f->c, "codex")->max_agents, 2);
	const struct invariant *inv = config_invariant_find(f->c, "build");
	assert_string_equal(inv->command, "repo");
	assert_int_equal(inv->expect, 7);
	assert_int_equal(inv->timeout_ms, 7000);
	assert_int_equal(
		config_set(f->c, "orch", NULL, "max_agents", "11", "--max-agents", &f->e), 0);
	assert_int_equal(f->c->orch.max_agents, 11);
	assert_string_equal(config_origin(f->c, "orch", NULL, "max_agents"), "--max-agents");
	assert_true(config_set(f->c, "orch", NULL, "max_agents", "x", "--max-agents", &f->e) < 0);
	assert_int_equal(err_status(&f->e), EXIT_USAGE);
	assert_string_equal(f->e.msg,
		"--max-agents: max_agents: expected a number from 1 to 100000, found 'x'");
	assert_int_equal(f->c->orch.max_agents, 11);
}

static void test_every_mistake_is_told(void **state)
{
	struct fixture *f = *state;
	write_text(f->system, "[orch]\nmax_agents = many\n[orhc]\nx = 1\n");
	write_text(f->user, "[orch:x]\n[harness]\n[harness:a b]\n[invariant:i]\nexpect = 1\n"
			    "[frobnicate]\n[harness:h]\npass_env = A, B C*\n");
	write_text(f->repo, "[orch]\nmax_agent = 3\nkill_grace = off\nworktree_root = wt\n"
			    "containment = cgroups\n[retry]\nbackoff = 1h\n[log]\nnonsense\n");
	char *environment[] = {
		"ORCH_MAX_AGENTS=0", "ORCH_MAX_AGENT=3", "ORCH_LOG_LEVEL=\xff", NULL};
	assert_int_equal(load(f, NULL, environment), 0);
	check_mistakes(f,
		"warning: environment ORCH_MAX_AGENT sets nothing, did you mean ORCH_MAX_AGENTS?\n"
		"repo.ini:2: error: unknown key 'max_agent' in [orch], did you mean 'max_agents'?\n"
		"repo.ini:3: error: kill_grace: expected a duration such as 90s or 1h30m, found "
		"'off'\n"
		"repo.ini:5: error: containment: expected auto, cgroup, subreaper or pidns, found "
		"'cgroups', did you mean 'cgroup'?\n"
		"repo.ini:9: error: expected '[section]' or 'key = value'\n"
		"repo.ini:4: error: worktree_root: expected an absolute path, or one that begins "
		"with ~/\n"
		"repo.ini:7: error: backoff: expected at most backoff_max\n"
		"system.ini:2: error: max_agents: expected a number from 1 to 100000, found "
		"'many'\n"
		"system.ini:3: error: unknown section [orhc], did you mean 'orch'?\n"
		"user.ini:1: error: expected [orch], found [orch:x]\n"
		"user.ini:2: error: expected [harness:NAME], found [harness]\n"
		"user.ini:3: error: expected a name in [harness:a b], it may hold only letters, "
		"digits, "
		"'.', '_' and '-'\n"
		"user.ini:4: error: [invariant:i] needs a command\n"
		"user.ini:6: error: unknown section [frobnicate], expected [orch], [retry], "
		"[halt], "
		"[hook], [daemon], [log], [harness:NAME], [invariant:NAME]\n"
		"user.ini:8: error: pass_env: expected a comma between words, found 'B C*'\n"
		"environment ORCH_LOG_LEVEL: error: expected UTF-8\n"
		"environment ORCH_MAX_AGENTS: error: max_agents: expected a number from 1 to "
		"100000, "
		"found '0'\n");
	assert_int_equal(f->c->orch.max_agents, 4);
}

static void test_a_lower_maximum_shortens_the_built_in_wait(void **state)
{
	struct fixture *f = *state;
	char *environment[] = {"ORCH_RETRY_BACKOFF_MAX=2s", NULL};
	assert_int_equal(load(f, NULL, environment), 0);
	check_mistakes(f, "");
	assert_int_equal(f->c->retry.backoff_max_ms, 2000);
}

static void test_an_explicit_file_stands_in_for_the_repository_s(void **state)
{
	struct fixture *f = *state;
	write_text(f->repo, "[orch]\nmax_agents = 3\nkill_grace = 3s\n");
	write_text(f->other, "[orch]\nmax_agents = 6\n");
	assert_int_equal(load(f, f->other, NULL), 0);
	assert_int_equal(f->c->orch.max_agents, 6);
	assert_int_equal(f->c->orch.kill_grace_ms, 5000);
	unlink(f->other);
	assert_int_equal(load(f, f->other, NULL), -ENOENT);
	assert_int_equal(err_status(&f->e), EXIT_NOINPUT);
	assert_null(f->c);
}

static void test_the_user_file(void **state)
{
	(void)state;
	static const struct {
		char *environment[4];
		const char *path;
	} cases[] = {
		{{"XDG_CONFIG_HOME=/x", "HOME=/h", NULL}, "/x/orch/orch.ini"},
		{{"XDG_CONFIG_HOME=", "HOME=/h", NULL}, "/h/.config/orch/orch.ini"},
		{{"XDG_CONFIG_HOME=rel", "HOME=/h", NULL}, "/h/.config/orch/orch.ini"},
		{{"HOME=/h", NULL}, "/h/.config/orch/orch.ini"},
		{{"HOME=", NULL}, NULL},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		CLEANUP_STR char *path = NULL;
		assert_int_equal(config_user_file(cases[i].environment, &path), 0);
		if (cases[i].path)
			assert_string_equal(path, cases[i].path);
		else
			assert_null(path);
	}
}

static void test_home_is_filled_in(void **state)
{
	struct fixture *f = *state;
	write_text(f->repo, "[orch]\nplugin_path = ~/p:/usr/x~:~\nworktree_root = ~/wt\n"
			    "[harness:a]\nenv_file = ~/e\n");
	char *environment[] = {"HOME=/home/me", NULL};
	assert_int_equal(load(f, NULL, environment), 0);
	check_mistakes(f, "");
	assert_string_equal(f->c->orch.plugin_path, "/home/me/p:/usr/x~:/home/me");
	assert_string_equal(f->c->orch.worktree_root, "/home/me/wt");
	assert_string_equal(f->c->harnesses.items[0].env_file, "/home/me/e");
}

static void test_what_is_printed_reads_back(void **state)
{
	struct fixture *f = *state;
	write_text(f->repo,
		"[orch]\nmax_agents = 7\n[hook]\non_halt = a\n  b ; c\n"
		"[harness:x]\nopt* = %20%0A\nplugin = y\n[invariant:i]\ncommand = true\n");
	assert_int_equal(load(f, NULL, NULL), 0);
	FILE *out = fopen(f->other, "we");
	assert_int_equal(config_print(f->c, out), 0);
	fclose(out);
	CLEANUP_BUF struct buf text = BUF_INIT;
	assert_int_equal(text_file_read(f->other, 1 << 20, -1, &text, &f->e), 0);
	CLEANUP_STR char *line = str_printf("; %s:2\nmax_agents = 7\n", f->repo);
	assert_non_null(strstr(buf_cstr(&text), line));
	assert_non_null(strstr(buf_cstr(&text), "; built in\nkill_grace = 5s\n"));
	assert_int_equal(load(f, f->other, NULL), 0);
	check_mistakes(f, "");
	assert_int_equal(f->c->orch.max_agents, 7);
	assert_string_equal(f->c->hook.on_halt, "a\nb ; c");
	assert_string_equal(f->c->harnesses.items[0].options.items[0].value, " \n");
	assert_string_equal(f->c->harnesses.items[0].plugin, "y");
	assert_string_equal(f->c->invariants.items[0].command, "true");
}

/* ---- the shipped files ---- */

static void test_the_examples_are_without_mistakes(void **state)
{
	struct fixture *f = *state;
	static const char *const files[] = {
		"config/orch.ini", "config/laptop.ini", "config/server.ini"};
	for (size_t i = 0; i < 3; i++) {
		CLEANUP_STR char *path = path_join(SOURCE_DIR, files[i]);
		char *environment[] = {"HOME=/home/me", NULL};
		assert_int_equal(load(f, path, environment), 0);
		check_mistakes(f, "");
		if (i == 0)
			assert_int_equal(f->c->values.count, 0);
		else
			assert_true(f->c->values.count > 0);
	}
}

struct reference {
	struct ini ini;
	size_t keys;
};

static void check_key(const char *section, const struct key_spec *spec, void *arg)
{
	struct reference *r = arg;
	const char *label = str_eq(section, "harness")     ? "claude"
			    : str_eq(section, "invariant") ? "build"
							   : NULL;
	const struct ini_section *s = ini_find(&r->ini, section, label);
	if (!s || !ini_value(s, spec->key))
		fail_msg("config/orch.ini lacks '%s' in [%s]", spec->key, section);
	else if (spec->default_value && strcmp(ini_value(s, spec->key), spec->default_value) != 0)
		fail_msg(
			"config/orch.ini has another default for '%s' in [%s]", spec->key, section);
	assert_true(spec->help && *spec->help);
	r->keys++;
}

static void test_the_reference_lists_every_key_with_its_default(void **state)
{
	struct fixture *f = *state;
	CLEANUP_STR char *path = path_join(SOURCE_DIR, "config/orch.ini");
	CLEANUP_BUF struct buf text = BUF_INIT, plain = BUF_INIT;
	assert_int_equal(text_file_read(path, 1 << 20, -1, &text, &f->e), 0);
	/* Takes the `;` off what is commented out: `;key = value` and `;[section]`. */
	for (const char *line = buf_cstr(&text); *line; line += strcspn(line, "\n") + 1) {
		if (line[0] == ';' && (islower((unsigned char)line[1]) || line[1] == '['))
			line++;
		buf_add(&plain, line, strcspn(line, "\n") + 1);
	}
	struct reference r = {.ini = INI_INIT};
	assert_int_equal(ini_load_text("orch.ini", buf_cstr(&plain), plain.len, &r.ini, &f->d), 0);
	check_mistakes(f, "");
	config_each_key(check_key, &r);
	size_t listed = 0;
	vec_foreach(s, &r.ini.sections)
		listed += s->entries.count;
	assert_int_equal(listed, r.keys);
	write_text(f->other, buf_cstr(&plain));
	char *environment[] = {"HOME=/home/me", NULL};
	assert_int_equal(load(f, f->other, environment), 0);
	check_mistakes(f, "");
	ini_deinit(&r.ini);
}

static void test_the_names_of_log_levels_are_those_of_the_log(void **state)
{
	struct fixture *f = *state;
	assert_int_equal(load(f, NULL, NULL), 0);
	for (int i = 0; i < LOG_LEVEL_COUNT; i++) {
		const char *name = log_level_name((enum log_level)i);
		assert_int_equal(
			config_set(f->c, "log", NULL, "level", name, "--log-level", &f->e), 0);
		assert_int_equal((int)f->c->log.level, i);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_built_in_values, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_later_layers_win_and_each_value_has_an_origin, setup, teardown),
		cmocka_unit_test_setup_teardown(test_every_mistake_is_told, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_a_lower_maximum_shortens_the_built_in_wait, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_an_explicit_file_stands_in_for_the_repository_s, setup, teardown),
		cmocka_unit_test(test_the_user_file),
		cmocka_unit_test_setup_teardown(test_home_is_filled_in, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_printed_reads_back, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_the_examples_are_without_mistakes, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_the_reference_lists_every_key_with_its_default, setup, teardown),
		cmocka_unit_test_setup_teardown(
			test_the_names_of_log_levels_are_those_of_the_log, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
