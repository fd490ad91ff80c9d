/* SPDX-License-Identifier: Apache-2.0 */
/* Inner loops that read the weights of linear layers: where they lie, in f32, or from a
 * copy in bf16 that takes half the memory.
 *
 * A row of the copy is cut into groups of twice the vector's lanes, the last one filled
 * up with zeros: a word of 32 bits holds element j of the group below and element
 * j + lanes above, so that a shift and a mask give two vectors in order. */
#ifndef VGG_CPU_KERNELS_LINEAR_H
#define VGG_CPU_KERNELS_LINEAR_H

#include "cpu/kernels.h"

#define VGG__DOTS 4 /* most rows and samples of a block of dot products */

/* Floats that a block of dot products keeps from one part of k to the next. */
#define VGG__DOTS_SUMS (VGG__DOTS * VGG__DOTS * 16)

/* out[n * out_row + i] = sum over l < k of row i of w times row n of x. May be computed
 * in parts of k, all but the last of which are a multiple of `group` below. */
struct vgg__dots {
    uint32_t rows, samples; /* 1 .. VGG__DOTS */
    const void *w;          /* float, or the copy */
    size_t w_row;           /* bytes */
    const float *x;
    size_t x_row, k;
    float *out;
    size_t out_row;
    float *sums;       /* VGG__DOTS_SUMS, what parts hand on; NULL: there is one part */
    bool begins, ends; /* with `sums`: it is the first, the last part */
    /* With `sums`: of which row the continuation is fetched; else of all. */
    uint32_t ahead;
};

/* A piece of w [rows][width] in f32, to be laid down anew: out[i * out_row + j] of a
 * segment of columns, segments being `segment_size` apart. A last segment that is not
 * full is filled up with zeros. */
struct vgg__slice {
    const void *w; /* float, or the copy; of that: from a group's beginning */
    size_t w_row;  /* bytes */
    size_t rows, width;
    float *out;
    size_t out_row;
    size_t segment, segment_size; /* the copy: one segment */
};

struct vgg__linear_kernels {
    uint32_t group; /* elements */
    void (*dots)(const struct vgg__dots *dots);
    void (*dots_bf16)(const struct vgg__dots *dots);
    void (*lay)(const struct vgg__slice *piece);
    void (*lay_bf16)(const struct vgg__slice *piece);
    /* A row of `count` elements to the copy, rounded to nearest even. */
    void (*pack_bf16)(const float *w, size_t count, uint32_t *out);
};

/* Bytes of a row of the copy. */
static inline size_t vgg__bf16_row(const struct vgg__linear_kernels *kernels,
                                   size_t count)
{
    return (count + kernels->group - 1) / kernels->group * kernels->group * 2;
}

#if defined(__x86_64__)
extern const struct vgg__linear_kernels vgg__linear_sse2;
extern const struct vgg__linear_kernels vgg__linear_avx2;
extern const struct vgg__linear_kernels vgg__linear_avx512;
#else
extern const struct vgg__linear_kernels vgg__linear_base;
#endif

#endif
