/* SPDX-License-Identifier: Apache-2.0 */
/* OpenBLAS, loaded at run time and only when nothing can go wrong for the host.
 *
 * Why not link it: its constructor starts a thread a processor before main() and raises
 * SIGINT when it can't; without 128 MiB of address space a caller its first product
 * never returns; its thread count is one number for the whole process; and it may have
 * chosen kernels far below what the processor can do. So: probe first, load second,
 * hold it at one thread, and leave an OpenBLAS that the host has loaded alone unless it
 * says otherwise. */
#ifndef VGG_CPU_BLAS_H
#define VGG_CPU_BLAS_H

#include <stdbool.h>
#include <vgg/context.h>

struct vgg__blas;

/* Bytes of "OpenBLAS 0.3.21, pthread build, core Zen", or of why there is none. */
#define VGG_BLAS_TEXT 128

struct vgg__blas_product { /* as cblas_sgemm, row-major */
    bool ta, tb;
    int m, n, k;
    const float *a;
    int lda;
    const float *b;
    int ldb;
    float *c;
    int ldc;
    float alpha, beta;
};

/* Load it, or find it loaded, for `workers` callers at once. `library`: NULL for its
 * usual name. *out is NULL when there is none: text says why. VGG_ENOMEM: no
 * room for its buffers. Does not set the thread's error text. */
vgg_status vgg__blas_take(const char *library, uint32_t policy, uint32_t workers,
                          const struct vgg__blas **out, char text[VGG_BLAS_TEXT]);

/* Give back: a host's own OpenBLAS gets its thread count back with the last user. It is
 * never unloaded. */
void vgg__blas_leave(const struct vgg__blas *blas);

void vgg__blas_run(const struct vgg__blas *blas,
                   const struct vgg__blas_product *product);

#endif
