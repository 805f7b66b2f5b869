/* SPDX-License-Identifier: MIT */
#include "server/methods.h"

#include "base/buf.h"
#include "base/str.h"
#include "plan/plan.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#define RPC_METHOD_NOT_FOUND (-32601)
#define RPC_INVALID_PARAMS   (-32602)
#define RPC_FAILED           (-32000)

json_t *methods_error(json_t *id, int number, const char *code, const char *fmt, ...)
{
	CLEANUP_BUF struct buf text = BUF_INIT;
	va_list ap;
	va_start(ap, fmt);
	buf_addv(&text, fmt, ap);
	va_end(ap);
	json_t *error = json_pack("{s:i, s:s}", "code", number, "message", buf_cstr(&text));
	if (error && code)
		json_object_set_new(error, "data", json_pack("{s:s}", "code", code));
	return json_pack(
		"{s:s, s:O, s:o}", "jsonrpc", "2.0", "id", id ? id : json_null(), "error", error);
}

static json_t *methods_result(json_t *id, json_t *result)
{
	return json_pack("{s:s, s:O, s:o}", "jsonrpc", "2.0", "id", id, "result", result);
}

/* The names by which requests travel. */
static const struct {
	const char *name;
	enum engine_event_kind kind;
} kinds[] = {
	{"approve", EVENT_APPROVE},
	{"override", EVENT_OVERRIDE},
	{"reject", EVENT_REJECT},
	{"retry", EVENT_RETRY},
	{"pause", EVENT_PAUSE},
	{"resume", EVENT_RESUME},
	{"plan_pause", EVENT_PLAN_PAUSE},
	{"plan_resume", EVENT_PLAN_RESUME},
	{"stop", EVENT_CANCEL},
};

static bool find_kind(const char *name, enum engine_event_kind *ret)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (str_eq(name, kinds[i].name)) {
			*ret = kinds[i].kind;
			return true;
		}
	}
	return false;
}

/* How a change of a plan ended: its exit status, message, and what was refused of it. Consumes
 * further fields. */
static json_t *change_answer(
	json_t *id, int r, char *const *refused, const struct err *e, json_t *fields)
{
	json_t *list = json_array();
	for (size_t i = 0; refused && refused[i]; i++)
		json_array_append_new(list, json_string(refused[i]));
	json_t *result = json_pack("{s:i, s:s, s:o}", "exit_status", r < 0 ? err_status(e) : 0,
		"message", r < 0 ? e->msg : "", "refused", list);
	if (result && fields)
		json_object_update(result, fields);
	json_decref(fields);
	return methods_result(id, result);
}

static json_t *method_operate(struct methods *m, json_t *id, json_t *params)
{
	struct run_request request = {
		.plan_id = json_integer_value(json_object_get(params, "plan_id")),
		.task_id = json_integer_value(json_object_get(params, "task_id")),
		.text = json_string_value(json_object_get(params, "text")),
		.carry = json_is_true(json_object_get(params, "carry")),
	};
	const char *kind = json_string_value(json_object_get(params, "kind"));
	if (!find_kind(kind, &request.kind))
		return methods_error(
			id, RPC_INVALID_PARAMS, NULL, "operate: no kind '%s'", kind ? kind : "");
	if (request.kind < EVENT_TASK_COUNT && (request.task_id <= 0 || request.plan_id <= 0))
		return methods_error(id, RPC_INVALID_PARAMS, NULL,
			"operate %s: plan_id and task_id are needed", kind);
	CLEANUP_STR char *refused = NULL;
	struct err e = ERR_INIT;
	int r = run_operate(m->run, &request, &refused, &e);
	if (r < 0 && e.status)
		return change_answer(id, r, NULL, &e, NULL);
	if (r < 0)
		return methods_error(id, RPC_FAILED, NULL, "%s", e.msg);
	return methods_result(id, json_pack("{s:s?}", "refused", refused));
}

/* A JSON array of strings as an owned strv; NULL when it is something else, or memory is out. */
static char **strings(json_t *list)
{
	CLEANUP_STRV char **v = calloc(2, sizeof(char *));
	size_t i;
	json_t *item;
	json_array_foreach(list, i, item) {
		if (!v || !json_is_string(item) || strv_add(&v, json_string_value(item)) < 0)
			return NULL;
	}
	return json_is_array(list) ? TAKE(v) : NULL;
}

static json_t *method_import(struct methods *m, json_t *id, json_t *params)
{
	CLEANUP_STRV char **refused = NULL;
	CLEANUP_PLAN struct plan *plan = NULL;
	CLEANUP(diags_deinit) struct diags d = DIAGS_INIT;
	const char *text = json_string_value(json_object_get(params, "text"));
	bool approve = json_is_true(json_object_get(params, "approve"));
	struct err e = ERR_INIT;
	int64_t plan_id = 0;
	if (!text)
		return methods_error(id, RPC_INVALID_PARAMS, NULL, "plan.import: text is needed");
	int r = plan_parse_text("the plan", NULL, text, strlen(text), NULL, &plan, &d, &e);
	/* What its sender found not to be in the repository. */
	size_t i;
	json_t *name;
	json_array_foreach(json_object_get(params, "absent"), i, name) {
		int64_t at = r == 0 ? plan_find_task(plan, json_string_value(name)) : -1;
		if (at >= 0 && plan->tasks.items[at].state)
			plan->tasks.items[at].state->commit_absent = true;
	}
	if (r == 0)
		r = run_import(
			m->run, plan, approve ? PLAN_APPROVED : PLAN_DRAFT, &plan_id, &refused, &e);
	return change_answer(
		id, r, refused, &e, json_pack("{s:I}", "plan_id", (json_int_t)plan_id));
}

/* plan.remove, plan.reset, plan.approve, plan.delete, plan.clear {plan_id, task?} */
static json_t *method_plan(struct methods *m, json_t *id, const char *what, json_t *params)
{
	CLEANUP_STRV char **refused = NULL;
	int64_t plan = json_integer_value(json_object_get(params, "plan_id"));
	const char *task = json_string_value(json_object_get(params, "task"));
	struct err e = ERR_INIT;
	size_t count = 0;
	int r;
	if (plan <= 0 || (str_eq(what, "remove") && !task))
		return methods_error(
			id, RPC_INVALID_PARAMS, NULL, "plan.%s: plan_id is needed", what);
	if (str_eq(what, "remove"))
		r = run_remove(m->run, plan, task, &refused, &e);
	else if (str_eq(what, "reset"))
		r = run_reset(m->run, plan, &count, &e);
	else if (str_eq(what, "approve"))
		r = run_approve(m->run, plan, &e);
	else if (str_eq(what, "clear"))
		r = run_clear(m->run, plan, &e);
	else
		r = run_forget(m->run, plan, &e);
	return change_answer(id, r, refused, &e, json_pack("{s:I}", "count", (json_int_t)count));
}

static json_t *method_idle(struct methods *m, json_t *id, json_t *params)
{
	struct err e = ERR_INIT;
	bool soon = false;
	int64_t plan = json_integer_value(json_object_get(params, "plan_id"));
	int r = run_check_idle(m->run, plan, &soon, &e);
	return change_answer(id, r, NULL, &e, json_pack("{s:b}", "soon", soon));
}

static json_t *method_set(struct methods *m, json_t *id, json_t *params)
{
	CLEANUP_STRV char **settings = strings(json_object_get(params, "settings"));
	CLEANUP_STRV char **refused = NULL;
	const char *task = json_string_value(json_object_get(params, "task"));
	int64_t plan = json_integer_value(json_object_get(params, "plan_id"));
	struct err e = ERR_INIT;
	if (!settings || plan <= 0)
		return methods_error(
			id, RPC_INVALID_PARAMS, NULL, "plan.set: plan_id and settings are needed");
	int r = run_set(m->run, plan, task, settings, &refused, &e);
	return change_answer(id, r, refused, &e, NULL);
}

static json_t *method_moves(struct methods *m, json_t *id, json_t *params)
{
	const char *ref = json_string_value(json_object_get(params, "ref"));
	const char *from = json_string_value(json_object_get(params, "from"));
	const char *to = json_string_value(json_object_get(params, "to"));
	struct git_ref_update move = {.ref = ref};
	struct err e = ERR_INIT;
	if (!ref || !from || !to || git_oid_parse(from, &move.old) < 0 ||
		git_oid_parse(to, &move.new) < 0)
		return methods_error(
			id, RPC_INVALID_PARAMS, NULL, "ref.moves: ref, from and to are needed");
	if (run_ref_moves(m->run, &move, &e) < 0)
		return methods_error(id, RPC_FAILED, NULL, "%s", e.msg);
	return methods_result(id, json_pack("{s:b}", "noted", 1));
}

static json_t *method_send(struct methods *m, json_t *id, json_t *params)
{
	const char *text = json_string_value(json_object_get(params, "text"));
	const char *refused = NULL;
	struct err e = ERR_INIT;
	if (!text || !text[0])
		return methods_error(id, RPC_INVALID_PARAMS, NULL, "send: a text is needed");
	if (run_send(m->run, json_integer_value(json_object_get(params, "task_id")), text, &refused,
		    &e) < 0)
		return methods_error(id, RPC_FAILED, NULL, "%s", e.msg);
	return methods_result(id, json_pack("{s:s?}", "refused", refused));
}

static json_t *method_frozen(struct methods *m, json_t *id, json_t *params)
{
	bool frozen = run_is_frozen(m->run, json_integer_value(json_object_get(params, "plan_id")),
		json_integer_value(json_object_get(params, "task_id")));
	return methods_result(id, json_pack("{s:b}", "frozen", frozen));
}

static json_t *method_command(struct methods *m, json_t *id, json_t *params)
{
	CLEANUP_STRV char **argv = strings(json_object_get(params, "argv"));
	struct err e = ERR_INIT;
	if (!argv || !argv[0])
		return methods_error(id, RPC_INVALID_PARAMS, NULL,
			"command: argv must be strings, at least one");
	if (!m->command)
		return methods_error(
			id, RPC_METHOD_NOT_FOUND, NULL, "this engine takes no commands");
	json_t *answer = m->command(m->ctx, m->run, argv, &e);
	if (!answer)
		return methods_error(id, RPC_FAILED, NULL, "%s", e.msg);
	return methods_result(id, answer);
}

static json_t *method_stop(struct methods *m, json_t *id, json_t *params)
{
	const char *mode = json_string_value(json_object_get(params, "mode"));
	if (mode && !str_eq(mode, "drain") && !str_eq(mode, "now"))
		return methods_error(
			id, RPC_INVALID_PARAMS, NULL, "daemon.stop: mode is drain or now");
	run_stop(m->run);
	if (str_eq(mode, "now"))
		run_stop(m->run);
	m->stopping = true;
	return methods_result(id, json_pack("{s:b}", "stopping", 1));
}

static json_t *method_status(struct methods *m, json_t *id)
{
	const char *phase = !run_is_up(m->run)        ? "starting"
			    : run_interrupted(m->run) ? "draining"
						      : "running";
	return methods_result(
		id, json_pack("{s:i, s:i, s:s, s:i}", "version", 1, "pid", (int)getpid(), "phase",
			    phase, "units", (int)run_unit_count(m->run)));
}

int methods_subscribe(struct methods *m, const json_t *params, int64_t *ret_from, struct err *e)
{
	const json_t *from = json_object_get(params, "from_seq");
	if (!from)
		return store_next_event(run_store(m->run), ret_from, e);
	if (!json_is_integer(from) || json_integer_value(from) < 0)
		return err_set(e, -EINVAL, "subscribe: from_seq is a number, 0 or more");
	*ret_from = json_integer_value(from);
	return 0;
}

json_t *methods_answer(struct methods *m, json_t *request)
{
	json_t *id = json_object_get(request, "id");
	const char *method = json_string_value(json_object_get(request, "method"));
	json_t *params = json_object_get(request, "params");
	json_t *answer;
	if (!method)
		answer = methods_error(id, -32600, NULL, "a request needs a method");
	else if (str_eq(method, "ping"))
		answer = methods_result(id ? id : json_null(),
			json_pack("{s:i, s:i}", "version", 1, "pid", (int)getpid()));
	else if (str_eq(method, "status"))
		answer = method_status(m, id ? id : json_null());
	else if (str_eq(method, "daemon.stop"))
		answer = method_stop(m, id ? id : json_null(), params);
	else if (!run_is_up(m->run))
		answer = methods_error(id, RPC_FAILED, "starting", "the engine is starting");
	else if (run_interrupted(m->run) || run_is_over(m->run))
		answer = methods_error(id, RPC_FAILED, "draining", "the engine is stopping");
	else if (str_eq(method, "operate"))
		answer = method_operate(m, id ? id : json_null(), params);
	else if (str_eq(method, "send"))
		answer = method_send(m, id ? id : json_null(), params);
	else if (str_eq(method, "frozen"))
		answer = method_frozen(m, id ? id : json_null(), params);
	else if (str_eq(method, "ref.moves"))
		answer = method_moves(m, id ? id : json_null(), params);
	else if (str_eq(method, "plan.idle"))
		answer = method_idle(m, id ? id : json_null(), params);
	else if (str_eq(method, "plan.set"))
		answer = method_set(m, id ? id : json_null(), params);
	else if (str_eq(method, "plan.import"))
		answer = method_import(m, id ? id : json_null(), params);
	else if (str_eq(method, "plan.remove") || str_eq(method, "plan.reset") ||
		 str_eq(method, "plan.approve") || str_eq(method, "plan.delete") ||
		 str_eq(method, "plan.clear"))
		answer = method_plan(m, id ? id : json_null(), method + strlen("plan."), params);
	else if (str_eq(method, "command"))
		answer = method_command(m, id ? id : json_null(), params);
	else
		answer = methods_error(id, RPC_METHOD_NOT_FOUND, NULL, "no method '%s'", method);
	if (id)
		return answer;
	json_decref(answer);
	return NULL;
}
