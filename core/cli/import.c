/* SPDX-License-Identifier: MIT */
#include "cli/import.h"

#include "base/clock.h"
#include "base/str.h"
#include "run/change.h"

int import_read(struct cli *cli, const struct site *site, const char *path, struct plan **ret)
{
	struct plan_context context = {
		.shared = site->config->invariants.items,
		.n_shared = site->config->invariants.count,
	};
	struct diags d = DIAGS_INIT;
	struct err e = ERR_INIT;
	int r = plan_parse_file(path, &context, ret, &d, &e);
	diags_print(&d, stderr);
	diags_deinit(&d);
	return r < 0 ? cli_error(cli, &e) : 0;
}

int import_refused(const struct cli *cli, char *const *refused, const struct err *e)
{
	for (size_t i = 0; refused && refused[i]; i++) {
		fputs("  ", stderr);
		cli_print_safe(stderr, refused[i]);
		fputc('\n', stderr);
	}
	return cli_error(cli, e);
}

static int update(struct cli *cli, struct store *s, int64_t id, const struct plan *plan)
{
	struct err e = ERR_INIT;
	CLEANUP_STRV char **refused = NULL;
	return change_plan(s, id, plan, &refused, &e) < 0 ? import_refused(cli, refused, &e) : 0;
}

static int note_draft(void *ctx, const struct plan_row *row)
{
	bool *draft = ctx;
	*draft = row->status == PLAN_DRAFT;
	return 0;
}

static int approve_draft(struct cli *cli, struct store *s, int64_t id)
{
	struct err e = ERR_INIT;
	bool draft = false;
	int r = store_plan(s, id, note_draft, &draft, &e);
	if (r == 0 && draft)
		r = store_plan_set_status(s, id, PLAN_APPROVED, clock_wall_ms(), &e);
	return r < 0 ? cli_error(cli, &e) : 0;
}

int import_store(struct cli *cli, struct store *s, const struct plan *plan, enum plan_status status,
	int64_t *ret_id)
{
	struct err e = ERR_INIT;
	int64_t id = 0;
	int r = store_plan_id(s, plan->name, &id, &e);
	if (r < 0)
		return cli_error(cli, &e);
	if (id) {
		int code = update(cli, s, id, plan);
		*ret_id = id;
		return code || status != PLAN_APPROVED ? code : approve_draft(cli, s, id);
	}
	r = store_plan_import(s, plan, status, clock_wall_ms(), ret_id, &e);
	return r < 0 ? cli_error(cli, &e) : 0;
}
