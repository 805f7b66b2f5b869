/* SPDX-License-Identifier: MIT */
/*
 * orch-shim ID DIR_FD LOCK_FD ENGINE_FD: the keeper of one unit. Started by orch, never by hand:
 * the three descriptors are the unit directory, its locked shim.lock, and a socket to the engine.
 * orch-shim NURSERY_ARG FD: forks keepers for the engine at the other end of the socket.
 */
#include "base/err.h"
#include "base/log.h"
#include "base/str.h"
#include "shim/keeper.h"
#include "shim/nursery.h"
#include "unit/nursery.h"

#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

extern char **environ;

static int inherited_fd(const char *text)
{
	int64_t fd;
	if (parse_int64(text, 3, 1023, &fd) < 0 || fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
		return -1;
	return (int)fd;
}

static int run_nursery(char *arg, int fd)
{
	char *env = environ[0] && str_eq(environ[0], NURSERY_ENV) ? environ[0] : NULL;
	if (chdir("/") < 0)
		log_warning("cannot leave the current directory");
	return nursery_main(fd, arg, env);
}

int main(int argc, char **argv)
{
	log_set_program("orch-shim");
	/* One arena for all threads of a host: the others' would be memory that nobody needs. */
	mallopt(M_ARENA_MAX, 1);
	if (argc == 3 && str_eq(argv[1], NURSERY_ARG)) {
		int fd = inherited_fd(argv[2]);
		return fd < 0 ? EXIT_USAGE : run_nursery(argv[1], fd);
	}
	int fds[3] = {-1, -1, -1};
	for (int i = 0; argc == 5 && i < 3; i++)
		fds[i] = inherited_fd(argv[i + 2]);
	if (fds[0] < 0 || fds[1] < 0 || fds[2] < 0) {
		log_error("orch-shim is run by orch, not by hand");
		return EXIT_USAGE;
	}
	if (chdir("/") < 0)
		log_warning("cannot leave the current directory");
	return keeper_main(fds[0], fds[1], fds[2]);
}
