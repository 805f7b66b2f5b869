/* SPDX-License-Identifier: MIT */
#include "plugin/probe_impl.h"

#include "base/clock.h"
#include "base/json_text.h"
#include "base/str.h"
#include "os/proc.h"
#include "os/spawn.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

extern char **environ;

/* Writes one line; consumes json. What cannot be written is missed by the caller, who says so. */
static void say(json_t *json)
{
	CLEANUP_STR char *text = json ? json_text_dump(json, JSON_COMPACT) : NULL;
	json_decref(json);
	CLEANUP_STR char *line = text ? str_printf("%s\n", text) : NULL;
	if (line)
		(void)!write(PROBE_FD, line, strlen(line));
}

static json_t *json_text(const char *text)
{
	json_t *data = text ? event_text_data(text, strlen(text)) : NULL;
	json_t *value = data ? json_incref(json_object_get(data, "text")) : json_null();
	json_decref(data);
	return value;
}

static json_t *describe_options(const struct orch_option *table)
{
	json_t *list = json_array();
	for (const struct orch_option *o = options_next(table, NULL); list && o;
		o = options_next(table, o)) {
		json_t *item = json_pack("{s:s,s:i,s:o,s:o}", "key", o->key, "type", (int)o->type,
			"default", json_text(o->default_value), "help", json_text(o->help));
		if (json_array_append_new(list, item) < 0)
			break;
	}
	return list;
}

static json_t *describe(const struct orch_harness *h)
{
	return json_pack("{s:{s:s,s:o,s:o,s:i,s:i,s:b,s:b,s:o}}", "loaded", "name", h->name,
		"version", json_text(h->version), "description", json_text(h->description), "major",
		(int)h->abi.major, "minor", (int)h->abi.minor, "has_check", h->check != NULL,
		"has_send", h->send != NULL, "options", describe_options(h->options));
}

static void drop_log(struct service *s, enum orch_log_level level, const char *text, size_t len)
{
	(void)s;
	(void)level;
	(void)text;
	(void)len;
}

static int drop_event(struct service *s, const char *json, size_t len)
{
	(void)s;
	(void)json;
	(void)len;
	return 0;
}

static void run_check(const struct orch_harness *h, const struct plugin_probe_args *args)
{
	struct option_values values = OPTION_VALUES_INIT;
	struct err e = ERR_INIT;
	int r = options_resolve(h->options, args->settings, args->n_settings, &values, &e);
	if (r < 0) {
		say(json_pack("{s:i,s:o}", "checked", r, "text", json_text(e.msg)));
		return;
	}
	struct service s;
	service_init(&s, &values);
	s.emit_log = drop_log;
	s.emit_event = drop_event;
	probe_process_init(&s);
	say(json_pack("{s:s}", "check", "begin"));
	struct orch_report report = {.size = sizeof(report)};
	service_fail_clear();
	r = h->check(&s.api, &report);
	report.version[sizeof(report.version) - 1] = '\0';
	report.text[sizeof(report.text) - 1] = '\0';
	const char *why = service_fail_text();
	if (r != 0 && !why[0])
		why = strerror(r < 0 ? -r : r);
	say(json_pack("{s:i,s:o,s:o}", "checked", r, "version", json_text(report.version), "text",
		json_text(r != 0 ? why : report.text)));
	option_values_deinit(&values);
}

static int loader_run(void *arg)
{
	const struct probe_request *request = arg;
	struct plugin p = {0};
	struct err e = ERR_INIT;
	int r = plugin_load(request->path, &p, &e);
	if (r != 0) {
		say(json_pack("{s:i,s:o}", "refused", r, "text", json_text(e.msg)));
		return 0;
	}
	say(describe(&p.harness));
	if (request->args->environment)
		environ = (char **)(uintptr_t)request->args->environment;
	if ((request->args->flags & PLUGIN_PROBE_CHECK) && p.harness.check)
		run_check(&p.harness, request->args);
	return 0;
}

/* Ends and reaps everything below this process. */
static void sweep(void)
{
	for (;;) {
		pid_t pid;
		while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
			;
		if (pid < 0 && errno == ECHILD)
			return;
		struct pids pids = {0};
		(void)!proc_descendants(getpid(), &pids); /* tried again until none is left */
		vec_foreach(found, &pids)
			kill(*found, SIGKILL);
		VEC_FREE(&pids);
		(void)waitpid(-1, NULL, 0);
	}
}

/* Waits for the loader until the deadline, then ends it. True: the deadline has passed. */
static bool await_loader(pid_t loader, int pidfd, int64_t deadline_ms, int *ret_status)
{
	struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};
	int n;
	do {
		n = poll(&poll_fd, 1, deadline_poll_ms(deadline_ms));
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		kill(loader, SIGKILL);
	while (waitpid(loader, ret_status, 0) < 0 && errno == EINTR)
		;
	return n == 0;
}

int probe_warden_run(void *arg)
{
	const struct probe_request *request = arg;
	int64_t deadline_ms = deadline_after(request->args->timeout_ms);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	const struct spawn_fd out = {.fd = PROBE_FD, .target = PROBE_FD};
	struct spawn s = SPAWN_INIT;
	s.fds = &out;
	s.n_fds = 1;
	s.death_signal = SIGKILL;
	pid_t loader;
	struct err e = ERR_INIT;
	int r = spawn_fork(&s, loader_run, arg, &loader, &e);
	if (r < 0) {
		say(json_pack("{s:i,s:o}", "unable", r, "text", json_text(e.msg)));
		return 1;
	}
	CLEANUP(closep) int pidfd = (int)syscall(SYS_pidfd_open, loader, 0);
	int status = 0;
	bool late = await_loader(loader, pidfd, deadline_ms, &status);
	sweep();
	say(json_pack("{s:i,s:b}", "status", status, "late", late));
	return 0;
}
