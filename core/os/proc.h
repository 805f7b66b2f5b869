/* SPDX-License-Identifier: MIT */
/*
 * What /proc says about processes. A process is identified by (pid, start time, boot id): a pid
 * alone may have been given away. No process is ever looked for by its program's name.
 */
#ifndef OS_PROC_H
#define OS_PROC_H

#include "base/err.h"
#include "base/vec.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

#define BOOT_ID_LEN 36

struct proc_id {
	pid_t pid;
	uint64_t starttime; /* clock ticks after boot, field 22 of /proc/<pid>/stat */
	char boot_id[BOOT_ID_LEN + 1];
};

struct pids VEC(pid_t);

/* "" when it cannot be read. */
void proc_boot_id(char ret[BOOT_ID_LEN + 1]);
int proc_identify(pid_t pid, struct proc_id *ret) MUST_CHECK;
/* Still there, not a zombie, and the same process. Where that cannot be found out, for want of
 * descriptors or memory, it is taken for alive. */
bool proc_is_alive(const struct proc_id *id);
/* A descriptor that is readable once the process has ended. 0 with an owned CLOEXEC descriptor,
 * -ESRCH when it has, other negative errno. */
int proc_open(const struct proc_id *id, int *ret_pidfd) MUST_CHECK;
/* Sends the signal if it is still the same process. 0, -ESRCH, -EPERM. */
int proc_kill(const struct proc_id *id, int signal) MUST_CHECK;

struct proc_stat {
	bool dead; /* a zombie; not one whose first thread ended while others run */
	pid_t ppid;
	uint64_t starttime;
	uint64_t cpu_ticks; /* own and waited-for children's, user and system */
};
int proc_stat_read(pid_t pid, struct proc_stat *ret) MUST_CHECK;

/*
 * All living processes below `root` (zombies and root itself not among them), parents first,
 * appended to *ret. From /proc/<pid>/task/<tid>/children where the kernel has it, else by a scan.
 * A snapshot: what forks meanwhile may be missing. 0 or -errno.
 */
int proc_descendants(pid_t root, struct pids *ret) MUST_CHECK;

/*
 * All living processes whose initial environment holds exactly `entry` ("NAME=value"). 0; 1: some
 * are in the middle of an exec, where they have none to look at: look again; -errno.
 */
int proc_find_environ(const char *entry, struct pids *ret) MUST_CHECK;

/* All living processes, ourselves too, that have the file or pipe open, as far as we may see. */
int proc_find_holders(const struct stat *file, struct pids *ret) MUST_CHECK;

/* The inode of the process namespace that a process is in. 0 or -errno. */
int proc_pidns(pid_t pid, uint64_t *ret) MUST_CHECK;
/* All living processes in it. */
int proc_find_pidns(uint64_t pidns, struct pids *ret) MUST_CHECK;

/* What a set of processes has used so far. Sums are cumulative over waited-for children. */
struct proc_usage {
	uint64_t cpu_ms;
	uint64_t write_bytes; /* sent to storage */
	uint64_t wchar_bytes; /* written by system calls, anywhere */
};
void proc_usage_add(pid_t pid, struct proc_usage *sum);

#endif
