/* SPDX-License-Identifier: MIT */
/*
 * orch-shim ID DIR_FD LOCK_FD ENGINE_FD: the keeper of one unit. Started by orch, never by hand:
 * the three descriptors are the unit directory, its locked shim.lock, and a socket to the engine.
 */
#include "base/err.h"
#include "base/log.h"
#include "base/str.h"
#include "shim/keeper.h"

#include <fcntl.h>
#include <unistd.h>

static int inherited_fd(const char *text)
{
	int64_t fd;
	if (parse_int64(text, 3, 1023, &fd) < 0 || fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
		return -1;
	return (int)fd;
}

int main(int argc, char **argv)
{
	log_set_program("orch-shim");
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
