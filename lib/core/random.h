/* SPDX-License-Identifier: Apache-2.0 */
/* Random numbers without state: Philox4x32-10 (Salmon et al., "Parallel random numbers:
 * as easy as 1, 2, 3", SC 2011). A number depends on (seed, purpose, step, index)
 * alone, so it is the same on every engine, for every batch split and thread count, and
 * needs nothing in a checkpoint. */
#ifndef VGG_CORE_RANDOM_H
#define VGG_CORE_RANDOM_H

#include <stdint.h>

/* What numbers are drawn for: 16 bits, so that no two uses share a stream. */
enum {
    VGG_RANDOM_INIT = 0x0100,    /* step = parameter's index, index = element / 4 */
    VGG_RANDOM_SHUFFLE = 0x0200, /* step = epoch, index = position */
    VGG_RANDOM_AUGMENT = 0x0300, /* step = epoch, index = sample * 16 + draw */
    VGG_RANDOM_DROPOUT = 0x8000  /* + the layer's index; step = optimiser step,
                                    index = canonical [n][c][h][w] element / 4 */
};

/* Four words of 32 random bits. key = seed; counter = index (64), step (48), purpose
 * (16). */
static inline void vgg__random(uint64_t seed, uint32_t purpose, uint64_t step,
                               uint64_t index, uint32_t out[4])
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    uint32_t c0 = (uint32_t)index, c1 = (uint32_t)(index >> 32), c2 = (uint32_t)step;
    uint32_t c3 = (uint32_t)(step >> 32) << 16 | (purpose & 0xffff);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)c0 * 0xD2511F53u, p1 = (uint64_t)c2 * 0xCD9E8D57u;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* A word as a number in [0, 1), a multiple of 2^-24: exact in float. */
static inline float vgg__uniform(uint32_t word)
{
    return (float)(word >> 8) * 0x1p-24f;
}

#endif
