/* SPDX-License-Identifier: MIT */
/*
 * orch-reference OUT_DIR MAN_DIR VERSION: run by the build. Writes what follows from the tables of
 * the program: a man page for each verb (OUT_DIR/man1/orch-VERB.1; MAN_DIR/orch-VERB.man, where
 * there is one, goes into it as it is), the other pages of MAN_DIR (*.in, where a line `@keys
 * NAME@` stands for the keys of that section of orch.ini or a plan), and the completions for bash,
 * zsh and fish.
 */
#include "cli/commands.h"

#include "config/config_keys.h"
#include "config/invariant.h"
#include "plan/plan_keys.h"

#include <ctype.h>
#include <string.h>
#include <sys/stat.h>

struct reference {
	const char *out_dir;
	const char *man_dir;
	const char *version;
};

static const char *const common_options[] = {
	"-h", "--help", "-C", "--config", "--log-level", "-q", "--quiet", NULL};

static FILE *create(const struct reference *r, const char *name)
{
	CLEANUP(freep) char *path = NULL;
	if (asprintf(&path, "%s/%s", r->out_dir, name) < 0)
		return NULL;
	FILE *f = fopen(path, "we");
	if (!f)
		perror(path);
	return f;
}

static int finish(FILE *f)
{
	bool bad = ferror(f) != 0;
	return fclose(f) != 0 || bad ? -1 : 0;
}

/* ---- man pages ---- */

/* Text for roff: its own characters are escaped, what stands between backquotes is bold. */
static void put_roff(FILE *f, const char *text)
{
	bool bold = false;
	char before = '\n';
	for (const char *p = text; *p; p++) {
		if (before == '\n' && (*p == '.' || *p == '\''))
			fputs("\\&", f);
		if (*p == '\\')
			fputs("\\e", f);
		else if (*p == '-')
			fputs("\\-", f);
		else if (*p == '`')
			fputs((bold = !bold) ? "\\fB" : "\\fR", f);
		else
			fputc(*p, f);
		before = *p;
	}
}

/* A sentence of a summary: capital letter, full stop. */
static void put_sentence(FILE *f, const char *text)
{
	fputc(toupper((unsigned char)text[0]), f);
	put_roff(f, text + 1);
	fputs(".\n", f);
}

static void put_page_head(
	const struct reference *r, FILE *f, const struct cli_command *c, const char *title)
{
	fprintf(f,
		".\\\" SPDX-License-Identifier: MIT\n.\\\" Made from the table of verbs.\n"
		".TH ORCH\\-%s 1 \"\" \"orch %s\" \"orch manual\"\n.SH NAME\norch\\-%s \\- ",
		title, r->version, c->name);
	put_roff(f, c->summary);
	fprintf(f, "\n.SH SYNOPSIS\n.B orch %s\n", c->name);
	put_roff(f, c->args);
	fputs("\n.SH DESCRIPTION\n", f);
	put_sentence(f, c->summary);
	if (c->help) {
		put_roff(f, c->help);
		fputc('\n', f);
	}
}

static void put_subcommands(FILE *f, const struct cli_command *c)
{
	if (!c->subcommands)
		return;
	fputs(".SH COMMANDS\n", f);
	for (const struct cli_command *s = c->subcommands; s->name; s++) {
		fprintf(f, ".TP\n\\fBorch %s %s\\fR ", c->name, s->name);
		put_roff(f, s->args);
		fputc('\n', f);
		put_sentence(f, s->summary);
		if (s->help) {
			put_roff(f, s->help);
			fputc('\n', f);
		}
	}
}

static int put_fragment(const struct reference *r, FILE *out, const char *name)
{
	CLEANUP(freep) char *path = NULL;
	if (asprintf(&path, "%s/orch-%s.man", r->man_dir, name) < 0)
		return -1;
	FILE *in = fopen(path, "re");
	if (!in)
		return 0;
	char line[1024];
	while (fgets(line, sizeof(line), in))
		if (strncmp(line, ".\\\"", 3) != 0)
			fputs(line, out);
	return finish(in);
}

static bool has_json(const struct cli_command *c)
{
	bool found = strstr(c->args, "--json") != NULL;
	for (const struct cli_command *s = c->subcommands; s && s->name; s++)
		found |= strstr(s->args, "--json") != NULL;
	return found;
}

static int write_page(const struct reference *r, const struct cli_command *c)
{
	char name[128], title[64];
	snprintf(name, sizeof(name), "man1/orch-%s.1", c->name);
	snprintf(title, sizeof(title), "%s", c->name);
	for (char *p = title; *p; p++)
		*p = (char)toupper((unsigned char)*p);
	FILE *f = create(r, name);
	if (!f)
		return -1;
	put_page_head(r, f, c, title);
	put_subcommands(f, c);
	int status = put_fragment(r, f, c->name);
	fputs(".SH SEE ALSO\n.BR orch (1)\nsays what every verb has in common: options, exit "
	      "status, environment, files.\n",
		f);
	if (has_json(c))
		fputs(".BR orch\\-json (5)\nsays what it prints with \\-\\-json.\n", f);
	if (strcmp(c->name, "harness") == 0)
		fputs(".BR orch\\-harness (5),\n", f);
	fputs(".BR orch\\-plan (5),\n.BR orch.ini (5)\n", f);
	return finish(f) < 0 ? -1 : status;
}

/* ---- keys ---- */

static const struct key_table *find_keys(const char *name)
{
	if (strcmp(name, "plan") == 0)
		return &plan_keys;
	if (strcmp(name, "task") == 0)
		return &task_keys;
	const struct config_section *s = config_section_find(name);
	return s ? s->keys : NULL;
}

static int put_keys(FILE *f, const char *name)
{
	const struct key_table *table = find_keys(name);
	if (!table) {
		fprintf(stderr, "there is no section '%s'\n", name);
		return -1;
	}
	for (size_t i = 0; i < table->count; i++) {
		const struct key_spec *spec = &table->keys[i];
		fprintf(f, ".TP\n.B %s\n", spec->key);
		put_roff(f, spec->help);
		fputs(".\n", f);
		if (spec->default_value) {
			fputs("Default: ", f);
			put_roff(f, spec->default_value);
			fputs(".\n", f);
		}
	}
	return 0;
}

/* `@version@` and lines `@keys NAME@`; all else is copied. */
static int put_template(const struct reference *r, FILE *out, FILE *in)
{
	int status = 0;
	char line[1024], name[64];
	while (fgets(line, sizeof(line), in)) {
		char *version = strstr(line, "@version@");
		if (sscanf(line, "@keys %63[a-z]@", name) == 1)
			status |= put_keys(out, name);
		else if (version)
			fprintf(out, "%.*s%s%s", (int)(version - line), line, r->version,
				version + strlen("@version@"));
		else
			fputs(line, out);
	}
	return status;
}

/* man/NAME.in to out/manN/NAME, where N is its last character. */
static int write_template(const struct reference *r, const char *name)
{
	CLEANUP(freep) char *from = NULL, *to = NULL;
	if (asprintf(&from, "%s/%s.in", r->man_dir, name) < 0 ||
		asprintf(&to, "man%c/%s", name[strlen(name) - 1], name) < 0)
		return -1;
	FILE *in = fopen(from, "re");
	if (!in) {
		perror(from);
		return -1;
	}
	FILE *out = create(r, to);
	int status = out ? put_template(r, out, in) : -1;
	if (out && finish(out) < 0)
		status = -1;
	return finish(in) < 0 ? -1 : status;
}

/* ---- completions ---- */

/* Calls put with each option of a verb, its own first. */
static void each_option(
	FILE *f, const struct cli_command *c, void (*put)(FILE *f, const char *option, size_t len))
{
	for (const char *p = strchr(c->args, '-'); p; p = strchr(p, '-')) {
		size_t len = strspn(p, "-abcdefghijklmnopqrstuvwxyz");
		bool starts = p == c->args || p[-1] == ' ' || p[-1] == '[';
		if (starts && len > 1)
			put(f, p, len);
		p += len ? len : 1;
	}
	for (size_t i = 0; common_options[i]; i++)
		put(f, common_options[i], strlen(common_options[i]));
}

static void put_word(FILE *f, const char *option, size_t len)
{
	fprintf(f, " %.*s", (int)len, option);
}

/* A shell's case branch: the words that may follow this verb. */
static void put_case(FILE *f, const char *verb, const struct cli_command *c)
{
	fprintf(f, "\t'%s') echo '", verb);
	for (const struct cli_command *s = c->subcommands; s && s->name; s++)
		fprintf(f, "%s ", s->name);
	each_option(f, c, put_word);
	fputs("' ;;\n", f);
}

static void put_cases(FILE *f)
{
	fputs("\t'') echo '", f);
	for (const struct cli_command *c = cli_commands; c->name; c++)
		fprintf(f, "%s ", c->name);
	fputs("--version", f);
	for (size_t i = 0; common_options[i]; i++)
		fprintf(f, " %s", common_options[i]);
	fputs("' ;;\n", f);
	for (const struct cli_command *c = cli_commands; c->name; c++) {
		put_case(f, c->name, c);
		for (const struct cli_command *s = c->subcommands; s && s->name; s++) {
			char verb[128];
			snprintf(verb, sizeof(verb), "%s %s", c->name, s->name);
			put_case(f, verb, s);
		}
	}
}

/* The patterns of the verbs that have subcommands: 'plan'|'harness'. */
static void put_groups(FILE *f)
{
	const char *between = "";
	for (const struct cli_command *c = cli_commands; c->name; c++) {
		if (!c->subcommands)
			continue;
		fprintf(f, "%s%s", between, c->name);
		between = " | ";
	}
}

/*
 * bash and zsh (through bashcompinit) share this: which verb stands before the cursor, and what
 * may follow it. Anything else is completed as a file.
 */
static void put_bash(FILE *f)
{
	fputs("_orch_words()\n{\n\tcase $1 in\n", f);
	put_cases(f);
	fputs("\tesac\n}\n\n"
	      "_orch()\n{\n"
	      "\tlocal verb='' group='' word i\n"
	      "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	      "\t\tword=${COMP_WORDS[i]}\n"
	      "\t\tcase $word in\n"
	      "\t\t-C | --config | --log-level) i=$((i + 1)) ;;\n"
	      "\t\t-*) ;;\n"
	      "\t\t*)\n"
	      "\t\t\tif [ -n \"$group\" ]; then verb=\"$group $word\"; break; fi\n"
	      "\t\t\tverb=$word\n"
	      "\t\t\tcase $word in\n\t\t\t",
		f);
	put_groups(f);
	fputs(") group=$word ;;\n"
	      "\t\t\t*) break ;;\n"
	      "\t\t\tesac ;;\n"
	      "\t\tesac\n"
	      "\tdone\n"
	      "\tCOMPREPLY=()\n"
	      "\twhile IFS='' read -r word; do COMPREPLY+=(\"$word\"); done < <(\n"
	      "\t\tcompgen -W \"$(_orch_words \"$verb\")\" -- \"${COMP_WORDS[COMP_CWORD]}\")\n"
	      "}\n\ncomplete -o default -F _orch orch\n",
		f);
}

static int write_bash(const struct reference *r)
{
	FILE *f = create(r, "orch.bash");
	if (!f)
		return -1;
	fputs("# SPDX-License-Identifier: MIT\n# bash completion of orch; made from the table of "
	      "verbs.\n# shellcheck shell=bash\n",
		f);
	put_bash(f);
	return finish(f);
}

static int write_zsh(const struct reference *r)
{
	FILE *f = create(r, "_orch");
	if (!f)
		return -1;
	fputs("#compdef orch\n# SPDX-License-Identifier: MIT\n# Made from the table of verbs.\n"
	      "autoload -U +X bashcompinit && bashcompinit\n",
		f);
	put_bash(f);
	/* The first call is the one that loads this file. */
	fputs("(( ! ${+compstate} )) || _bash_complete -o default -F _orch\n", f);
	return finish(f);
}

static void put_fish_text(FILE *f, const char *text)
{
	fputc('\'', f);
	for (const char *p = text; *p; p++) {
		if (*p == '\'' || *p == '\\')
			fputc('\\', f);
		fputc(*p, f);
	}
	fputs("'\n", f);
}

static void put_fish_option(FILE *f, const char *option, size_t len)
{
	if (option[1] == '-')
		fprintf(f, " -l %.*s", (int)len - 2, option + 2);
	else
		fprintf(f, " -s %.*s", (int)len - 1, option + 1);
}

static int write_fish(const struct reference *r)
{
	FILE *f = create(r, "orch.fish");
	if (!f)
		return -1;
	fputs("# SPDX-License-Identifier: MIT\n# fish completion of orch; made from the table of "
	      "verbs.\n",
		f);
	for (const struct cli_command *c = cli_commands; c->name; c++) {
		fprintf(f, "complete -c orch -f -n __fish_use_subcommand -a %s -d ", c->name);
		put_fish_text(f, c->summary);
		for (const struct cli_command *s = c->subcommands; s && s->name; s++) {
			fprintf(f,
				"complete -c orch -f -n '__fish_seen_subcommand_from %s' -a %s "
				"-d ",
				c->name, s->name);
			put_fish_text(f, s->summary);
		}
		fprintf(f, "complete -c orch -n '__fish_seen_subcommand_from %s'", c->name);
		each_option(f, c, put_fish_option);
		for (const struct cli_command *s = c->subcommands; s && s->name; s++)
			each_option(f, s, put_fish_option);
		fputc('\n', f);
	}
	return finish(f);
}

int main(int argc, char **argv)
{
	if (argc != 4) {
		fprintf(stderr, "usage: orch-reference OUT_DIR MAN_DIR VERSION\n");
		return EXIT_USAGE;
	}
	const struct reference r = {argv[1], argv[2], argv[3]};
	static const char *const dirs[] = {"man1", "man5"};
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		CLEANUP(freep) char *path = NULL;
		if (asprintf(&path, "%s/%s", r.out_dir, dirs[i]) < 0)
			return 1;
		(void)mkdir(path, 0755); /* if it cannot be made, its files cannot either */
	}
	int status = 0;
	for (const struct cli_command *c = cli_commands; c->name; c++)
		status |= write_page(&r, c);
	static const char *const pages[] = {
		"orch.1", "orch.ini.5", "orch-plan.5", "orch-harness.5", "orch-json.5"};
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++)
		status |= write_template(&r, pages[i]);
	status |= write_bash(&r) | write_zsh(&r) | write_fish(&r);
	return status ? 1 : 0;
}
