/* SPDX-License-Identifier: MIT */
/*
 * The containment of a unit: all processes that descend from the keeper, less the keeper itself.
 * The keeper is their subreaper, so that an orphan becomes its child and "no child left" is proof;
 * where a cgroup can be made they are in a leaf of their own too, which holds also when the keeper
 * is killed. So does a process namespace, for whoever asks for one.
 */
#ifndef SHIM_TREE_H
#define SHIM_TREE_H

#include "base/err.h"
#include "os/cgroup.h"
#include "os/pidns.h"
#include "os/proc.h"
#include "unit/spec.h"

#include <stdbool.h>
#include <stdint.h>

struct tree {
	struct cgroup cgroup; /* fd -1: none */
	struct pidns pidns;   /* its init belongs to the keeper, and is not of the tree */
};

#define TREE_INIT ((struct tree){.cgroup = CGROUP_INIT, .pidns = PIDNS_INIT})

struct tree_proof {
	int64_t left, killed, sweep_ms;
	bool contained;
};

/* Told of each child that was reaped. */
typedef void (*tree_reaped_fn)(void *user, pid_t pid, int wait_status);

/* Makes us the subreaper, and what `wanted` says. Fails when CGROUP or PIDNS cannot be had. */
int tree_open(struct tree *t, const char *unit_id, enum unit_containment wanted,
	struct err *e) MUST_CHECK;
void tree_deinit(struct tree *t);
/* "cgroup", "subreaper" or "pidns" */
const char *tree_containment(const struct tree *t);

/*
 * All living processes of the tree that can be listed now, appended. A snapshot for counts and
 * signals; that nothing is left is proved by tree_sweep alone.
 */
void tree_pids(const struct tree *t, struct pids *ret);
/* Signals every process but `except` (0: none). */
void tree_signal(const struct tree *t, int signal, pid_t except);
void tree_freeze(const struct tree *t);
void tree_thaw(const struct tree *t);
/* Used since the tree began, over all that was ever in it. */
void tree_usage(const struct tree *t, struct proc_usage *ret);

/* Reaps what has ended, without waiting. True when no child is left at all. */
bool tree_reap(struct tree *t, tree_reaped_fn fn, void *user);
/*
 * Ends whatever is left and removes the cgroup; at most 10 s. main_pid is not counted as left. The
 * caller has SIGCHLD blocked.
 */
void tree_sweep(
	struct tree *t, pid_t main_pid, tree_reaped_fn fn, void *user, struct tree_proof *ret);

#endif
