/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a convolution in its inner loop: bias, ReLU and 2x2 pooling of a tile that
 * is still in registers. For the kernels' sources alone. */
#ifndef VGG_CPU_KERNELS_FINISH_H
#define VGG_CPU_KERNELS_FINISH_H

#include "backend.h"
#include "cpu/vector.h"

INLINE size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* The part of a tile that lies in the map, and its channels. */
struct place {
    const struct vgg__output *to;
    size_t top, left, rows, cols, i, channels;
    vec bias;
    vec floor; /* what is not above it is zero: 0 for a ReLU; NaN, and nothing is */
};

/* Of a panel's channels i and up to LANES - 1 more, in all tiles. */
INLINE struct place place_of(const struct vgg__output *to, size_t i)
{
    struct place at = {.to = to, .i = i, .channels = to->width - i};
    if (to->bias) at.bias = load_some(to->bias + i, at.channels);
    at.floor = (vec){0} + (to->relu ? 0 : __builtin_nanf(""));
    return at;
}

INLINE vec rectified(const struct place *at, vec v)
{
    return (vec)((mask)v & ~(v <= at->floor));
}

INLINE void put_plain(const int m, const struct place *at, vec y[4][4])
{
    const struct vgg__output *f = at->to;
#pragma GCC unroll 4
    for (int r = 0; r < m; r++)
#pragma GCC unroll 4
        for (int s = 0; s < m; s++) {
            if ((size_t)r >= at->rows || (size_t)s >= at->cols) continue;
            const size_t pixel = (at->top + (size_t)r) * f->w + at->left + (size_t)s;
            float *to = f->y + pixel * f->c;
            store_some(to + at->i, rectified(at, y[r][s] + at->bias), at->channels);
        }
}

/* The first of equals wins, and NaN over numbers, the last over the others. Maximum
 * comes before bias and ReLU: they are monotone and so is rounding. */
INLINE vec maximum(const struct place *at, const vec v[4], mask *kept)
{
    vec best = v[0];
    mask place = {0};
#pragma GCC unroll 4
    for (int i = 1; i < 4; i++) {
        const mask take = (v[i] > best) | (v[i] != v[i]);
        best = (vec)(((mask)v[i] & take) | ((mask)best & ~take));
        place = ((i - (mask){0}) & take) | (place & ~take);
    }
    best += at->bias;
    *kept = place | (best <= at->floor);
    return rectified(at, best);
}

INLINE vec average(const struct place *at, const vec v[4], mask *kept)
{
    vec sum = {0};
    mask passed = {0};
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        const vec x = v[i] + at->bias;
        passed |= ~(x <= at->floor) & (1 << i);
        sum += rectified(at, x);
    }
    *kept = passed;
    return sum * 0.25f;
}

INLINE void put_pooled(const int m, const bool max, const struct place *at, vec y[4][4])
{
    const struct vgg__output *f = at->to;
#pragma GCC unroll 2
    for (int r = 0; r < m; r += 2)
#pragma GCC unroll 2
        for (int s = 0; s < m; s += 2) {
            if ((size_t)r + 1 >= at->rows || (size_t)s + 1 >= at->cols) continue;
            const vec v[4] = {y[r][s], y[r][s + 1], y[r + 1][s], y[r + 1][s + 1]};
            const size_t p =
                ((at->top + (size_t)r) / 2 * (f->w / 2) + (at->left + (size_t)s) / 2) *
                    f->c +
                at->i;
            mask kept;
            store_some(f->y + p, max ? maximum(at, v, &kept) : average(at, v, &kept),
                       at->channels);
            if (f->kept) narrow_some(f->kept + p, kept, at->channels);
        }
}

/* `m` and `pool` are constants. */
INLINE void put_tile(const int m, const uint32_t pool, const struct place *at,
                     vec y[4][4])
{
    if (pool == VGG_NO_POOL)
        put_plain(m, at, y);
    else
        put_pooled(m, pool == VGG_MAX_POOL, at, y);
}

#endif
