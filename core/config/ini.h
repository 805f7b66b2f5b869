/* SPDX-License-Identifier: MIT */
/*
 * INI files, strict and whole. inih parses; a line reader of ours stands before it, because inih
 * alone cuts lines at 200 bytes and section names at 49, takes ` ;` inside a value for a comment,
 * drops indented lines that begin with `#` or `;`, and says nothing about duplicates.
 *
 * The format: `[type]` or `[type:label]` sections, `key = value` lines, comments that are whole
 * lines beginning with `;` or `#` in column 1, and indented lines that continue the value above:
 * the indentation of the first of them is taken off all, blank lines between are kept, blank lines
 * at the end dropped. When nothing stands behind the `=`, the value begins with the next line. CRLF
 * is a line end; a byte order mark and a missing last newline are fine.
 *
 * What plain text cannot say (a CR before a line end, white space at either end) is written with a
 * `*` behind the key, as in RFC 8187: `key* = percent-encoded`. ini_put() picks the form.
 *
 * Every mistake becomes a diagnostic with file and line; the reader goes on behind it.
 */
#ifndef CONFIG_INI_H
#define CONFIG_INI_H

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/diag.h"
#include "base/err.h"
#include "base/vec.h"

#include <stdbool.h>
#include <stddef.h>

#define INI_MAX_BYTES ((size_t)64 << 20)

struct ini_entry {
	char *key;   /* owned */
	char *value; /* lies in the key's block */
	unsigned line;
};

struct ini_section {
	char *type;  /* owned; "task" of [task:foo] */
	char *label; /* lies in the type's block; "foo", or NULL without a colon */
	unsigned line;
	bool duplicate; /* one of that name came before; it has its own entries */
	struct VEC(struct ini_entry) entries; /* as written, without duplicates */
};

struct ini {
	char *file; /* owned; the name used in diagnostics */
	struct VEC(struct ini_section) sections;
};

#define INI_INIT ((struct ini){0})

void ini_deinit(struct ini *ini);

/*
 * Both fill *ret (for ini_deinit, whatever is returned) and add what is wrong to d; what could not
 * be understood is left out. 0 also when there were mistakes in the text: ask d->errors. Negative:
 * it could not be read at all (e says why), or memory is out. The file may be a pipe, and
 * "-" is standard input; reading blocks, see text_file_read for cancel_fd.
 */
int ini_load_file(const char *path, int cancel_fd, struct ini *ret, struct diags *d,
	struct err *e) MUST_CHECK;
int ini_load_text(const char *file, const char *text, size_t len, struct ini *ret,
	struct diags *d) MUST_CHECK;

/* Borrowed; NULL when not there. label NULL means a section without a label. */
const struct ini_section *ini_find(const struct ini *ini, const char *type, const char *label);
const char *ini_value(const struct ini_section *section, const char *key);

/* Appends `[type]` or `[type:label]`, with a blank line before it unless out is empty. */
void ini_put_section(struct buf *out, const char *type, const char *label);
/* Appends `key = value` so that it is read back byte for byte. The value is valid UTF-8. */
void ini_put(struct buf *out, const char *key, const char *value);

/*
 * The editor: changes one key or section of a text and leaves every other byte as it was. *text is
 * changed on success only. Writing the file (atomically) is the caller's. -EBADMSG: the text is not
 * a valid INI file, e names the first mistake.
 *
 * ini_edit_set appends a section that is missing, and a missing key to the end of its section.
 * ini_edit_remove removes a key with its continuation lines, or with key NULL the section with its
 * entries and the comments inside it; -ENOENT when it is not there.
 */
int ini_edit_set(struct buf *text, const char *type, const char *label, const char *key,
	const char *value, struct err *e) MUST_CHECK;
int ini_edit_remove(struct buf *text, const char *type, const char *label, const char *key,
	struct err *e) MUST_CHECK;

#define CLEANUP_INI CLEANUP(ini_deinit)

#endif
