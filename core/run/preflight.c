/* SPDX-License-Identifier: MIT */
#include "run/preflight.h"

#include "base/clock.h"
#include "base/map.h"
#include "base/str.h"
#include "git/branchfile.h"
#include "git/guard.h"
#include "os/lock.h"
#include "plan/plan.h"
#include "plugin/probe.h"
#include "unit/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define GIT_TIMEOUT_MS   60000
#define PROBE_TIMEOUT_MS 5000

/* ---- the machine ---- */

static int64_t memory_available(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	long long kb = -1;
	char line[128];
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %lld kB", &kb) == 1)
			break;
	if (f)
		fclose(f);
	return kb < 0 ? -1 : kb * 1024;
}

static int64_t disk_available(const char *path)
{
	struct statvfs vfs;
	return statvfs(path, &vfs) < 0 ? -1 : (int64_t)vfs.f_bavail * (int64_t)vfs.f_frsize;
}

struct preflight_room preflight_room(const struct site *site)
{
	return (struct preflight_room){
		.memory_bytes = memory_available(),
		.disk_bytes = disk_available(
			access(site->state_dir, F_OK) == 0 ? site->state_dir : site->root),
	};
}

static void check_room(const struct site *site, struct diags *d)
{
	struct preflight_room room = preflight_room(site);
	const struct config_orch *c = &site->config->orch;
	if (room.memory_bytes >= 0 && room.memory_bytes < c->min_free_memory_bytes)
		diags_warning(d, NULL, 0,
			"%lld MiB of memory are free, less than min_free_memory (%lld MiB): "
			"nothing starts before there is more; end something, or lower it in [orch]",
			(long long)(room.memory_bytes >> 20),
			(long long)(c->min_free_memory_bytes >> 20));
	if (room.disk_bytes >= 0 && room.disk_bytes < c->min_free_disk_bytes)
		diags_warning(d, NULL, 0,
			"%lld MiB of disk are free at '%s', less than min_free_disk (%lld MiB): "
			"nothing starts before there is more; free some, or lower it in [orch]",
			(long long)(room.disk_bytes >> 20), site->root,
			(long long)(c->min_free_disk_bytes >> 20));
}

/* The deepest part of the worktrees' root that exists must be ours to write. */
static int check_root(const struct site *site, struct diags *d)
{
	CLEANUP_STR char *part = str_dup(site->worktree_root);
	while (part && access(part, F_OK) < 0 && (errno == ENOENT || errno == ENOTDIR) &&
		strrchr(part, '/') > part)
		*strrchr(part, '/') = '\0';
	if (!part || access(part, W_OK | X_OK) == 0)
		return 0;
	diags_error(d, NULL, 0,
		"worktrees cannot be made in '%s': '%s' cannot be written (%s); set worktree_root "
		"in [orch]",
		site->worktree_root, part, strerror(errno));
	return EXIT_CANTCREAT;
}

/* They go into JSON: specs, answers, events. */
static int check_paths(const struct site *site, struct diags *d)
{
	const char *const paths[] = {site->root, site->worktree_root};
	for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
		if (!paths[i] || utf8_is_valid(paths[i], strlen(paths[i])))
			continue;
		diags_error(d, NULL, 0,
			"the path '%s' is not UTF-8, so no agent can work there; %s", paths[i],
			i == 0 ? "rename the directory" : "set worktree_root in [orch]");
		return EXIT_NOINPUT;
	}
	return 0;
}

/* ---- harnesses ---- */

static int collect_settings(const struct config_harness *h, struct plugin_setting **ret)
{
	size_t n = h ? h->options.count : 0;
	struct plugin_setting *settings = calloc(n + 1, sizeof(*settings));
	if (!settings)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		settings[i] = (struct plugin_setting){
			.key = h->options.items[i].key, .value = h->options.items[i].value};
	*ret = settings;
	return 0;
}

static void tell_check(const char *name, const struct plugin_report *report, struct diags *d)
{
	const char *text = report->check_text ? report->check_text : "it does not say why";
	if (report->check == PLUGIN_CHECK_FAILED)
		diags_warning(d, NULL, 0,
			"harness '%s': its agent cannot be used: %s; its tasks will fail (orch "
			"harness check %s)",
			name, text, name);
	else if (report->check == PLUGIN_CHECK_BROKEN)
		diags_warning(d, NULL, 0, "harness '%s' is broken: its %s; its tasks may fail",
			name, report->check_text ? text : "check failed");
}

int preflight_harness(const struct site *site, const char *name, struct diags *d, char **ret_text)
{
	struct err why = ERR_INIT;
	CLEANUP_STR char *path = site_plugin_path(site);
	CLEANUP_STR char *file = NULL;
	const struct config_harness *h = config_harness_find(site->config, name);
	CLEANUP(freep) struct plugin_setting *settings = NULL;
	*ret_text = NULL;
	if (!path || collect_settings(h, &settings) < 0)
		return -ENOMEM;
	const char *plugin = config_harness_plugin(site->config, name);
	int r = plugin_find(path, plugin, &file, &why);
	/* It says so itself, of the plugin. */
	bool named = r > 0 && str_eq(plugin, name);
	CLEANUP(plugin_report_deinit) struct plugin_report report = PLUGIN_REPORT_INIT;
	int64_t timeout = site->config->orch.callback_timeout_ms;
	struct plugin_probe_args args = {
		.flags = PLUGIN_PROBE_CHECK,
		.settings = settings,
		.n_settings = h ? h->options.count : 0,
		.timeout_ms = timeout < PROBE_TIMEOUT_MS ? timeout : PROBE_TIMEOUT_MS,
	};
	if (r == 0)
		r = plugin_probe(file, &args, &report, &why);
	if (r == -ENOMEM)
		return r;
	if (err_is_machine(r)) {
		diags_warning(d, NULL, 0, "harness '%s' could not be tried: %s", name, why.msg);
		return 0;
	}
	if (r != 0) {
		diags_warning(d, NULL, 0, "%s%s%s%s; its tasks will fail", named ? "" : "harness '",
			named ? "" : name, named ? "" : "': ", why.msg);
		return 0;
	}
	tell_check(name, &report, d);
	const char *version = report.agent_version ? report.agent_version : "";
	*ret_text =
		str_printf("%s%s%s", report.check == PLUGIN_CHECK_NONE ? "no agent to check" : "",
			version, report.check_text ? report.check_text : "");
	return *ret_text ? 0 : -ENOMEM;
}

/* ---- invariants ---- */

static bool is_shell_word(const char *word)
{
	static const char *const words[] = {"!", ".", ":", "[", "alias", "bg", "break", "case",
		"cd", "command", "continue", "do", "done", "echo", "elif", "else", "esac", "eval",
		"exec", "exit", "export", "false", "fg", "fi", "for", "getopts", "hash", "if", "in",
		"jobs", "kill", "local", "printf", "pwd", "read", "readonly", "return", "set",
		"shift", "test", "then", "times", "trap", "true", "type", "ulimit", "umask",
		"unalias", "unset", "until", "wait", "while", "{"};
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (str_eq(word, words[i]))
			return true;
	return false;
}

/* The program that a command line begins with, where that is plain to see; owned. */
static char *first_program(const char *command)
{
	const char *p = command;
	for (;;) {
		p += strspn(p, " \t\n");
		size_t len = strcspn(p, " \t\n");
		CLEANUP_STR char *word = strndup(p, len);
		if (!word || !word[0])
			return NULL;
		if (strchr(word, '=')) {
			p += len; /* NAME=VALUE before the command */
			continue;
		}
		bool plain = strspn(word, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
					  "0123456789_+-./") == len;
		return plain && !is_shell_word(word) ? TAKE(word) : NULL;
	}
}

static bool is_on_path(const struct site *site, const char *program)
{
	const char *path = environment_get(site->environment, "PATH");
	CLEANUP_STRV char **dirs = strv_split(path ? path : "/usr/bin:/bin", ":");
	for (size_t i = 0; dirs && dirs[i]; i++) {
		CLEANUP_STR char *full = path_join(dirs[i], program);
		if (full && access(full, X_OK) == 0)
			return true;
	}
	return false;
}

/* What lies in the tree may be made by an agent; what is expected on the machine is not. */
static void check_invariants(const struct site *site, const struct plan *plan, struct diags *d)
{
	vec_foreach(inv, &plan->invariant_defs) {
		CLEANUP_STR char *program = first_program(inv->command);
		if (!program || (program[0] != '/' && strchr(program, '/')))
			continue;
		bool found =
			program[0] == '/' ? access(program, X_OK) == 0 : is_on_path(site, program);
		if (!found)
			diags_warning(d, NULL, 0,
				"invariant '%s': there is no program '%s' %s; install it, or "
				"change the command (orch invariant add %s --force, orch plan set)",
				inv->name, program, program[0] == '/' ? "" : "on PATH", inv->name);
	}
}

/* ---- the plan ---- */

static int note_harness(struct map *seen, const char *name)
{
	int r = map_put(seen, name, seen);
	return r == -EEXIST ? 0 : r;
}

/* NULL: the task has none. */
static const char *harness_of(const struct config *c, const struct plan *plan, const struct task *t)
{
	const char *otherwise = c->orch.default_harness;
	return t->harness      ? t->harness
	       : plan->harness ? plan->harness
	       : otherwise     ? otherwise
	       : t->command    ? "shell"
			       : NULL;
}

int preflight_installed(
	const struct site *site, const struct plan *plan, const char *file, struct diags *d)
{
	CLEANUP_STR char *path = site_plugin_path(site);
	struct map seen = MAP_INIT;
	int r = path ? 0 : -ENOMEM;
	vec_foreach(t, &plan->tasks) {
		const char *name = harness_of(site->config, plan, t);
		CLEANUP_STR char *found = NULL;
		struct err why = ERR_INIT;
		if (r < 0 || !name || map_get(&seen, name))
			continue;
		r = map_put(&seen, name, &seen);
		if (r == 0)
			r = plugin_find(
				path, config_harness_plugin(site->config, name), &found, &why);
		if (r == PLUGIN_MISSING)
			diags_warning(d, file, t->harness ? t->line : 0, "%s: its tasks will fail",
				why.msg);
		if (r > 0)
			r = 0;
	}
	map_deinit(&seen);
	return r;
}

static int check_harnesses(const struct preflight *p, const struct plan *plan, struct diags *d)
{
	struct map seen = MAP_INIT;
	size_t without = 0;
	int r = 0;
	vec_foreach(t, &plan->tasks) {
		const char *name = p->harness ? p->harness : harness_of(p->site->config, plan, t);
		without += !name;
		if (r == 0 && name)
			r = note_harness(&seen, name);
	}
	for (size_t i = 0; r == 0 && i < seen.count; i++) {
		CLEANUP_STR char *text = NULL;
		r = preflight_harness(p->site, seen.entries[i].key, d, &text);
	}
	if (without)
		diags_warning(d, NULL, 0,
			"%zu task%s no harness, and will fail: say harness in the plan, or "
			"default_harness in [orch]",
			without, without == 1 ? " has" : "s have");
	map_deinit(&seen);
	return r;
}

struct facts {
	char *base;
	bool fixed; /* the commit to start from is known already: */
	struct git_oid base_oid;
	bool worktrees;
	bool failed;
	char name[101];
};

static int note_plan(void *ctx, const struct plan_row *row)
{
	struct facts *f = ctx;
	f->base = str_dup(row->base ? row->base : row->base_ref);
	f->fixed = row->base_oid && git_oid_parse(row->base_oid, &f->base_oid) == 0;
	f->worktrees = row->worktrees;
	snprintf(f->name, sizeof(f->name), "%s", row->name);
	f->failed = (row->base || row->base_ref) && !f->base;
	return 0;
}

static int check_base(const struct git_ctx *ctx, const struct facts *f, struct diags *d,
	int *ret_status, struct err *e)
{
	struct git_oid oid;
	struct err why = ERR_INIT;
	if (f->fixed || !f->base)
		return 0;
	int r = git_resolve(ctx, f->base, &oid, &why);
	if (r < 0 && r != -ENOENT) {
		*e = why;
		return r;
	}
	if (r == -ENOENT) {
		diags_error(d, NULL, 0,
			"the base of plan '%s' is '%s', which is no commit here: %s; set it with: "
			"orch plan set %s base=BRANCH",
			f->name, f->base, why.msg, f->name);
		*ret_status = EXIT_NOINPUT;
	}
	return 0;
}

static int note_begun(void *ctx, const struct task_row *row)
{
	(void)ctx;
	return row->attempt > 0;
}

static int check_new(const struct git_ctx *ctx, const struct preflight *p, const struct facts *f,
	struct diags *d, struct err *e)
{
	/* No base is known after a cleanup, too. */
	int r = f->fixed ? 1 : store_each_task(p->store, p->plan_id, note_begun, NULL, e);
	return r == 0 ? git_preflight_new(ctx, f->name, d, e) : r < 0 ? r : 0;
}

static int check_git(const struct preflight *p, const struct facts *f, struct diags *d,
	int *ret_status, struct err *e)
{
	const struct site *site = p->site;
	const char *plan = p->plan_id ? f->name : NULL;
	if (!site->repo) {
		if (p->plan_id) {
			diags_error(d, NULL, 0,
				"'%s' is not in a git repository: tasks need worktrees; run `git "
				"init` and commit, or say `isolation = none` in the plan",
				site->root);
			*ret_status = EXIT_NOINPUT;
		}
		return 0;
	}
	struct git_ctx ctx = site_git(site);
	ctx.cancel_fd = p->cancel_fd;
	ctx.deadline_ms = deadline_after(GIT_TIMEOUT_MS);
	int r = git_preflight(&ctx, plan, site->worktree_root, d, e);
	int status = check_root(site, d);
	if (status)
		*ret_status = status;
	if (r == 0 && plan)
		r = check_base(&ctx, f, d, ret_status, e);
	if (r == 0 && plan)
		r = check_new(&ctx, p, f, d, e);
	const char *under_way = git_under_way(site->repo);
	if (under_way && site->config->halt.commit == CONFIG_HALT_COMMIT_BRANCH)
		diags_warning(d, NULL, 0,
			"%s is in progress in the checkout: while it is, the state of a halt is "
			"not committed to the branch ([halt] commit); end it",
			under_way);
	return r;
}

/* ---- what is known of the commit that tasks begin at; nothing is run for it ---- */

/* The integration branch's tip, else the base; "" in *ret_commit: there is none yet. */
static int find_start(const struct git_ctx *ctx, const struct facts *f, struct git_oid *ret_commit,
	struct git_oid *ret_tree, struct err *e)
{
	const char *base = f->fixed ? f->base_oid.hex : f->base ? f->base : "HEAD";
	CLEANUP_STR char *ref = git_ref_integration(f->name);
	CLEANUP_STR char *tip = ref ? str_printf("%s^{commit}", ref) : NULL;
	CLEANUP_STR char *tip_tree = ref ? str_printf("%s^{tree}", ref) : NULL;
	CLEANUP_STR char *start = str_printf("%s^{commit}", base);
	CLEANUP_STR char *start_tree = str_printf("%s^{tree}", base);
	struct git_oid at[4];
	if (!tip || !tip_tree || !start || !start_tree)
		return err_nomem(e);
	const char *const revs[] = {tip, tip_tree, start, start_tree};
	int r = git_resolve_many(ctx, revs, 4, at, e);
	size_t which = r == 0 && at[0].hex[0] ? 0 : 2;
	*ret_commit = at[which];
	*ret_tree = at[which + 1];
	return r;
}

static int note_red(void *ctx, const struct gate_result_row *row)
{
	bool *red = ctx;
	*red = !row->passed;
	return 0;
}

static bool is_used(const struct plan *plan, uint32_t invariant)
{
	vec_foreach(t, &plan->tasks)
		for (uint32_t i = 0; i < t->n_invariants; i++)
			if (t->invariants[i] == invariant)
				return true;
	return false;
}

static int check_known_red(const struct preflight *p, const struct plan *plan,
	const struct git_oid *commit, const struct git_oid *tree, struct diags *d, struct err *e)
{
	for (uint32_t i = 0; i < plan->invariant_defs.count; i++) {
		const struct invariant *inv = &plan->invariant_defs.items[i];
		char fingerprint[33];
		bool red = false;
		/* Neither of these keeps a task from passing. */
		if (inv->advisory || inv->red_before == RED_BEFORE_IGNORE || !is_used(plan, i))
			continue;
		invariant_fingerprint(inv, fingerprint);
		int r = store_cache_get(p->store, tree->hex, fingerprint, note_red, &red, e);
		if (r < 0)
			return r;
		if (red)
			diags_warning(d, NULL, 0,
				"invariant '%s' was red already on the commit that tasks of plan "
				"'%s' begin at (%.12s): each task that it judges has to turn it "
				"green; mend it there first, or set red_before = ignore for it: "
				"then what was red before does not count against a task",
				inv->name, plan->name, commit->hex);
	}
	return 0;
}

static int check_baseline(const struct preflight *p, const struct plan *plan, const struct facts *f,
	struct diags *d, struct err *e)
{
	struct git_ctx ctx = site_git(p->site);
	struct git_oid commit, tree;
	ctx.cancel_fd = p->cancel_fd;
	ctx.deadline_ms = deadline_after(GIT_TIMEOUT_MS);
	int r = find_start(&ctx, f, &commit, &tree, e);
	return r == 0 && commit.hex[0] ? check_known_red(p, plan, &commit, &tree, d, e) : r;
}

/* ---- plans that work in the checkout itself ---- */

struct others {
	const struct preflight *p;
	struct err *err;
	bool found;
	char plan[101];
};

static int note_other(void *ctx, const struct plan_row *row)
{
	struct others *o = ctx;
	o->found = !row->worktrees;
	snprintf(o->plan, sizeof(o->plan), "%s", row->name);
	return 0;
}

/* 1: that ends the search. */
static int note_at_work(void *ctx, const struct unit_row *row)
{
	struct others *o = ctx;
	CLEANUP_STR char *lock =
		str_printf("%s/units/%s/" UNIT_FILE_LOCK, o->p->site->state_dir, row->id);
	if (!lock)
		return err_nomem(o->err);
	if (row->plan_id == o->p->plan_id)
		return 0;
	int r = store_plan(o->p->store, row->plan_id, note_other, o, o->err);
	if (r == 0 && o->found)
		r = lock_is_held(AT_FDCWD, lock, &o->found, o->err);
	return r < 0 ? r : o->found;
}

/* Two of them at a time would be two agents in one tree. */
static int check_others(const struct preflight *p, const struct facts *f, struct diags *d,
	int *ret_status, struct err *e)
{
	struct others o = {.p = p, .err = e};
	int r = store_each_open_unit(p->store, note_at_work, &o, e);
	if (r <= 0)
		return r;
	diags_error(d, NULL, 0,
		"agents of plan '%s', which an orch that died has left, are at work in '%s', the "
		"tree of the tasks of '%s', too: `orch dispatch %s` takes them over first",
		o.plan, p->site->root, f->name, o.plan);
	*ret_status = EXIT_UNAVAILABLE;
	return 0;
}

int preflight_plan(const struct preflight *p, struct diags *d, int *ret_status, struct err *e)
{
	CLEANUP_STR char *text = NULL;
	CLEANUP_PLAN struct plan *plan = NULL;
	CLEANUP(diags_deinit) struct diags mistakes = DIAGS_INIT;
	struct facts f = {.worktrees = true};
	int r = 0, status = 0;
	size_t before = d->errors;
	if (p->plan_id) {
		r = store_plan(p->store, p->plan_id, note_plan, &f, e);
		if (r == 0 && f.failed)
			r = err_nomem(e);
		if (r == 0)
			r = store_plan_definition(p->store, p->plan_id, &text, e);
		if (r == 0)
			r = plan_parse_text("the stored plan", NULL, text, strlen(text), NULL,
				&plan, &mistakes, e);
	}
	if (r == 0)
		status = check_paths(p->site, d);
	if (r == 0 && f.worktrees)
		r = check_git(p, &f, d, &status, e);
	else if (r == 0)
		r = check_others(p, &f, d, &status, e);
	if (r == 0 && !p->seen_machine)
		check_room(p->site, d);
	if (r == 0 && plan)
		check_invariants(p->site, plan, d);
	if (r == 0 && plan && f.worktrees && p->site->repo)
		r = check_baseline(p, plan, &f, d, e);
	if (r == 0 && plan && check_harnesses(p, plan, d) < 0)
		r = err_nomem(e);
	free(f.base);
	size_t errors = d->errors - before;
	*ret_status = errors == 0 ? 0 : errors == 1 && status ? status : EXIT_DATA;
	return r;
}
