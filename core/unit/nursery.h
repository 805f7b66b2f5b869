/* SPDX-License-Identifier: MIT */
/*
 * What the engine and the nursery say to each other. The nursery is an orch-shim that keeps no unit
 * but forks keepers for one engine: starting a program costs several times a fork, most of it in
 * the dynamic loader (which asks the processor who it is: slow in every virtual machine). It ends
 * with its engine; keepers, which it makes children of the engine, do not.
 *
 * A request is one message on a SOCK_SEQPACKET pair: the unit's id (UNIT_ID_LEN bytes), then the
 * environment, each entry with its NUL; and three descriptors, in the order of enum nursery_fd. The
 * answer, in the order of the requests, is an int32_t: the keeper's pid, or -errno.
 */
#ifndef UNIT_NURSERY_H
#define UNIT_NURSERY_H

/* A unit with a larger environment has its keeper started directly. */
#define NURSERY_MESSAGE_MAX (128U << 10)

/*
 * Argument and environment of the nursery, as long as the ones they are overwritten with in a
 * forked keeper: ps shows its unit, and a sweep finds it in /proc/PID/environ.
 */
#define NURSERY_ARG "nursery                         "
#define NURSERY_ENV "ORCH_UNIT=00000000000000000000000000000000"

enum nursery_fd { NURSERY_FD_DIR, NURSERY_FD_LOCK, NURSERY_FD_ENGINE, NURSERY_FD_COUNT };

#endif
