/* SPDX-License-Identifier: MIT */
/*
 * The plugin interface of orch: everything that a harness, a shared object named
 * orch-harness-<name>.so, needs. A harness drives one kind of coding agent. It includes this
 * header, links against nothing of orch, and exports one symbol, the data descriptor
 * `orch_harness`, which ORCH_HARNESS_DEFINE makes. docs/plugin-guide.md has a complete harness.
 *
 * A harness runs in a process of its own, one for each attempt at a task, inside the containment of
 * that attempt. It serves one task: orch calls spawn once, wait once, release once. A harness that
 * crashes, calls exit() or hangs fails its own attempt and harms nothing else.
 *
 * Threads. spawn, wait and release (and check) run on one thread, in this order. kill and send run
 * on a second thread, one at a time, only after spawn has returned 0 and before release is called;
 * they may run while wait blocks. Functions of struct orch_host may be called from any thread,
 * unless their comment says otherwise.
 *
 * Time. spawn, kill, send, check and release must return within `callback_timeout` (10 s unless
 * configured otherwise), else the attempt ends as harness_hung. wait may block for as long as the
 * agent runs. A constructor of the shared object counts as a callback of its own.
 *
 * Errors. A function that returns int returns 0, or a negative errno value such as -ENOENT, unless
 * its comment names further values.
 *
 * Strings are UTF-8 and end with NUL. Invalid UTF-8 that reaches a host function is replaced by
 * U+FFFD before it is stored. Times are milliseconds; points in time count from the epoch.
 *
 * Versions. A different major number is refused. Within one major number every struct that crosses
 * the boundary begins with `uint32_t size`, set by the side that fills the struct, and only ever
 * grows at its end; a field that lies beyond `size` does not exist: test with ORCH_HAS.
 */
#ifndef ORCH_PLUGIN_API_H
#define ORCH_PLUGIN_API_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ORCH_ABI_MAGIC 0x4f524348u /* "ORCH" */
#define ORCH_ABI_MAJOR 1u
#define ORCH_ABI_MINOR 1u

/* Is `field` part of the struct that p points to, as the other side knows it? */
#define ORCH_HAS(p, field) \
	((size_t)(p)->size >= \
		(size_t)((const char *)&(p)->field - (const char *)(p)) + sizeof((p)->field))

#if defined(__GNUC__)
#define ORCH_EXPORT                   __attribute__((visibility("default")))
#define ORCH_PRINTF(format_arg, args) __attribute__((format(printf, format_arg, args)))
#else
#define ORCH_EXPORT
#define ORCH_PRINTF(format_arg, args)
#endif

/* Frozen: the first bytes of every descriptor, in every version. `size` is that of the descriptor.
 */
struct orch_abi {
	uint32_t magic;
	uint32_t major;
	uint32_t minor;
	uint32_t size;
};

struct orch_agent;   /* the harness's own: whatever spawn makes of it */
struct orch_process; /* the host's own: one started process */

/* ---- Options: the keys of [harness:NAME] in orch.ini -------------------------------------- */

enum orch_option_type {
	ORCH_OPTION_STRING = 1,
	ORCH_OPTION_BOOL = 2,     /* yes, no */
	ORCH_OPTION_INT = 3,      /* 64 bits, signed */
	ORCH_OPTION_DURATION = 4, /* 90s, 1m30s, 500ms, off */
	ORCH_OPTION_SIZE = 5      /* 500, 64K, 100M, 1G */
};

/*
 * An element of a table that ORCH_OPTIONS_END ends. All strings are static. `key` matches
 * [a-z][a-z0-9_]*; `default_value` is written as in orch.ini and may be NULL (no value); `help` is
 * one line. plugin, max_agents, pass_env, env_file and token_budget belong to orch and cannot be
 * declared.
 */
struct orch_option {
	uint32_t size;
	uint32_t type; /* enum orch_option_type */
	const char *key;
	const char *default_value;
	const char *help;
};

#define ORCH_OPTION(key, type, default_value, help) \
	{ \
		(uint32_t)sizeof(struct orch_option), (uint32_t)(type), (key), (default_value), \
			(help) \
	}
#define ORCH_OPTIONS_END \
	{ \
		0, 0, NULL, NULL, NULL \
	}

/* ---- What the host tells the harness ------------------------------------------------------- */

enum orch_task_flag {
	/* The worktree holds what the last attempt left: the agent goes on from there. */
	ORCH_TASK_CONTINUE = 1
};

/* The task to work at. Everything is borrowed until release has returned. */
struct orch_task {
	uint32_t size;
	uint32_t flags; /* enum orch_task_flag */
	const char *plan;
	const char *task;
	uint32_t attempt; /* counts from 1 */
	uint32_t reserved;
	const char *unit;        /* id of this attempt's process tree, 32 hex digits */
	const char *cwd;         /* the task's worktree, absolute; also the current directory */
	const char *prompt;      /* the whole text; never NULL */
	size_t prompt_len;       /* in bytes */
	const char *prompt_file; /* absolute path of a file with the same text */
	const char *command;     /* the task's `command`, or NULL */
	const char *session;     /* id of the agent session to resume, or NULL */
	const char *tmpdir;      /* absolute; also $TMPDIR; removed when the attempt has ended */
	/*
	 * Since 1.1: what was counted for `session` in earlier attempts: input, output, cache_read,
	 * cache_write. For agents that count over a whole session.
	 */
	int64_t session_tokens[4];
};

/* ---- What the harness tells the host ------------------------------------------------------- */

/* What a harness may say about an attempt. Whether the work is any good is not its business. */
enum orch_outcome {
	ORCH_OUTCOME_UNSET = 0,        /* counts as ORCH_OUTCOME_AGENT_ERROR */
	ORCH_OUTCOME_OK = 1,           /* the agent ended and says that it is done */
	ORCH_OUTCOME_AGENT_ERROR = 2,  /* the agent ended and says that it failed */
	ORCH_OUTCOME_CRASHED = 3,      /* the agent was ended by a signal, or without a last word */
	ORCH_OUTCOME_BLOCKED = 4,      /* the agent needs a person; it is not tried again */
	ORCH_OUTCOME_NOT_NEEDED = 5,   /* there is nothing to do; the task passes */
	ORCH_OUTCOME_OVER_BUDGET = 6,  /* the agent stopped at a limit of its own: turns, cost */
	ORCH_OUTCOME_RATE_LIMITED = 7, /* `reset_at` says until when, where it is known */
	ORCH_OUTCOME_AUTH_FAILED = 8,  /* not logged in, no key, key refused */
	ORCH_OUTCOME_SPAWN_FAILED = 9  /* the agent could not be started after all */
};

/*
 * Filled by wait. The host hands over a struct that is zero except for `size` and `exit_code` (-1).
 * Strings stay the harness's; they must be valid until release is called (the host copies them as
 * soon as wait has returned).
 */
struct orch_result {
	uint32_t size;
	int32_t outcome;     /* enum orch_outcome */
	int32_t exit_code;   /* of the agent, -1: none */
	int32_t term_signal; /* that ended the agent, 0: none */
	const char *text;    /* a sentence for a person: why; NULL: none */
	const char *session; /* id by which the agent can resume this session; NULL: none */
	int64_t reset_at;    /* ORCH_OUTCOME_RATE_LIMITED: when it ends; 0: unknown */
};

/* Filled by check: what was found of the agent's own program. Zero except for `size`. */
struct orch_report {
	uint32_t size;
	char version[124]; /* of the agent, as it says it */
	char text[512];    /* anything else worth knowing, such as where it was found */
};

/* ---- Events -------------------------------------------------------------------------------- */

/*
 * What an agent did, in one form for all agents. The data is a JSON object; `?` marks fields that
 * may be left out. Other fields are kept as they are.
 */
enum orch_event_kind {
	ORCH_EVENT_MESSAGE = 1,     /* {text}: words of the agent */
	ORCH_EVENT_TOOL_CALL = 2,   /* {id, name, input}: input is any JSON */
	ORCH_EVENT_TOOL_RESULT = 3, /* {id, ok, output}: ok is a boolean, output any JSON */
	/*
	 * {id?, input, output, cache_read?, cache_write?, cost?, total?}: tokens. With an id, a
	 * later event of the same id replaces the earlier one. With "total": true the numbers are
	 * those of the whole attempt so far and replace all others. cost is in US dollars.
	 */
	ORCH_EVENT_USAGE = 4,
	ORCH_EVENT_SESSION = 5,    /* {id}: the agent's session, by which it can be resumed */
	ORCH_EVENT_RATE_LIMIT = 6, /* {until?, text}: the agent waits; until as in reset_at */
	ORCH_EVENT_ERROR = 7,      /* {code?, text} */
	ORCH_EVENT_PROGRESS = 8,   /* {text}: one line for the status display */
	ORCH_EVENT_FINDING = 9     /* {severity, title, body?}: info, low, medium, high, critical */
};

/* ---- Services ------------------------------------------------------------------------------ */

enum orch_log_level {
	ORCH_LOG_ERROR = 0,
	ORCH_LOG_WARNING = 1,
	ORCH_LOG_INFO = 2,
	ORCH_LOG_DEBUG = 3
};

enum orch_stream {
	ORCH_STREAM_STDOUT = 1,
	ORCH_STREAM_STDERR = 2,
	ORCH_STREAM_EVENT = 3 /* what was written to $ORCH_EVENT_FD (ORCH_PROCESS_EVENT_FD) */
};

enum orch_line_flag {
	/* The line was longer than ORCH_LINE_MAX; this is its beginning, the rest was dropped. */
	ORCH_LINE_CUT = 1
};

#define ORCH_LINE_MAX ((size_t)10 * 1024 * 1024)

/*
 * One line of output, without its newline; raw bytes, which may hold NUL or invalid UTF-8, and one
 * NUL more behind `len`. A last line without newline is delivered too. Borrowed for the call. Runs
 * inside process_wait, on the thread that called it; may call any host function except
 * process_wait and process_free for the same process.
 */
typedef void (*orch_line_fn)(
	void *user, int stream, const char *line, size_t len, unsigned int line_flags);

enum orch_process_flag {
	/* Standard input is the prompt, as a file. */
	ORCH_PROCESS_STDIN_PROMPT = 1,
	/* Standard input is a pipe that stays open after stdin_data for process_write. */
	ORCH_PROCESS_STDIN_OPEN = 2,
	/*
	 * One more pipe, its number in $ORCH_EVENT_FD, on which the process may write lines; they
	 * arrive as ORCH_STREAM_EVENT.
	 */
	ORCH_PROCESS_EVENT_FD = 4
};

/* A process to start. Everything is borrowed for the call of process_start. */
struct orch_process_spec {
	uint32_t size;  /* ORCH_PROCESS_SPEC_INIT sets it */
	uint32_t flags; /* enum orch_process_flag */
	/* NULL-terminated; argv[0] is a path, or a name to look up in PATH. */
	const char *const *argv;
	/* "NAME=value" sets, "NAME" removes; the rest is the unit's environment. NULL: no change.
	 */
	const char *const *env;
	const char *cwd; /* NULL: the task's */
	/* Standard input; copied. NULL without a flag: /dev/null. */
	const void *stdin_data;
	size_t stdin_len;
	orch_line_fn on_line; /* NULL: output goes to the attempt's output.log only */
	void *user;           /* handed to on_line */
};

#define ORCH_PROCESS_SPEC_INIT \
	{ \
		(uint32_t)sizeof(struct orch_process_spec), 0, NULL, NULL, NULL, NULL, 0, NULL, \
			NULL \
	}

/* How a process ended. The caller sets size. */
struct orch_exit {
	uint32_t size;       /* ORCH_EXIT_INIT sets it */
	int32_t exit_code;   /* -1: ended by a signal */
	int32_t term_signal; /* 0: none */
};

#define ORCH_EXIT_INIT \
	{ \
		(uint32_t)sizeof(struct orch_exit), -1, 0 \
	}

enum orch_kill_flag {
	/* The process and what it started that is still in its process group. */
	ORCH_KILL_GROUP = 1
};

/* The services of the host; `host` is the pointer that spawn or check was given. */
struct orch_host {
	uint32_t size;
	uint32_t minor; /* ORCH_ABI_MINOR of the host */

	/* Writes a line to the attempt's log. Never fails; an over-long text is cut. */
	void (*log)(const struct orch_host *host, int level, const char *format, ...)
		ORCH_PRINTF(3, 4);
	/*
	 * Says why the running callback fails, and returns `error` (a negative errno), so that
	 * `return host->fail(host, -ENOENT, "no such model: %s", name)` reads well.
	 */
	int (*fail)(const struct orch_host *host, int error, const char *format, ...)
		ORCH_PRINTF(3, 4);

	/*
	 * The value of a declared option: the configured one, else the default. STRING as written;
	 * BOOL "yes" or "no"; INT, DURATION (milliseconds, or "off") and SIZE (bytes) in decimal.
	 * NULL when it has no value or was not declared. Borrowed until release.
	 */
	const char *(*option)(const struct orch_host *host, const char *key);
	/* The same as a number: BOOL 0 or 1, a duration that is `off` INT64_MAX. 0 when NULL. */
	int64_t (*option_int)(const struct orch_host *host, const char *key);

	/*
	 * Records an event; `json` is its data, an object. -EINVAL: not JSON, or not the data that
	 * the kind needs. What is longer than about 48 KiB is cut and marked with "cut": true.
	 */
	int (*event)(const struct orch_host *host, int kind, const char *json);
	/* For the kinds whose data is {text}: MESSAGE, PROGRESS, ERROR, RATE_LIMIT. */
	int (*event_text)(const struct orch_host *host, int kind, const char *text, size_t len);
	/*
	 * Records a line that is itself an event, {"kind": "progress", "data": {"text": "..."}}.
	 * 0: recorded. 1: the line is not an event; nothing was done.
	 */
	int (*event_line)(const struct orch_host *host, const char *line, size_t len);

	/*
	 * Starts a process inside the unit's containment, in a session of its own, and returns when
	 * it runs. -ENOENT: no such program; -E2BIG: arguments too long; -EILSEQ: not UTF-8; other
	 * values of execve(2). Afterwards call process_wait until it returns 0: output is read
	 * there, and a process whose output nobody reads stands still when its pipe is full.
	 * At most 64 at a time (-EMFILE). *ret_process is the host's; it is valid until
	 * process_free or the end of release.
	 */
	int (*process_start)(const struct orch_host *host, const struct orch_process_spec *spec,
		struct orch_process **ret_process);
	/*
	 * Queues bytes for the standard input of a process started with STDIN_OPEN; copied; never
	 * blocks. -EPIPE: closed or ended; -EAGAIN: 16 MiB are waiting to be read already.
	 */
	int (*process_write)(const struct orch_host *host, struct orch_process *process,
		const void *data, size_t len);
	/* Closes standard input once everything queued has been written. */
	int (*process_close_stdin)(const struct orch_host *host, struct orch_process *process);
	/* Sends a signal; -ESRCH when the process has ended. Does not wait. */
	int (*process_kill)(const struct orch_host *host, struct orch_process *process,
		int term_signal, unsigned int kill_flags);
	/*
	 * Hands output to on_line as it comes, and returns 0 when the process has ended and its
	 * output is delivered (at once, when that was so before); -ETIMEDOUT after timeout_ms
	 * (-1: never); -EBUSY when another thread waits for it. *ret_exit may be NULL.
	 */
	int (*process_wait)(const struct orch_host *host, struct orch_process *process,
		int64_t timeout_ms, struct orch_exit *ret_exit);
	/*
	 * Forgets a process. One that still runs goes on unheard until the unit ends. NULL is
	 * allowed.
	 */
	void (*process_free)(const struct orch_host *host, struct orch_process *process);
};

/* ---- The harness --------------------------------------------------------------------------- */

struct orch_harness {
	struct orch_abi abi;
	const char *name;                  /* that of the file: orch-harness-<name>.so */
	const char *version;               /* of the harness; any text */
	const char *description;           /* one line */
	const struct orch_option *options; /* ended by ORCH_OPTIONS_END; NULL: none */

	/*
	 * Starts the agent and returns, without waiting for its answer. *ret_agent is the harness's
	 * own handle (not NULL) and goes to the other callbacks. On an error the attempt ends as
	 * spawn_failed with the text of host->fail, and no other callback runs. `host` stays valid
	 * until release has returned.
	 */
	int (*spawn)(const struct orch_host *host, const struct orch_task *task,
		struct orch_agent **ret_agent);
	/*
	 * Asks the agent to end: SIGTERM when there is time for it to finish, SIGKILL when there is
	 * not. May come more than once, and after the agent has ended. An agent that does not end
	 * is ended by orch, with everything that it started.
	 */
	int (*kill)(struct orch_agent *agent, int term_signal);
	/*
	 * Returns when the agent has ended, with *result filled. An error means that the harness
	 * itself failed: the attempt ends as agent_error with the text of host->fail.
	 */
	int (*wait)(struct orch_agent *agent, struct orch_result *result);

	/* The rest may be NULL. */

	/* Hands a person's words to the running agent. -ENOTSUP: not this one, not now. */
	int (*send)(struct orch_agent *agent, const char *text);
	/*
	 * Looks whether the agent's program is there and can be used; for `orch harness check`.
	 * Runs in a process without a task: process_start works, events go nowhere.
	 */
	int (*check)(const struct orch_host *host, struct orch_report *report);
	/*
	 * Frees the agent. Runs once, after wait. Processes that still run are ended afterwards,
	 * with the unit.
	 */
	void (*release)(struct orch_agent *agent);
};

#define ORCH_ABI_INIT \
	{ \
		ORCH_ABI_MAGIC, ORCH_ABI_MAJOR, ORCH_ABI_MINOR, \
			(uint32_t)sizeof(struct orch_harness) \
	}

extern ORCH_EXPORT const struct orch_harness orch_harness;

/*
 * Defines the descriptor. In C: ORCH_HARNESS_DEFINE(.name = "mine", .spawn = my_spawn, ...); in C++
 * all fields after `abi`, in their order, without names.
 */
#ifdef __cplusplus
#define ORCH_HARNESS_DEFINE(...) \
	extern "C" const struct orch_harness orch_harness = {ORCH_ABI_INIT, __VA_ARGS__}
#else
#define ORCH_HARNESS_DEFINE(...) \
	const struct orch_harness orch_harness = {.abi = ORCH_ABI_INIT, __VA_ARGS__}
#endif

#ifdef __cplusplus
}
#endif

#endif
