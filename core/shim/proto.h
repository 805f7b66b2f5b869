/* SPDX-License-Identifier: MIT */
/*
 * What the keeper and the host of a unit say to each other: frames over one SOCK_STREAM socketpair.
 * A frame is a header and a payload: a JSON object, or raw bytes. Both sides are the same program,
 * but the host runs foreign code: the keeper takes nothing for granted, and nonsense is -EPROTO
 * with a sentence, never a crash. Memory is bounded on both sides by PROTO_PAYLOAD_MAX and by the
 * two windows.
 *
 * Course of a unit:
 *   host                                keeper
 *                                    <- TASK
 *   CALL_BEGIN load, CALL_END load
 *   LOADED                              (or FAILED, DONE)
 *   CALL_BEGIN spawn
 *     PROC_START 1                   -> starts it
 *                                    <- PROC_STARTED 1
 *   CALL_END spawn                      (rc < 0: RESULT spawn_failed, DONE)
 *   CALL_BEGIN wait
 *                                    <- PROC_OUTPUT 1, PROC_EXITED 1
 *     EVENT, LOG, PROC_*
 *   CALL_END wait
 *   RESULT
 *   CALL_BEGIN release, CALL_END release   (when the harness has it)
 *   DONE, then _exit(0)
 * KILL and SEND may come at any time after TASK and lead to CALL_BEGIN/CALL_END kill or send, on a
 * second thread, once spawn has returned. After DONE nothing comes.
 *
 * The keeper's rules. The end of the stream without DONE, or a wait status other than exit 0: the
 * harness crashed or called exit(), in the call that was begun last and has not ended
 * (harness_crashed). A call other than `wait` that has not ended callback_timeout after its
 * CALL_BEGIN: harness_hung. Bytes that are no frame, or a message out of place: harness_crashed.
 * Even when RESULT has come, a crash or hang in release counts.
 *
 * Windows. Each side may have at most so many payload bytes of one process unacknowledged:
 * PROC_OUTPUT (all streams of one id together) up to PROTO_OUTPUT_WINDOW, given back by PROC_READ;
 * PROC_WRITE up to PROTO_INPUT_WINDOW, given back by PROC_WRITTEN. So the keeper stops reading a
 * process's pipes while its window is used up, its queue towards the host stays small, and KILL is
 * never stuck behind output. The keeper must not stop reading the socket for want of room.
 */
#ifndef SHIM_PROTO_H
#define SHIM_PROTO_H

#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>
#include <stdint.h>

#define PROTO_PAYLOAD_MAX   ((size_t)4 << 20)
#define PROTO_OUTPUT_WINDOW ((size_t)64 << 10)
#define PROTO_INPUT_WINDOW  ((size_t)64 << 10)
#define PROTO_PROCESS_MAX   64 /* that a host may have running or unfreed at a time */

/* In the byte order of the machine; `id` is a process where not said otherwise, else 0. */
struct proto_header {
	uint32_t length; /* of the payload */
	uint16_t type;   /* enum proto_type */
	uint16_t flags;
	uint32_t id;
};

enum proto_type {
	/* ---- keeper -> host ---- */

	/*
	 * First message. {"harness", "plugin"?, "plan", "task", "attempt": n, "unit", "cwd",
	 * "prompt_file", "tmpdir", "command"?, "session"?, "session_tokens": [n, n, n, n],
	 * "continue": bool, "options": {"key": "value", ...}}. All paths are absolute. "plugin" is
	 * the path of the .so; without it the host answers FAILED harness_missing.
	 */
	PROTO_TASK = 1,
	PROTO_KILL = 2, /* id: signal number; no payload. Call the harness's kill */
	PROTO_SEND = 3, /* payload: text, raw. Call the harness's send */
	/* Answer to PROC_START, exactly one. {"pid": n}, or {"errno": n} (positive errno). */
	PROTO_PROC_STARTED = 4,
	/* flags: enum orch_stream; payload: 1 to PROTO_OUTPUT_WINDOW raw bytes. */
	PROTO_PROC_OUTPUT = 5,
	/*
	 * {"status": wait status of waitpid(2)}. The process is reaped, and what was in its pipes
	 * at that time has been sent before; nothing follows for this id. The keeper does not wait
	 * for others that hold the write ends. The id may be used again by the host.
	 */
	PROTO_PROC_EXITED = 6,
	/*
	 * Payload: uint32_t, machine byte order: so many bytes of PROC_WRITE have been written to
	 * the pipe, or dropped because nobody reads it any more.
	 */
	PROTO_PROC_WRITTEN = 7,

	/* ---- host -> keeper ---- (PROC_* for a process that has ended: ignored; they cross) */

	/* The plugin is verified and loaded. {"name", "version", "path", "abi": "1.0"}. */
	PROTO_LOADED = 32,
	PROTO_CALL_BEGIN = 33, /* id: enum proto_call; no payload */
	/* id: enum proto_call; {"rc": n, "text"?}: what it returned and said. */
	PROTO_CALL_END = 34,
	PROTO_LOG = 35, /* flags: enum orch_log_level; payload: UTF-8 text without newline */
	/* {"kind", "data": {...}}, normalised, at most 60 KiB; "cut": true in data where cut. */
	PROTO_EVENT = 36,
	/*
	 * Start a process in a new session, in the containment. {"argv": [..], "env"?: ["A=b" sets,
	 * "A" removes, ..], "cwd", "stdin": "null" | "prompt" | "pipe", "event_fd"?: n,
	 * "lines": bool}. prompt: the prompt file, opened read-only. event_fd: a further pipe whose
	 * write end has this number in the process. lines: send PROC_OUTPUT (else the output only
	 * goes to output.log).
	 */
	PROTO_PROC_START = 37,
	PROTO_PROC_WRITE = 38, /* payload: 1 to PROTO_INPUT_WINDOW raw bytes for its stdin pipe */
	PROTO_PROC_CLOSE_STDIN = 39, /* after what was written before */
	PROTO_PROC_KILL = 40,        /* {"signal": n, "group": bool}; ended or unknown: ignored */
	PROTO_PROC_READ = 41,        /* uint32_t: so many bytes of PROC_OUTPUT are consumed */
	/*
	 * The harness's verdict. {"outcome": name as in enum orch_outcome, lower case, "text"?,
	 * "session"?, "reset_at"?: ms, "exit_code"?: n, "signal"?: n}. At most once.
	 */
	PROTO_RESULT = 42,
	/* Instead of LOADED. {"outcome": "harness_missing" | "harness_invalid", "text"}. */
	PROTO_FAILED = 43,
	PROTO_DONE = 44, /* the last message; no payload */
};

/* The callbacks that a host reports. `load` is dlopen(3), with the constructors in it. */
enum proto_call {
	PROTO_CALL_LOAD = 1,
	PROTO_CALL_SPAWN,
	PROTO_CALL_WAIT,
	PROTO_CALL_KILL,
	PROTO_CALL_SEND,
	PROTO_CALL_RELEASE,
	PROTO_CALL_COUNT,
};

/* "spawn"; "?" for a number that is none. */
const char *proto_call_name(uint32_t call);
/* "PROC_START"; "?" for a number that is none. */
const char *proto_type_name(uint32_t type);

/* ---- Reading --------------------------------------------------------------------------------- */

struct proto_frame {
	uint16_t type; /* not checked against the enum */
	uint16_t flags;
	uint32_t id;
	const char *data; /* NUL behind its end; borrowed until the next reader call */
	size_t len;
};

struct proto_reader {
	struct buf in;
	size_t taken; /* bytes of `in` that have been handed out */
};

#define PROTO_READER_INIT ((struct proto_reader){0})

void proto_reader_deinit(struct proto_reader *r);
/*
 * Reads once from fd: 1 when something came, 0 at the end of the stream (-EPROTO when it ends
 * within a frame), -EAGAIN, -EINTR, another negative errno. Memory grows with what has arrived, not
 * with what a header claims.
 */
int proto_reader_feed(struct proto_reader *r, int fd) MUST_CHECK;
/* 1 and a frame; 0 when a whole one has not arrived yet; -EPROTO. Loop until it is not 1. */
int proto_reader_next(struct proto_reader *r, struct proto_frame *ret, struct err *e) MUST_CHECK;

/*
 * The payload as a JSON object, owned by the caller (json_decref). -EPROTO when it is anything
 * else.
 */
int proto_frame_json(const struct proto_frame *f, json_t **ret, struct err *e) MUST_CHECK;

/* ---- Writing, on a non-blocking descriptor -----------------------------------------------------
 */

struct proto_writer {
	struct buf out;
	size_t sent; /* bytes of `out` that have been written */
};

#define PROTO_WRITER_INIT ((struct proto_writer){0})

void proto_writer_deinit(struct proto_writer *w);
/* Appends a frame; -EMSGSIZE, -ENOMEM. Nothing is written before proto_writer_flush. */
int proto_write(struct proto_writer *w, enum proto_type type, uint16_t flags, uint32_t id,
	const void *data, size_t len) MUST_CHECK;
/* The same with a JSON object, which it consumes (NULL: -ENOMEM). */
int proto_write_json(
	struct proto_writer *w, enum proto_type type, uint32_t id, json_t *payload) MUST_CHECK;
/* Bytes that wait to be written: poll for POLLOUT while there are any. */
size_t proto_writer_pending(const struct proto_writer *w);
/* Writes what the socket takes: 0 when all is written, 1 when some waits, negative errno. */
int proto_writer_flush(struct proto_writer *w, int fd) MUST_CHECK;

/* ---- Writing, on a blocking descriptor ---------------------------------------------------------
 */

/* Writes one whole frame without copying it, never raising SIGPIPE. The caller serialises. */
int proto_send(int fd, enum proto_type type, uint16_t flags, uint32_t id, const void *data,
	size_t len) MUST_CHECK;
/* The same with a JSON object, which it consumes (NULL: -ENOMEM). */
int proto_send_json(int fd, enum proto_type type, uint32_t id, json_t *payload) MUST_CHECK;

#endif
