/* SPDX-License-Identifier: MIT */
/*
 * The host of a harness: the process that loads the plugin and calls it. The keeper forks it,
 * without exec, into the unit's containment; nothing of orch's state is in its reach but one
 * socket, on which it speaks shim/proto.h.
 */
#ifndef SHIM_HOST_H
#define SHIM_HOST_H

/* Exit statuses of the host. Any other end is the plugin's doing. */
enum host_exit {
	HOST_EXIT_DONE = 0,   /* DONE was sent */
	HOST_EXIT_SOCKET = 71 /* the keeper went away or sent nonsense, or memory ran out */
};

/*
 * Runs the host to its end and returns the status for _exit(2) (not exit(3): atexit handlers of the
 * plugin must not run). The caller is a freshly forked process with a single thread: descriptors
 * other than sock and 0 to 2 closed, signal mask and dispositions restored, current directory the
 * task's. sock is blocking, consumed, and its number is above 2.
 */
int host_main(int sock);

#endif
