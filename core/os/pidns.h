/* SPDX-License-Identifier: MIT */
/*
 * A process namespace for all further children of this process, with an init of ours: when that
 * ends the kernel kills whatever else is in the namespace, and init is gone only after all of it
 * is (pid_namespaces(7)). /proc stays the outer one, so that we can see and count what is inside.
 *
 * Without root this makes a user namespace too, in which everybody keeps their own ids; setuid
 * programs then have no effect.
 */
#ifndef OS_PIDNS_H
#define OS_PIDNS_H

#include "base/err.h"

#include <sys/types.h>

struct pidns {
	pid_t init; /* 0: no namespace, or init was reaped */
	int fd;     /* closed, it ends init: so does our own end */
};

#define PIDNS_INIT ((struct pidns){.fd = -1})

/* From now on every child is born in the namespace. The caller has a single thread, and reaps
 * init. 0 or -errno with the reason; after a failure only exit is left. */
int pidns_open(struct pidns *ret, struct err *e) MUST_CHECK;
void pidns_deinit(struct pidns *p);

#endif
