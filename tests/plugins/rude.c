/* SPDX-License-Identifier: MIT */
/*
 * Harnesses that obey the letter of the interface and nothing else, one by compile definition
 * RUDE_<WAY>. Each runs the task's command by /bin/sh; what it does on the way must hurt its own
 * attempt at most.
 */
#include <plugin_api.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS    8
#define CALLS      200
#define HIGHEST_FD 64
#define GULP_BYTES (16 << 20)

struct orch_agent {
	const struct orch_host *host;
	struct orch_process *process;
};

/* Without a rudeness of that kind, nobody calls it. */
#define MAYBE __attribute__((unused))

MAYBE static void *chatter(void *user)
{
	const struct orch_host *host = user;
	for (int i = 0; i < CALLS; i++) {
		(void)host->event_text(host, ORCH_EVENT_MESSAGE, "word", 4);
		host->log(host, ORCH_LOG_INFO, "line %d", i);
		(void)host->option(host, "none");
	}
	return NULL;
}

MAYBE static void *linger(void *user)
{
	while (user)
		pause();
	return NULL;
}

/* The threads outlive release and go on calling the host. */
MAYBE static void *chatter_for_ever(void *user)
{
	while (user)
		chatter(user);
	return NULL;
}

MAYBE static void many_threads(const struct orch_host *host)
{
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, chatter, (void *)(uintptr_t)host) != 0)
			abort();
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

MAYBE static void start_thread(void *(*fn)(void *), const struct orch_host *host)
{
	pthread_t thread;
	if (pthread_create(&thread, NULL, fn, (void *)(uintptr_t)host) == 0)
		pthread_detach(thread);
}

MAYBE static void leave_children(void)
{
	for (int i = 0; i < 3; i++) {
		if (fork() != 0)
			continue;
		setsid();
		signal(SIGTERM, SIG_IGN);
		for (;;)
			pause();
	}
}

MAYBE static void close_descriptors(void)
{
	for (int fd = 3; fd < HIGHEST_FD; fd++)
		close(fd);
}

MAYBE static void overwrite_descriptors(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 3; fd < HIGHEST_FD; fd++)
		if (fd != null)
			(void)dup2(null, fd);
}

MAYBE static void talk_nonsense(void)
{
	char noise[4096];
	memset(noise, 0xa5, sizeof(noise));
	for (int fd = 3; fd < HIGHEST_FD; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			(void)!write(fd, noise, sizeof(noise));
}

MAYBE static void block_signals(void)
{
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	for (int sig = 1; sig < 32; sig++)
		signal(sig, SIG_IGN);
}

MAYBE static void eat_memory(void)
{
	for (;;) {
		char *gulp = malloc(GULP_BYTES);
		if (!gulp)
			abort();
		memset(gulp, 1, GULP_BYTES);
	}
}

static void be_rude(const struct orch_host *host)
{
	(void)host;
#if defined(RUDE_THREADS)
	many_threads(host);
#elif defined(RUDE_LEFTOVERS)
	start_thread(linger, host);
	leave_children();
#elif defined(RUDE_AFTER_RELEASE)
	start_thread(chatter_for_ever, host);
#elif defined(RUDE_CLOSE)
	close_descriptors();
#elif defined(RUDE_OVERWRITE)
	overwrite_descriptors();
#elif defined(RUDE_NONSENSE)
	talk_nonsense();
#elif defined(RUDE_MASK)
	block_signals();
#elif defined(RUDE_MEMORY)
	eat_memory();
#else
#error "which rudeness?"
#endif
}

static int rude_spawn(
	const struct orch_host *host, const struct orch_task *task, struct orch_agent **ret_agent)
{
	struct orch_agent *agent = calloc(1, sizeof(*agent));
	if (!agent)
		return -1;
	agent->host = host;
	const char *argv[] = {"/bin/sh", "-c", task->command ? task->command : "exit 0", NULL};
	struct orch_process_spec spec = ORCH_PROCESS_SPEC_INIT;
	spec.argv = argv;
	be_rude(host);
	int r = host->process_start(host, &spec, &agent->process);
	if (r < 0) {
		free(agent);
		return host->fail(host, r, "cannot start the test agent");
	}
	*ret_agent = agent;
	return 0;
}

static int rude_kill(struct orch_agent *agent, int term_signal)
{
	return agent->host->process_kill(agent->host, agent->process, term_signal, ORCH_KILL_GROUP);
}

static int rude_wait(struct orch_agent *agent, struct orch_result *result)
{
	struct orch_exit ended = ORCH_EXIT_INIT;
	int r = agent->host->process_wait(agent->host, agent->process, -1, &ended);
	result->outcome = ended.exit_code == 0 ? ORCH_OUTCOME_OK : ORCH_OUTCOME_AGENT_ERROR;
	result->exit_code = ended.exit_code;
	return r;
}

ORCH_HARNESS_DEFINE(.name = "rude", .version = "1", .description = "a rude harness for tests",
	.spawn = rude_spawn, .kill = rude_kill, .wait = rude_wait);
