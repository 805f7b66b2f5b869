/* SPDX-License-Identifier: MIT */
/* orch doctor: what would keep a dispatch from doing its work, for a person. */
#include "cli/commands.h"
#include "cli/version.h"

#include "base/clock.h"
#include "base/map.h"
#include "base/str.h"
#include "os/cgroup.h"
#include "run/json_text.h"
#include "run/preflight.h"

#include <errno.h>
#include <string.h>

#define GIT_VERSION_MS 10000

struct doctor {
	struct cli *cli;
	struct cli_site at;
	struct diags diags;
	json_t *facts; /* ordered: what was looked at, and how it is */
	int64_t plan_id;
	char plan[101];
	bool json;
};

static void fact(struct doctor *d, const char *name, const char *fmt, ...) PRINTF_LIKE(3, 4);

static void fact(struct doctor *d, const char *name, const char *fmt, ...)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	va_list ap;
	va_start(ap, fmt);
	buf_addv(&text, fmt, ap);
	va_end(ap);
	json_object_set_new(d->facts, name, json_text(buf_cstr(&text)));
}

/* What units will use: what is configured, where it can be had. */
static void look_at_containment(struct doctor *d)
{
	enum config_containment configured = d->at.site->config->orch.containment;
	const char *name = config_containment_name(configured);
	struct err why = ERR_INIT;
	bool asks =
		configured == CONFIG_CONTAINMENT_AUTO || configured == CONFIG_CONTAINMENT_CGROUP;
	if (!asks)
		fact(d, "containment", "%s (as configured)", name);
	else if (cgroup_probe(&why) == 0)
		fact(d, "containment", "cgroup");
	else if (configured == CONFIG_CONTAINMENT_AUTO)
		fact(d, "containment", "subreaper (no cgroup: %s)", why.msg);
	else
		diags_error(
			&d->diags, NULL, 0, "containment = cgroup cannot be had here: %s", why.msg);
}

static int look_at_place(struct doctor *d)
{
	const struct site *site = d->at.site;
	struct site_engine engine = {0};
	struct err e = ERR_INIT, why = ERR_INIT, state = ERR_INIT;
	struct git_ctx git = site_git(site);
	git.deadline_ms = deadline_after(GIT_VERSION_MS);
	if (site->repo && git_check_version(&git, site->repo, &why) < 0)
		diags_error(&d->diags, NULL, 0, "%s", why.msg);
	if (site->repo)
		fact(d, "repository", "%s (%s%s, git %s)", site->root,
			site->repo->head_branch ? "branch " : "",
			site->repo->head_branch ? site->repo->head_branch : "detached HEAD",
			site->repo->version ? site->repo->version : "that cannot be used");
	else
		fact(d, "repository", "none; only plans with isolation = none can run in %s",
			site->root);
	fact(d, "state", "%s", site->state_dir);
	if (site_check_state(site, &state) < 0)
		diags_error(&d->diags, NULL, 0, "%s", state.msg);
	fact(d, "worktrees", "%s", site->worktree_root);
	if (site_engine(site, &engine, &e) < 0)
		return cli_error(d->cli, &e);
	if (engine.running)
		fact(d, "engine", "runs, pid %d", engine.pid);
	else
		fact(d, "engine", "none runs");
	look_at_containment(d);
	struct preflight_room room = preflight_room(site);
	fact(d, "free", "%lld MiB of memory, %lld MiB of disk",
		(long long)(room.memory_bytes >> 20), (long long)(room.disk_bytes >> 20));
	return 0;
}

/* Those that are configured, and the default one; a plan's own are looked at with the plan. */
static int look_at_harnesses(struct doctor *d)
{
	const struct config *c = d->at.site->config;
	struct map seen = MAP_INIT;
	int r = 0;
	vec_foreach(h, &c->harnesses)
		if (r == 0)
			r = map_put(&seen, h->name, d);
	if (r == 0 && c->orch.default_harness)
		r = map_put(&seen, c->orch.default_harness, d);
	if (r == -EEXIST)
		r = 0;
	for (size_t i = 0; r == 0 && i < seen.count; i++) {
		CLEANUP_STR char *text = NULL;
		CLEANUP_STR char *name = str_printf("harness %s", seen.entries[i].key);
		size_t before = d->diags.list.count;
		r = name ? preflight_harness(d->at.site, seen.entries[i].key, &d->diags, &text)
			 : -ENOMEM;
		if (r == 0)
			fact(d, name, "%s",
				d->diags.list.count > before ? "cannot be used (see below)"
				: text && text[0]            ? text
							     : "ok");
	}
	map_deinit(&seen);
	return r < 0 ? cli_no_memory(d->cli) : 0;
}

struct each {
	struct doctor *doctor;
	struct err err;
};

static int look_at_plan(void *ctx, const struct plan_row *row)
{
	struct each *each = ctx;
	struct doctor *d = each->doctor;
	if (d->plan_id ? row->id != d->plan_id : row->status == PLAN_COMPLETED)
		return 0;
	struct preflight p = {
		.site = d->at.site,
		.store = d->at.store,
		.plan_id = row->id,
		.seen_machine = !d->plan_id,
		.cancel_fd = -1,
	};
	CLEANUP_STR char *name = str_printf("plan %s", row->name);
	size_t before = d->diags.list.count;
	int status = 0;
	int r = name ? preflight_plan(&p, &d->diags, &status, &each->err) : err_nomem(&each->err);
	if (r == 0)
		fact(d, name, "%s%s", plan_status_name(row->status),
			d->diags.list.count > before    ? ", with problems (see below)"
			: row->status == PLAN_COMPLETED ? ""
			: row->status == PLAN_DRAFT     ? ", could be dispatched once approved"
							: ", could be dispatched");
	return r;
}

static int look_at_plans(struct doctor *d)
{
	struct each each = {.doctor = d, .err = ERR_INIT};
	struct preflight p = {.site = d->at.site, .cancel_fd = -1};
	int status = 0, r = 0;
	if (!d->at.store || !d->plan_id)
		r = preflight_plan(&p, &d->diags, &status, &each.err);
	if (r == 0 && d->at.store)
		r = store_each_plan(d->at.store, look_at_plan, &each, &each.err);
	return r < 0 ? cli_error(d->cli, &each.err) : 0;
}

/* What holds for several plans is found with each of them. */
static void drop_doubles(struct diags *d)
{
	size_t kept = 0;
	for (size_t i = 0; i < d->list.count; i++) {
		bool twice = false;
		for (size_t k = 0; k < kept; k++)
			twice |= str_eq(d->list.items[k].text, d->list.items[i].text);
		struct diag it = d->list.items[i];
		if (twice) {
			d->errors -= it.severity == DIAG_ERROR;
			free(it.text);
			free(it.file);
		} else {
			d->list.items[kept++] = it;
		}
	}
	d->list.count = kept;
}

static int tell_json(struct doctor *d)
{
	json_t *problems = json_array();
	vec_foreach(it, &d->diags.list)
		(void)json_array_append_new(
			problems, json_pack("{s:s, s:o}", "severity",
					  it->severity == DIAG_ERROR ? "error" : "warning", "text",
					  json_text(it->text)));
	return cli_print_json(json_pack(
		"{s:i, s:O, s:o}", "version", 1, "facts", d->facts, "problems", problems));
}

static int tell_text(struct doctor *d)
{
	const char *name;
	json_t *value;
	printf("%-14s %s\n", "orch", ORCH_VERSION);
	json_object_foreach(d->facts, name, value) {
		printf("%-14s ", name);
		cli_print_safe(stdout, json_string_value(value));
		putchar('\n');
	}
	size_t n = d->diags.list.count;
	if (n == 0)
		puts("\nno problems");
	else
		printf("\n%zu problem%s:\n", n, n == 1 ? "" : "s");
	diags_print(&d->diags, stdout);
	return 0;
}

static int examine(struct doctor *d, const char *plan)
{
	int status = cli_site_open(d->cli, CLI_READ, &d->at);
	if (status == 0 && plan)
		status = cli_find_plan(d->cli, d->at.store, plan, &d->plan_id, d->plan);
	if (status == 0)
		status = look_at_place(d);
	if (status == 0)
		status = look_at_harnesses(d);
	if (status == 0)
		status = look_at_plans(d);
	if (status)
		return status;
	drop_doubles(&d->diags);
	status = d->json ? tell_json(d) : tell_text(d);
	return status ? status : d->diags.errors > 0;
}

int cmd_doctor(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {{"json", no_argument, NULL, 'j'}, CLI_OPTIONS};
	struct doctor d = {.cli = cli, .at = CLI_SITE_INIT};
	int val, status = -1;
	while ((val = cli_option(cli, argc, argv, options, &status)) != -1) {
		if (val == CLI_EXIT)
			return status;
		if (val != 'j')
			return cli_usage(cli, "unknown option '-%c'", val);
		d.json = true;
	}
	if (optind + 1 < argc)
		return cli_usage(cli, "expected one plan");
	d.facts = json_object();
	status = d.facts ? examine(&d, argv[optind]) : cli_no_memory(cli);
	json_decref(d.facts);
	diags_deinit(&d.diags);
	cli_site_close(&d.at);
	return cli_flush(status);
}
