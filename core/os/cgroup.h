/* SPDX-License-Identifier: MIT */
/*
 * cgroup v2 leaves as containers of process trees: nothing leaves a cgroup by forking, setsid or a
 * double fork. Pure v2 (/sys/fs/cgroup) and the hybrid layout (/sys/fs/cgroup/unified). No
 * controller is needed or enabled.
 */
#ifndef OS_CGROUP_H
#define OS_CGROUP_H

#include "base/err.h"
#include "os/proc.h"

#include <stdbool.h>
#include <stdint.h>

struct cgroup {
	int fd;     /* directory, CLOEXEC; -1: none */
	char *path; /* absolute, owned */
};

#define CGROUP_INIT ((struct cgroup){.fd = -1})

/* Our own cgroup's directory, where leaves are made. 0 with an owned path, or -errno (-ENOTSUP: no
 * cgroup v2 here). */
int cgroup_own_path(char **ret, struct err *e) MUST_CHECK;
/* Whether a leaf can be made here: 0, or -errno with the reason. One mkdir and rmdir. */
int cgroup_probe(struct err *e) MUST_CHECK;

/* Makes the leaf `name` below our own cgroup. */
int cgroup_make(const char *name, struct cgroup *ret, struct err *e) MUST_CHECK;
/* Opens one that exists. -ENOENT: it is gone, and with it every process that was in it. */
int cgroup_open(const char *path, struct cgroup *ret, struct err *e) MUST_CHECK;
void cgroup_deinit(struct cgroup *c);

/* Moves the calling process in. */
int cgroup_enter_self(const struct cgroup *c, struct err *e) MUST_CHECK;
/* The processes in it (zombies too), appended. */
int cgroup_pids(const struct cgroup *c, struct pids *ret) MUST_CHECK;
/* 1 populated, 0 empty, -errno. Zombies do not count. */
int cgroup_populated(const struct cgroup *c) MUST_CHECK;
/* One SIGKILL to all: cgroup.kill, else a loop over cgroup.procs. Does not wait. */
int cgroup_kill(const struct cgroup *c) MUST_CHECK;
/* Freezes or thaws; does not wait. */
int cgroup_freeze(const struct cgroup *c) MUST_CHECK;
int cgroup_thaw(const struct cgroup *c) MUST_CHECK;
/* CPU time used by everything that ever ran in it. */
int cgroup_cpu_ms(const struct cgroup *c, uint64_t *ret) MUST_CHECK;
/* Removes it and any cgroups made below it: 0, -EBUSY when processes are left. Gone already: 0. */
int cgroup_remove(struct cgroup *c) MUST_CHECK;

#endif
