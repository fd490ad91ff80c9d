/* SPDX-License-Identifier: Apache-2.0 */
/* Vectors of the instruction set that a file of kernels is compiled for. For these
 * files alone: what is here differs from one compilation of them to the next. */
#ifndef VGG_CPU_VECTOR_H
#define VGG_CPU_VECTOR_H

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

static inline vec load(const float *x)
{
    return *(const loose *)x;
}

static inline void store(float *x, vec v)
{
    *(loose *)x = v;
}

/* Sum of the lanes, in their order. */
static inline float lanes(vec v)
{
    float sum = v[0];
    for (int i = 1; i < LANES; i++) sum += v[i];
    return sum;
}

#endif
