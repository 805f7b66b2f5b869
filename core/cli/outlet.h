/* SPDX-License-Identifier: MIT */
/*
 * What a dispatch prints, on its way to a reader that may not read: a pager, a consumer that hangs.
 * The engine does not stand still for it. What the reader does not take is kept, and goes out with
 * what is printed next, or when pumped. Past a limit the reader is waited for, but only until a
 * stop signal comes; then the rest is dropped.
 */
#ifndef CLI_OUTLET_H
#define CLI_OUTLET_H

#include "base/err.h"

#include <stdio.h>

struct outlet;

/* Puts a stream for fd in the place of *place (stdout, stderr) until it is closed. stop_fd: the
 * signalfd, which is not read. */
int outlet_open(FILE **place, int fd, int stop_fd, struct outlet **ret, struct err *e) MUST_CHECK;
/* Takes NULL; waits a second at most. */
void outlet_close(struct outlet *o);

/* What the reader takes now; does not block. */
void outlet_pump(struct outlet *o);
/* Waits for the reader: so long (-1: until a stop signal), then the rest is dropped. 0, or why it
 * could not be written. */
int outlet_drain(struct outlet *o, int patience_ms);

#endif
