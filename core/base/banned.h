/* SPDX-License-Identifier: MIT */
/*
 * What core/ and plugins/ do not use, as compile errors. The build puts this header in front of
 * every source there; nobody includes it. The declarations come first, since a poisoned word is an
 * error in a system's header, too.
 */
#ifndef BASE_BANNED_H
#define BASE_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#undef alloca
/* No bounds: str_printf, buf_add*, snprintf. */
#pragma GCC poison strcpy strcat sprintf vsprintf strncpy strncat stpcpy gets alloca
/* Hidden state of the process: the _r variants, strsep. */
#pragma GCC poison strtok gmtime localtime ctime asctime
/* No errors: parse_int64 and the like. */
#pragma GCC poison atoi atol atoll atof
/* Guessable names: mkdtemp, mkostemp. */
#pragma GCC poison mktemp tmpnam tempnam
/* A process outside of core/os; a wait that nothing can end. */
#pragma GCC poison popen usleep

/* Words that are good names for other things: only the calls are errors. Destructors of a program
 * that is not ours to end run under exit(3); main returns. */
int system(const char *command) __attribute__((error("start processes with os/spawn.h")));
unsigned int sleep(unsigned int seconds) __attribute__((error("wait for an event")));
void exit(int status) __attribute__((error("return from main, or _exit in a child")));

#endif
