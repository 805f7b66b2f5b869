/* SPDX-License-Identifier: MIT */
#include "plan/plan_keys.h"

#include "base/str.h"
#include "config/ini.h"
#include "config/text_file.h"

#include <errno.h>
#include <string.h>

struct parser {
	const char *file;
	const char *dir; /* where a prompt_file is looked for; NULL: the working directory */
	int cancel_fd;
	struct plan *plan;
	struct diags *d;
	struct VEC(struct task_place) places; /* one for each task */
	unsigned plan_line, plan_invariants;
	struct map invariants; /* the plan's own */
	struct VEC(const struct ini_section *) states;
};

static void parser_deinit(struct parser *p)
{
	VEC_FREE(&p->places);
	VEC_FREE(&p->states);
	map_deinit(&p->invariants);
}

static void tell_unknown_key(struct parser *p, const struct ini_section *section,
	const struct ini_entry *entry, const struct key_table *table)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct suggestion near = SUGGESTION(entry->key);
	buf_addf(&text, "unknown key '%s' in [%s%s%s]", entry->key, section->type,
		section->label ? ":" : "", section->label ? section->label : "");
	suggest_keys(&near, table);
	if (table == &task_keys)
		suggest_feed(&near, "prompt_file");
	suggest_add(&near, &text);
	diags_error(p->d, p->file, entry->line, "%s", buf_cstr(&text));
}

/* Reads one entry into object. 0 also after a mistake, which is told. */
static int read_entry(struct parser *p, const struct ini_section *section,
	const struct ini_entry *entry, const struct key_table *table, void *object)
{
	const struct key_spec *spec = key_find(table, entry->key);
	if (!spec) {
		tell_unknown_key(p, section, entry, table);
		return 0;
	}
	CLEANUP_BUF struct buf why = BUF_INIT;
	int r = key_set(spec, object, entry->value, &why);
	if (r == -EINVAL ||
		(r == 0 && object == p->plan && !plan_value_check(p->plan, spec->key, &why))) {
		diags_error(p->d, p->file, entry->line, "%s: %s", entry->key, buf_cstr(&why));
		r = 0;
	}
	return r;
}

/* ---- [plan] ---- */

static int read_plan_section(struct parser *p, const struct ini_section *section)
{
	if (section->label) {
		diags_error(p->d, p->file, section->line, "expected [plan], found [plan:%s]",
			section->label);
		return 0;
	}
	p->plan_line = p->plan_line ? p->plan_line : section->line;
	for (size_t i = 0; i < section->entries.count; i++) {
		const struct ini_entry *entry = &section->entries.items[i];
		int r = read_entry(p, section, entry, &plan_keys, p->plan);
		if (r < 0)
			return r;
		if (str_eq(entry->key, "invariants")) {
			p->plan->has_invariants = true;
			p->plan_invariants = entry->line;
		}
		if (str_eq(entry->key, "name") && str_eq(entry->value, "state"))
			diags_error(p->d, p->file, entry->line,
				"name: a plan cannot be called 'state', the refs of its attempts "
				"would be those of saved states");
	}
	if (!ini_value(section, "name") && !section->duplicate)
		diags_error(p->d, p->file, section->line, "[plan] needs a name");
	return 0;
}

/* ---- [invariant:NAME] ---- */

static int read_invariant(struct parser *p, const struct ini_section *section)
{
	struct invariant inv;
	if (invariant_init(&inv, section->label) < 0)
		return -ENOMEM;
	inv.file = str_dup(p->file);
	inv.line = section->line;
	int r = inv.file ? 0 : -ENOMEM;
	for (size_t i = 0; r == 0 && i < section->entries.count; i++)
		r = read_entry(p, section, &section->entries.items[i], &invariant_keys, &inv);
	if (r == 0 && !ini_value(section, "command"))
		diags_error(p->d, p->file, section->line, "[invariant:%s] needs a command",
			section->label);
	struct invariant *def = NULL;
	if (r == 0)
		r = map_put(&p->invariants, section->label, p);
	if (r == 0)
		def = VEC_PUSH(&p->plan->invariant_defs);
	if (def)
		*def = inv;
	else
		invariant_deinit(&inv);
	if (r == -EEXIST) /* told as a duplicate section */
		return 0;
	return r < 0 ? r : def ? 0 : -ENOMEM;
}

/* ---- [task:NAME] ---- */

static int read_prompt_file(struct parser *p, struct task *t, const struct ini_entry *entry)
{
	CLEANUP_STR char *path = p->dir ? path_join(p->dir, entry->value) : str_dup(entry->value);
	if (!path)
		return -ENOMEM;
	CLEANUP_BUF struct buf text = BUF_INIT;
	struct err e = ERR_INIT;
	const char *why = NULL;
	if (!*entry->value)
		why = "expected a path, found nothing";
	else if (str_eq(entry->value, "-"))
		why = "expected a path, found '-'";
	else if (text_file_read(path, INI_MAX_BYTES, p->cancel_fd, &text, &e) < 0)
		why = e.msg;
	else if (!utf8_is_valid(buf_cstr(&text), text.len))
		why = "expected a file of UTF-8 text without NUL bytes";
	else if (buf_cstr(&text)[strspn(buf_cstr(&text), " \t\r\n")] == '\0')
		why = "expected a prompt, the file is empty";
	if (e.code == -ENOMEM || e.code == -ECANCELED)
		return e.code;
	if (why) {
		diags_error(p->d, p->file, entry->line, "prompt_file: %s", why);
		return 0;
	}
	free(t->prompt);
	t->prompt = buf_steal(&text);
	return t->prompt ? 0 : -ENOMEM;
}

/* A command may have a prompt, which it finds on its standard input. */
static void check_work(struct parser *p, const struct ini_section *section)
{
	const struct ini_entry *prompt = NULL, *command = NULL;
	vec_foreach(entry, &section->entries) {
		bool file = str_eq(entry->key, "prompt_file");
		if (str_eq(entry->key, "command"))
			command = entry;
		if ((file || str_eq(entry->key, "prompt")) && prompt)
			diags_error(p->d, p->file, entry->line,
				"expected one of prompt and prompt_file, found %s besides %s on "
				"line %u",
				entry->key, prompt->key, prompt->line);
		else if (file || str_eq(entry->key, "prompt"))
			prompt = entry;
	}
	if (!prompt && !command)
		diags_error(p->d, p->file, section->line,
			"[task:%s] needs one of prompt, prompt_file and command", section->label);
}

static int read_task_entries(struct parser *p, const struct ini_section *section, struct task *t,
	struct task_place *place)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < section->entries.count; i++) {
		const struct ini_entry *entry = &section->entries.items[i];
		if (str_eq(entry->key, "prompt_file"))
			r = read_prompt_file(p, t, entry);
		else
			r = read_entry(p, section, entry, &task_keys, t);
		if (str_eq(entry->key, "depends_on"))
			place->depends_on = entry->line;
		else if (str_eq(entry->key, "invariants"))
			place->invariants = entry->line;
	}
	if (r == 0)
		check_work(p, section);
	return r;
}

static int read_task(struct parser *p, const struct ini_section *section)
{
	struct task *t;
	struct task_place place = {section->line, section->line};
	int r = plan_add_task(p->plan, section->label, &t);
	if (r == -EEXIST) { /* told as a duplicate section; its keys are checked all the same */
		struct task spare = {0};
		r = keys_init(&task_keys, &spare);
		if (r == 0)
			r = read_task_entries(p, section, &spare, &place);
		task_deinit(&spare);
		return r;
	}
	if (r < 0)
		return r;
	t->line = section->line;
	r = read_task_entries(p, section, t, &place);
	struct task_place *kept = r == 0 ? VEC_PUSH(&p->places) : NULL;
	if (!kept)
		return r < 0 ? r : -ENOMEM;
	*kept = place;
	return 0;
}

/* ---- [state], [state:TASK] ---- */

static int read_state(struct parser *p, const struct ini_section *section)
{
	struct plan_state **place = &p->plan->state;
	if (section->label) {
		int64_t at = plan_find_task(p->plan, section->label);
		if (at < 0) {
			diags_error(p->d, p->file, section->line,
				"expected the state of a task of the plan, found [state:%s]",
				section->label);
			return 0;
		}
		place = &p->plan->tasks.items[at].state;
	}
	struct state_text text = {0};
	int r = 0;
	for (size_t i = 0; r == 0 && i < section->entries.count; i++)
		r = read_entry(p, section, &section->entries.items[i], &state_keys, &text);
	CLEANUP_BUF struct buf why = BUF_INIT;
	struct plan_state *state = NULL;
	if (r == 0)
		r = plan_state_parse(&text, section->label != NULL, &state, &why);
	keys_deinit(&state_keys, &text);
	if (r == -EINVAL) {
		diags_error(p->d, p->file, section->line, "%s", buf_cstr(&why));
		r = 0;
	}
	if (state && !*place)
		*place = TAKE(state);
	plan_state_free(state);
	return r;
}

/* ---- the whole ---- */

static int read_section(struct parser *p, const struct ini_section *section)
{
	static const char *const types[] = {"plan", "invariant", "task", "state", NULL};
	const char *what;
	int type = name_table_find(types, section->type);
	if (type < 0) {
		CLEANUP_BUF struct buf text = BUF_INIT;
		struct suggestion near = SUGGESTION(section->type);
		buf_addf(&text, "expected [plan], [task:NAME] or [invariant:NAME], found [%s%s%s]",
			section->type, section->label ? ":" : "",
			section->label ? section->label : "");
		suggest_names(&near, types);
		suggest_add(&near, &text);
		diags_error(p->d, p->file, section->line, "%s", buf_cstr(&text));
		return 0;
	}
	if (type == 0)
		return read_plan_section(p, section);
	if (type == 3) {
		const struct ini_section **place = VEC_PUSH(&p->states);
		if (place)
			*place = section;
		return place ? 0 : -ENOMEM;
	}
	if (!section->label || !name_is_valid(section->label, &what)) {
		diags_error(p->d, p->file, section->line, "expected a name in [%s:NAME], it %s",
			section->type, section->label ? what : "is missing");
		return 0;
	}
	return type == 1 ? read_invariant(p, section) : read_task(p, section);
}

static int read_all(struct parser *p, const struct ini *ini, const struct plan_context *context)
{
	int r = 0;
	for (size_t i = 0; r == 0 && i < ini->sections.count; i++)
		r = read_section(p, &ini->sections.items[i]);
	for (size_t i = 0; r == 0 && i < p->states.count; i++)
		r = read_state(p, p->states.items[i]);
	if (r < 0)
		return r;
	if (!p->plan_line)
		diags_error(p->d, p->file, 1, "expected a [plan] section with a name");
	if (p->plan->tasks.count == 0)
		diags_warning(p->d, p->file, 0, "the plan has no [task:NAME] section");
	struct plan_source source = {p->file, p->places.items, p->plan_invariants};
	return plan_resolve(p->plan, context, &source, p->d);
}

static int parse_ini(const struct ini *ini, const char *dir, const struct plan_context *context,
	size_t errors_before, struct plan **ret, struct diags *d, struct err *e)
{
	CLEANUP_PLAN struct plan *plan = plan_new();
	CLEANUP(parser_deinit)
	struct parser p = {.file = ini->file, .dir = dir, .plan = plan, .d = d};
	p.cancel_fd = context ? context->cancel_fd : -1;
	int r = plan ? read_all(&p, ini, context) : -ENOMEM;
	if (r == -ECANCELED)
		return err_set(e, r, "reading %s was stopped", ini->file);
	if (r < 0)
		return err_nomem(e);
	size_t mistakes = d->errors - errors_before;
	if (mistakes > 0) {
		err_exit(e, EXIT_DATA, "%s has %zu mistake%s", ini->file, mistakes,
			mistakes == 1 ? "" : "s");
		return e ? (e->code = -EBADMSG) : -EBADMSG;
	}
	*ret = TAKE(plan);
	return 0;
}

int plan_parse_text(const char *file, const char *dir, const char *text, size_t len,
	const struct plan_context *context, struct plan **ret, struct diags *d, struct err *e)
{
	size_t errors_before = d->errors;
	CLEANUP_INI struct ini ini = INI_INIT;
	if (ini_load_text(file, text, len, &ini, d) < 0)
		return err_nomem(e);
	return parse_ini(&ini, dir, context, errors_before, ret, d, e);
}

int plan_parse_file(const char *path, const struct plan_context *context, struct plan **ret,
	struct diags *d, struct err *e)
{
	size_t errors_before = d->errors;
	CLEANUP_INI struct ini ini = INI_INIT;
	int r = ini_load_file(path, context ? context->cancel_fd : -1, &ini, d, e);
	if (r < 0)
		return r;
	const char *slash = strrchr(path, '/');
	CLEANUP_STR char *dir = NULL;
	if (slash) {
		dir = strndup(path, slash == path ? 1 : (size_t)(slash - path));
		if (!dir)
			return err_nomem(e);
	}
	return parse_ini(&ini, dir, context, errors_before, ret, d, e);
}
