/* SPDX-License-Identifier: Apache-2.0 */
/* What the convolutions by warp groups share (conv_wgmma.cu, conv_wgmma_weights.cu):
 * how pixels lie in shared memory, and the way through the images.
 *
 * A spot is 8 x 8 pixels. They are kept as planes of 8 channels (16 bytes a pixel):
 * 8 pixels in a row are a core of wgmma.cuh, whether the sum goes over channels or over
 * pixels, and wherever they begin. So a tap is nothing but another place to begin. */
#ifndef VGG_CUDNN_CONV_WGMMA_CUH
#define VGG_CUDNN_CONV_WGMMA_CUH

#include "conv_mma.cuh"
#include "wgmma.cuh"

namespace vgg
{

/* Planes of rows x cols pixels. They lie so far apart that the chunks of a pixel, which
 * are written together, do not meet in a bank. */
template <int Channels, int Rows, int Cols> struct planes {
    static constexpr uint32_t chunks = Channels / 8;
    static constexpr uint32_t row = Cols * 16;

    static constexpr uint32_t apart()
    {
        const uint32_t shift = 128 / (chunks < 8 ? chunks : 8);
        uint32_t bytes = Rows * row;
        while (bytes % 128 != shift % 128) bytes += 16;
        return bytes;
    }

    static constexpr uint32_t plane = apart(),
                              bytes = (chunks * plane + 127) / 128 * 128;

    static __device__ __forceinline__ uint32_t place(uint32_t y, uint32_t x,
                                                     uint32_t chunk)
    {
        return chunk * plane + y * row + x * 16;
    }
};

/* Regions of 8 x Cols pixels, one after the other in steps. */
template <int Cols> struct journey {
    region at;
    uint32_t across, down; /* regions of an image */
    region step;           /* in regions */

    __device__ __forceinline__ journey(const vgg__conv_mma_args &args, uint32_t first,
                                       uint32_t by)
        : across((args.wd + Cols - 1) / Cols), down((args.h + SPOT - 1) / SPOT)
    {
        at = {first / across / down, first / across % down, first % across};
        step = {by / across / down, by / across % down, by % across};
    }

    __device__ __forceinline__ void next()
    {
        at.x += step.x;
        at.y += step.y;
        at.image += step.image;
        if (at.x >= across) at.x -= across, at.y++;
        if (at.y >= down) at.y -= down, at.image++;
    }

    __device__ __forceinline__ region place() const
    {
        return {at.image, at.y * SPOT, at.x * Cols};
    }

    /* The region behind it, which may be of an image that there is not. */
    __device__ __forceinline__ region behind() const
    {
        if (at.x + 1 < across) return {at.image, at.y * SPOT, (at.x + 1) * Cols};
        if (at.y + 1 < down) return {at.image, (at.y + 1) * SPOT, 0};
        return {at.image + 1, 0, 0};
    }
};

/* Pixels with a border, on their way to planes; zeros beside the image. */
template <int Channels, int Border, int Cols>
__device__ __forceinline__ void fetch_planes(const team &of, uint32_t to,
                                             const image &from, const region &at)
{
    constexpr int rows = SPOT + 2 * Border, cols = Cols + 2 * Border;
    using lay = planes<Channels, rows, cols>;
    const uint4 *const first = (const uint4 *)from.at;
    walk w(of, lay::chunks, cols);
#pragma unroll 1
    for (; w.y < rows; w.next(cols)) {
        /* may be -1, which is not below anything */
        const uint32_t y = at.y + w.y - Border, x = at.x + w.x - Border;
        const bool valid = y < from.h && x < from.w;
        copy_async<16>(to + lay::place(w.y, w.x, w.chunk),
                       valid ? first + from.chunk(at.image, y, x) + w.chunk : first,
                       valid);
    }
}

/* From windows to planes. */
template <int Channels, int Border, int Cols>
__device__ __forceinline__ void spread_planes(const team &of, uint8_t *to,
                                              const uint8_t *from)
{
    using lay = planes<Channels, SPOT + 2 * Border, Cols + 2 * Border>;
    spread<Border>(of, from, SPOT, Cols, Channels,
                   [=](uint32_t y, uint32_t x, uint32_t chunk) {
                       return to + lay::place(y, x, chunk);
                   });
}

/* ---- The host's side ------------------------------------------------------------- */

constexpr int CONV_WGMMA_GROUPS = 6; /* most of a block: 80 registers for each thread */

/* Columns of a region, by channels and a tile's group. */
uint32_t conv_wgmma_cols(bool forward, const vgg__conv_mma_args &args);

/* By a filled-in tile. */
const struct vgg__kernel *conv_wgmma_kernel(bool forward,
                                            const vgg__conv_mma_args &args);
size_t conv_wgmma_shared(bool forward, const vgg__conv_mma_args &args);
/* Weights: the one tile, and the blocks that make a row of partial sums together. */
bool conv_wgmma_weights_tile(const vgg__conv_mma_device &device,
                             vgg__conv_mma_args args, vgg__conv_mma_tile &found);
uint32_t conv_wgmma_weights_parts(const vgg__conv_mma_args &args);
const struct vgg__kernel *conv_wgmma_weights_kernel(const vgg__conv_mma_args &args);
size_t conv_wgmma_weights_shared(const vgg__conv_mma_args &args);

} // namespace vgg

#endif
