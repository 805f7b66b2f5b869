/* SPDX-License-Identifier: MIT */
#include "os/sock.h"

#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

static int address(int dirfd, const char *name, struct sockaddr_un *ret, struct err *e)
{
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	int n = snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%s", dirfd, name);
	if (n < 0 || (size_t)n >= sizeof(ret->sun_path))
		return err_errno(e, -ENAMETOOLONG, "cannot use the socket '%s'", name);
	return 0;
}

static int open_socket(int *ret_fd, const char *name, struct err *e)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(e, -errno, "cannot make a socket for '%s'", name);
	*ret_fd = fd;
	return 0;
}

int sock_listen(int dirfd, const char *name, int backlog, int *ret_fd, struct err *e)
{
	struct sockaddr_un addr;
	CLEANUP(closep) int fd = -1;
	int r = address(dirfd, name, &addr, e);
	if (r < 0)
		return r;
	r = open_socket(&fd, name, e);
	if (r < 0)
		return r;
	/* On Linux the mode of the socket file is that of the descriptor at bind, less umask. */
	if (fchmod(fd, 0600) < 0)
		return err_errno(e, -errno, "cannot protect the socket '%s'", name);
	if (unlinkat(dirfd, name, 0) < 0 && errno != ENOENT)
		return err_errno(e, -errno, "cannot replace the socket '%s'", name);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		return err_errno(e, -errno, "cannot bind the socket '%s'", name);
	if (listen(fd, backlog) < 0)
		return err_errno(e, -errno, "cannot listen on the socket '%s'", name);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int sock_connect(int dirfd, const char *name, int *ret_fd, struct err *e)
{
	struct sockaddr_un addr;
	CLEANUP(closep) int fd = -1;
	int r = address(dirfd, name, &addr, e);
	if (r < 0)
		return r;
	r = open_socket(&fd, name, e);
	if (r < 0)
		return r;
	while (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		if (errno != EINTR)
			return err_errno(e, -errno, "cannot connect to the socket '%s'", name);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int sock_connect_path(const char *path, int *ret_fd, struct err *e)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	CLEANUP_STR char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
	if (!dir)
		return err_nomem(e);
	CLEANUP(closep) int dirfd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dirfd < 0)
		return err_errno(e, -errno, "cannot connect to the socket '%s'", path);
	return sock_connect(dirfd, name, ret_fd, e);
}

int sock_accept(int listen_fd, int *ret_fd)
{
	for (;;) {
		int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd >= 0) {
			*ret_fd = fd;
			return 0;
		}
		if (errno != EINTR && errno != ECONNABORTED)
			return -errno;
	}
}

int sock_peer(int fd, struct sock_peer *ret)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0)
		return -errno;
	*ret = (struct sock_peer){.pid = cred.pid, .uid = cred.uid, .gid = cred.gid};
	return 0;
}
