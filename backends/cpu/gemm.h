/* SPDX-License-Identifier: Apache-2.0 */
/* Single-precision matrix products for the tasks of the CPU engine: one entry, two
 * providers.
 *
 * The own kernel runs wherever the engine does. OpenBLAS is loaded at run time if the
 * policy asks for it and it can be loaded without risk to the host (blas.h). Which one
 * is taken is decided by a fixed rule when a device opens, never by timing. A product
 * runs in the calling worker alone, and its result does not depend on the worker. */
#ifndef VGG_CPU_GEMM_H
#define VGG_CPU_GEMM_H

#include "backend.h"
#include "cpu/blas.h"
#include "cpu/kernels.h"

/* What to open; the defaults are zeros and VGG_ISA_AVX512. */
struct vgg__gemm_options {
    uint32_t gemm;    /* vgg_gemm */
    uint32_t blas;    /* vgg_blas_policy */
    uint32_t workers; /* products that may run at once, each with a number below it */
    uint32_t most;    /* enum vgg__isa: no kernels above it */
    const char *library; /* OpenBLAS' file; NULL: its usual name */
};

struct vgg__gemm {
    const struct vgg__kernels *kernels;
    const struct vgg__blas *blas; /* NULL: the own kernel */
    float *scratch;               /* a packing area a worker */
    void (*release)(void *memory);
    char text[160]; /* which provider, and why */
};

/* c[m][n] (+)= a * b, everything row-major. a's element (i, l) is at a[i * a_row +
 * l * a_col] and b's (l, j) at b[l * b_row + j * b_col]; one stride of each is 1. */
struct vgg__product {
    size_t m, n, k;
    const float *a;
    size_t a_row, a_col;
    const float *b; /* packed: what vgg__gemm_pack() made for these n and k */
    size_t b_row, b_col;
    bool packed; /* then b's strides have no meaning */
    float *c;    /* must not overlap a and b */
    size_t c_row;
    bool accumulate;
};

/* VGG_EDEVICE: OpenBLAS was asked for and can't be had, the text says why; VGG_ENOMEM.
 */
vgg_status vgg__gemm_open(const vgg_host *host, const struct vgg__gemm_options *options,
                          struct vgg__gemm *out);
void vgg__gemm_close(struct vgg__gemm *gemm);

void vgg__gemm_run(const struct vgg__gemm *gemm, uint32_t worker,
                   const struct vgg__product *product);

/* A right-hand matrix that many products share is packed once. Floats that it takes;
 * SIZE_MAX: too many to say. */
size_t vgg__gemm_packed_count(const struct vgg__gemm *gemm, size_t k, size_t n);

/* Pack panels [first, first + count) of product->b (k, n, b, b_row, b_col are read). */
void vgg__gemm_pack(const struct vgg__gemm *gemm, const struct vgg__product *product,
                    size_t first, size_t count, float *out);

/* Panels of a matrix of n columns: what can be packed at once by different tasks. */
size_t vgg__gemm_panels(const struct vgg__gemm *gemm, size_t n);

#endif
