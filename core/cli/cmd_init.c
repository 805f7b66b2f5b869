/* SPDX-License-Identifier: MIT */
/* orch init: an orch.ini with invariants for the kind of project, and the state directory. */
#include "cli/commands.h"
#include "cli/orch_ini.h"

#include "base/str.h"
#include "config/presets.h"
#include "run/json_text.h"

#include <string.h>

struct init {
	struct cli *cli;
	struct cli_site at;
	bool force, json;
	struct presets kinds;
	char **invariants; /* names as written; owned strv */
};

static bool has_name(const struct init *i, const char *name)
{
	return i->invariants && strv_contains(i->invariants, name);
}

/* "build", or "npm-build" when another kind has taken that name. */
static char *free_name(const struct init *i, const struct preset *p, const char *name)
{
	return has_name(i, name) ? str_printf("%s-%s", p->name, name) : str_dup(name);
}

static int put_preset(struct init *i, const struct preset *p, struct orch_ini *f, struct err *e)
{
	buf_addf(&f->text, "\n; %s: %s\n", p->name, p->help ? p->help : "");
	int r = 0;
	vec_foreach(inv, &p->invariants) {
		CLEANUP(invariant_deinit) struct invariant copy = {0};
		if (r < 0)
			break;
		if (invariant_copy(&copy, inv) < 0)
			return err_nomem(e);
		free(copy.name);
		copy.name = free_name(i, p, inv->name);
		if (!copy.name || strv_add(&i->invariants, copy.name) < 0)
			return err_nomem(e);
		r = orch_ini_put_invariant(f, &copy, e);
	}
	return r;
}

static int compose(struct init *i, struct orch_ini *f, struct err *e)
{
	buf_reset(&f->text);
	buf_adds(&f->text,
		"; Configuration of orch for this repository; `orch config show` prints every key "
		"with\n; its value. Plans name the invariants below in `invariants = ...`; change "
		"them freely,\n; `orch invariant test --all` tries them.\n");
	if (i->kinds.list.count == 0)
		buf_adds(&f->text,
			"\n; No kind of project was recognised here. An invariant is a command "
			"that "
			"must pass:\n;\n; [invariant:test]\n; command = ./run-tests\n; timeout = "
			"10m\n");
	int r = buf_check(&f->text) < 0 ? err_nomem(e) : 0;
	vec_foreach(p, &i->kinds.list)
		if (r == 0)
			r = put_preset(i, p, f, e);
	return r;
}

static int write_file(struct init *i, struct orch_ini *f, struct err *e)
{
	int r = orch_ini_read(i->at.site, NULL, ORCH_INI_REPOSITORY, f, e);
	if (r == 0 && f->existed && !i->force)
		r = err_exit(e, EXIT_CANTCREAT,
			"'%s' is there already; --force replaces it, `orch invariant preset` adds "
			"to "
			"it",
			f->path);
	if (r == 0)
		r = presets_detect(i->at.site->root, &i->kinds, e);
	if (r == 0)
		r = compose(i, f, e);
	return r < 0 ? r : orch_ini_write(f, e);
}

static void tell(const struct init *i, const struct orch_ini *f)
{
	const struct site *s = i->at.site;
	printf("wrote %s\n", f->path);
	vec_foreach(p, &i->kinds.list) {
		printf("recognised %s: ", p->name);
		cli_print_safe(stdout, p->help ? p->help : "");
		putchar('\n');
	}
	if (i->kinds.list.count == 0)
		puts("no kind of project was recognised; add checks with `orch invariant add`");
	if (!s->repo)
		printf("'%s' is not in a git repository: tasks cannot have worktrees of their own, "
		       "and\nplans must say `isolation = none`; `git init` and a first commit "
		       "change "
		       "that\n",
			s->root);
	else if (!s->repo->head.hex[0])
		puts("the repository has no commit yet; make one before the first dispatch");
	puts("next: `orch harness list`, then write a plan.ini and type `orch dispatch plan.ini`,\n"
	     "or `orch dispatch --harness=NAME --prompt='what to do'`");
}

static int tell_json(const struct init *i, const struct orch_ini *f)
{
	json_t *kinds = json_array(), *invariants = json_array();
	bool failed = !kinds || !invariants;
	vec_foreach(p, &i->kinds.list)
		failed |= json_array_append_new(kinds, json_string(p->name)) < 0;
	for (size_t k = 0; i->invariants && i->invariants[k]; k++)
		failed |= json_array_append_new(invariants, json_string(i->invariants[k])) < 0;
	json_t *object =
		failed ? NULL
		       : json_pack("{s:i, s:o, s:o, s:b, s:O, s:O}", "version", 1, "file",
				 json_text(f->path), "state_dir", json_text(i->at.site->state_dir),
				 "repository", i->at.site->repo != NULL, "kinds", kinds,
				 "invariants", invariants);
	json_decref(kinds);
	json_decref(invariants);
	return cli_print_json(object);
}

static int init(struct init *i)
{
	struct err e = ERR_INIT;
	CLEANUP(orch_ini_deinit) struct orch_ini f = ORCH_INI_INIT;
	int status = cli_site_open_state(i->cli, &i->at);
	if (status)
		return status;
	if (write_file(i, &f, &e) < 0)
		return cli_error(i->cli, &e);
	if (i->json)
		return tell_json(i, &f);
	if (!i->cli->quiet)
		tell(i, &f);
	return 0;
}

int cmd_init(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{"force", no_argument, NULL, 'F'}, {"json", no_argument, NULL, 'j'}, CLI_OPTIONS};
	struct init i = {.cli = cli, .at = CLI_SITE_INIT};
	int val, status = -1;
	while ((val = cli_option(cli, argc, argv, options, &status)) != -1) {
		if (val == CLI_EXIT)
			return status;
		if (val == 'F')
			i.force = true;
		else if (val == 'j')
			i.json = true;
		else
			return cli_usage(cli, "unknown option '-%c'", val);
	}
	if (optind < argc)
		return cli_usage(cli, "no operands are expected, found '%s'", argv[optind]);
	status = init(&i);
	presets_deinit(&i.kinds);
	strv_free(i.invariants);
	cli_site_close(&i.at);
	return cli_flush(status);
}
