/* SPDX-License-Identifier: MIT */
/*
 * The harness `shell`: runs the task's command, or the configured one, by /bin/sh -c in the
 * worktree. Standard input is the prompt. Each line of standard output is an event if it is one in
 * JSON, else a message; lines written to $ORCH_EVENT_FD are events, too. Exit status 0 is success.
 */
#include <plugin_api.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct orch_agent {
	const struct orch_host *host;
	struct orch_process *process;
	char text[288];       /* of the result */
	char last_error[160]; /* the last line of standard error */
};

static int is_blank(const char *text)
{
	return text[strspn(text, " \t\r\n")] == '\0';
}

static void on_line(void *user, int stream, const char *line, size_t len, unsigned int line_flags)
{
	struct orch_agent *agent = user;
	const struct orch_host *host = agent->host;
	(void)line_flags; /* a message that is too long is marked by the host */
	if (stream == ORCH_STREAM_STDERR) {
		/* It is in output.log; the last words say best why a command failed. */
		if (!is_blank(line))
			(void)snprintf(agent->last_error, sizeof(agent->last_error), "%s", line);
		return;
	}
	int r = host->event_line(host, line, len);
	if (r == 1 && stream == ORCH_STREAM_EVENT)
		host->log(host, ORCH_LOG_WARNING, "not an event on ORCH_EVENT_FD: %.200s", line);
	else if (r == 1 && !is_blank(line))
		r = host->event_text(host, ORCH_EVENT_MESSAGE, line, len);
	if (r < 0)
		host->log(host, ORCH_LOG_ERROR, "an event was lost: %s", strerror(-r));
}

static int shell_spawn(
	const struct orch_host *host, const struct orch_task *task, struct orch_agent **ret_agent)
{
	const char *command = task->command ? task->command : host->option(host, "command");
	if (!command || is_blank(command))
		return host->fail(host, -EINVAL,
			"nothing to run: the task has no `command`, and [harness:shell] has none");
	struct orch_agent *agent = calloc(1, sizeof(*agent));
	if (!agent)
		return -ENOMEM;
	agent->host = host;
	const char *argv[] = {"/bin/sh", "-c", command, NULL};
	struct orch_process_spec spec = ORCH_PROCESS_SPEC_INIT;
	spec.flags = ORCH_PROCESS_STDIN_PROMPT | ORCH_PROCESS_EVENT_FD;
	spec.argv = argv;
	spec.on_line = on_line;
	spec.user = agent;
	int r = host->process_start(host, &spec, &agent->process);
	if (r < 0) {
		free(agent);
		return host->fail(host, r, "cannot run /bin/sh: %s", strerror(-r));
	}
	*ret_agent = agent;
	return 0;
}

static int shell_kill(struct orch_agent *agent, int term_signal)
{
	/* The whole group: a shell does not pass a signal on to what it runs. */
	int r = agent->host->process_kill(
		agent->host, agent->process, term_signal, ORCH_KILL_GROUP);
	return r == -ESRCH ? 0 : r;
}

static void describe_failure(struct orch_agent *agent, const struct orch_exit *ended)
{
	char how[96];
	if (ended->term_signal)
		(void)snprintf(how, sizeof(how), "the command was ended by signal %d (%s)",
			ended->term_signal, strsignal(ended->term_signal));
	else
		(void)snprintf(
			how, sizeof(how), "the command exited with status %d", ended->exit_code);
	(void)snprintf(agent->text, sizeof(agent->text), "%s%s%s", how,
		agent->last_error[0] ? ": " : "", agent->last_error);
}

static int shell_wait(struct orch_agent *agent, struct orch_result *result)
{
	struct orch_exit ended = ORCH_EXIT_INIT;
	int r = agent->host->process_wait(agent->host, agent->process, -1, &ended);
	if (r < 0)
		return r;
	result->exit_code = ended.exit_code;
	result->term_signal = ended.term_signal;
	if (ended.exit_code == 0) {
		result->outcome = ORCH_OUTCOME_OK;
		return 0;
	}
	result->outcome = ended.term_signal ? ORCH_OUTCOME_CRASHED : ORCH_OUTCOME_AGENT_ERROR;
	describe_failure(agent, &ended);
	result->text = agent->text;
	return 0;
}

static int shell_check(const struct orch_host *host, struct orch_report *report)
{
	const char *argv[] = {"/bin/sh", "-c", "exit 0", NULL};
	struct orch_process_spec spec = ORCH_PROCESS_SPEC_INIT;
	spec.argv = argv;
	struct orch_process *process;
	int r = host->process_start(host, &spec, &process);
	if (r < 0)
		return host->fail(host, r, "cannot run /bin/sh: %s", strerror(-r));
	struct orch_exit ended = ORCH_EXIT_INIT;
	r = host->process_wait(host, process, -1, &ended);
	host->process_free(host, process);
	if (r == 0 && ended.exit_code != 0)
		return host->fail(host, -EIO, "/bin/sh does not work");
	const char *command = host->option(host, "command");
	(void)snprintf(report->text, sizeof(report->text), "/bin/sh; command: %s",
		command ? command : "(each task's own)");
	return r;
}

static void shell_release(struct orch_agent *agent)
{
	agent->host->process_free(agent->host, agent->process);
	free(agent);
}

static const struct orch_option options[] = {
	ORCH_OPTION("command", ORCH_OPTION_STRING, NULL,
		"command line for tasks that have none; the prompt is on standard input"),
	ORCH_OPTIONS_END,
};

ORCH_HARNESS_DEFINE(.name = "shell", .version = "1.0",
	.description = "runs a command line by /bin/sh", .options = options, .spawn = shell_spawn,
	.kill = shell_kill, .wait = shell_wait, .check = shell_check, .release = shell_release);
