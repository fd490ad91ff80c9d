/* SPDX-License-Identifier: Apache-2.0 */
/* Linear layers' inner loops in portable vector extensions, compiled once per
 * instruction set as kernels.c is. A dot product is a sum in each lane, in the order of
 * k, then over the lanes, whatever block it is computed in. */
#include "cpu/kernels_linear.h"

#include <string.h>

#include "cpu/vector.h"

/* Bytes from what is read to what is fetched: what memory delivers while it answers. */
#define AHEAD 2048

typedef uint32_t words __attribute__((vector_size(VEC_BYTES)));
typedef uint32_t loose_words __attribute__((vector_size(VEC_BYTES), aligned(4)));

/* Two vectors of a row's group. */
struct pair {
    vec low, high;
};

static inline struct pair load_f32(const char *w)
{
    return (struct pair){load((const float *)w), load((const float *)w + LANES)};
}

static inline struct pair load_bf16(const char *w)
{
    const words v = *(const loose_words *)w;
    return (struct pair){(vec)(v << 16), (vec)(v & 0xffff0000u)};
}

static inline float *sums_at(const struct vgg__dots *d, int i, int n)
{
    return d->sums + (n * VGG__DOTS + i) * 16;
}

/* Sum over lanes, and over what does not fill a group; a row's `w` is behind the last
 * whole one. */
static void end_dot(const struct vgg__dots *d, bool half, const char *w, vec sum, int i,
                    int n)
{
    const size_t rest = d->k % (2 * LANES);
    const float *x = d->x + (size_t)n * d->x_row + d->k - rest;
    float tail[2 * LANES] = {0}, total = lanes(sum);
    if (rest > 0 && half) {
        const struct pair v = load_bf16(w);
        store(tail, v.low);
        store(tail + LANES, v.high);
    } else {
        memcpy(tail, w, rest * sizeof(float));
    }
    for (size_t l = 0; l < rest; l++) total += tail[l] * x[l];
    d->out[(size_t)n * d->out_row + (size_t)i] = total;
}

/* All but `d` are constants at every call. */
static inline __attribute__((always_inline)) void
part_of(const int rows, const int samples, const bool half, const bool parts,
        const struct vgg__dots *d)
{
    vec sum[VGG__DOTS][VGG__DOTS];
    const char *w[VGG__DOTS], *ahead = d->w;
    const size_t step = half ? VEC_BYTES : 2 * VEC_BYTES;
    const size_t groups = d->k / (2 * LANES);
    const float *x = d->x;
    if (parts) ahead += d->ahead * d->w_row + d->k * (half ? 2 : sizeof(float));
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++) {
        w[i] = (const char *)d->w + (size_t)i * d->w_row;
#pragma GCC unroll 4
        for (int n = 0; n < samples; n++)
            sum[i][n] = parts && !d->begins ? load(sums_at(d, i, n)) : (vec){0};
    }
    for (size_t l = 0; l < groups; l++, x += 2 * LANES) {
        struct pair v[VGG__DOTS];
        if (parts) {
            for (size_t at = 0; at < step; at += 64) __builtin_prefetch(ahead + at);
            ahead += step;
        }
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++) {
            for (size_t at = 0; at < step && !parts; at += 64)
                __builtin_prefetch(w[i] + AHEAD + at);
            v[i] = half ? load_bf16(w[i]) : load_f32(w[i]);
            w[i] += step;
        }
#pragma GCC unroll 4
        for (int n = 0; n < samples; n++) {
            const vec low = load(x + (size_t)n * d->x_row);
            const vec high = load(x + (size_t)n * d->x_row + LANES);
#pragma GCC unroll 4
            for (int i = 0; i < rows; i++) {
                sum[i][n] += v[i].low * low;
                sum[i][n] += v[i].high * high;
            }
        }
    }
    for (int i = 0; i < rows; i++)
        for (int n = 0; n < samples; n++)
            if (parts && !d->ends)
                store(sums_at(d, i, n), sum[i][n]);
            else
                end_dot(d, half, w[i], sum[i][n], i, n);
}

static inline __attribute__((always_inline)) void
dots_of(const int rows, const int samples, const bool half, const struct vgg__dots *d)
{
    if (d->sums)
        part_of(rows, samples, half, true, d);
    else
        part_of(rows, samples, half, false, d);
}

static inline __attribute__((always_inline)) void dots_any(const bool half,
                                                           const struct vgg__dots *d)
{
    if (d->rows == 4 && d->samples == 1) {
        dots_of(4, 1, half, d);
    } else if (d->rows == 4 && d->samples == 2) {
        dots_of(4, 2, half, d);
    } else if (d->rows == 4 && d->samples == 3) {
        dots_of(4, 3, half, d);
    } else if (d->rows == 4 && d->samples == 4 && ROWS == 14) {
        dots_of(4, 4, half, d);
    } else {
        struct vgg__dots one = *d; /* at the last rows, or for want of registers */
        const uint32_t rows = d->rows == 4 ? 4 : 1, samples = rows == 4 ? 2 : 1;
        for (uint32_t i = 0; i < d->rows; i += rows)
            for (uint32_t n = 0; n < d->samples; n += samples) {
                one.w = (const char *)d->w + i * d->w_row;
                one.x = d->x + n * d->x_row;
                one.out = d->out + n * d->out_row + i;
                if (d->sums) one.sums = sums_at(d, (int)i, (int)n);
                if (rows == 4)
                    dots_of(4, 2, half, &one);
                else
                    dots_of(1, 1, half, &one);
            }
    }
}

static void dots(const struct vgg__dots *d)
{
    dots_any(false, d);
}

static void dots_bf16(const struct vgg__dots *d)
{
    dots_any(true, d);
}

static inline void lay_row(const float *from, size_t count, float *to, size_t full)
{
    size_t j = 0;
    for (; j + LANES <= count; j += LANES) store(to + j, load(from + j));
    for (; j < count; j++) to[j] = from[j];
    for (; j < full; j++) to[j] = 0;
}

static void lay(const struct vgg__slice *p)
{
    for (size_t i = 0; i < p->rows; i++) {
        const float *w = (const float *)((const char *)p->w + i * p->w_row);
        float *out = p->out + i * p->out_row;
        for (size_t j = 0; j < p->width; j += p->segment, out += p->segment_size) {
            const size_t left = p->width - j;
            lay_row(w + j, left < p->segment ? left : p->segment, out, p->segment);
        }
    }
}

/* Writes whole groups: a row of `out` has room for them. */
static void lay_bf16(const struct vgg__slice *p)
{
    for (size_t i = 0; i < p->rows; i++) {
        const char *w = (const char *)p->w + i * p->w_row;
        float *out = p->out + i * p->out_row;
        for (size_t j = 0; j < p->width; j += 2 * LANES, w += VEC_BYTES) {
            const struct pair v = load_bf16(w);
            store(out + j, v.low);
            store(out + j + LANES, v.high);
        }
    }
}

static uint32_t rounded(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    if ((u & 0x7fffffff) > 0x7f800000) return u >> 16 | 0x40; /* NaN stays one */
    return (u + 0x7fff + (u >> 16 & 1)) >> 16;
}

static void pack_bf16(const float *w, size_t count, uint32_t *out)
{
    for (size_t l = 0; l < count; l += 2 * LANES, out += LANES)
        for (size_t j = 0; j < LANES; j++) {
            const uint32_t low = l + j < count ? rounded(w[l + j]) : 0;
            const uint32_t high = l + j + LANES < count ? rounded(w[l + j + LANES]) : 0;
            out[j] = high << 16 | low;
        }
}

const struct vgg__linear_kernels VGG_LINEAR_KERNELS = {
    .group = 2 * LANES,
    .dots = dots,
    .dots_bf16 = dots_bf16,
    .lay = lay,
    .lay_bf16 = lay_bf16,
    .pack_bf16 = pack_bf16,
};
