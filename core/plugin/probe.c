/* SPDX-License-Identifier: MIT */
#include "plugin/probe_impl.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/json_text.h"
#include "base/str.h"
#include "os/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

/* More than this is not a report. */
#define REPORT_MAX ((size_t)1 << 20)
/* What the warden may take beyond the deadline to end what the plugin started. */
#define SLACK_MS 5000

void plugin_report_deinit(struct plugin_report *r)
{
	free(r->path);
	free(r->name);
	free(r->version);
	free(r->description);
	vec_foreach(o, &r->options) {
		free(o->key);
		free(o->default_value);
		free(o->help);
	}
	VEC_FREE(&r->options);
	free(r->agent_version);
	free(r->check_text);
	*r = PLUGIN_REPORT_INIT;
}

/* What the loader and the warden have said so far. */
struct answer {
	bool refused, loaded, check_begun, checked, ended;
	int unable;   /* negative errno: there was no process to load it in */
	int outcome;  /* refused */
	int check_rc; /* checked */
	int status;   /* ended: of the loader */
	bool late;    /* ended: at the deadline */
	char *text;   /* unable, refused */
	struct plugin_report report;
};

static void answer_deinit(struct answer *a)
{
	free(a->text);
	plugin_report_deinit(&a->report);
}

static int copy_text(const json_t *object, const char *key, char **ret)
{
	return str_replace(ret, json_string_value(json_object_get(object, key)));
}

static int take_options(const json_t *list, struct plugin_report *report)
{
	size_t i;
	const json_t *item;
	json_array_foreach(list, i, item) {
		json_int_t type = json_integer_value(json_object_get(item, "type"));
		const char *type_name =
			type > 0 && type < UINT32_MAX ? option_type_name((uint32_t)type) : NULL;
		struct plugin_report_option *o = VEC_PUSH(&report->options);
		if (!o || copy_text(item, "key", &o->key) < 0 ||
			copy_text(item, "default", &o->default_value) < 0 ||
			copy_text(item, "help", &o->help) < 0)
			return -ENOMEM;
		o->type = type_name ? type_name : "?";
	}
	return 0;
}

static int take_loaded(const json_t *loaded, struct plugin_report *report)
{
	if (copy_text(loaded, "name", &report->name) < 0 ||
		copy_text(loaded, "version", &report->version) < 0 ||
		copy_text(loaded, "description", &report->description) < 0)
		return -ENOMEM;
	report->abi_major = (unsigned)json_integer_value(json_object_get(loaded, "major"));
	report->abi_minor = (unsigned)json_integer_value(json_object_get(loaded, "minor"));
	report->has_check = json_boolean_value(json_object_get(loaded, "has_check"));
	report->has_send = json_boolean_value(json_object_get(loaded, "has_send"));
	return take_options(json_object_get(loaded, "options"), report);
}

static int take_line(const json_t *line, struct answer *a)
{
	const json_t *value;
	if ((value = json_object_get(line, "unable"))) {
		a->unable = (int)json_integer_value(value);
		return copy_text(line, "text", &a->text);
	}
	if ((value = json_object_get(line, "refused")) && !a->loaded) {
		a->refused = true;
		a->outcome = (int)json_integer_value(value);
		return copy_text(line, "text", &a->text);
	}
	if ((value = json_object_get(line, "loaded")) && !a->loaded) {
		a->loaded = true;
		return take_loaded(value, &a->report);
	}
	if (json_object_get(line, "check"))
		a->check_begun = true;
	if ((value = json_object_get(line, "checked")) && !a->checked) {
		a->checked = true;
		a->check_rc = (int)json_integer_value(value);
		if (copy_text(line, "version", &a->report.agent_version) < 0)
			return -ENOMEM;
		return copy_text(line, "text", &a->report.check_text);
	}
	if ((value = json_object_get(line, "status"))) {
		a->ended = true;
		a->status = (int)json_integer_value(value);
		a->late = json_boolean_value(json_object_get(line, "late"));
	}
	return 0;
}

static int take_lines(char *text, struct answer *a)
{
	char *rest = text;
	for (char *line; (line = strsep(&rest, "\n"));) {
		json_t *json = NULL;
		int r = json_text_parse(line, strlen(line), 0, &json, NULL);
		r = r == 0 ? take_line(json, a) : r == -ENOMEM ? r : 0;
		json_decref(json);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Reads to the end of the pipe; what is beyond the bound is thrown away. 0, -ETIMEDOUT, -errno. */
static int read_all(int fd, int64_t deadline_ms, struct buf *ret)
{
	for (;;) {
		struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
		int n = poll(&poll_fd, 1, deadline_poll_ms(deadline_ms));
		if (n == 0)
			return -ETIMEDOUT;
		char data[4096];
		ssize_t len = n < 0 ? -1 : read(fd, data, sizeof(data));
		if (len < 0 && errno != EINTR)
			return -errno;
		if (len == 0)
			return buf_check(ret);
		if (len > 0 && ret->len < REPORT_MAX)
			buf_add(ret, data, (size_t)len);
	}
}

static int run(
	const char *path, const struct plugin_probe_args *args, struct answer *ret, struct err *e)
{
	int fds[2];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_errno(e, -errno, "cannot probe '%s': pipe", path);
	CLEANUP(closep) int fd = fds[0];
	int64_t deadline_ms = deadline_after(args->timeout_ms + SLACK_MS);
	struct probe_request request = {path, args};
	const struct spawn_fd out = {.fd = fds[1], .target = PROBE_FD};
	struct spawn s = SPAWN_INIT;
	s.fds = &out;
	s.n_fds = 1;
	s.new_session = true;
	s.death_signal = SIGKILL;
	pid_t warden;
	int r = spawn_fork(&s, probe_warden_run, &request, &warden, e);
	close(fds[1]);
	if (r < 0) {
		err_prefix(e, "cannot probe '%s'", path);
		return r;
	}
	CLEANUP_BUF struct buf said = BUF_INIT;
	r = read_all(fd, deadline_ms, &said);
	if (r < 0)
		kill(warden, SIGKILL);
	while (waitpid(warden, NULL, 0) < 0 && errno == EINTR)
		;
	if (r < 0)
		return err_errno(e, r, "cannot probe '%s'", path);
	if (said.len > 0 && take_lines(said.data, ret) < 0)
		return err_nomem(e);
	return 0;
}

/* How the loader ended that should have gone on: owned; NULL when memory is out. */
static char *describe_end(const struct answer *a, int64_t timeout_ms)
{
	if (a->late) {
		CLEANUP_STR char *time = format_duration(timeout_ms);
		return str_printf("did not return within %s", time ? time : "its time");
	}
	if (a->ended && WIFSIGNALED(a->status))
		return str_printf("crashed: signal %d (%s)", WTERMSIG(a->status),
			strsignal(WTERMSIG(a->status)));
	if (a->ended)
		return str_printf("ended the process with exit status %d", WEXITSTATUS(a->status));
	return str_dup("ended the process that watched it");
}

static void drop_empty(char **text)
{
	if (*text && !**text) {
		free(*text);
		*text = NULL;
	}
}

/* Says what became of the check. */
static int judge_check(const struct plugin_probe_args *args, struct answer *a, struct err *e)
{
	struct plugin_report *report = &a->report;
	if (a->checked) {
		report->check = a->check_rc == 0 ? PLUGIN_CHECK_OK : PLUGIN_CHECK_FAILED;
	} else if (a->check_begun) {
		CLEANUP_STR char *how = describe_end(a, args->timeout_ms);
		free(report->check_text);
		report->check_text = str_printf("check %s", how ? how : "ended");
		report->check = PLUGIN_CHECK_BROKEN;
		if (!how || !report->check_text)
			return err_nomem(e);
	}
	drop_empty(&report->agent_version);
	drop_empty(&report->check_text);
	return 0;
}

int plugin_probe(const char *path, const struct plugin_probe_args *args, struct plugin_report *ret,
	struct err *e)
{
	int r = plugin_verify(path, e);
	if (r != 0)
		return r;
	CLEANUP(answer_deinit) struct answer a = {0};
	r = run(path, args, &a, e);
	if (r < 0)
		return r;
	if (a.unable < 0)
		return err_set(e, a.unable, "cannot probe '%s': %s", path, a.text ? a.text : "?");
	if (a.refused && (a.outcome == PLUGIN_MISSING || a.outcome == PLUGIN_INVALID))
		return err_set(e, a.outcome, "%s", a.text ? a.text : path);
	if (a.refused)
		return err_set(e, a.outcome < 0 ? a.outcome : -EIO, "cannot probe '%s': %s", path,
			a.text ? a.text : "?");
	if (!a.loaded) {
		CLEANUP_STR char *how = describe_end(&a, args->timeout_ms);
		return err_set(e, PLUGIN_INVALID, "harness file '%s': loading it %s", path,
			how ? how : "failed");
	}
	r = judge_check(args, &a, e);
	if (r == 0)
		r = str_replace(&a.report.path, path) < 0 ? err_nomem(e) : 0;
	if (r < 0)
		return r;
	*ret = a.report;
	a.report = PLUGIN_REPORT_INIT;
	return 0;
}
