/* SPDX-License-Identifier: MIT */
#include "base/diag.h"

#include "base/buf.h"
#include "base/str.h"

#include <string.h>

void diags_deinit(struct diags *d)
{
	vec_foreach(it, &d->list) {
		free(it->file);
		free(it->text);
	}
	VEC_FREE(&d->list);
	d->errors = 0;
}

void diags_add(struct diags *d, enum diag_severity severity, const char *file, unsigned line,
	const char *fmt, ...)
{
	if (severity == DIAG_ERROR)
		d->errors++;
	struct diag *it = VEC_PUSH(&d->list);
	if (!it)
		return; /* the count still says that the input is bad */
	CLEANUP_BUF struct buf text = BUF_INIT;
	va_list ap;
	va_start(ap, fmt);
	buf_addv(&text, fmt, ap);
	va_end(ap);
	*it = (struct diag){
		.severity = severity,
		.file = str_dup(file),
		.line = line,
		.text = buf_steal(&text),
	};
}

static int diag_compare(const void *a, const void *b)
{
	const struct diag *x = a, *y = b;
	int r = strcmp(x->file ? x->file : "", y->file ? y->file : "");
	if (r)
		return r;
	return (x->line > y->line) - (x->line < y->line);
}

void diags_print(struct diags *d, FILE *out)
{
	if (d->list.count > 0)
		qsort(d->list.items, d->list.count, sizeof(struct diag), diag_compare);
	vec_foreach(it, &d->list) {
		const char *text = it->text ? it->text : "(out of memory)";
		CLEANUP_STR char *safe = str_printable(text, strlen(text), false);
		if (it->file)
			fprintf(out, "%s:", it->file);
		if (it->file && it->line)
			fprintf(out, "%u:", it->line);
		fprintf(out, "%s%s: %s\n", it->file ? " " : "",
			it->severity == DIAG_ERROR ? "error" : "warning", safe ? safe : text);
	}
}
