/* SPDX-License-Identifier: MIT */
/*
 * The harness from which the good and the broken test plugins are made, one each by compile
 * definitions: IN_<CALLBACK>=CRASH|QUIT|HANG|DAEMON misbehaves there, TARRY waits there for a file
 * of the test's, and one of the DEFECT_ words spoils the descriptor. Otherwise it runs the task's
 * command (or `exit 0`) by /bin/sh.
 */
#include <plugin_api.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NONE   0
#define CRASH  1
#define QUIT   2
#define HANG   3
#define DAEMON 4 /* leaves a process in a session of its own, then hangs */
#define TARRY  5 /* makes $HOME/at-callback, goes on when there is $HOME/go-on */

#ifndef IN_CTOR
#define IN_CTOR NONE
#endif
#ifndef IN_SPAWN
#define IN_SPAWN NONE
#endif
#ifndef IN_WAIT
#define IN_WAIT NONE
#endif
#ifndef IN_KILL
#define IN_KILL NONE
#endif
#ifndef IN_SEND
#define IN_SEND NONE
#endif
#ifndef IN_CHECK
#define IN_CHECK NONE
#endif
#ifndef IN_RELEASE
#define IN_RELEASE NONE
#endif

#ifndef NULL_SPAWN
#define NULL_SPAWN 0
#endif
#ifndef NULL_KILL
#define NULL_KILL 0
#endif
#ifndef NULL_WAIT
#define NULL_WAIT 0
#endif

struct orch_agent {
	const struct orch_host *host;
	struct orch_process *process;
};

static void tarry(void)
{
	const struct timespec pause = {.tv_nsec = 10000000};
	char path[4096];
	snprintf(path, sizeof(path), "%s/at-callback", getenv("HOME"));
	FILE *here = fopen(path, "w");
	if (here)
		fclose(here);
	snprintf(path, sizeof(path), "%s/go-on", getenv("HOME"));
	while (access(path, F_OK) != 0)
		nanosleep(&pause, NULL);
}

static void misbehave(int how)
{
	if (how == TARRY)
		tarry();
	if (how == CRASH)
		abort();
	if (how == QUIT)
		exit(0);
	if (how == DAEMON && fork() == 0) {
		setsid();
		signal(SIGTERM, SIG_IGN);
		if (fork() != 0)
			_exit(0);
	}
	while (how == HANG || how == DAEMON)
		pause();
}

__attribute__((constructor)) static void begin(void)
{
	misbehave(IN_CTOR);
}

static void on_line(void *user, int stream, const char *line, size_t len, unsigned int line_flags)
{
	const struct orch_host *host = user;
	(void)stream;
	(void)line_flags;
	if (host->event_line(host, line, len) == 1)
		(void)host->event_text(host, ORCH_EVENT_MESSAGE, line, len);
}

static int test_spawn(
	const struct orch_host *host, const struct orch_task *task, struct orch_agent **ret_agent)
{
	misbehave(IN_SPAWN);
	struct orch_agent *agent = calloc(1, sizeof(*agent));
	if (!agent)
		return -1;
	agent->host = host;
	const char *argv[] = {"/bin/sh", "-c", task->command ? task->command : "exit 0", NULL};
	struct orch_process_spec spec = ORCH_PROCESS_SPEC_INIT;
	spec.flags = ORCH_PROCESS_STDIN_OPEN;
	spec.argv = argv;
	spec.stdin_data = task->prompt;
	spec.stdin_len = task->prompt_len;
	spec.on_line = on_line;
	spec.user = (void *)(uintptr_t)host;
	int r = host->process_start(host, &spec, &agent->process);
	if (r < 0) {
		free(agent);
		return host->fail(host, r, "cannot start the test agent");
	}
	*ret_agent = agent;
	return 0;
}

static int test_kill(struct orch_agent *agent, int term_signal)
{
	misbehave(IN_KILL);
	return agent->host->process_kill(agent->host, agent->process, term_signal, ORCH_KILL_GROUP);
}

#ifdef SAYS_LIMITS
static int64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}
#endif

static int test_wait(struct orch_agent *agent, struct orch_result *result)
{
	misbehave(IN_WAIT);
	struct orch_exit ended = ORCH_EXIT_INIT;
	int r = agent->host->process_wait(agent->host, agent->process, -1, &ended);
	result->outcome = ended.exit_code == 0 ? ORCH_OUTCOME_OK : ORCH_OUTCOME_AGENT_ERROR;
	result->exit_code = ended.exit_code;
	result->term_signal = ended.term_signal;
	result->session = "test-session";
#ifdef SAYS_LIMITS
	/* 75: come back in so many milliseconds (the option turns), or before; 77: not logged in.
	 */
	int64_t wait_ms = agent->host->option_int(agent->host, "turns");
	if (ended.exit_code == 75)
		result->outcome = ORCH_OUTCOME_RATE_LIMITED;
	if (ended.exit_code == 75 && wait_ms != 0)
		result->reset_at = now_ms() + wait_ms;
	if (ended.exit_code == 77)
		result->outcome = ORCH_OUTCOME_AUTH_FAILED;
#endif
	return r;
}

static int test_send(struct orch_agent *agent, const char *text)
{
	misbehave(IN_SEND);
	int r = agent->host->process_write(agent->host, agent->process, text, strlen(text));
	if (r == 0)
		r = agent->host->process_write(agent->host, agent->process, "\n", 1);
	return r;
}

static int test_check(const struct orch_host *host, struct orch_report *report)
{
	misbehave(IN_CHECK);
	const char *greeting = host->option(host, "greeting");
	memcpy(report->version, "7.1", sizeof("7.1"));
	if (greeting && strlen(greeting) < sizeof(report->text))
		memcpy(report->text, greeting, strlen(greeting) + 1);
	return 0;
}

static void test_release(struct orch_agent *agent)
{
	misbehave(IN_RELEASE);
	agent->host->process_free(agent->host, agent->process);
	free(agent);
}

static const struct orch_option options[] = {
#ifdef DEFECT_BAD_OPTION
	ORCH_OPTION("patience", ORCH_OPTION_DURATION, "soon", "a default that is no duration"),
#endif
#ifdef SAYS_LIMITS
	ORCH_OPTION("home", ORCH_OPTION_STRING, NULL, "whose login it is"),
#endif
	ORCH_OPTION("greeting", ORCH_OPTION_STRING, "hello", "a text"),
	ORCH_OPTION("loud", ORCH_OPTION_BOOL, "no", "a switch"),
	ORCH_OPTION("turns", ORCH_OPTION_INT, NULL, "a number"),
	ORCH_OPTION("rest", ORCH_OPTION_DURATION, "1m30s", "a time"),
	ORCH_OPTION("room", ORCH_OPTION_SIZE, "64K", "a size"),
	ORCH_OPTIONS_END,
};

#ifdef DEFECT_NO_SYMBOL
#define DESCRIPTOR another_name
extern ORCH_EXPORT const struct orch_harness another_name;
#else
#define DESCRIPTOR orch_harness
#endif

#ifndef ABI_MAGIC
#define ABI_MAGIC ORCH_ABI_MAGIC
#endif
#ifndef ABI_MAJOR
#define ABI_MAJOR ORCH_ABI_MAJOR
#endif
#ifndef ABI_MINOR
#define ABI_MINOR ORCH_ABI_MINOR
#endif
#if defined(ABI_ENDS_BEFORE)
#define ABI_SIZE offsetof(struct orch_harness, ABI_ENDS_BEFORE)
#elif defined(ABI_TOO_LONG)
#define ABI_SIZE (sizeof(struct orch_harness) + 8)
#else
#define ABI_SIZE sizeof(struct orch_harness)
#endif

const struct orch_harness DESCRIPTOR = {
	.abi = {ABI_MAGIC, ABI_MAJOR, ABI_MINOR, (uint32_t)(ABI_SIZE)},
#ifndef DEFECT_NO_NAME
	.name = "test",
#endif
	.version = "1.2",
	.description = "a harness for tests",
	.options = options,
	.spawn = NULL_SPAWN ? NULL : test_spawn,
	.kill = NULL_KILL ? NULL : test_kill,
	.wait = NULL_WAIT ? NULL : test_wait,
	.send = test_send,
	.check = test_check,
	.release = test_release,
};
