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

union fds_space {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(SOCK_FDS_MAX * sizeof(int))];
};

int sock_send_fds(int fd, const void *data, size_t len, const int *fds, size_t n_fds)
{
	union fds_space space = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)data, .iov_len = len};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	if (n_fds > SOCK_FDS_MAX)
		return -E2BIG;
	if (n_fds > 0) {
		msg.msg_control = space.bytes;
		msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
		if (!c)
			return -EINVAL;
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	while (sendmsg(fd, &msg, MSG_NOSIGNAL) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

ssize_t sock_recv_fds(int fd, void *data, size_t size, int *ret_fds, size_t n_fds)
{
	union fds_space space;
	struct iovec iov = {.iov_base = data, .iov_len = size};
	struct msghdr msg = {.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = space.bytes,
		.msg_controllen = sizeof(space.bytes)};
	ssize_t n;
	do {
		n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n < 0 ? -errno : 0;
	int fds[SOCK_FDS_MAX];
	size_t got = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
		size_t bytes = c->cmsg_len - CMSG_LEN(0);
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		memcpy(fds + got, CMSG_DATA(c), bytes);
		got += bytes / sizeof(int);
	}
	bool whole = !(msg.msg_flags & (MSG_TRUNC | MSG_CTRUNC));
	if (whole && got == n_fds) {
		if (n_fds > 0)
			memcpy(ret_fds, fds, n_fds * sizeof(int));
		return n;
	}
	for (size_t i = 0; i < got; i++)
		close(fds[i]);
	return whole ? -EPROTO : -EMSGSIZE;
}
