/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include "base/buf.h"
#include "base/str.h"

#include <errno.h>
#include <string.h>

static const char *const level_names[LOG_LEVEL_COUNT] = {"error", "warning", "info", "debug"};

static struct {
	enum log_level level;
	const char *program;
} log_state = {LOG_LEVEL_INFO, "orch"};

const char *log_level_name(enum log_level level)
{
	return level_names[level];
}

int log_level_parse(const char *name, enum log_level *ret)
{
	for (int i = 0; i < LOG_LEVEL_COUNT; i++) {
		if (str_eq(name, level_names[i])) {
			*ret = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

void log_set_level(enum log_level level)
{
	log_state.level = level;
}

void log_set_program(const char *program_name)
{
	log_state.program = program_name;
}

bool log_enabled(enum log_level level)
{
	return level <= log_state.level;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	if (!log_enabled(level))
		return;
	CLEANUP_BUF struct buf text = BUF_INIT;
	va_list ap;
	va_start(ap, fmt);
	buf_addv(&text, fmt, ap);
	va_end(ap);
	CLEANUP_STR char *safe = str_printable(buf_cstr(&text), text.len, true);
	CLEANUP_BUF struct buf line = BUF_INIT;
	buf_addf(&line, "%s: %s: %s\n", log_state.program, level_names[level],
		safe ? safe : "(out of memory)");
	if (buf_check(&line) == 0)
		(void)!write(STDERR_FILENO, line.data, line.len); /* nowhere left to report to */
}
