/* SPDX-License-Identifier: MIT */
/*
 * Drives one run of a command-line agent that prints a line of JSON for each thing it does. What
 * differs from agent to agent is a struct dialect: its arguments, its words, its signals. What is
 * the same is here: starting, reading, keeping the end of standard error, asking it to stop,
 * starting it anew when its session cannot be resumed, and the verdict where its last word is
 * missing. A harness is a dialect, its options, and the callbacks below (gemini.c is a short one).
 *
 * A run. `command` and `prepare` make the command line and the environment; the prompt is standard
 * input, unless `prepare` sets `flags` and `first_input`. Each line goes to `event`, which tells
 * what it means: drive_session, drive_text, drive_tool_call, ..., and drive_usage. At the agent's
 * last word it calls drive_verdict or drive_error and sets `over`; a process that stays after that
 * is ended. When it has ended, `judge` may think again. Without a verdict it crashed, or failed
 * with what it said on standard error. An agent that was asked to stop may have any verdict.
 *
 * on_line and the verdict are the main thread's. `process`, `asked` and what a dialect's ask and
 * send touch are guarded by `lock`, which ask and send are called with.
 */
#ifndef COMMON_DRIVE_H
#define COMMON_DRIVE_H

#include "../common/line.h"
#include "../common/place.h"
#include "../common/words.h"

#include <pthread.h>

#define DRIVE_TEXT_MAX   700
#define DRIVE_ERRORS_MAX 1200
#define DRIVE_PIECES_MAX 8192

struct dialect {
	const char *title;               /* of the agent, for sentences */
	const char *const *natives;      /* of place_native */
	const char *const *own_prefixes; /* of place_scrub */
	const char *const *keys;         /* variables that hold its credentials; ended by NULL */
	const char *const *key_files;    /* files that do, below HOME; ended by NULL */
	int stop_signal;                 /* that it ends best by */
	bool word_is_final;              /* its last word counts, whatever the exit status is */
	size_t own_size;                 /* of its own state, `own` of the agent */

	/*
	 * The program and what it always gets, where the option `program` and `natives` do not say
	 * it all; also for a check. May be NULL.
	 */
	int (*command)(const struct orch_host *host, struct words *argv);
	/*
	 * Adds arguments and environment for the start, or for the one without a session. argv has
	 * the program, env what is common.
	 */
	int (*prepare)(struct orch_agent *a);
	/* One line of its standard output, an object; or each object of a line that is an array. */
	void (*event)(struct orch_agent *a, json_t *event);
	/*
	 * A line that is longer than ORCH_LINE_MAX: what line_parse_cut made of it. False: nothing
	 * follows from that. For protocols in which somebody waits for an answer. May be NULL.
	 */
	bool (*cut)(struct orch_agent *a, const json_t *event);
	/* The process has ended: its last word on what was seen. May be NULL. */
	void (*judge)(struct orch_agent *a);
	/* Every two seconds, on the main thread: for deadlines of its own. May be NULL. */
	void (*look)(struct orch_agent *a);
	/* Asks by its protocol for the end: 0 when that was possible. May be NULL. */
	int (*ask)(struct orch_agent *a);
	/* Frees what its own state holds. May be NULL. */
	void (*forget)(void *own);
	/* Hands over a person's words. May be NULL. */
	int (*send)(struct orch_agent *a, const char *text);
};

struct orch_agent {
	const struct orch_host *host;
	const struct orch_task *task;
	const struct dialect *dialect;
	void *own;
	struct words argv, env;
	unsigned int flags; /* of the process; ORCH_PROCESS_STDIN_PROMPT unless prepare says else */
	char *first_input;  /* what it reads first, with ORCH_PROCESS_STDIN_OPEN; owned */
	const char *session; /* to resume, borrowed; NULL: a new one */
	char *home;          /* NULL: the user's */

	char *session_id;              /* as the agent says; NULL: not yet */
	bool answered;                 /* a model has said something: the session is there */
	bool over;                     /* it has had its last word */
	int outcome;                   /* UNSET until told */
	int64_t reset_at;              /* RATE_LIMITED */
	char pieces[DRIVE_PIECES_MAX]; /* of a message that has not ended */
	size_t pieces_len;
	char text[DRIVE_TEXT_MAX];     /* why */
	char errors[DRIVE_ERRORS_MAX]; /* the end of standard error */
	struct orch_exit ended;

	pthread_mutex_t lock;
	struct orch_process *process;
	bool asked; /* to stop */
};

/* The callbacks of a harness. */
int drive_spawn(const struct orch_host *host, const struct orch_task *task,
	const struct dialect *dialect, struct orch_agent **ret);
int drive_kill(struct orch_agent *a, int term_signal);
int drive_wait(struct orch_agent *a, struct orch_result *result);
int drive_send(struct orch_agent *a, const char *text);
void drive_release(struct orch_agent *a);
int drive_check(
	const struct orch_host *host, const struct dialect *dialect, struct orch_report *report);

/* For a check: names what was found of credentials, never what is in it. */
void drive_find_credentials(
	const struct orch_host *host, const struct dialect *dialect, char *out, size_t size);
/* Adds the program to argv. */
int drive_command(const struct orch_host *host, const struct dialect *dialect, struct words *argv);

/* The options that all have. */
#define DRIVE_OPTIONS(program_name) \
	ORCH_OPTION("program", ORCH_OPTION_STRING, program_name, "the agent's program"), \
		ORCH_OPTION("args", ORCH_OPTION_STRING, NULL, "more arguments for it"), \
		ORCH_OPTION("home", ORCH_OPTION_STRING, NULL, \
			"a HOME of its own; {plan} and {task} stand for theirs"), \
		ORCH_OPTION("resume", ORCH_OPTION_BOOL, "yes", \
			"a retry goes on with the conversation of the attempt before")

const char *drive_option(const struct orch_agent *a, const char *key);
/* The option `args`. */
void drive_add_args(struct orch_agent *a);

/* ---- events; data is consumed, NULL (no memory) is logged ---- */

void drive_event(struct orch_agent *a, int kind, json_t *data);
void drive_text(struct orch_agent *a, int kind, const char *text); /* NULL and "": nothing */
/* A message that comes in pieces, with nothing at its end: whatever follows ends it. */
void drive_piece(struct orch_agent *a, const char *piece);
void drive_pieces_end(struct orch_agent *a);
void drive_session(struct orch_agent *a, const char *id);
void drive_tool_call(struct orch_agent *a, const char *id, const char *name, const json_t *input);
void drive_tool_result(struct orch_agent *a, const char *id, bool ok, const json_t *output);
/* It waits, and tries again by itself; until 0: unknown. */
void drive_waits(struct orch_agent *a, int64_t until, const char *text);

struct drive_usage {
	const char *id; /* NULL: none */
	bool total;
	int64_t input, output, cache_read, cache_write;
	double cost; /* negative: not told */
};

void drive_usage(struct orch_agent *a, const struct drive_usage *u);

/* ---- the verdict ---- */

/* Says how it ended; a later word replaces an earlier one. */
void drive_verdict(struct orch_agent *a, int outcome, const char *format, ...) ORCH_PRINTF(3, 4);
/* From an error that the agent reports: its HTTP status (0: unknown) and text. */
void drive_error(struct orch_agent *a, long http_status, const char *text);

int64_t drive_now_ms(void);

#endif
