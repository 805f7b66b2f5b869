/* SPDX-License-Identifier: MIT */
/*
 * The keeper of one unit: the process between the engine and somebody else's programs. It loads no
 * foreign code, never blocks in its loop (poll(2), absolute deadlines), and ends in one place only:
 * keeper_finish, after the sweep, with exit.json written.
 *
 * What decides, where: keeper.c start, loop and end; ladder.c limits, pause and the way from
 * SIGTERM to SIGKILL; ctl.c the engine's connections; command.c and agent.c the two sorts of units.
 */
#ifndef SHIM_KEEPER_H
#define SHIM_KEEPER_H

#include "base/err.h"
#include "base/vec.h"
#include "os/proc.h"
#include "os/spawn.h"
#include "shim/mask.h"
#include "shim/tree.h"
#include "unit/exit.h"
#include "unit/journal.h"
#include "unit/spec.h"

#include <poll.h>
#include <stdbool.h>
#include <stdint.h>

struct keeper;
struct agent;
struct command;
struct ctl;

/* What the two sorts of units do differently. */
struct unit_sort {
	int (*start)(struct keeper *k, pid_t *ret_pid, struct err *e);
	void (*poll)(struct keeper *k);
	void (*reaped)(struct keeper *k, pid_t pid, int wait_status);
	void (*ask_to_end)(struct keeper *k);           /* first step of the ladder */
	void (*shift)(struct keeper *k, int64_t by_ms); /* deadlines of its own */
	int64_t (*next_deadline)(const struct keeper *k);
	void (*expired)(struct keeper *k, int64_t now);
	void (*finish)(struct keeper *k); /* after the sweep: nothing runs any more */
};
extern const struct unit_sort command_sort, agent_sort;

/* What poll(2) is asked for, built anew each turn. fn may close descriptors of later entries. */
typedef void (*poll_fn)(struct keeper *k, void *user, short revents);
struct poll_entry {
	poll_fn fn;
	void *user;
};
struct poll_set {
	struct VEC(struct pollfd) fds;
	struct VEC(struct poll_entry) entries;
};
void poll_add(struct keeper *k, int fd, short events, poll_fn fn, void *user);

/* Absolute, on CLOCK_MONOTONIC; those of the unit move by the time it was paused. */
enum deadline {
	DL_TIMEOUT,   /* wall clock limit of the unit */
	DL_TERM_TREE, /* second step of the ladder */
	DL_KILL,      /* last step */
	DL_SAMPLE,    /* look whether it does anything */
	DL_ORPHANED,  /* no engine: on_crash = kill */
	DL_HINT,      /* tell the engine that the journal has grown */
	DL_JOURNAL,   /* try again to write the journal */
	DL_LISTEN,    /* descriptors are short: accept again */
	DL_COUNT,
};

struct keeper {
	int dirfd;
	int lock_fd;
	int signal_fd;
	char *dir_path;
	char **env; /* of the unit's processes */
	struct mask mask;
	char *child_oom_score; /* text for oom_score_adj */
	struct spawn_origin origin;
	struct unit_spec spec;
	struct tree tree;
	struct journal journal;
	int exit_reserve;
	bool has_tmpdir; /* made by us */
	struct unit_exit exit;
	struct poll_set polls;
	int64_t deadlines[DL_COUNT];
	int64_t begun_at;    /* monotonic: the first process was started */
	int64_t paused_at;   /* monotonic; 0: not paused */
	int64_t paused_ms;   /* sum of earlier pauses */
	bool cause_is_set;   /* exit.cause and exit.text are decided */
	bool ending;         /* the ladder has begun */
	bool over;           /* nothing left to wait for: sweep and finish */
	char last_words[64]; /* the last line of stderr.log; empty: none */
	/* activity */
	int64_t quiet_since;
	int64_t waits_until; /* monotonic; 0: it has announced no wait */
	int64_t waits_ms;    /* sum of the announced waits that have moved the time limit */
	struct proc_usage sampled;
	int64_t rate_begun_at;
	int64_t rate_events, rate_bytes;
	unsigned forgeries; /* requests with a wrong token that were recorded */
	struct ctl *ctl;
	const struct unit_sort *sort;
	pid_t main_pid; /* the command, or the host; 0: not started */
	void *unit;     /* the sort's own */
};

/* Runs the unit of the directory to its end. Consumes the descriptors. Returns the exit status. */
int keeper_main(int dirfd, int lock_fd, int engine_fd);

/* The first cause counts, unless `override`. text is copied. */
enum cause_rule { CAUSE_IF_FIRST, CAUSE_OVERRIDE };
void keeper_set_cause(struct keeper *k, enum cause_rule rule, enum unit_cause cause,
	const char *fmt, ...) PRINTF_LIKE(4, 5);

/* Appends to the journal; when it is full the unit is ended as runaway. data is consumed. */
void keeper_event(struct keeper *k, const char *kind, json_t *data);
void keeper_log(struct keeper *k, const char *level, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* True while the disk does not take the journal: read nothing from the unit. */
bool keeper_is_blocked(const struct keeper *k);
/* The unit said something: bytes of output. */
void keeper_note_output(struct keeper *k, size_t bytes);
/* It has announced that it waits until then (ms since the epoch): that is no silence, and is not
 * counted as time that it takes. */
void keeper_note_wait(struct keeper *k, int64_t until);

/* Fills in what every process of the unit is given; argv, stdio and cwd are the caller's. */
void keeper_spawn_init(const struct keeper *k, struct spawn *ret);

/* ladder.c */
void ladder_begin(struct keeper *k); /* arms the limits once the unit runs */
/* Asks the unit to end; SIGKILL after kill_after_ms. A later call may only shorten. */
void ladder_end_unit(struct keeper *k, int64_t kill_after_ms);
/* Moves the limit of wall clock time; by 6 h in all at most, whatever is announced. */
void ladder_extend(struct keeper *k, int64_t by_ms);
void ladder_kill_unit(struct keeper *k);
void ladder_pause(struct keeper *k);
void ladder_resume(struct keeper *k);
void ladder_expired(struct keeper *k, int64_t now);
int64_t ladder_next(const struct keeper *k);
/* Running time so far, pauses not counted. */
int64_t ladder_age_ms(const struct keeper *k);

/* ctl.c */
int ctl_open(struct keeper *k, int engine_fd, struct err *e) MUST_CHECK;
void ctl_poll(struct keeper *k);
void ctl_started(struct keeper *k, pid_t pid);
void ctl_journal_grew(struct keeper *k);
void ctl_hint(struct keeper *k); /* DL_HINT */
void ctl_note(struct keeper *k, const char *type);
void ctl_ended(struct keeper *k); /* tells everybody, waits at most a second for them to read */

/* agent.c; -ENOTSUP for a unit that is no agent. */
int agent_send(struct keeper *k, const char *text, size_t len) MUST_CHECK;
/* `orch done` of the agent: {outcome, text?}. */
void agent_said_done(struct keeper *k, const json_t *data);

#endif
