/* SPDX-License-Identifier: Apache-2.0 */
/* Planner of one arena: blocks with lifetimes share memory where they never live at
 * once.
 *
 * Time counts the calls of a program from 0. A block lives from `first` to `last`, both
 * included. Offsets are multiples of VGG_ALIGN. */
#ifndef VGG_COMMON_ARENA_H
#define VGG_COMMON_ARENA_H

#include "common/machine.h"

struct vgg__block {
    size_t size; /* bytes; 0: takes no room */
    uint32_t first, last;
    size_t offset; /* out */
};

/* Give every block an offset and say how many bytes all take together.
 * Greedy: the largest first, each into the smallest hole among those that live with it.
 * `order` is room for `count` numbers. VGG_ELIMIT: the sum does not fit in size_t. */
vgg_status vgg__arena_plan(const vgg_host *host, struct vgg__block *blocks,
                           uint32_t count, uint32_t *order, size_t *bytes);

#endif
