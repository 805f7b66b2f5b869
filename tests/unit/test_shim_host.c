/* SPDX-License-Identifier: MIT */
/*
 * host_main in a forked child, driven by a small keeper that carries out its requests as the real
 * one does and writes down all that it says.
 */
#include "shim/host.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/str.h"
#include "os/spawn.h"
#include "plugin/plugin.h"
#include "shim/proto.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

#define DEADLINE_MS 20000
#define PROCS       4
#define STREAMS     3

extern char **environ;

struct proc {
	uint32_t id;
	pid_t pid;
	int out[STREAMS]; /* -1: closed */
	int in;           /* -1: closed */
	struct buf input; /* for its stdin */
	bool close_input;
	size_t unread;     /* PROC_OUTPUT that PROC_READ has not given back */
	size_t max_unread; /* the most there ever was */
};

struct keeper {
	char dir[32]; /* holds prompt.md */
	int sock;
	pid_t host;
	int host_status;
	struct proto_reader reader;
	struct proto_writer writer;
	struct proc procs[PROCS];
	struct buf trace; /* one line a message from the host */
	char *outcome, *text, *session;
	int open_call; /* begun last and not ended; 0: none */
	bool done, ended;
	size_t n_messages, message_bytes;
	bool message_cut;
	/* When this text appears in an event, send KILL (`signal`), or SEND (`send`). */
	const char *when;
	int signal;
	const char *send;
};

static char *test_plugin(const char *name)
{
	char exe[4096];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	assert_true(n > 0);
	exe[n] = '\0';
	*strrchr(exe, '/') = '\0';
	return str_eq(name, "shell") ? str_printf("%s/../plugins/orch-harness-shell.so", exe)
				     : str_printf("%s/plugins/orch-harness-%s.so", exe, name);
}

static void keeper_start(struct keeper *k, const char *prompt)
{
	*k = (struct keeper){.sock = -1};
	strcpy(k->dir, "/tmp/orch-test-XXXXXX");
	assert_non_null(mkdtemp(k->dir));
	CLEANUP_STR char *path = path_join(k->dir, "prompt.md");
	FILE *f = fopen(path, "we");
	assert_non_null(f);
	fputs(prompt, f);
	fclose(f);
	for (size_t i = 0; i < PROCS; i++)
		k->procs[i] = (struct proc){.out = {-1, -1, -1}, .in = -1};
	int fds[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	k->host = fork();
	assert_true(k->host >= 0);
	if (k->host == 0) {
		dup2(fds[1], 3);
		syscall(SYS_close_range, 4U, ~0U, 0U);
		_exit(host_main(3));
	}
	close(fds[1]);
	k->sock = fds[0];
}

static void send_task(struct keeper *k, const char *plugin, const char *command, json_t *options)
{
	CLEANUP_STR char *path = plugin ? test_plugin(plugin) : NULL;
	CLEANUP_STR char *prompt = path_join(k->dir, "prompt.md");
	json_t *task = json_pack("{s:s,s:s*,s:s,s:s,s:i,s:s,s:s,s:s,s:s,s:s*,s:b,s:o}", "harness",
		plugin ? plugin : "nobody", "plugin", path, "plan", "p", "task", "t", "attempt", 2,
		"unit", "0123", "cwd", k->dir, "prompt_file", prompt, "tmpdir", k->dir, "command",
		command, "continue", 0, "options", options ? options : json_object());
	assert_int_equal(proto_write_json(&k->writer, PROTO_TASK, 0, task), 0);
}

static struct proc *proc_get(struct keeper *k, uint32_t id)
{
	for (size_t i = 0; i < PROCS; i++)
		if (k->procs[i].id == id)
			return &k->procs[i];
	return NULL;
}

static void start_process(struct keeper *k, const struct proto_frame *f)
{
	json_t *request = NULL;
	assert_int_equal(proto_frame_json(f, &request, NULL), 0);
	struct proc *p = proc_get(k, 0);
	assert_non_null(p);
	assert_null(proc_get(k, f->id));
	CLEANUP_STRV char **argv = NULL;
	CLEANUP_STRV char **envp = strv_copy(environ);
	size_t i;
	json_t *item;
	json_array_foreach(json_object_get(request, "argv"), i, item)
		assert_int_equal(strv_add(&argv, json_string_value(item)), 0);
	json_array_foreach(json_object_get(request, "env"), i, item)
		assert_int_equal(strv_add(&envp, json_string_value(item)), 0);
	int child_end[STREAMS], in[2] = {-1, -1};
	for (i = 0; i < STREAMS; i++) {
		int fds[2];
		assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
		p->out[i] = fds[0];
		child_end[i] = fds[1];
	}
	const char *kind = json_string_value(json_object_get(request, "stdin"));
	if (str_eq(kind, "pipe")) {
		assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	} else if (str_eq(kind, "prompt")) {
		CLEANUP_STR char *path = path_join(k->dir, "prompt.md");
		in[0] = open(path, O_RDONLY | O_CLOEXEC);
	}
	struct spawn_fd event = {.fd = child_end[2],
		.target = (int)json_integer_value(json_object_get(request, "event_fd"))};
	struct spawn s = SPAWN_INIT;
	s.argv = argv;
	s.envp = envp;
	s.cwd = json_string_value(json_object_get(request, "cwd"));
	s.stdio[0] = in[0];
	s.stdio[1] = child_end[0];
	s.stdio[2] = child_end[1];
	s.new_session = true;
	s.fds = &event;
	s.n_fds = event.target > 0;
	int r = spawn_process(&s, &p->pid, NULL, NULL);
	for (i = 0; i < STREAMS; i++)
		close(child_end[i]);
	if (in[0] >= 0)
		close(in[0]);
	if (r == 0) {
		p->id = f->id;
		p->in = in[1];
		if (p->in >= 0)
			assert_int_equal(fcntl(p->in, F_SETFL, O_NONBLOCK), 0);
		r = proto_write_json(&k->writer, PROTO_PROC_STARTED, f->id,
			json_pack("{s:i}", "pid", (int)p->pid));
	} else {
		for (i = 0; i < STREAMS; i++)
			close(TAKE_FD(p->out[i]));
		if (in[1] >= 0)
			close(in[1]);
		r = proto_write_json(
			&k->writer, PROTO_PROC_STARTED, f->id, json_pack("{s:i}", "errno", -r));
	}
	assert_int_equal(r, 0);
	json_decref(request);
}

static void kill_process(struct keeper *k, const struct proto_frame *f)
{
	json_t *request = NULL;
	assert_int_equal(proto_frame_json(f, &request, NULL), 0);
	const struct proc *p = proc_get(k, f->id);
	bool group = json_boolean_value(json_object_get(request, "group"));
	if (p)
		kill(group ? -p->pid : p->pid,
			(int)json_integer_value(json_object_get(request, "signal")));
	json_decref(request);
}

static void take_event(struct keeper *k, const struct proto_frame *f)
{
	json_t *event = NULL;
	assert_true(f->len <= 61440);
	assert_int_equal(proto_frame_json(f, &event, NULL), 0);
	const char *kind = json_string_value(json_object_get(event, "kind"));
	json_t *data = json_object_get(event, "data");
	const char *text = json_string_value(json_object_get(data, "text"));
	if (str_eq(kind, "message")) {
		k->n_messages++;
		k->message_bytes += strlen(text);
		k->message_cut |= json_is_true(json_object_get(data, "cut"));
	}
	if (k->n_messages < 100) {
		CLEANUP_STR char *dumped = json_dumps(data, JSON_COMPACT | JSON_SORT_KEYS);
		buf_addf(&k->trace, "%s %.200s\n", kind, dumped);
	}
	if (k->when && text && strstr(text, k->when)) {
		k->when = NULL;
		assert_int_equal(k->send ? proto_write(&k->writer, PROTO_SEND, 0, 0, k->send,
						   strlen(k->send))
					 : proto_write(&k->writer, PROTO_KILL, 0,
						   (uint32_t)k->signal, NULL, 0),
			0);
	}
	json_decref(event);
}

static void take_verdict(struct keeper *k, const struct proto_frame *f)
{
	json_t *json = NULL;
	assert_int_equal(proto_frame_json(f, &json, NULL), 0);
	assert_null(k->outcome);
	k->outcome = str_dup(json_string_value(json_object_get(json, "outcome")));
	k->text = str_dup(json_string_value(json_object_get(json, "text")));
	k->session = str_dup(json_string_value(json_object_get(json, "session")));
	json_object_del(json, "text");
	CLEANUP_STR char *dumped = json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS);
	buf_addf(&k->trace, "%s %s\n", proto_type_name(f->type), dumped);
	json_decref(json);
}

static void give_input(struct keeper *k, struct proc *p)
{
	while (p->in >= 0 && p->input.len > 0) {
		ssize_t n = write(p->in, p->input.data, p->input.len);
		if (n < 0 && errno == EAGAIN)
			return;
		uint32_t count = (uint32_t)(n < 0 ? (ssize_t)p->input.len : n);
		buf_consume(&p->input, count);
		assert_int_equal(proto_write(&k->writer, PROTO_PROC_WRITTEN, 0, p->id, &count,
					 sizeof(count)),
			0);
	}
	if (p->in >= 0 && p->close_input)
		close(TAKE_FD(p->in));
}

static void take_frame(struct keeper *k, const struct proto_frame *f)
{
	assert_false(k->done);
	struct proc *p = proc_get(k, f->id);
	uint32_t count;
	switch (f->type) {
	case PROTO_CALL_BEGIN:
		k->open_call = (int)f->id;
		buf_addf(&k->trace, "begin %s\n", proto_call_name(f->id));
		break;
	case PROTO_CALL_END:
		if (k->open_call == (int)f->id)
			k->open_call = 0;
		buf_addf(&k->trace, "end %s %s\n", proto_call_name(f->id), f->data);
		break;
	case PROTO_PROC_START:
		start_process(k, f);
		break;
	case PROTO_PROC_WRITE:
		assert_true(f->len > 0);
		if (!p) /* it ended while this was under way */
			break;
		assert_true(p->input.len + f->len <= PROTO_INPUT_WINDOW);
		buf_add(&p->input, f->data, f->len);
		give_input(k, p);
		break;
	case PROTO_PROC_CLOSE_STDIN:
		if (p) {
			p->close_input = true;
			give_input(k, p);
		}
		break;
	case PROTO_PROC_KILL:
		kill_process(k, f);
		break;
	case PROTO_PROC_READ:
		memcpy(&count, f->data, sizeof(count));
		assert_true(!p || p->unread >= count);
		if (p)
			p->unread -= count;
		break;
	case PROTO_EVENT:
		take_event(k, f);
		break;
	case PROTO_RESULT:
	case PROTO_FAILED:
		take_verdict(k, f);
		break;
	case PROTO_DONE:
		k->done = true;
		break;
	default:
		buf_addf(&k->trace, "%s %s\n", proto_type_name(f->type), f->data);
	}
}

/* Reads what one pipe has; at the end of all, reaps. */
static void take_output(struct keeper *k, struct proc *p, size_t stream)
{
	char data[4096];
	size_t room = PROTO_OUTPUT_WINDOW - p->unread;
	ssize_t n = read(p->out[stream], data, room < sizeof(data) ? room : sizeof(data));
	assert_true(n >= 0);
	if (n > 0) {
		p->unread += (size_t)n;
		if (p->unread > p->max_unread)
			p->max_unread = p->unread;
		assert_int_equal(proto_write(&k->writer, PROTO_PROC_OUTPUT, (uint16_t)(stream + 1),
					 p->id, data, (size_t)n),
			0);
		return;
	}
	close(TAKE_FD(p->out[stream]));
	if (p->out[0] >= 0 || p->out[1] >= 0 || p->out[2] >= 0)
		return;
	int status;
	assert_int_equal(waitpid(p->pid, &status, 0), p->pid);
	assert_int_equal(proto_write_json(&k->writer, PROTO_PROC_EXITED, p->id,
				 json_pack("{s:i}", "status", status)),
		0);
	if (p->in >= 0)
		close(p->in);
	buf_deinit(&p->input);
	*p = (struct proc){.out = {-1, -1, -1}, .in = -1};
}

static void take_socket(struct keeper *k)
{
	struct proto_frame f;
	struct err e = ERR_INIT;
	int r = proto_reader_feed(&k->reader, k->sock);
	if (r == 0 || r == -ECONNRESET) {
		k->ended = true;
		return;
	}
	assert_int_equal(r, 1);
	while ((r = proto_reader_next(&k->reader, &f, &e)) == 1)
		take_frame(k, &f);
	assert_int_equal(r, 0);
}

/* One turn; false when nothing happened until the deadline. */
static bool keeper_turn(struct keeper *k, int64_t deadline_ms)
{
	int pending = proto_writer_flush(&k->writer, k->sock);
	struct pollfd fds[1 + PROCS * (STREAMS + 1)];
	struct proc *owner[1 + PROCS * (STREAMS + 1)];
	size_t stream[1 + PROCS * (STREAMS + 1)], n = 1;
	fds[0] = (struct pollfd){
		.fd = k->sock, .events = (short)(POLLIN | (pending == 1 ? POLLOUT : 0))};
	for (size_t i = 0; i < PROCS; i++) {
		struct proc *p = &k->procs[i];
		for (size_t j = 0; j < STREAMS; j++) {
			if (p->out[j] < 0 || p->unread >= PROTO_OUTPUT_WINDOW)
				continue;
			fds[n] = (struct pollfd){.fd = p->out[j], .events = POLLIN};
			owner[n] = p;
			stream[n++] = j;
		}
		if (p->in >= 0 && p->input.len > 0) {
			fds[n] = (struct pollfd){.fd = p->in, .events = POLLOUT};
			owner[n] = p;
			stream[n++] = STREAMS;
		}
	}
	if (poll(fds, n, deadline_poll_ms(deadline_ms)) == 0)
		return false;
	for (size_t i = 1; i < n; i++) {
		if (!fds[i].revents)
			continue;
		if (stream[i] == STREAMS)
			give_input(k, owner[i]);
		else
			take_output(k, owner[i], stream[i]);
	}
	if (fds[0].revents & (POLLIN | POLLHUP | POLLERR))
		take_socket(k);
	return true;
}

static void keeper_run(struct keeper *k)
{
	int64_t deadline_ms = deadline_after(DEADLINE_MS);
	while (!k->ended)
		if (!keeper_turn(k, deadline_ms))
			fail_msg("the host says nothing more after:\n%s", buf_cstr(&k->trace));
	assert_int_equal(waitpid(k->host, &k->host_status, 0), k->host);
	k->host = -1;
}

/* Frees all and leaves no process behind. */
static void keeper_end(struct keeper *k)
{
	if (k->host > 0) {
		kill(k->host, SIGKILL);
		assert_int_equal(waitpid(k->host, NULL, 0), k->host);
	}
	for (size_t i = 0; i < PROCS; i++) {
		struct proc *p = &k->procs[i];
		for (size_t j = 0; j < STREAMS; j++)
			if (p->out[j] >= 0)
				close(p->out[j]);
		if (p->in >= 0)
			close(p->in);
		buf_deinit(&p->input);
		if (p->id) {
			kill(-p->pid, SIGKILL);
			assert_int_equal(waitpid(p->pid, NULL, 0), p->pid);
		}
	}
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	close(k->sock);
	proto_reader_deinit(&k->reader);
	proto_writer_deinit(&k->writer);
	buf_deinit(&k->trace);
	free(k->outcome);
	free(k->text);
	free(k->session);
	CLEANUP_STR char *prompt = path_join(k->dir, "prompt.md");
	unlink(prompt);
	rmdir(k->dir);
}

static void assert_has(const char *text, const char *part)
{
	if (!text || !strstr(text, part))
		fail_msg("'%s' not in:\n%s", part, text ? text : "(null)");
}

static void assert_ended_well(const struct keeper *k)
{
	assert_true(k->done);
	assert_true(WIFEXITED(k->host_status));
	assert_int_equal(WEXITSTATUS(k->host_status), HOST_EXIT_DONE);
}

static void test_a_whole_attempt(void **state)
{
	(void)state;
	struct keeper k;
	keeper_start(&k, "the prompt\n");
	send_task(&k, "good",
		"read line; echo \"got $line\"; printf '\\377bad\\n'; "
		"echo '{\"kind\":\"progress\",\"data\":{\"text\":\"half\"}}'; exit 3",
		NULL);
	keeper_run(&k);
	assert_ended_well(&k);
	const char *trace = buf_cstr(&k.trace);
	CLEANUP_STR char *path = test_plugin("good");
	CLEANUP_STR char *expected = str_printf(
		"begin load\nend load {\"rc\":0}\n"
		"LOADED {\"name\":\"test\",\"version\":\"1.2\",\"path\":\"%s\",\"abi\":\"1.1\"}\n"
		"begin spawn\nend spawn {\"rc\":0}\nbegin wait\n"
		"message {\"text\":\"got the prompt\"}\nmessage {\"text\":\"\xef\xbf\xbd"
		"bad\"}\n"
		"progress {\"text\":\"half\"}\nend wait {\"rc\":0}\n"
		"RESULT {\"exit_code\":3,\"outcome\":\"agent_error\",\"session\":\"test-session\"}"
		"\nbegin release\nend release {\"rc\":0}\n",
		path);
	assert_string_equal(trace, expected);
	keeper_end(&k);
}

static void test_missing_and_invalid(void **state)
{
	(void)state;
	static const struct {
		const char *plugin, *outcome, *text;
	} cases[] = {
		{NULL, "harness_missing", "'nobody' not found"},
		{"never-built", "harness_missing", "orch-harness-never-built.so): not found"},
		{"not-elf", "harness_invalid", "not an ELF file"},
		{"null-wait", "harness_invalid", "no wait function"},
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct keeper k;
		keeper_start(&k, "x");
		send_task(&k, cases[i].plugin, NULL, NULL);
		keeper_run(&k);
		assert_ended_well(&k);
		assert_string_equal(k.outcome, cases[i].outcome);
		assert_has(k.text, cases[i].text);
		keeper_end(&k);
	}
}

static void test_bad_options(void **state)
{
	(void)state;
	struct keeper k;
	keeper_start(&k, "x");
	send_task(&k, "good", NULL, json_pack("{s:s}", "turns", "many"));
	keeper_run(&k);
	assert_ended_well(&k);
	assert_string_equal(k.outcome, "harness_invalid");
	assert_has(k.text, "option 'turns' is 'many', expected a whole number");
	keeper_end(&k);
}

static void test_spawn_failed(void **state)
{
	(void)state;
	struct keeper k;
	keeper_start(&k, "x");
	send_task(&k, "shell", NULL, NULL);
	keeper_run(&k);
	assert_ended_well(&k);
	assert_string_equal(k.outcome, "spawn_failed");
	assert_has(k.text, "nothing to run");
	assert_has(buf_cstr(&k.trace), "end spawn {\"rc\":-22,\"text\":\"nothing to run");
	keeper_end(&k);
}

static const struct {
	const char *callback;
	enum proto_call call;
	int signal;
	const char *send;
} callbacks[] = {
	{"ctor", PROTO_CALL_LOAD, 0, NULL},
	{"spawn", PROTO_CALL_SPAWN, 0, NULL},
	{"wait", PROTO_CALL_WAIT, 0, NULL},
	{"kill", PROTO_CALL_KILL, SIGTERM, NULL},
	{"send", PROTO_CALL_SEND, 0, "hello"},
	{"release", PROTO_CALL_RELEASE, 0, NULL},
};

static void start_broken(struct keeper *k, size_t i, const char *how)
{
	CLEANUP_STR char *name = str_printf("%s-%s", callbacks[i].callback, how);
	keeper_start(k, "x");
	k->signal = callbacks[i].signal;
	k->send = callbacks[i].send;
	bool waits = k->signal || k->send;
	k->when = waits ? "ready" : NULL;
	send_task(k, name, waits ? "echo ready; exec sleep 100" : NULL, NULL);
}

static void test_crash_and_exit_in_each_callback(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(callbacks) / sizeof(callbacks[0]); i++) {
		struct keeper k;
		start_broken(&k, i, "crash");
		keeper_run(&k);
		assert_false(k.done);
		assert_int_equal(k.open_call, callbacks[i].call);
		assert_true(WIFSIGNALED(k.host_status));
		assert_int_equal(WTERMSIG(k.host_status), SIGABRT);
		keeper_end(&k);

		start_broken(&k, i, "exit");
		keeper_run(&k);
		assert_false(k.done);
		assert_int_equal(k.open_call, callbacks[i].call);
		assert_true(WIFEXITED(k.host_status));
		keeper_end(&k);
	}
}

static void test_hang_in_each_callback(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(callbacks) / sizeof(callbacks[0]); i++) {
		struct keeper k;
		start_broken(&k, i, "hang");
		int64_t deadline_ms = deadline_after(DEADLINE_MS);
		while (k.open_call != (int)callbacks[i].call)
			assert_true(keeper_turn(&k, deadline_ms) && !k.ended);
		/* It must not end, however long one looks. */
		deadline_ms = deadline_after(100);
		while (keeper_turn(&k, deadline_ms))
			;
		assert_int_equal(k.open_call, callbacks[i].call);
		assert_false(k.ended);
		keeper_end(&k);
	}
}

static void test_kill_reaches_the_agent(void **state)
{
	(void)state;
	struct keeper k;
	keeper_start(&k, "x");
	k.when = "ready";
	k.signal = SIGTERM;
	send_task(&k, "good",
		"trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 0.05; done", NULL);
	keeper_run(&k);
	assert_ended_well(&k);
	/* What the agent says may come between the two. */
	assert_has(buf_cstr(&k.trace), "begin kill\n");
	assert_has(buf_cstr(&k.trace), "end kill {\"rc\":0}\n");
	assert_has(buf_cstr(&k.trace), "message {\"text\":\"bye\"}\n");
	assert_has(buf_cstr(&k.trace), "\"exit_code\":4");
	keeper_end(&k);
}

static void test_kill_before_spawn_has_returned_is_kept(void **state)
{
	(void)state;
	struct keeper k;
	keeper_start(&k, "x");
	send_task(&k, "good", "exec sleep 100", NULL);
	assert_int_equal(proto_write(&k.writer, PROTO_KILL, 0, SIGKILL, NULL, 0), 0);
	keeper_run(&k);
	assert_ended_well(&k);
	assert_has(buf_cstr(&k.trace), "\"signal\":9");
	keeper_end(&k);
}

static void test_send_reaches_the_agent(void **state)
{
	(void)state;
	struct keeper k;
	keeper_start(&k, "first\n");
	k.when = "ready";
	k.send = "more \xc3\xa9";
	send_task(&k, "good", "read a; echo ready; read b; echo \"$a/$b\"", NULL);
	keeper_run(&k);
	assert_ended_well(&k);
	assert_has(buf_cstr(&k.trace), "message {\"text\":\"first/more \xc3\xa9\"}");
	assert_string_equal(k.outcome, "ok");
	assert_string_equal(k.session, "test-session");
	keeper_end(&k);
}

static void test_much_output_stays_within_the_window(void **state)
{
	(void)state;
	struct keeper k;
	keeper_start(&k, "x");
	send_task(&k, "good", "yes 0123456789012345678901234567890 | head -n 20000", NULL);
	keeper_run(&k);
	assert_ended_well(&k);
	assert_int_equal(k.n_messages, 20000);
	assert_int_equal(k.message_bytes, 20000 * 31);
	assert_string_equal(k.outcome, "ok");
	keeper_end(&k);
}

static void test_a_line_without_end_is_cut(void **state)
{
	(void)state;
	struct keeper k;
	keeper_start(&k, "x");
	send_task(&k, "good", "head -c 12000000 /dev/zero | tr '\\0' x; echo; printf tail", NULL);
	keeper_run(&k);
	assert_ended_well(&k);
	assert_int_equal(k.n_messages, 2);
	assert_true(k.message_cut);
	assert_true(k.message_bytes < 61440);
	assert_has(buf_cstr(&k.trace), "message {\"text\":\"tail\"}");
	keeper_end(&k);
}

static void test_a_large_prompt_does_not_block(void **state)
{
	(void)state;
	/* More than all the pipes and windows hold, to an agent that answers while it reads. */
	size_t len = 1 << 20;
	CLEANUP_STR char *prompt = malloc(len + 1);
	assert_non_null(prompt);
	for (size_t i = 0; i < len; i++)
		prompt[i] = i % 64 == 63 ? '\n' : 'p';
	prompt[len] = '\0';
	struct keeper k;
	keeper_start(&k, prompt);
	send_task(&k, "good", "head -c 1048576", NULL);
	keeper_run(&k);
	assert_ended_well(&k);
	assert_int_equal(k.n_messages, 16384);
	assert_int_equal(k.message_bytes, 16384 * 63);
	keeper_end(&k);
}

static void test_an_agent_that_does_not_read_its_prompt(void **state)
{
	(void)state;
	size_t len = 1 << 20;
	CLEANUP_STR char *prompt = malloc(len + 1);
	assert_non_null(prompt);
	memset(prompt, 'p', len);
	prompt[len] = '\0';
	struct keeper k;
	keeper_start(&k, prompt);
	send_task(&k, "good", "echo done", NULL);
	keeper_run(&k);
	assert_ended_well(&k);
	assert_string_equal(k.outcome, "ok");
	keeper_end(&k);
}

static void test_nonsense_from_the_keeper_ends_it(void **state)
{
	(void)state;
	struct keeper k;
	keeper_start(&k, "x");
	char junk[64];
	memset(junk, 0xff, sizeof(junk));
	assert_int_equal(send(k.sock, junk, sizeof(junk), 0), sizeof(junk));
	keeper_run(&k);
	assert_int_equal(WEXITSTATUS(k.host_status), HOST_EXIT_SOCKET);
	keeper_end(&k);

	keeper_start(&k, "x");
	k.when = "ready";
	send_task(&k, "good", "echo ready; exec sleep 100", NULL);
	int64_t deadline_ms = deadline_after(DEADLINE_MS);
	k.signal = 1000; /* no such signal: -EPROTO */
	while (!k.ended)
		assert_true(keeper_turn(&k, deadline_ms));
	assert_int_equal(waitpid(k.host, &k.host_status, 0), k.host);
	k.host = -1;
	assert_int_equal(WEXITSTATUS(k.host_status), HOST_EXIT_SOCKET);
	keeper_end(&k);
}

static void test_it_ends_when_the_keeper_goes_away(void **state)
{
	(void)state;
	struct keeper k;
	keeper_start(&k, "x");
	k.when = NULL;
	send_task(&k, "good", "echo ready; exec sleep 100", NULL);
	int64_t deadline_ms = deadline_after(DEADLINE_MS);
	while (k.n_messages == 0)
		assert_true(keeper_turn(&k, deadline_ms) && !k.ended);
	assert_int_equal(shutdown(k.sock, SHUT_RDWR), 0);
	assert_int_equal(waitpid(k.host, &k.host_status, 0), k.host);
	k.host = -1;
	assert_int_equal(WEXITSTATUS(k.host_status), HOST_EXIT_SOCKET);
	keeper_end(&k);
}

static void test_shell(void **state)
{
	(void)state;
	struct keeper k;
	keeper_start(&k, "do this\n");
	send_task(&k, "shell", NULL,
		json_pack("{s:s}", "command",
			"cat; echo '{\"kind\":\"finding\",\"data\":{\"severity\":\"low\",\"title\":"
			"\"t\"}}' >&$ORCH_EVENT_FD; exec 3>&-; echo '{\"kind\":\"nonsense\"}'; "
			"echo 'it broke' >&2; exit 7"));
	keeper_run(&k);
	assert_ended_well(&k);
	assert_has(buf_cstr(&k.trace), "message {\"text\":\"do this\"}\n");
	assert_has(buf_cstr(&k.trace), "message {\"text\":\"{\\\"kind\\\":\\\"nonsense\\\"}\"}\n");
	assert_has(buf_cstr(&k.trace), "finding {\"severity\":\"low\",\"title\":\"t\"}\n");
	assert_string_equal(k.outcome, "agent_error");
	assert_string_equal(k.text, "the command exited with status 7: it broke");
	keeper_end(&k);

	keeper_start(&k, "x");
	send_task(&k, "shell", "kill -9 $$", json_pack("{s:s}", "command", "false"));
	keeper_run(&k);
	assert_string_equal(k.outcome, "crashed");
	assert_string_equal(k.text, "the command was ended by signal 9 (Killed)");
	keeper_end(&k);

	keeper_start(&k, "x");
	k.when = "ready";
	k.signal = SIGTERM;
	send_task(&k, "shell", "echo ready; sleep 100; echo never", NULL);
	keeper_run(&k);
	assert_int_equal(k.n_messages, 1);
	assert_string_equal(k.text, "the command was ended by signal 15 (Terminated)");
	keeper_end(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_whole_attempt),
		cmocka_unit_test(test_missing_and_invalid),
		cmocka_unit_test(test_bad_options),
		cmocka_unit_test(test_spawn_failed),
		cmocka_unit_test(test_crash_and_exit_in_each_callback),
		cmocka_unit_test(test_hang_in_each_callback),
		cmocka_unit_test(test_kill_reaches_the_agent),
		cmocka_unit_test(test_kill_before_spawn_has_returned_is_kept),
		cmocka_unit_test(test_send_reaches_the_agent),
		cmocka_unit_test(test_much_output_stays_within_the_window),
		cmocka_unit_test(test_a_line_without_end_is_cut),
		cmocka_unit_test(test_a_large_prompt_does_not_block),
		cmocka_unit_test(test_an_agent_that_does_not_read_its_prompt),
		cmocka_unit_test(test_nonsense_from_the_keeper_ends_it),
		cmocka_unit_test(test_it_ends_when_the_keeper_goes_away),
		cmocka_unit_test(test_shell),
	};
	/* As the keeper does: an agent need not read its stdin. */
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
