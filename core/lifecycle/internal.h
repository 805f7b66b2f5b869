/* SPDX-License-Identifier: MIT */
/* What the files of this layer share; see lifecycle.h for the interface. */
#ifndef LIFECYCLE_INTERNAL_H
#define LIFECYCLE_INTERNAL_H

#include "base/buf.h"
#include "lifecycle/lifecycle.h"
#include "os/proc.h"

#include <pthread.h>

/* Our end of the nursery: see unit/nursery.h. Guarded by `lock`: units may be started by several
 * threads. */
struct nursery {
	pthread_mutex_t lock;
	int fd;     /* -1: none */
	pid_t pid;  /* 0: none */
	bool tried; /* one unit was started without it: the next is worth it */
	bool failed;
	struct VEC(struct unit *) unanswered; /* whose keeper's pid has not been read yet */
	size_t next;                          /* the first of them; those before are answered */
};

struct lifecycle {
	int units_fd; /* the directory units/ */
	char *shim_path;
	bool has_origin;
	struct spawn_origin origin;
	enum unit_containment containment;
	struct nursery nursery;
};

struct unit {
	struct lifecycle *lc; /* borrowed */
	char id[UNIT_ID_LEN + 1];
	int dirfd;
	int fd; /* to the keeper */
	pid_t keeper_pid;
	bool is_child;   /* the keeper is ours to reap */
	int pidfd;       /* of a keeper that is not; -1: none, or it is gone */
	bool unanswered; /* asked of the nursery: is_child and keeper_pid are still to come */
	int unborn;      /* negative errno: why the nursery could not fork the keeper */
	bool ended, gone;
	struct buf in;
};

void nursery_init(struct nursery *n);
void nursery_deinit(struct nursery *n);
/* 1: the keeper of u is being forked; 0: no nursery, start it directly. Blocks for no fork. */
int nursery_ask(struct lifecycle *lc, struct unit *u, char *const *envp, int lock, int sock);
/* Until u's keeper_pid and is_child are known: they are, unless it was asked for just now. */
void nursery_await(struct lifecycle *lc, struct unit *u);

/* Takes over both descriptors, also on failure. */
int unit_new(struct lifecycle *lc, const char *id, int dirfd, int fd, struct unit **ret,
	struct err *e) MUST_CHECK;
/* A moment for a keeper that has said its last word, or died: until it is no process any more. */
void await_keeper_end(int pidfd);
/* Sends one request without members. */
int unit_request(struct unit *u, const char *type, struct err *e) MUST_CHECK;

/* The identity that the keeper wrote into shim.lock. */
struct holder {
	struct proc_id id;   /* pid 0: nothing there yet */
	char *cgroup;        /* NULL: none */
	struct proc_id init; /* of the unit's process namespace; pid 0: there is none */
	uint64_t pidns;
	char *containment;
};

void holder_deinit(struct holder *h);
/* From shim.lock, or from the journal where that says nothing. */
int holder_read(int dirfd, struct holder *ret, struct err *e) MUST_CHECK;
/* The recorded keeper lives. */
bool holder_is_alive(const struct holder *h);

/* Living processes with the unit's mark in their environment. Negative errno; positive: some could
 * not be looked at. */
int find_marked(const char *id, struct pids *ret) MUST_CHECK;
/*
 * For a unit whose keeper is gone, or is to be ended (then it is killed first): ends all that is
 * left of it, removes its cgroup and tmpdir, and writes exit.json with cause lost. The caller holds
 * shim.lock or knows why it cannot be had.
 */
int settle_lost(int dirfd, const char *id, const char *why, struct err *e) MUST_CHECK;
/*
 * The same where the directory cannot be used, since somebody spoilt it: *ret tells of it, and
 * nothing is written. keeper: who it is, beside what the lock says; NULL: not known.
 */
int settle_spoilt(int dirfd, const char *id, const struct proc_id *keeper, const char *why,
	struct unit_exit *ret, struct err *e) MUST_CHECK;
/* Removes what a keeper may have made before the first process: cgroup and tmpdir. */
void settle_never_ran(int dirfd, const char *id);

#endif
