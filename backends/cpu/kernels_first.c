/* SPDX-License-Identifier: Apache-2.0 */
/* Inner loops of a network's first convolution; compiled once per instruction set. A
 * vector holds output channels of one pixel; every input is splat over it. */
#include "cpu/first.h"

#include "cpu/kernels_finish.h"

#define BLOCK VGG__FIRST_BLOCK

/* ---- Forward --------------------------------------------------------------- */

/* A row's three taps of an input channel: every input is splat once for all of them. */
INLINE void add_row(const struct vgg__first *f, const size_t ic, const float *x,
                    const float *weight, size_t w_row, vec sum[2][BLOCK])
{
    vec w[3];
#pragma GCC unroll 3
    for (size_t t = 0; t < 3; t++) w[t] = load(weight + t * ic * w_row);
#pragma GCC unroll 2
    for (size_t r = 0; r < 2; r++)
#pragma GCC unroll 8
        for (size_t q = 0; q < BLOCK + 2; q++) {
            const vec v = x[r * f->row + q * ic] - (vec){0};
#pragma GCC unroll 3
            for (size_t t = 0; t < 3; t++)
                if (q >= t && q - t < BLOCK) sum[r][q - t] += v * w[t];
        }
}

/* Sums of 2 x BLOCK pixels. The loops over rows and channels stay loops: unrolled,
 * compilers compute every pixel just where it is stored, one long chain of sums after
 * the other. */
INLINE void sum_block(const struct vgg__first *f, const size_t ic, const float *x,
                      const float *weight, size_t w_row, vec sum[2][BLOCK])
{
#pragma GCC unroll 2
    for (int r = 0; r < 2; r++)
#pragma GCC unroll 4
        for (int p = 0; p < BLOCK; p++) sum[r][p] = (vec){0};
#pragma GCC unroll 1
    for (size_t kh = 0; kh < 3; kh++, x += f->row, weight += 3 * ic * w_row)
#pragma GCC unroll 1
        for (size_t l = 0; l < ic; l++)
            add_row(f, ic, x + l, weight + l * w_row, w_row, sum);
}

INLINE void forward_of(const struct vgg__first *f, const size_t ic, const uint32_t pool,
                       const float *weight, size_t w_row,
                       const struct vgg__output *output)
{
    for (size_t i = 0; i < output->width; i += LANES) {
        struct place at = place_of(output, i);
        at.top = f->y;
        at.rows = least(2, output->h - f->y);
        for (size_t x = 0; x < output->w; x += BLOCK) {
            vec sum[2][BLOCK];
            sum_block(f, ic, f->x + x * ic, weight + i, w_row, sum);
#pragma GCC unroll 2
            for (size_t half = 0; half < BLOCK; half += 2) {
                vec y[4][4] = {{sum[0][half], sum[0][half + 1]},
                               {sum[1][half], sum[1][half + 1]}};
                if (x + half >= output->w) continue;
                at.left = x + half;
                at.cols = least(2, output->w - at.left);
                put_tile(2, pool, &at, y);
            }
        }
    }
}

/* Images are grey or in three colours: then distances between pixels are constants. */
INLINE void forward_pooled(const struct vgg__first *f, const uint32_t pool,
                           const float *weight, size_t w_row,
                           const struct vgg__output *output)
{
    if (f->ic == 1)
        forward_of(f, 1, pool, weight, w_row, output);
    else if (f->ic == 3)
        forward_of(f, 3, pool, weight, w_row, output);
    else
        forward_of(f, f->ic, pool, weight, w_row, output);
}

static void forward(const struct vgg__first *f, const float *weight, size_t w_row,
                    const struct vgg__output *output)
{
    switch (output->pool) {
    case VGG_NO_POOL:
        forward_pooled(f, VGG_NO_POOL, weight, w_row, output);
        break;
    case VGG_MAX_POOL:
        forward_pooled(f, VGG_MAX_POOL, weight, w_row, output);
        break;
    default:
        forward_pooled(f, VGG_AVERAGE_POOL, weight, w_row, output);
        break;
    }
}

/* ---- Gradients of the weights ---------------------------------------------- */

/* dY of the 2x2 pixels from column x on. */
INLINE void read_pooled(const struct vgg__source *s, size_t y, size_t x, vec d[4])
{
    const size_t h = s->h / 2, w = s->w / 2;
    vec g = {0};
    mask kept = {0};
    if (y / 2 < h && x / 2 < w) {
        const size_t at = (y / 2 * w + x / 2) * s->c;
        g = load_some(s->x + at, s->channels);
        kept = widen_some(s->kept + at, s->channels);
    }
    if (s->kind == VGG__AVERAGE_POOLED) g *= 0.25f;
#pragma GCC unroll 4
    for (int place = 0; place < 4; place++) {
        const mask take =
            s->kind == VGG__MAX_POOLED ? kept == place : (kept & (1 << place)) != 0;
        d[place] = (vec)((mask)g & take);
    }
}

INLINE void read_plain(const struct vgg__source *s, size_t y, size_t x, vec d[4])
{
    for (size_t place = 0; place < 4; place++) {
        const size_t r = y + place / 2, c = x + place % 2;
        d[place] = (vec){0};
        if (r >= s->h || c >= s->w) continue;
        const size_t at = (r * s->w + c) * s->c;
        d[place] = load_some(s->x + at, s->channels);
        if (s->kind == VGG__MASKED)
            d[place] = masked(d[place], load_some(s->y + at, s->channels));
    }
}

/* The nine sums of input channel l, held in registers along the two rows. */
INLINE void weights_of(const struct vgg__first *f, const size_t ic, const bool pooled,
                       const struct vgg__source *dy, size_t l, float *sums)
{
    vec sum[9], all = {0};
    for (int t = 0; t < 9; t++) sum[t] = (vec){0};
    for (size_t x = 0; x < dy->w; x += 2) {
        vec d[4];
        if (pooled)
            read_pooled(dy, f->y, x, d);
        else
            read_plain(dy, f->y, x, d);
        const float *in = f->x + x * ic + l;
#pragma GCC unroll 4
        for (size_t p = 0; p < 4; p++)
#pragma GCC unroll 9
            for (size_t t = 0; t < 9; t++)
                sum[t] +=
                    (in[(p / 2 + t / 3) * f->row + (p % 2 + t % 3) * ic] - (vec){0}) *
                    d[p];
        all += (d[0] + d[1]) + (d[2] + d[3]);
    }
    for (size_t t = 0; t < 9; t++) store(sums + (t * ic + l) * LANES, sum[t]);
    store(sums + 9 * ic * LANES, all);
}

static void weights(const struct vgg__first *f, const struct vgg__source *dy,
                    float *sums)
{
    const bool pooled = dy->kind >= VGG__MAX_POOLED;
    for (size_t l = 0; l < f->ic; l++) {
        if (f->ic == 1 && pooled)
            weights_of(f, 1, true, dy, 0, sums);
        else if (pooled)
            weights_of(f, f->ic, true, dy, l, sums);
        else
            weights_of(f, f->ic, false, dy, l, sums);
    }
}

const struct vgg__first_kernels VGG_FIRST_KERNELS = {.forward = forward,
                                                     .weights = weights};
