/* SPDX-License-Identifier: Apache-2.0 */
/* Matrix products by cuBLASLt, for linear layers.
 *
 * Matrices are row-major here: c[m][n] = alpha * a . b + beta * c, with a [m][k] or,
 * with `a_across`, [k][m]; b [k][n] or, with `b_across`, [n][k]. Sums are in float;
 * algorithms that add parts atomically are never taken. */
#ifndef VGG_CUDNN_MATMUL_H
#define VGG_CUDNN_MATMUL_H

#include "cudnn/cudnn.h"

struct vgg__matmul_shape {
    uint64_t m, n, k;
    bool a_across, b_across;
    enum vgg__type in, out;
    bool tf32;       /* of f32 inputs */
    bool accumulate; /* beta = 1 */
};

struct vgg__matmul {
    cublasLtMatmulDesc_t desc;
    cublasLtMatrixLayout_t a, b, c;
    cublasLtMatmulAlgo_t algo;
    size_t workspace;
    bool accumulate;
    char text[VGG__ALGORITHM]; /* which algorithm, for describe */
    float us;                  /* measured; 0: not */
};

/* How many algorithms to try: 1 takes the heuristics' first, of more the fastest is
 * taken and kept on disk. On failure nothing is held. `scratch` are matrices to try on,
 * of the right size (used when tries > 1). */
struct vgg__matmul_scratch {
    const void *a, *b;
    void *c;
};
vgg_status vgg__matmul_make(struct vgg__cudnn *device,
                            const struct vgg__matmul_shape *shape, uint32_t tries,
                            const struct vgg__matmul_scratch *scratch,
                            struct vgg__matmul *out);
void vgg__matmul_free(struct vgg__cudnn *device, struct vgg__matmul *matmul);

vgg_status vgg__matmul_run(struct vgg__cudnn *device, cudaStream_t stream,
                           const struct vgg__matmul *matmul,
                           const struct vgg__matmul_scratch *matrices);

#endif
