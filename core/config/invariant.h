/* SPDX-License-Identifier: MIT */
/*
 * An invariant: a command with an expected exit code and a timeout. Shared ones stand in orch.ini,
 * local ones in a plan; both are read by the one table here.
 */
#ifndef CONFIG_INVARIANT_H
#define CONFIG_INVARIANT_H

#include "base/cleanup.h"
#include "config/schema.h"

#include <stdbool.h>
#include <stdint.h>

#define RED_BEFORE_LIST(X) \
	X(FAIL, "fail") \
	X(IGNORE, "ignore")

#define X(id, name) RED_BEFORE_##id,
enum red_before { RED_BEFORE_LIST(X) RED_BEFORE_COUNT };
#undef X

struct invariant {
	char *name;
	char *command;              /* run by /bin/sh -c */
	int64_t timeout_ms;         /* DURATION_OFF: none */
	int64_t expect;             /* exit code, 0 to 255 */
	bool advisory;              /* reported, does not block */
	enum red_before red_before; /* what it means when it was red on the start commit already */
	char *file;                 /* where it was defined; NULL: not in a file */
	unsigned line;              /* of its section */
};

const char *red_before_name(enum red_before v);
/* The keys of an [invariant:NAME] section. */
extern const struct key_table invariant_keys;

/* The defaults, under a name; file and line are left unset. 0 or -ENOMEM. */
int invariant_init(struct invariant *inv, const char *name) MUST_CHECK;
void invariant_deinit(struct invariant *inv);
/* 0 or -ENOMEM; `to` is overwritten, not freed. */
int invariant_copy(struct invariant *to, const struct invariant *from) MUST_CHECK;
/* Same name and definition; where it was defined does not matter. */
bool invariant_equal(const struct invariant *a, const struct invariant *b);
/*
 * 32 hexadecimal digits that change when what is run or how its exit is judged changes (command,
 * timeout, expect): the key under which results are cached. Stable over versions and machines; no
 * cryptographic digest.
 */
void invariant_fingerprint(const struct invariant *inv, char ret[33]);

#endif
