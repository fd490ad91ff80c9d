/* SPDX-License-Identifier: Apache-2.0 */
/* What the two ways of cutting a convolution share (conv_mma_fit.cu by warps,
 * conv_wgmma_fit.cu by warp groups): what they know of a GPU. Host code alone. */
#ifndef VGG_CUDNN_CONV_MMA_FIT_CUH
#define VGG_CUDNN_CONV_MMA_FIT_CUH

#include "conv_mma.h"

namespace vgg
{

/* A tile, and the cycles that it should take; -1: none. */
struct candidate {
    vgg__conv_mma_tile tile;
    double cycles;
};

constexpr uint32_t RESERVED = 1024 + 128; /* shared memory of a block besides its own */
constexpr double LATENCY = 1500;          /* cycles, of global memory */

/* Instructions of a thread for each 16 bytes that it fetches or window that it
 * spreads. */
constexpr double FETCH = 35, SPREAD = 80;

inline double most_of(double a, double b)
{
    return a > b ? a : b;
}

/* Tiles of warp groups that could be taken, in `found`: how many. */
constexpr uint32_t MOST_WIDE = 2;
uint32_t conv_wgmma_tiles(enum vgg__conv_mma_what what,
                          const vgg__conv_mma_device &device, vgg__conv_mma_args args,
                          candidate (&found)[MOST_WIDE]);

} // namespace vgg

#endif
