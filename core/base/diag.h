/* SPDX-License-Identifier: MIT */
/*
 * A list of findings about an input file, so that every mistake is reported in one run. Each has a
 * place
 * ("plan.ini:12"), what is wrong and what was expected. Only errors make the input unusable.
 */
#ifndef BASE_DIAG_H
#define BASE_DIAG_H

#include "base/cleanup.h"
#include "base/vec.h"

#include <stdbool.h>
#include <stdio.h>

enum diag_severity {
	DIAG_WARNING,
	DIAG_ERROR,
};

struct diag {
	enum diag_severity severity;
	char *file;    /* owned; NULL when no file is concerned */
	unsigned line; /* from 1; 0 when the whole file is concerned */
	char *text;    /* owned; NULL when memory ran out while writing it */
};

struct diags {
	struct VEC(struct diag) list;
	size_t errors;
};

#define DIAGS_INIT ((struct diags){0})

void diags_deinit(struct diags *d);
void diags_add(struct diags *d, enum diag_severity severity, const char *file, unsigned line,
	const char *fmt, ...) PRINTF_LIKE(5, 6);
#define diags_error(d, file, line, ...)   diags_add(d, DIAG_ERROR, file, line, __VA_ARGS__)
#define diags_warning(d, file, line, ...) diags_add(d, DIAG_WARNING, file, line, __VA_ARGS__)
/* One line each, "file:line: error: text", escaped for a terminal, in order of file and line. */
void diags_print(struct diags *d, FILE *out);

#endif
