/* SPDX-License-Identifier: Apache-2.0 */
/* Fisher and Yates' shuffle, with numbers that are drawn anew where taking one would
 * prefer some places (Lemire, "Fast random integer generation in an interval",
 * 2019). */
#include "data/shuffle.h"

#include "core/random.h"

/* 0 to count - 1, all equally likely. A round gives four words, each of which is
 * refused with a chance of count / 2^32 at most, so a second round is rare. */
static uint32_t draw_below(uint64_t seed, uint64_t epoch, uint32_t position,
                           uint32_t count)
{
    const uint32_t biased = -count % count; /* 2^32 mod count products are too many */
    for (uint64_t round = 0;; round++) {
        uint32_t word[4];
        vgg__random(seed, VGG_RANDOM_SHUFFLE, epoch, round << 32 | position, word);
        for (int i = 0; i < 4; i++) {
            const uint64_t product = (uint64_t)word[i] * count;
            if ((uint32_t)product >= biased) return (uint32_t)(product >> 32);
        }
    }
}

void vgg__shuffle(uint64_t seed, uint64_t epoch, uint32_t *order, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) order[i] = i;
    for (uint32_t last = count; last-- > 1;) {
        const uint32_t chosen = draw_below(seed, epoch, last, last + 1);
        const uint32_t kept = order[last];
        order[last] = order[chosen];
        order[chosen] = kept;
    }
}
