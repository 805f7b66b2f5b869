/* SPDX-License-Identifier: MIT */
/*
 * The operator's hooks: a command of the configuration, run by /bin/sh with a JSON object on
 * standard input when a task awaits review, was escalated, or a dispatch has halted. It runs beside
 * the engine in a session of its own, with the operator's environment; what is left of that session
 * when it ends, or after 30 s, is killed. A hook that fails is a warning and nothing else.
 */
#include "run/state.h"

#include "base/json_text.h"
#include "base/vec.h"
#include "os/file.h"
#include "run/json_text.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define HOOK_TIMEOUT_MS 30000
#define HOOKS_AT_ONCE   8

struct hook {
	uv_poll_t poll; /* first: its data is NULL, which tells it from a watch's */
	uv_timer_t timer;
	struct run *run;
	struct hook *next;
	const char *name; /* static */
	char *command;
	char *input;
	pid_t pid;
	int pidfd;
	unsigned open; /* handles that the loop has not let go of */
	bool started;
	bool timed_out;
};

static void hook_free(struct hook *h)
{
	if (h->pidfd >= 0)
		close(h->pidfd);
	free(h->command);
	free(h->input);
	free(h);
}

static void let_go(struct hook *h)
{
	if (--h->open == 0)
		hook_free(h);
}

static void poll_closed(uv_handle_t *handle)
{
	let_go((struct hook *)handle);
}

static void timer_closed(uv_handle_t *handle)
{
	let_go(handle->data);
}

static void start_waiting(struct run *r);

static void hook_unlink(struct hook *h)
{
	struct hook **at = &h->run->hooks;
	while (*at != h)
		at = &(*at)->next;
	*at = h->next;
}

/* Its first process has ended: so does the rest of its session. */
static void hook_end(struct hook *h)
{
	int status = 0;
	kill(-h->pid, SIGKILL);
	while (waitpid(h->pid, &status, 0) < 0 && errno == EINTR)
		;
	h->run->hooks_running--;
	hook_unlink(h);
	uv_poll_stop(&h->poll);
	uv_timer_stop(&h->timer);
	uv_close((uv_handle_t *)&h->poll, poll_closed);
	uv_close((uv_handle_t *)&h->timer, timer_closed);
	if (h->timed_out)
		run_warn(h->run, "the hook %s took longer than %d s and was ended", h->name,
			HOOK_TIMEOUT_MS / 1000);
	else if (spawn_shell_status(status) != 0)
		run_warn(h->run, "the hook %s ended with status %d", h->name,
			spawn_shell_status(status));
}

static void on_ended(uv_poll_t *poll, int status, int events)
{
	struct hook *h = (struct hook *)poll;
	(void)status;
	(void)events;
	hook_end(h);
	start_waiting(h->run);
}

static void on_timeout(uv_timer_t *timer)
{
	struct hook *h = timer->data;
	h->timed_out = true;
	kill(-h->pid, SIGKILL);
}

static int write_input(const char *text, int *ret_fd, struct err *e)
{
	int fd = memfd_create("orch-hook", MFD_CLOEXEC);
	if (fd < 0)
		return err_errno(e, -errno, "memfd_create");
	int r = fd_write_all(fd, text, strlen(text));
	if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
		r = -errno;
	if (r < 0) {
		close(fd);
		return err_errno(e, r, "cannot write its input");
	}
	*ret_fd = fd;
	return 0;
}

static int hook_spawn(struct hook *h, struct err *e)
{
	char *const argv[] = {(char *)"/bin/sh", (char *)"-c", h->command, NULL};
	CLEANUP(closep) int input = -1;
	int r = write_input(h->input, &input, e);
	if (r < 0)
		return r;
	struct spawn s = SPAWN_INIT;
	s.argv = argv;
	s.envp = h->run->site->environment;
	s.cwd = h->run->site->root;
	s.stdio[0] = input;
	s.new_session = true;
	s.death_signal = SIGKILL;
	s.origin = &h->run->site->origin;
	return spawn_process(&s, &h->pid, &h->pidfd, e);
}

static void hook_start(struct hook *h)
{
	struct run *r = h->run;
	struct err err = ERR_INIT;
	if (hook_spawn(h, &err) < 0) {
		run_warn(r, "the hook %s cannot be started: %s", h->name, err.msg);
		hook_unlink(h);
		hook_free(h);
		return;
	}
	int code = uv_poll_init(&r->loop, &h->poll, h->pidfd);
	if (code < 0) {
		run_warn(r, "the hook %s was ended: %s", h->name, uv_strerror(code));
		kill(-h->pid, SIGKILL);
		while (waitpid(h->pid, NULL, 0) < 0 && errno == EINTR)
			;
		hook_unlink(h);
		hook_free(h);
		return;
	}
	h->started = true;
	h->open = 2;
	r->hooks_running++;
	uv_timer_init(&r->loop, &h->timer);
	h->poll.data = NULL;
	h->timer.data = h;
	uv_poll_start(&h->poll, UV_READABLE, on_ended);
	uv_timer_start(&h->timer, on_timeout, HOOK_TIMEOUT_MS, 0);
}

/* Oldest first. */
static void start_waiting(struct run *r)
{
	struct hook *next;
	for (struct hook *h = r->hooks; h && r->hooks_running < HOOKS_AT_ONCE; h = next) {
		next = h->next;
		if (!h->started)
			hook_start(h);
	}
}

/* Consumes json. */
static void hook_run(struct run *r, const char *name, const char *command, json_t *json)
{
	CLEANUP(freep)
	char *text = json ? json_text_dump(json, JSON_COMPACT | JSON_PRESERVE_ORDER) : NULL;
	json_decref(json);
	struct hook *h = text ? calloc(1, sizeof(*h)) : NULL;
	if (!h) {
		run_warn(r, "the hook %s cannot be started: out of memory", name);
		return;
	}
	*h = (struct hook){.run = r, .name = name, .pidfd = -1};
	h->command = str_dup(command);
	h->input = str_printf("%s\n", text);
	if (!h->command || !h->input) {
		hook_free(h);
		return;
	}
	struct hook **at = &r->hooks;
	while (*at)
		at = &(*at)->next;
	*at = h;
	start_waiting(r);
}

void hook_change(struct run *r, const struct run_change *change)
{
	bool review = str_eq(change->to, task_status_name(TASK_AWAITING_REVIEW));
	bool escalated = str_eq(change->to, task_status_name(TASK_ESCALATED));
	const char *command = review      ? r->config->hook.on_review
			      : escalated ? r->config->hook.on_escalated
					  : NULL;
	if (!command || !command[0])
		return;
	const char *name = review ? "on_review" : "on_escalated";
	hook_run(r, name, command,
		json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:I, s:s?, s:o}", "version", 1, "hook",
			name, "plan", change->plan, "task", change->task, "from", change->from,
			"to", change->to, "attempt", (json_int_t)change->attempt, "outcome",
			change->outcome[0] ? change->outcome : NULL, "reason",
			json_text(change->reason)));
}

struct halt_facts {
	json_t *counts;
	json_t *commit;
	json_t *also;
	enum halt_reason reason;
};

static int count_status(void *ctx, const struct task_row *row)
{
	struct halt_facts *f = ctx;
	const char *status = task_status_name(row->status);
	json_int_t n = json_integer_value(json_object_get(f->counts, status));
	return json_object_set_new(f->counts, status, json_integer(n + 1)) < 0 ? -ENOMEM : 0;
}

static int note_halt(void *ctx, const struct plan_row *row)
{
	struct halt_facts *f = ctx;
	f->reason = row->halt;
	f->commit = json_pack("{s:s?, s:s?, s:o}", "result", row->halt_commit, "oid",
		row->halt_commit_oid, "why", json_text(row->halt_commit_why));
	for (int i = 0; i < HALT_COUNT; i++)
		if (row->halt_also & (1U << i))
			(void)json_array_append_new(
				f->also, json_string(halt_reason_name((enum halt_reason)i)));
	return 0;
}

void hook_halt(struct run *r, const struct rplan *p)
{
	const char *command = r->config->hook.on_halt;
	struct err err = ERR_INIT;
	if (!command || !command[0])
		return;
	struct halt_facts f = {.counts = json_object(), .also = json_array(), .reason = p->halt};
	if (store_plan(r->store, p->id, note_halt, &f, &err) < 0 ||
		store_each_task(r->store, p->id, count_status, &f, &err) < 0)
		run_warn(r, "%s", err.msg);
	hook_run(r, "on_halt", command,
		json_pack("{s:i, s:s, s:s, s:s, s:i, s:o, s:o?, s:o}", "version", 1, "hook",
			"on_halt", "plan", p->name, "reason", halt_reason_name(f.reason),
			"exit_status", halt_reason_status(f.reason), "also", f.also, "commit",
			f.commit, "tasks", f.counts));
}

void hook_wait(struct run *r)
{
	while (r->hooks && !r->aborted)
		uv_run(&r->loop, UV_RUN_ONCE);
}

void hook_end_all(struct run *r)
{
	while (r->hooks) {
		struct hook *h = r->hooks;
		if (h->started) {
			kill(-h->pid, SIGKILL);
			hook_end(h);
		} else {
			r->hooks = h->next;
			hook_free(h);
		}
	}
}
