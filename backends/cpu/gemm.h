/* SPDX-License-Identifier: Apache-2.0 */
/* Single-precision matrix products for the tasks of the CPU engine: one entry, two
 * providers.
 *
 * The own kernel runs wherever the engine does. OpenBLAS is loaded at run time if the
 * policy asks for it and it can be loaded without risk to the host (blas.h). Which one
 * is taken is decided by a fixed rule when a device opens, never by timing. A product
 * runs in the calling thread alone, in scratch that the caller gives it: programs of a
 * device may run at once, so nothing here is written after it was opened. */
#ifndef VGG_CPU_GEMM_H
#define VGG_CPU_GEMM_H

#include "backend.h"
#include "cpu/blas.h"
#include "cpu/kernels.h"

/* What to open; the defaults are zeros and VGG_ISA_AVX512. */
struct vgg__gemm_options {
    uint32_t gemm;       /* vgg_gemm */
    uint32_t blas;       /* vgg_blas_policy */
    uint32_t workers;    /* products of one program that may run at once */
    uint32_t most;       /* enum vgg__isa: no kernels above it */
    const char *library; /* OpenBLAS' file; NULL: its usual name */
};

struct vgg__gemm {
    const struct vgg__kernels *kernels;
    const struct vgg__blas *blas; /* NULL: the own kernel */
    char text[160];               /* which provider, and why */
};

/* Floats that a product needs to pack in: a panel of B and a block of A. */
#define VGG__GEMM_SCRATCH (512 * 32 + 168 * 528)

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
    const struct vgg__descent *descent; /* not NULL: an update of c instead */
};

/* VGG_EDEVICE: OpenBLAS was asked for and can't be had, the text says why;
 * VGG_ENOMEM. */
vgg_status vgg__gemm_open(const vgg_host *host, const struct vgg__gemm_options *options,
                          struct vgg__gemm *out);
void vgg__gemm_close(struct vgg__gemm *gemm);

/* `scratch`: VGG__GEMM_SCRATCH floats that no other product uses at the same time. */
void vgg__gemm_run(const struct vgg__gemm *gemm, const struct vgg__product *product,
                   float *scratch);

/* The kernel on a block of C that may lie at the edge: rows and width are at most the
 * table's. */
void vgg__gemm_tile(const struct vgg__kernels *kernels, uint32_t rows, size_t width,
                    const struct vgg__tile *tile);

/* `height` rows of C by one panel of B, in blocks of about equal numbers of rows. What
 * is to be fetched ahead is divided among them if it is one row. */
void vgg__gemm_block(const struct vgg__kernels *kernels, size_t height, size_t width,
                     const struct vgg__tile *first);

/* A right-hand matrix that many products share is packed once. Floats that it takes;
 * SIZE_MAX: too many to say. */
size_t vgg__gemm_packed_count(const struct vgg__gemm *gemm, size_t k, size_t n);

/* Panels of a matrix of n columns: what can be packed at once by different tasks. */
size_t vgg__gemm_panels(const struct vgg__gemm *gemm, size_t n);

/* Where a panel lies: columns first .. first + width of row l are at out + l * row. */
struct vgg__panel {
    size_t first, width;
    float *out;
    size_t row;
    size_t zeros; /* floats after each row's `width` that must be zero */
};

struct vgg__panel vgg__gemm_panel(const struct vgg__gemm *gemm, size_t k, size_t n,
                                  size_t index, float *packed);

/* Pack a panel of product->b (k, n, b, b_row, b_col are read). */
void vgg__gemm_pack(const struct vgg__gemm *gemm, const struct vgg__product *product,
                    size_t index, float *packed);

#endif
