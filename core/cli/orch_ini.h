/* SPDX-License-Identifier: MIT */
/* An orch.ini that a verb changes: read whole, edited as text, replaced atomically. */
#ifndef CLI_ORCH_INI_H
#define CLI_ORCH_INI_H

#include "base/buf.h"
#include "config/ini.h"
#include "run/site.h"

enum orch_ini_which {
	ORCH_INI_REPOSITORY, /* the repository's, or what --config names */
	ORCH_INI_USER,
};

struct orch_ini {
	char *path; /* symbolic links resolved, so that one stays */
	struct buf text;
	bool existed;
};

#define ORCH_INI_INIT ((struct orch_ini){0})
void orch_ini_deinit(struct orch_ini *f);

/* A file that does not exist is an empty one. */
int orch_ini_read(const struct site *site, const char *config_file, enum orch_ini_which which,
	struct orch_ini *ret, struct err *e) MUST_CHECK;
/* Makes the directory of the user's file when it is missing. Keeps the file's mode. */
int orch_ini_write(const struct orch_ini *f, struct err *e) MUST_CHECK;
/* The line of [invariant:NAME] in it, 0: not there. -EBADMSG: no valid INI file. */
int orch_ini_find_invariant(
	const struct orch_ini *f, const char *name, unsigned *ret_line, struct err *e) MUST_CHECK;
/*
 * Sets the keys of [invariant:NAME] that differ from their defaults and removes the others, so that
 * it becomes this very invariant; its comments stay.
 */
int orch_ini_put_invariant(
	struct orch_ini *f, const struct invariant *inv, struct err *e) MUST_CHECK;

#endif
