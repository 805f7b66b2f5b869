/* SPDX-License-Identifier: MIT */
/* What a fuzz target defines: feeds one input to the code under test, which must neither crash nor
 * break a promise (assert). Returns 0. */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
