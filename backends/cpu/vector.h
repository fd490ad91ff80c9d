/* SPDX-License-Identifier: Apache-2.0 */
/* Vectors of the instruction set that a file of kernels is compiled for. For these
 * files alone: what is here differs from one compilation of them to the next. */
#ifndef VGG_CPU_VECTOR_H
#define VGG_CPU_VECTOR_H

#include <string.h>

#include "cpu/kernels.h"

/* Rows of a block of C: its sums, two columns of B and one splat fill the registers. */
#if defined(__AVX512F__)
#define VEC_BYTES 64
#define ROWS      14 /* 28 sums, two columns of B, one splat: 31 of 32 registers */
#define ISA       VGG_ISA_AVX512
#elif defined(__AVX2__)
#define VEC_BYTES 32
#define ROWS      6 /* 12 + 2 + 1 of 16 registers */
#define ISA       VGG_ISA_AVX2
#elif defined(__aarch64__)
#define VEC_BYTES 16
#define ROWS      14
#define ISA       VGG_ISA_BASE
#else
#define VEC_BYTES 16
#define ROWS      6
#define ISA       VGG_ISA_BASE
#endif
#define LANES (VEC_BYTES / 4)

typedef float vec __attribute__((vector_size(VEC_BYTES)));
typedef float loose __attribute__((vector_size(VEC_BYTES), aligned(4))); /* in memory */
typedef int32_t mask __attribute__((vector_size(VEC_BYTES)));

typedef uint8_t bytes __attribute__((vector_size(LANES), aligned(1)));

/* For functions whose parameters are constants at every call. */
#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *x)
{
    return *(const loose *)x;
}

INLINE void store(float *x, vec v)
{
    *(loose *)x = v;
}

/* `count` of LANES elements; the others are zero. */
INLINE vec load_some(const float *x, size_t count)
{
    vec v = {0};
    if (count >= LANES) return load(x);
    for (size_t i = 0; i < count; i++) v[i] = x[i];
    return v;
}

INLINE void store_some(float *x, vec v, size_t count)
{
    if (count >= LANES)
        store(x, v);
    else
        for (size_t i = 0; i < count; i++) x[i] = v[i];
}

/* v, but zero where y <= 0. */
INLINE vec masked(vec v, vec y)
{
    return (vec)((mask)v & ~(y <= 0));
}

/* max(v, 0); NaN stays NaN. */
INLINE vec positive(vec v)
{
    return masked(v, v);
}

/* Written as a loop: GCC 12 converts vectors of bytes one by one. */
INLINE mask widen(const uint8_t *from)
{
    int32_t wide[LANES];
    for (int i = 0; i < LANES; i++) wide[i] = from[i];
    mask out;
    memcpy(&out, wide, sizeof(out));
    return out;
}

INLINE mask widen_some(const uint8_t *from, size_t count)
{
    mask out = {0};
    if (count >= LANES) return widen(from);
    for (size_t i = 0; i < count; i++) out[i] = from[i];
    return out;
}

INLINE void narrow_some(uint8_t *to, mask v, size_t count)
{
    if (count >= LANES)
        *(bytes *)to = __builtin_convertvector(v, bytes);
    else
        for (size_t i = 0; i < count; i++) to[i] = (uint8_t)v[i];
}

/* Sum of the lanes, in their order. */
static inline float lanes(vec v)
{
    float sum = v[0];
    for (int i = 1; i < LANES; i++) sum += v[i];
    return sum;
}

#endif
