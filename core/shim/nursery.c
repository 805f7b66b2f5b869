/* SPDX-License-Identifier: MIT */
#include "shim/nursery.h"

#include "base/str.h"
#include "os/sock.h"
#include "os/spawn.h"
#include "shim/keeper.h"
#include "unit/nursery.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

extern char **environ;

struct birth {
	int sock;
	char *arg, *env;
	const char *id;
	char **environment;
	int fds[NURSERY_FD_COUNT];
};

static int be_keeper(void *user)
{
	const struct birth *b = user;
	close(b->sock);
	if (b->arg)
		memcpy(b->arg, b->id, UNIT_ID_LEN);
	if (b->env)
		memcpy(b->env + strlen("ORCH_UNIT="), b->id, UNIT_ID_LEN);
	environ = b->environment;
	return keeper_main(
		b->fds[NURSERY_FD_DIR], b->fds[NURSERY_FD_LOCK], b->fds[NURSERY_FD_ENGINE]);
}

/* The entries stay in the message. */
static char **read_environment(char *text, size_t len)
{
	size_t n = 0;
	for (size_t i = 0; i < len; i++)
		n += text[i] == '\0';
	char **list = calloc(n + 1, sizeof(*list));
	for (size_t i = 0; list && i < n; i++) {
		list[i] = text;
		text += strlen(text) + 1;
	}
	return list;
}

static int give_birth(struct birth *b, char *message, size_t len)
{
	pid_t pid;
	if (len < UNIT_ID_LEN || (len > UNIT_ID_LEN && message[len - 1] != '\0'))
		return -EPROTO;
	b->id = message;
	b->environment = read_environment(message + UNIT_ID_LEN, len - UNIT_ID_LEN);
	int r = b->environment ? spawn_sibling(be_keeper, b, &pid) : -ENOMEM;
	free(b->environment);
	return r < 0 ? r : (int)pid;
}

static bool has_hung_up(int sock)
{
	struct pollfd p = {.fd = sock, .events = 0};
	return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR));
}

int nursery_main(int sock, char *arg, char *env)
{
	static char message[NURSERY_MESSAGE_MAX];
	struct birth b = {.sock = sock, .arg = arg, .env = env};
	for (;;) {
		ssize_t n = sock_recv_fds(sock, message, sizeof(message), b.fds, NURSERY_FD_COUNT);
		if (n == -EINTR)
			continue;
		if (n == 0)
			return EXIT_OK;
		if (n < 0)
			return EXIT_SOFTWARE;
		if (has_hung_up(sock))
			return EXIT_OK; /* the next engine takes what has not begun for not begun */
		int32_t answer = (int32_t)give_birth(&b, message, (size_t)n);
		for (int i = 0; i < NURSERY_FD_COUNT; i++)
			close(b.fds[i]);
		if (sock_send_fds(sock, &answer, sizeof(answer), NULL, 0) < 0)
			return EXIT_OK; /* the engine is gone */
	}
}
