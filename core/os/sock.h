/* SPDX-License-Identifier: MIT */
/*
 * Unix stream sockets under a directory descriptor, whatever the length of the path: sun_path
 * holds 107 bytes, /proc/self/fd/<dirfd>/<name> always fits. All descriptors are CLOEXEC and
 * non-blocking.
 */
#ifndef OS_SOCK_H
#define OS_SOCK_H

#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

/* Listens on `name`, mode 0600; an existing file there is replaced (hold the lock that makes it
 * yours). */
int sock_listen(int dirfd, const char *name, int backlog, int *ret_fd, struct err *e) MUST_CHECK;
/* -ENOENT, -ECONNREFUSED: nobody listens. -EAGAIN: the backlog is full, try again. Never blocks. */
int sock_connect(int dirfd, const char *name, int *ret_fd, struct err *e) MUST_CHECK;
/* The same by path; the parent directory is opened for the purpose. */
int sock_connect_path(const char *path, int *ret_fd, struct err *e) MUST_CHECK;
/* 0 with a new connection; -EAGAIN: none waits. */
int sock_accept(int listen_fd, int *ret_fd) MUST_CHECK;

struct sock_peer {
	pid_t pid;
	uid_t uid;
	gid_t gid;
};

/* Who connected (fixed at connect time). */
int sock_peer(int fd, struct sock_peer *ret) MUST_CHECK;

#define SOCK_FDS_MAX 8

/*
 * One message with n_fds descriptors (at most SOCK_FDS_MAX, borrowed). Blocks while the peer's
 * queue is full. 0; -EMSGSIZE: too long for one message; -EPIPE: the peer is gone.
 */
int sock_send_fds(int fd, const void *data, size_t len, const int *fds, size_t n_fds) MUST_CHECK;
/*
 * One message with exactly n_fds descriptors, which are owned and CLOEXEC. Its length; 0: the peer
 * is gone; -EMSGSIZE, -EPROTO: too long, or other descriptors (all are closed then). Blocks.
 */
ssize_t sock_recv_fds(int fd, void *data, size_t size, int *ret_fds, size_t n_fds) MUST_CHECK;

#endif
