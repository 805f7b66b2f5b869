/* SPDX-License-Identifier: MIT */
#include "run/status.h"

#include "base/str.h"
#include "os/cgroup.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>

struct reading {
	const struct site *site;
	struct store *store;
	struct status *status;
	struct status_plan *plan; /* the one whose tasks are read */
	struct VEC(uint32_t) by_id;
	struct err *err;
};

/* NULL stays NULL. */
static int keep(char **ret, const char *text)
{
	*ret = text ? str_dup(text) : NULL;
	return *ret || !text ? 0 : -ENOMEM;
}

/* ---- tasks ---- */

static int add_task(void *ctx, const struct task_row *row)
{
	struct reading *r = ctx;
	struct status_task *t = VEC_PUSH(&r->plan->tasks);
	if (!t)
		return err_nomem(r->err);
	const char *harness = row->harness ? row->harness : r->site->config->orch.default_harness;
	*t = (struct status_task){
		.id = row->id,
		.status = row->status,
		.outcome = row->outcome,
		.gate = row->gate,
		.paused = row->paused,
		.attempt = row->attempt,
	};
	if (keep(&t->name, row->name) < 0 || keep(&t->reason, row->reason) < 0 ||
		keep(&t->branch, row->branch) < 0 || keep(&t->commit, row->commit_oid) < 0 ||
		keep(&t->worktree, row->worktree) < 0 || keep(&t->harness, harness) < 0)
		return err_nomem(r->err);
	return 0;
}

static int compare_ids(const void *a, const void *b, void *ctx)
{
	const struct status_plan *p = ctx;
	int64_t x = p->tasks.items[*(const uint32_t *)a].id;
	int64_t y = p->tasks.items[*(const uint32_t *)b].id;
	return (x > y) - (x < y);
}

static int index_tasks(struct reading *r)
{
	r->by_id.count = 0;
	for (size_t i = 0; i < r->plan->tasks.count; i++) {
		uint32_t *slot = VEC_PUSH(&r->by_id);
		if (!slot)
			return err_nomem(r->err);
		*slot = (uint32_t)i;
	}
	if (r->by_id.count > 0)
		qsort_r(r->by_id.items, r->by_id.count, sizeof(*r->by_id.items), compare_ids,
			r->plan);
	return 0;
}

/* NULL: imported between two queries, the next look shows it. */
static struct status_task *find(const struct reading *r, int64_t id)
{
	size_t low = 0, high = r->by_id.count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		struct status_task *t = &r->plan->tasks.items[r->by_id.items[middle]];
		if (t->id == id)
			return t;
		if (t->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

static int add_edge(void *ctx, int64_t task, int64_t dependency)
{
	struct reading *r = ctx;
	struct status_task *t = find(r, task);
	const struct status_task *d = find(r, dependency);
	if (!t || !d)
		return 0;
	uint32_t *slot = VEC_PUSH(&t->depends_on);
	if (!slot)
		return err_nomem(r->err);
	*slot = (uint32_t)(d - r->plan->tasks.items);
	return 0;
}

static int add_judged(void *ctx, int64_t task, const char *invariant)
{
	struct reading *r = ctx;
	struct status_task *t = find(r, task);
	return t && strv_add(&t->invariants, invariant) < 0 ? err_nomem(r->err) : 0;
}

static int set_harness(void *ctx, int64_t task, const char *harness, bool is_command)
{
	struct reading *r = ctx;
	struct status_task *t = find(r, task);
	if (!t)
		return 0;
	if (!harness || !harness[0])
		harness = !t->harness && is_command ? "shell" : NULL;
	return harness && str_replace(&t->harness, harness) < 0 ? err_nomem(r->err) : 0;
}

/* ---- plans ---- */

static int add_plan(void *ctx, const struct plan_row *row)
{
	struct reading *r = ctx;
	struct status_plan *p = VEC_PUSH(&r->status->plans);
	if (!p)
		return err_nomem(r->err);
	*p = (struct status_plan){
		.id = row->id,
		.status = row->status,
		.paused = row->paused,
		.halted = row->halted,
		.halt = row->halt,
		.halt_also = row->halt_also,
		.halt_at = row->halt_at,
		.tokens = {row->tokens[0], row->tokens[1], row->tokens[2], row->tokens[3]},
	};
	/* A branch is there from the first dispatch on. */
	bool branch = row->worktrees && row->base_oid;
	if (branch && !(p->branch = str_printf("orch/%s/integration", row->name)))
		return err_nomem(r->err);
	if (keep(&p->name, row->name) < 0 ||
		keep(&p->base, row->base_ref ? row->base_ref : row->base) < 0 ||
		keep(&p->halt_commit, row->halt_commit) < 0 ||
		keep(&p->halt_commit_oid, row->halt_commit_oid) < 0 ||
		keep(&p->halt_commit_why, row->halt_commit_why) < 0)
		return err_nomem(r->err);
	return 0;
}

static int read_tasks(struct reading *r)
{
	int64_t id = r->plan->id;
	int code = findings_digest(r->store, id, &r->plan->findings, r->err);
	if (code == 0)
		code = store_each_task(r->store, id, add_task, r, r->err);
	if (code == 0)
		code = index_tasks(r);
	if (code == 0)
		code = store_each_edge(r->store, id, add_edge, r, r->err);
	if (code == 0)
		code = store_each_judged(r->store, id, add_judged, r, r->err);
	if (code == 0)
		code = store_each_task_harness(r->store, id, set_harness, r, r->err);
	return code;
}

static int read_plans(struct reading *r, int64_t plan_id)
{
	int code = plan_id ? store_plan(r->store, plan_id, add_plan, r, r->err)
			   : store_each_plan(r->store, add_plan, r, r->err);
	vec_foreach(plan, &r->status->plans) {
		r->plan = plan;
		if (code == 0)
			code = read_tasks(r);
	}
	return code;
}

static const char *containment_name(const struct config *config)
{
	struct err why = ERR_INIT;
	if (config->orch.containment != CONFIG_CONTAINMENT_AUTO)
		return config_containment_name(config->orch.containment);
	return config_containment_name(
		cgroup_probe(&why) == 0 ? CONFIG_CONTAINMENT_CGROUP : CONFIG_CONTAINMENT_SUBREAPER);
}

/* What an engine says that keeps it from starting anything; what a dead one said is not asked for.
 */
static int read_waiting(const struct site *site, char **ret, struct err *e)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	CLEANUP_STR char *path = path_join(site->state_dir, SITE_WAITING);
	struct err none = ERR_INIT;
	if (!path)
		return err_nomem(e);
	if (file_read(AT_FDCWD, path, 4096, &text, &none) < 0)
		return 0;
	*ret = buf_steal(&text);
	return *ret ? 0 : err_nomem(e);
}

int status_read(const struct site *site, struct store *store, int64_t plan_id, struct status *ret,
	struct err *e)
{
	struct reading r = {.site = site, .store = store, .status = ret, .err = e};
	*ret = (struct status){.containment = containment_name(site->config)};
	int code = site_engine(site, &ret->engine, e);
	if (code == 0 && ret->engine.running)
		code = read_waiting(site, &ret->waits, e);
	if (code == 0 && store)
		code = read_plans(&r, plan_id);
	VEC_FREE(&r.by_id);
	return code;
}

bool status_waits_for(const struct status_plan *p, const struct status_task *t, uint32_t index)
{
	return t->status == TASK_PENDING && p->tasks.items[index].status != TASK_PASSED;
}

static void task_deinit(struct status_task *t)
{
	char *const texts[] = {t->name, t->reason, t->branch, t->commit, t->worktree, t->harness};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		free(texts[i]);
	VEC_FREE(&t->depends_on);
	strv_free(t->invariants);
}

static void plan_deinit(struct status_plan *p)
{
	char *const texts[] = {p->name, p->base, p->branch, p->halt_commit, p->halt_commit_oid,
		p->halt_commit_why};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
		free(texts[i]);
	vec_foreach(t, &p->tasks)
		task_deinit(t);
	VEC_FREE(&p->tasks);
}

void status_deinit(struct status *s)
{
	vec_foreach(p, &s->plans)
		plan_deinit(p);
	VEC_FREE(&s->plans);
	free(s->waits);
}
