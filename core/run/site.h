/* SPDX-License-Identifier: MIT */
/*
 * Where orch works: the repository (or plain directory), its state directory, its configuration,
 * and the environment of whoever called. Opened once by a command and then read-only.
 */
#ifndef RUN_SITE_H
#define RUN_SITE_H

#include "base/err.h"
#include "config/config.h"
#include "git/git.h"
#include "os/spawn.h"
#include "store/store.h"

#include <stdbool.h>

/* In the state directory while an engine starts nothing: why, for `orch status`. */
#define SITE_WAITING "waiting"

struct site {
	struct git_repo *repo; /* NULL: not in a git repository */
	struct git_reader *reader;
	char *root;      /* absolute: the checkout's top level; else the directory itself */
	char *state_dir; /* absolute: <common dir>/orch, or <root>/.orch */
	char *worktree_root;
	char *repo_config; /* <root>/orch.ini, there or not */
	char *bin_dir;     /* where our own binary is */
	struct config *config;
	char **environment; /* as we were called with */
	struct spawn_origin origin;
};

struct site_options {
	const char *dir;         /* -C, NULL: the current one */
	const char *config_file; /* --config */
	const struct spawn_origin *origin;
	char *const *environment;
	int cancel_fd;   /* readable: give up with -ECANCELED; -1: none */
	bool need_state; /* make the state directory (and its link) when it is missing */
	bool look;       /* the repository's directories will do: no HEAD, no version */
};

/*
 * Mistakes in the configuration go to d, with status 78 in e. Blocks: runs git once, for `look`
 * in most places not.
 */
int site_open(const struct site_options *options, struct site **ret, struct diags *d,
	struct err *e) MUST_CHECK;
void site_free(struct site *s);
DEFINE_FREEP(site_freep, struct site, site_free)

/* What a writing command would fail of, told without changing anything. 0, or status 73. */
int site_check_state(const struct site *s, struct err *e) MUST_CHECK;

/* A git_ctx for the main thread, without lock or cancellation. */
struct git_ctx site_git(const struct site *s);

/* Where harness plugins are looked for, `:`-separated. Owned; NULL when memory is out. */
char *site_plugin_path(const struct site *s) MUST_CHECK;

/*
 * The single writer's lock. 0 and an owned descriptor; -EBUSY with status 69 and a message that
 * names the holder. Tries for one second.
 */
int site_lock(const struct site *s, int *ret_fd, struct err *e) MUST_CHECK;

/*
 * merge.lock, likewise: whoever moves a branch of the user's or removes what a plan left holds it,
 * beside an engine or without one.
 */
int site_lock_merge(const struct site *s, int *ret_fd, struct err *e) MUST_CHECK;

/* Who holds the first of them now. */
struct site_engine {
	bool running;
	int pid; /* 0: not known */
};
/* Does not disturb a holder, nor one that is about to become it. No state directory: not running.
 */
int site_engine(const struct site *s, struct site_engine *ret, struct err *e) MUST_CHECK;

/*
 * Opens the database for reading. *ret is NULL when nothing was ever dispatched here. An older
 * schema is upgraded first (which takes the lock for a moment).
 */
int site_read(const struct site *s, struct store **ret, struct err *e) MUST_CHECK;

/* The value of an environment variable in a vector, or NULL. Borrowed. */
const char *environment_get(char *const *environment, const char *name);

#endif
