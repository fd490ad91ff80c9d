/* SPDX-License-Identifier: Apache-2.0 */
/* The order of the samples in an epoch: a function of seed and epoch alone, so that a
 * training can go on in any epoch without a state to restore. */
#ifndef VGG_DATA_SHUFFLE_H
#define VGG_DATA_SHUFFLE_H

#include <stdint.h>

/* Fill order[0] to order[count - 1] with a permutation of 0 to count - 1, every one
 * with the same chance. */
void vgg__shuffle(uint64_t seed, uint64_t epoch, uint32_t *order, uint32_t count);

#endif
