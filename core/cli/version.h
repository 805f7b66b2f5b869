/* SPDX-License-Identifier: MIT */
#ifndef CLI_VERSION_H
#define CLI_VERSION_H

/* Set by CMake from the project's version. */
#ifndef ORCH_VERSION
#define ORCH_VERSION "unknown"
#endif

#endif
