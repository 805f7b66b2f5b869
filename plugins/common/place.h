/* SPDX-License-Identifier: MIT */
/* Where an agent's program is, and the home and the environment that it gets. */
#ifndef COMMON_PLACE_H
#define COMMON_PLACE_H

#include "../common/words.h"

/*
 * The file that `program` names, looked up in PATH when it is only a name; owned. NULL: there is
 * none that can be run.
 */
char *place_program(const char *program);

/*
 * The native program behind an npm launcher: a launcher is one process more, which keeps signals
 * from the agent or outlives it. Looks for each of `relatives` (ended by NULL; '%' stands for this
 * machine's npm name, x64 or arm64, and '$' for its Rust name, x86_64 or aarch64) from the
 * directory of the file behind `program` and its parents, six of them. Consumes program; returns
 * it when nothing is found.
 */
char *place_native(char *program, const char *const *relatives);

/*
 * A directory of the user's choice, from an option: "~/..." is below $HOME, and {plan} and {task}
 * stand for theirs, so that the attempts at one task share it and no others do. Made (0700) when it
 * is missing. Owned; NULL with 0 when the option is not set. -EINVAL: not an absolute path.
 */
int place_directory(
	const struct orch_host *host, const struct orch_task *task, const char *option, char **ret);

/*
 * The option `home`: with it the agent gets that HOME, and none of the variables that name
 * directories elsewhere. *ret is the directory, owned, NULL: not set.
 */
int place_home(
	const struct orch_host *host, const struct orch_task *task, struct words *env, char **ret);

/* Makes a directory and those above it. 0, -errno. */
int place_make(const char *path);

/*
 * Takes the other vendors' variables out of the environment. `own` are the prefixes that stay,
 * ended by NULL. Keys (*_API_KEY, *_TOKEN, *_SECRET) stay as well: orch has removed all but those
 * that the user named for this very harness.
 */
void place_scrub(struct words *env, const char *const *own);

#endif
