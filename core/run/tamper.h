/* SPDX-License-Identifier: MIT */
/* For whoever moves refs that are not orch's own, while no engine runs. */
#ifndef RUN_TAMPER_H
#define RUN_TAMPER_H

#include "git/git.h"
#include "store/store.h"

/* The move is none of an agent's that a dead engine has left. The store is for writing. */
void tamper_moved(struct store *s, const struct git_ref_update *move);

#endif
