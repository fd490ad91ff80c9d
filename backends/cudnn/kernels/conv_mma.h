/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's own 3x3 convolutions of few channels, on tensor cores: where a layer is
 * bound by memory, what is fused with its products is what counts. Conventions are
 * those of kernels.h; everything is bf16 but biases and partial sums.
 *
 *   forward  y = relu(x * w + bias), and its 2x2 maximum; only what is left is written
 *   data     dx = mask(x > 0) (dz * w'), dz also as a pooled gradient and its winners
 *   weights  partial sums of dw and of the bias' gradient, from x and dz likewise
 *
 * First vgg__conv_mma_fit, then the other functions, then a launch. Taken are ic and oc
 * of 16, 32, 64 or 128; with `pool` even h and wd, and forward a ReLU; a compute
 * capability from 8.0 on. */
#ifndef VGG_CUDNN_CONV_MMA_H
#define VGG_CUDNN_CONV_MMA_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum vgg__conv_mma_what {
    VGG__CONV_MMA_FORWARD,
    VGG__CONV_MMA_DATA,
    VGG__CONV_MMA_WEIGHTS
};

/* Of cudaDeviceProp: major * 10 + minor, multiProcessorCount, sharedMemPerBlockOptin
 * and sharedMemPerMultiprocessor; and whether products of warp groups may be used,
 * which compute capability 9.0 alone has. */
struct vgg__conv_mma_device {
    uint32_t capability, multiprocessors;
    uint32_t shared_block, shared_multiprocessor; /* bytes */
    uint32_t wide;
};

/* How the work is cut: blocks take regions of rows x cols pixels in turn, for `group`
 * channels of the output. */
struct vgg__conv_mma_tile {
    uint32_t rows, cols, group;
    uint32_t warps, buffers; /* of a block */
    uint32_t wide;           /* 1: products of warp groups, four warps each (Hopper) */
    uint32_t blocks;
};

struct vgg__conv_mma_args {
    const void *x;     /* [n][h][wd][ic]; data: NULL, or what to mask by */
    const void *w;     /* [oc][3][3][ic] */
    const float *bias; /* [oc]; NULL: none */
    void *y;           /* [n][h][wd][oc], pooled: [n][h / 2][wd / 2][oc] */
    uint8_t *winner;   /* like y: place 0 .. 3 in the window; forward: NULL: not kept */
    const void *dy;    /* like y: the gradient before bias and ReLU, masked already */
    void *dx;          /* [n][h][wd][ic] */
    float *partial;    /* [blocks][oc * 9 * ic + oc], as vgg__conv_first_back_args */
    uint32_t n, h, wd, ic, oc;
    uint32_t relu, pool; /* pool: 1: by maximum; of equals the first wins */
    uint32_t rank; /* 0: the tile that should be the fastest; then the next best */
    struct vgg__conv_mma_tile tile; /* filled in by vgg__conv_mma_fit */
};

/* Choose the tile. 0: this shape or device is not taken, or there are not so many tiles
 * as `rank` says. Forward's and data's results do not depend on the tile; the order of
 * weights' sums does. */
int vgg__conv_mma_fit(enum vgg__conv_mma_what what,
                      const struct vgg__conv_mma_device *device,
                      struct vgg__conv_mma_args *args);
const struct vgg__kernel *vgg__conv_mma_kernel(enum vgg__conv_mma_what what,
                                               const struct vgg__conv_mma_args *args);
struct vgg__grid vgg__conv_mma_grid(enum vgg__conv_mma_what what,
                                    const struct vgg__conv_mma_args *args);
size_t vgg__conv_mma_shared(enum vgg__conv_mma_what what,
                            const struct vgg__conv_mma_args *args);

#ifdef __cplusplus
}
#endif

#endif
