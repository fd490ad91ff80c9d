/* SPDX-License-Identifier: Apache-2.0 */
/* What the suites run on. Every set of test programs links a list of its own: the
 * host's engines here, a GPU's elsewhere. */
#ifndef VGG_TEST_TARGETS_H
#define VGG_TEST_TARGETS_H

#include "session.h"

enum { MOST_TARGETS = 8 };

extern const struct target targets[];
extern const uint32_t target_count; /* at most MOST_TARGETS */

/* Make `target` differ in what must not change a result: threads, or the order of work
 * that does not wait for each other. `round` counts from 0, of TARGET_ROUNDS. */
enum { TARGET_ROUNDS = 4 };
void target_vary(struct target *target, uint32_t round);

#endif
