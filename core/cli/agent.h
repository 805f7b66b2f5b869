/* SPDX-License-Identifier: MIT */
/* What an agent's own `orch` has in common: which unit it runs in, and its words to that unit's
 * keeper. */
#ifndef CLI_AGENT_H
#define CLI_AGENT_H

#include "cli/cli.h"

/* Whether this process was started inside a unit. */
bool agent_inside_unit(void);
/* A variable that every agent has; NULL after an error was printed (status 64). */
const char *agent_variable(struct cli *cli, const char *name);
/* Tells the keeper (the engine need not live): data is consumed. 0 or an exit status. */
int agent_tell(struct cli *cli, const char *type, json_t *data);

#endif
