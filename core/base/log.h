/* SPDX-License-Identifier: MIT */
/*
 * The one log: lines "orch: <level>: <text>" to standard error. Control characters in the text are
 * escaped, so that a name or an agent's words never reach a terminal raw. Thread-safe: one write(2)
 * a line. The level is process state, set once at start.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include "base/cleanup.h"

#include <stdbool.h>

enum log_level {
	LOG_LEVEL_ERROR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
	LOG_LEVEL_COUNT,
};

const char *log_level_name(enum log_level level);
/* 0 or -EINVAL. */
int log_level_parse(const char *name, enum log_level *ret) MUST_CHECK;
void log_set_level(enum log_level level);
/* The word at the start of each line; program_name must outlive the process. */
void log_set_program(const char *program_name);
bool log_enabled(enum log_level level);
void log_write(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

#define log_error(...)   log_write(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)    log_write(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)   log_write(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
