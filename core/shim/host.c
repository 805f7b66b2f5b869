/* SPDX-License-Identifier: MIT */
#include "shim/host_impl.h"

#include "base/str.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define READER_STACK ((size_t)128 << 10)
#define PROMPT_MAX   ((off_t)256 << 20)
#define MEMORY_MAX   ((rlim_t)1 << 30)

/* The words for enum orch_outcome; they are those of an attempt's outcome. */
static const char *const outcome_names[] = {
	[ORCH_OUTCOME_UNSET] = "agent_error",
	[ORCH_OUTCOME_OK] = "ok",
	[ORCH_OUTCOME_AGENT_ERROR] = "agent_error",
	[ORCH_OUTCOME_CRASHED] = "crashed",
	[ORCH_OUTCOME_BLOCKED] = "blocked",
	[ORCH_OUTCOME_NOT_NEEDED] = "not_needed",
	[ORCH_OUTCOME_OVER_BUDGET] = "over_budget",
	[ORCH_OUTCOME_RATE_LIMITED] = "rate_limited",
	[ORCH_OUTCOME_AUTH_FAILED] = "auth_failed",
	[ORCH_OUTCOME_SPAWN_FAILED] = "spawn_failed",
};

static void emit_log(struct service *s, enum orch_log_level level, const char *text, size_t len)
{
	host_send((struct host *)s, PROTO_LOG, (uint16_t)level, 0, text, len);
}

static int emit_event(struct service *s, const char *json, size_t len)
{
	host_send((struct host *)s, PROTO_EVENT, 0, 0, json, len);
	return 0;
}

/* h is zeroed. */
static void host_init(struct host *h, int sock)
{
	h->sock = sock;
	pthread_mutex_init(&h->send_lock, NULL);
	pthread_mutex_init(&h->lock, NULL);
	service_init(&h->service, &h->options);
	h->service.emit_log = emit_log;
	h->service.emit_event = emit_event;
	host_process_init(h);
	h->last_request = &h->requests;
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&h->changed, &attr);
	pthread_condattr_destroy(&attr);
}

/* The first message, owned; frames behind it stay in the reader. */
static int read_task(struct host *h, json_t **ret)
{
	struct proto_frame f;
	int r;
	while ((r = proto_reader_next(&h->reader, &f, NULL)) == 0) {
		r = proto_reader_feed(&h->reader, h->sock);
		if (r == 0)
			return -EPIPE;
		if (r < 0 && r != -EINTR)
			return r;
	}
	if (r < 0 || f.type != PROTO_TASK)
		return -EPROTO;
	return proto_frame_json(&f, ret, NULL);
}

static void send_failed(struct host *h, int outcome, const char *text)
{
	host_send_json(h, PROTO_FAILED, 0,
		json_pack("{s:s,s:s}", "outcome",
			outcome == PLUGIN_MISSING ? "harness_missing" : "harness_invalid", "text",
			text));
}

static int resolve_options(struct host *h, json_t *task, struct err *e)
{
	json_t *options = json_object_get(task, "options");
	struct VEC(struct plugin_setting) settings = {0};
	const char *key;
	json_t *value;
	int r = 0;
	json_object_foreach(options, key, value) {
		struct plugin_setting *s = VEC_PUSH(&settings);
		if (!s) {
			r = err_nomem(e);
			break;
		}
		*s = (struct plugin_setting){key, json_string_value(value)};
	}
	if (r == 0)
		r = options_resolve(
			h->plugin.harness.options, settings.items, settings.count, &h->options, e);
	VEC_FREE(&settings);
	return r;
}

/* 0, or PLUGIN_MISSING, PLUGIN_INVALID, -ENOMEM, with a sentence. */
static int load(struct host *h, json_t *task, struct err *e)
{
	const char *path = json_string_value(json_object_get(task, "plugin"));
	const char *name = json_string_value(json_object_get(task, "harness"));
	if (!path)
		return err_set(e, PLUGIN_MISSING,
			"harness '%s' not found: no orch-harness-%s.so along the plugin path", name,
			name);
	host_call_begin(h, PROTO_CALL_LOAD);
	int r = plugin_load(path, &h->plugin, e);
	host_call_end(h, PROTO_CALL_LOAD, r);
	if (r != 0)
		return r;
	r = resolve_options(h, task, e);
	if (r == -EINVAL) {
		struct err why = *e;
		return err_set(e, PLUGIN_INVALID, "harness '%s' (%s): %s", name, path, why.msg);
	}
	return r;
}

/* The whole file, NUL behind it; owned. */
static int read_prompt(const char *path, char **ret, size_t *ret_len)
{
	CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_size > PROMPT_MAX)
		return -EFBIG;
	CLEANUP_STR char *text = malloc((size_t)st.st_size + 1);
	if (!text)
		return -ENOMEM;
	ssize_t len = fd_pread_all(fd, text, (size_t)st.st_size, 0);
	if (len < 0)
		return (int)len;
	text[len] = '\0';
	*ret_len = (size_t)len;
	*ret = TAKE(text);
	return 0;
}

/* Borrows the strings of `json`; the prompt is owned by the struct's user. */
static int task_fill(json_t *json, struct orch_task *ret)
{
	int attempt = 0, resume = 0;
	struct orch_task t = {.size = sizeof(t)};
	if (json_unpack(json, "{s:s,s:s,s:i,s:s,s:s,s:s,s:s,s?:s,s?:s,s?:b}", "plan", &t.plan,
		    "task", &t.task, "attempt", &attempt, "unit", &t.unit, "cwd", &t.cwd,
		    "prompt_file", &t.prompt_file, "tmpdir", &t.tmpdir, "command", &t.command,
		    "session", &t.session, "continue", &resume) < 0 ||
		attempt < 0)
		return -EPROTO;
	const json_t *tokens = json_object_get(json, "session_tokens");
	for (size_t i = 0; i < sizeof(t.session_tokens) / sizeof(t.session_tokens[0]); i++)
		t.session_tokens[i] = json_integer_value(json_array_get(tokens, i));
	t.attempt = (uint32_t)attempt;
	t.flags = resume ? ORCH_TASK_CONTINUE : 0;
	*ret = t;
	return 0;
}

static int set_text(json_t *object, const char *key, const char *text)
{
	if (!text)
		return 0;
	json_t *clean = event_text_data(text, strlen(text));
	int r = clean ? json_object_set(object, key, json_object_get(clean, "text")) : -1;
	json_decref(clean);
	return r;
}

static void send_result(struct host *h, const struct orch_result *result)
{
	size_t n_outcomes = sizeof(outcome_names) / sizeof(outcome_names[0]);
	bool known = result->outcome >= 0 && (size_t)result->outcome < n_outcomes;
	CLEANUP_STR char *text = NULL;
	if (!known)
		text = str_printf("the harness gave the unknown outcome %d", result->outcome);
	else if (result->outcome == ORCH_OUTCOME_UNSET && !result->text)
		text = str_dup("the harness gave no outcome");
	json_t *json = json_pack(
		"{s:s}", "outcome", known ? outcome_names[result->outcome] : "agent_error");
	int r = set_text(json, "text", text ? text : result->text);
	r |= set_text(json, "session", result->session);
	if (result->reset_at > 0)
		r |= json_object_set_new(json, "reset_at", json_integer(result->reset_at));
	if (result->exit_code >= 0)
		r |= json_object_set_new(json, "exit_code", json_integer(result->exit_code));
	if (result->term_signal > 0)
		r |= json_object_set_new(json, "signal", json_integer(result->term_signal));
	if (h->start_error)
		r |= json_object_set_new(json, "error", json_integer(h->start_error));
	if (r != 0) {
		json_decref(json);
		json = NULL;
	}
	host_send_json(h, PROTO_RESULT, 0, json);
}

static void send_spawn_failed(struct host *h, const char *text)
{
	struct orch_result result = {.size = sizeof(result),
		.outcome = ORCH_OUTCOME_SPAWN_FAILED,
		.exit_code = -1,
		.text = text};
	send_result(h, &result);
}

/* 0, or 1 when spawn failed and the result was sent. */
static int call_spawn(struct host *h, const struct orch_task *task)
{
	struct orch_agent *agent = NULL;
	host_call_begin(h, PROTO_CALL_SPAWN);
	int rc = h->plugin.harness.spawn(&h->service.api, task, &agent);
	CLEANUP_STR char *why = str_dup(service_fail_text());
	host_call_end(h, PROTO_CALL_SPAWN, rc);
	if (rc == 0 && agent) {
		pthread_mutex_lock(&h->lock);
		h->agent = agent;
		h->phase = HOST_PHASE_RUNNING;
		host_control_wake(h);
		pthread_mutex_unlock(&h->lock);
		return 0;
	}
	CLEANUP_STR char *text = NULL;
	if (why && why[0])
		text = TAKE(why);
	else if (rc == 0)
		text = str_printf("harness '%s': spawn returned no agent", h->plugin.harness.name);
	else
		text = str_printf("harness '%s': spawn failed: %s", h->plugin.harness.name,
			strerror(rc < 0 ? -rc : rc));
	send_spawn_failed(h, text);
	return 1;
}

static void call_wait(struct host *h)
{
	struct orch_result result = {.size = sizeof(result), .exit_code = -1};
	host_call_begin(h, PROTO_CALL_WAIT);
	int rc = h->plugin.harness.wait(h->agent, &result);
	CLEANUP_STR char *text = NULL;
	if (rc != 0) {
		const char *why = service_fail_text();
		text = why[0] ? str_dup(why)
			      : str_printf("harness '%s': wait failed: %s", h->plugin.harness.name,
					strerror(rc < 0 ? -rc : rc));
		result.outcome = ORCH_OUTCOME_AGENT_ERROR;
		result.text = text;
	}
	host_call_end(h, PROTO_CALL_WAIT, rc);
	send_result(h, &result);
}

static void call_release(struct host *h)
{
	pthread_mutex_lock(&h->lock);
	h->phase = HOST_PHASE_ENDING;
	pthread_cond_broadcast(&h->changed);
	while (h->control_busy)
		pthread_cond_wait(&h->changed, &h->lock);
	pthread_mutex_unlock(&h->lock);
	if (!h->plugin.harness.release)
		return;
	host_call_begin(h, PROTO_CALL_RELEASE);
	h->plugin.harness.release(h->agent);
	host_call_end(h, PROTO_CALL_RELEASE, 0);
}

/* From the loaded plugin to the result. 0 or the exit status of a failure. */
static int serve(struct host *h, json_t *json)
{
	struct orch_task task;
	if (task_fill(json, &task) < 0)
		return HOST_EXIT_SOCKET;
	h->cwd = task.cwd;
	char *prompt = NULL; /* the plugin's until the process ends */
	int r = read_prompt(task.prompt_file, &prompt, &task.prompt_len);
	if (r < 0) {
		CLEANUP_STR char *text = str_printf(
			"cannot read the prompt '%s': %s", task.prompt_file, strerror(-r));
		h->start_error = r;
		send_spawn_failed(h, text);
		return 0;
	}
	task.prompt = prompt;
	r = host_thread(h, host_reader_run, READER_STACK);
	if (r < 0) {
		CLEANUP_STR char *text = str_printf("cannot start a thread: %s", strerror(-r));
		h->start_error = r;
		send_spawn_failed(h, text);
		return 0;
	}
	if (call_spawn(h, &task) == 0) {
		call_wait(h);
		call_release(h);
	}
	return 0;
}

/* A plugin that eats memory without end meets its own limit, not the machine's. Agents are not
 * under it: the keeper starts them. Sanitizers reserve more than any limit. */
static void limit_memory(void)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	struct rlimit limit;
	if (getrlimit(RLIMIT_DATA, &limit) < 0)
		return;
	if (limit.rlim_max == RLIM_INFINITY || limit.rlim_max > MEMORY_MAX)
		limit.rlim_max = MEMORY_MAX;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_DATA, &limit); /* lowering never fails */
#endif
}

int host_main(int sock)
{
	limit_memory();
	struct host *h = calloc(1, sizeof(*h));
	if (!h)
		return HOST_EXIT_SOCKET;
	host_init(h, sock);
	json_t *task = NULL;
	if (read_task(h, &task) < 0)
		return HOST_EXIT_SOCKET;
	struct err e = ERR_INIT;
	int r = load(h, task, &e);
	if (r < 0) {
		h->start_error = r;
		send_spawn_failed(h, e.msg);
	} else if (r > 0) {
		send_failed(h, r, e.msg);
	} else {
		const struct orch_harness *harness = &h->plugin.harness;
		CLEANUP_STR char *abi = str_printf("%u.%u", harness->abi.major, harness->abi.minor);
		host_send_json(h, PROTO_LOADED, 0,
			json_pack("{s:s,s:s?,s:s,s:s}", "name", harness->name, "version",
				harness->version, "path", h->plugin.path, "abi", abi ? abi : ""));
		r = serve(h, task);
		if (r != 0)
			return r;
	}
	host_send_last(h);
	/* Threads of ours or the plugin's may still use all of this; the process ends now. */
	return HOST_EXIT_DONE;
}
