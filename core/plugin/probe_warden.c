/* SPDX-License-Identifier: MIT */
#include "plugin/probe_impl.h"

#include "base/clock.h"
#include "base/str.h"
#include "os/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Writes one line; consumes json. What cannot be written is missed by the caller, who says so. */
static void say(int fd, json_t *json)
{
	CLEANUP_STR char *text = json ? json_dumps(json, JSON_COMPACT) : NULL;
	json_decref(json);
	CLEANUP_STR char *line = text ? str_printf("%s\n", text) : NULL;
	if (line)
		(void)!write(fd, line, strlen(line));
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

static void run_check(const struct orch_harness *h, const struct plugin_probe_args *args, int fd)
{
	struct option_values values = OPTION_VALUES_INIT;
	struct err e = ERR_INIT;
	int r = options_resolve(h->options, args->settings, args->n_settings, &values, &e);
	if (r < 0) {
		say(fd, json_pack("{s:i,s:o}", "checked", r, "text", json_text(e.msg)));
		return;
	}
	struct service s;
	service_init(&s, &values);
	s.emit_log = drop_log;
	s.emit_event = drop_event;
	probe_process_init(&s);
	say(fd, json_pack("{s:s}", "check", "begin"));
	struct orch_report report = {.size = sizeof(report)};
	service_fail_clear();
	r = h->check(&s.api, &report);
	report.version[sizeof(report.version) - 1] = '\0';
	report.text[sizeof(report.text) - 1] = '\0';
	const char *why = service_fail_text();
	if (r != 0 && !why[0])
		why = strerror(r < 0 ? -r : r);
	say(fd, json_pack("{s:i,s:o,s:o}", "checked", r, "version", json_text(report.version),
			"text", json_text(r != 0 ? why : report.text)));
	option_values_deinit(&values);
}

static _Noreturn void loader_run(
	const char *path, const struct plugin_probe_args *args, int fd, pid_t warden)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != warden)
		_exit(1);
	struct plugin p = {0};
	struct err e = ERR_INIT;
	int r = plugin_load(path, &p, &e);
	if (r != 0) {
		say(fd, json_pack("{s:i,s:o}", "refused", r, "text", json_text(e.msg)));
		_exit(0);
	}
	say(fd, describe(&p.harness));
	if ((args->flags & PLUGIN_PROBE_CHECK) && p.harness.check)
		run_check(&p.harness, args, fd);
	_exit(0);
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

static void prepare_process(int fd)
{
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int i = 0; i <= 2 && null_fd >= 0; i++)
		dup2(null_fd, i);
	/* What the plugin says goes through the pipe, all else is no business of it. */
	if (fd > 3)
		syscall(SYS_close_range, 3U, (unsigned)fd - 1, 0U);
	syscall(SYS_close_range, (unsigned)fd + 1, ~0U, 0U);
	for (int sig = 1; sig < NSIG; sig++)
		(void)signal(sig, SIG_DFL); /* EINVAL for those that cannot be set */
	sigset_t none;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

_Noreturn void probe_warden_run(
	const char *path, const struct plugin_probe_args *args, int fd, pid_t caller)
{
	int64_t deadline_ms = deadline_after(args->timeout_ms);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != caller)
		_exit(1);
	(void)setsid(); /* cannot fail: a fresh child leads no group */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prepare_process(fd);
	pid_t warden = getpid();
	pid_t loader = fork();
	if (loader == 0)
		loader_run(path, args, fd, warden);
	int pidfd = loader > 0 ? (int)syscall(SYS_pidfd_open, loader, 0) : -1;
	if (pidfd < 0)
		_exit(1);
	struct pollfd poll_fd = {.fd = pidfd, .events = POLLIN};
	int n;
	do {
		n = poll(&poll_fd, 1, deadline_poll_ms(deadline_ms));
	} while (n < 0 && errno == EINTR);
	int status = 0;
	if (n == 0)
		kill(loader, SIGKILL);
	while (waitpid(loader, &status, 0) < 0 && errno == EINTR)
		;
	sweep();
	say(fd, json_pack("{s:i,s:b}", "status", status, "late", n == 0));
	_exit(0);
}
