/* SPDX-License-Identifier: MIT */
#include "shim/agent.h"

#include "base/str.h"
#include "os/file.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#define READ_SIZE       65536
#define INPUT_WRITE_MAX 65536
#define DRAIN_READS_MAX 64

static char read_buffer[READ_SIZE];

void procs_init(struct agent *a)
{
	for (size_t i = 0; i < PROTO_PROCESS_MAX; i++)
		a->procs[i] = (struct agent_proc){.in = -1, .out = {-1, -1, -1}};
}

static struct agent_proc *proc_by_id(struct agent *a, uint32_t id)
{
	for (size_t i = 0; i < PROTO_PROCESS_MAX; i++)
		if (a->procs[i].pid && a->procs[i].id == id)
			return &a->procs[i];
	return NULL;
}

static struct agent_proc *proc_free_slot(struct agent *a)
{
	for (size_t i = 0; i < PROTO_PROCESS_MAX; i++)
		if (!a->procs[i].pid)
			return &a->procs[i];
	return NULL;
}

static void proc_close(struct agent_proc *p)
{
	for (int i = 0; i < PROC_PIPES; i++)
		closep(&p->out[i]);
	closep(&p->in);
	buf_deinit(&p->input);
	*p = (struct agent_proc){.in = -1, .out = {-1, -1, -1}};
}

/* Answers without a memory of their own: if the frame cannot be queued, the host is beyond help. */
static void tell(struct keeper *k, int queued)
{
	if (queued < 0 && !k->over) {
		keeper_set_cause(k, CAUSE_IF_FIRST, CAUSE_HARNESS_HUNG,
			"the harness does not read what its processes say");
		ladder_kill_unit(k);
	}
}

/* ---- output ---- */

static bool is_drained(const struct agent_proc *p)
{
	for (int i = 0; i < PROC_PIPES; i++)
		if (p->out[i] >= 0)
			return false;
	return true;
}

static void report_end(struct keeper *k, struct agent_proc *p)
{
	struct agent *a = k->unit;
	if (!p->ended || !is_drained(p))
		return;
	tell(k, proto_write_json(&a->writer, PROTO_PROC_EXITED, p->id,
			json_pack("{s:i}", "status", p->wait_status)));
	proc_close(p);
}

/* One read of one pipe, as much as the host's window allows. False: it is at its end. */
static bool pump(struct keeper *k, struct agent_proc *p, int i)
{
	struct agent *a = k->unit;
	size_t room = sizeof(read_buffer);
	if (p->lines && PROTO_OUTPUT_WINDOW - p->unread < room)
		room = PROTO_OUTPUT_WINDOW - p->unread;
	if (p->ended && (uint64_t)p->drain[i] < room)
		room = (size_t)p->drain[i];
	if (room == 0)
		return !(p->ended && p->drain[i] == 0);
	ssize_t n = read(p->out[i], read_buffer, room);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	const uint16_t stream = (uint16_t)(i + 1);
	if (i < 2)
		capture_write(&a->output, read_buffer, (size_t)n);
	keeper_note_output(k, (size_t)n);
	if (p->lines) {
		p->unread += (size_t)n;
		tell(k, proto_write(&a->writer, PROTO_PROC_OUTPUT, stream, p->id, read_buffer,
				(size_t)n));
	}
	if (p->ended)
		p->drain[i] -= n;
	return !(p->ended && p->drain[i] == 0);
}

static void on_output(struct keeper *k, void *user, short revents)
{
	struct agent_proc *p = user;
	(void)revents;
	/* All pipes in their order: one readiness is enough reason to look at each. */
	for (int i = 0; i < PROC_PIPES; i++)
		if (p->out[i] >= 0 && !pump(k, p, i))
			close(TAKE_FD(p->out[i]));
	report_end(k, p);
	agent_flush(k);
}

/* ---- input ---- */

static void input_written(struct keeper *k, const struct agent_proc *p, size_t n)
{
	struct agent *a = k->unit;
	uint32_t count = (uint32_t)n;
	if (n > 0)
		tell(k, proto_write(
				&a->writer, PROTO_PROC_WRITTEN, 0, p->id, &count, sizeof(count)));
}

static void write_input(struct keeper *k, struct agent_proc *p)
{
	while (p->in >= 0 && p->input.len > 0) {
		ssize_t n = write(p->in, p->input.data, p->input.len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		size_t gone = n < 0 ? p->input.len : (size_t)n; /* nobody reads: dropped */
		buf_consume(&p->input, gone);
		input_written(k, p, gone);
		if (n < 0)
			close(TAKE_FD(p->in));
	}
	if (p->in >= 0 && p->close_input)
		close(TAKE_FD(p->in));
}

static void on_input(struct keeper *k, void *user, short revents)
{
	(void)revents;
	write_input(k, user);
	agent_flush(k);
}

bool procs_any_live(const struct agent *a)
{
	for (size_t i = 0; i < PROTO_PROCESS_MAX; i++)
		if (a->procs[i].pid && !a->procs[i].ended)
			return true;
	return false;
}

void procs_poll(struct keeper *k)
{
	struct agent *a = k->unit;
	for (size_t s = 0; s < PROTO_PROCESS_MAX; s++) {
		struct agent_proc *p = &a->procs[s];
		if (!p->pid)
			continue;
		if (p->in >= 0 && p->input.len > 0)
			poll_add(k, p->in, POLLOUT, on_input, p);
		bool room = !p->lines || p->unread < PROTO_OUTPUT_WINDOW;
		for (int i = 0; room && i < PROC_PIPES; i++)
			if (p->out[i] >= 0)
				poll_add(k, p->out[i], POLLIN, on_output, p);
	}
}

/* ---- requests ---- */

static int bad(struct err *e, const struct proto_frame *f, const char *what)
{
	return err_set(e, -EPROTO, "%s: %s", proto_type_name(f->type), what);
}

/* "A=b" sets, "A" removes. */
static int apply_env(char ***env, const char *entry)
{
	size_t len = strcspn(entry, "=");
	size_t kept = 0;
	for (size_t i = 0; (*env)[i]; i++) {
		if (strncmp((*env)[i], entry, len) == 0 && (*env)[i][len] == '=')
			free((*env)[i]);
		else
			(*env)[kept++] = (*env)[i];
	}
	(*env)[kept] = NULL;
	return entry[len] == '=' ? strv_add(env, entry) : 0;
}

static int json_strv(const json_t *array, char ***ret)
{
	size_t i;
	json_t *value;
	json_array_foreach(array, i, value) {
		if (!json_is_string(value))
			return -EPROTO;
		if (strv_add(ret, json_string_value(value)) < 0)
			return -ENOMEM;
	}
	return 0;
}

struct start {
	char **argv, **env;
	const char *cwd, *input;
	int event_fd; /* number in the process; 0: none */
	bool lines;
	int child[PROC_PIPES + 1]; /* ends for the process: stdout, stderr, events, stdin */
};

static int read_start(struct keeper *k, const json_t *o, struct start *s,
	const struct proto_frame *f, struct err *e)
{
	CLEANUP_STRV char **changes = NULL;
	if (json_strv(json_object_get(o, "argv"), &s->argv) < 0 || !s->argv)
		return bad(e, f, "argv is not a list of strings");
	if (json_strv(json_object_get(o, "env"), &changes) < 0)
		return bad(e, f, "env is not a list of strings");
	s->env = strv_copy(k->env);
	if (!s->env)
		return err_nomem(e);
	for (size_t i = 0; changes && changes[i]; i++)
		if (changes[i][0] == '=' || changes[i][0] == '\0' ||
			apply_env(&s->env, changes[i]) < 0)
			return bad(e, f, "a bad entry in env");
	s->cwd = json_string_value(json_object_get(o, "cwd"));
	s->input = json_string_value(json_object_get(o, "stdin"));
	s->lines = json_is_true(json_object_get(o, "lines"));
	json_int_t event_fd = json_integer_value(json_object_get(o, "event_fd"));
	if (event_fd != 0 && (event_fd < 3 || event_fd > 63))
		return bad(e, f, "event_fd is out of range");
	s->event_fd = (int)event_fd;
	return 0;
}

static int open_pipe(int *ret_ours, int *ret_child, int ours_is_read)
{
	int fds[2];
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	*ret_ours = fds[ours_is_read ? 0 : 1];
	*ret_child = fds[ours_is_read ? 1 : 0];
	return fd_set_nonblock(*ret_ours, NULL);
}

static int open_pipes(struct keeper *k, struct agent_proc *p, struct start *s)
{
	int r = 0;
	for (int i = 0; r == 0 && i < (s->event_fd ? 3 : 2); i++)
		r = open_pipe(&p->out[i], &s->child[i], 1);
	if (r == 0 && str_eq(s->input, "pipe"))
		r = open_pipe(&p->in, &s->child[PROC_PIPES], 0);
	if (r == 0 && str_eq(s->input, "prompt") && k->spec.prompt_file) {
		s->child[PROC_PIPES] = openat(k->dirfd, k->spec.prompt_file, O_RDONLY | O_CLOEXEC);
		if (s->child[PROC_PIPES] < 0)
			r = -errno;
	}
	return r;
}

static int start_process(struct keeper *k, struct agent_proc *p, struct start *s)
{
	int r = open_pipes(k, p, s);
	if (r < 0)
		return r;
	struct spawn spawn;
	struct spawn_fd event = {.fd = s->child[2], .target = s->event_fd};
	keeper_spawn_init(k, &spawn);
	spawn.argv = s->argv;
	spawn.envp = s->env;
	if (s->cwd)
		spawn.cwd = s->cwd;
	spawn.stdio[0] = s->child[PROC_PIPES];
	spawn.stdio[1] = s->child[0];
	spawn.stdio[2] = s->child[1];
	if (s->event_fd) {
		spawn.fds = &event;
		spawn.n_fds = 1;
	}
	pid_t pid;
	r = spawn_process(&spawn, &pid, NULL, NULL);
	if (r == 0)
		p->pid = pid;
	return r;
}

static void start_deinit(struct start *s)
{
	strv_free(s->argv);
	strv_free(s->env);
	for (size_t i = 0; i < sizeof(s->child) / sizeof(s->child[0]); i++)
		closep(&s->child[i]);
}

int procs_start(struct keeper *k, const struct proto_frame *f, struct err *e)
{
	struct agent *a = k->unit;
	if (proc_by_id(a, f->id))
		return bad(e, f, "the id is in use");
	json_t *o;
	int r = proto_frame_json(f, &o, e);
	if (r < 0)
		return r;
	CLEANUP(start_deinit) struct start s = {.child = {-1, -1, -1, -1}};
	r = read_start(k, o, &s, f, e);
	int started = -EAGAIN;
	struct agent_proc *p = proc_free_slot(a);
	if (r == 0 && p) {
		p->id = f->id;
		p->lines = s.lines;
		started = start_process(k, p, &s);
		if (started < 0)
			proc_close(p);
		a->ran |= started == 0;
		/* EIO is what exec says of a program that is cut short: that is the harness's. */
		a->start_error = a->ran || started == -EIO ? 0 : started;
	}
	json_decref(o);
	if (r < 0)
		return r;
	json_t *answer = started < 0 ? json_pack("{s:i}", "errno", -started)
				     : json_pack("{s:i}", "pid", (int)p->pid);
	tell(k, proto_write_json(&a->writer, PROTO_PROC_STARTED, f->id, answer));
	return 0;
}

int procs_write(struct keeper *k, const struct proto_frame *f, struct err *e)
{
	struct agent_proc *p = proc_by_id(k->unit, f->id);
	if (!p || p->in < 0) {
		struct agent_proc gone = {.id = f->id};
		input_written(k, &gone, f->len); /* ended meanwhile: dropped */
		return 0;
	}
	if (p->input.len + f->len > PROTO_INPUT_WINDOW)
		return bad(e, f, "more than the window allows");
	buf_add(&p->input, f->data, f->len);
	if (buf_check(&p->input) < 0)
		return err_nomem(e);
	write_input(k, p);
	return 0;
}

int procs_close_stdin(struct keeper *k, const struct proto_frame *f, struct err *e)
{
	struct agent_proc *p = proc_by_id(k->unit, f->id);
	(void)e;
	if (p) {
		p->close_input = true;
		write_input(k, p);
	}
	return 0;
}

int procs_kill(struct keeper *k, const struct proto_frame *f, struct err *e)
{
	json_t *o;
	int r = proto_frame_json(f, &o, e);
	if (r < 0)
		return r;
	json_int_t signal = json_integer_value(json_object_get(o, "signal"));
	bool group = json_is_true(json_object_get(o, "group"));
	json_decref(o);
	if (signal < 1 || signal >= NSIG)
		return bad(e, f, "no such signal");
	const struct agent_proc *p = proc_by_id(k->unit, f->id);
	if (p && !p->ended)
		kill(group ? -p->pid : p->pid, (int)signal); /* ended meanwhile: ignored */
	return 0;
}

int procs_read(struct keeper *k, const struct proto_frame *f, struct err *e)
{
	struct agent_proc *p = proc_by_id(k->unit, f->id);
	uint32_t n;
	if (f->len != sizeof(n))
		return bad(e, f, "not four bytes");
	memcpy(&n, f->data, sizeof(n));
	if (!p)
		return 0; /* its end was reported; the last bytes are taken now */
	if (n > p->unread)
		return bad(e, f, "more than was sent");
	p->unread -= n;
	return 0;
}

/* ---- ends ---- */

bool procs_reaped(struct keeper *k, pid_t pid, int wait_status)
{
	struct agent *a = k->unit;
	for (size_t s = 0; s < PROTO_PROCESS_MAX; s++) {
		struct agent_proc *p = &a->procs[s];
		if (p->pid != pid || p->ended)
			continue;
		p->ended = true;
		p->wait_status = wait_status;
		if (p->in >= 0) {
			input_written(k, p, p->input.len);
			buf_reset(&p->input);
			close(TAKE_FD(p->in));
		}
		/* Others may hold the write ends: only what is there now is still its own. */
		for (int i = 0; i < PROC_PIPES; i++) {
			int there = 0;
			if (p->out[i] < 0)
				continue;
			if (ioctl(p->out[i], FIONREAD, &there) < 0 || there == 0)
				close(TAKE_FD(p->out[i]));
			p->drain[i] = there;
		}
		report_end(k, p);
		return true;
	}
	return false;
}

void procs_finish(struct keeper *k)
{
	struct agent *a = k->unit;
	for (size_t s = 0; s < PROTO_PROCESS_MAX; s++) {
		struct agent_proc *p = &a->procs[s];
		if (!p->pid)
			continue;
		p->lines = p->ended = false;
		for (int i = 0; i < PROC_PIPES; i++)
			for (int n = 0; n < DRAIN_READS_MAX && p->out[i] >= 0; n++)
				if (!pump(k, p, i))
					close(TAKE_FD(p->out[i]));
		proc_close(p);
	}
}
