/* SPDX-License-Identifier: Apache-2.0 */
/* What the convolutions of conv_mma.h share: how pixels lie in shared memory, regions
 * of an image, and filling them.
 *
 * A region of rows x cols pixels is kept with a border of one pixel, as [rows + 2]
 * [cols + 2] pixels, so that the nine taps are nine offsets. Products read 8 pixels of
 * a row at once, 16 bytes (a chunk) of each: chunk c of column x lies at place
 * c ^ turn(x), so that 8 in a row never meet in a bank. */
#ifndef VGG_CUDNN_CONV_MMA_CUH
#define VGG_CUDNN_CONV_MMA_CUH

#include "conv_mma.h"
#include "mma.cuh"

namespace vgg
{

constexpr int SPOT = 8;        /* a warp's part of a region: 8 x 8 pixels */
constexpr int MOST_WARPS = 16; /* of a multiprocessor: 128 registers for each thread */

/* Of so many channels: 16, 32, 64 or 128. */
template <int Channels> struct layout {
    static constexpr uint32_t chunks = Channels / 8, pitch = Channels * 2;
    static_assert(chunks == 2 || chunks == 4 || chunks == 8 || chunks == 16, "taken");

    static __device__ __forceinline__ constexpr uint32_t turn(uint32_t item)
    {
        return chunks == 2 ? item / 4 % 2 : chunks == 4 ? item / 2 % 4 : item % 8;
    }

    /* Offset of a chunk in an item (a pixel, a row of matrices). */
    static __device__ __forceinline__ constexpr uint32_t place(uint32_t item,
                                                               uint32_t chunk)
    {
        return item * pitch + ((chunk ^ turn(item)) << 4);
    }
};

/* Channels that a warp makes at once, in tiles of 8: 32 where that divides them. */
__host__ __device__ __forceinline__ uint32_t tiles_of(uint32_t channels)
{
    return channels % 32 == 0 ? 4 : 2;
}

/* ---- Regions --------------------------------------------------------------------- */

struct region {
    uint32_t image, y, x; /* of its first pixel */
};

__host__ __device__ __forceinline__ uint32_t regions_of(const vgg__conv_mma_args &args)
{
    return args.n * ((args.h + args.tile.rows - 1) / args.tile.rows) *
           ((args.wd + args.tile.cols - 1) / args.tile.cols);
}

__device__ __forceinline__ region region_at(const vgg__conv_mma_args &args,
                                            const vgg__conv_mma_tile &tile,
                                            uint32_t index)
{
    const uint32_t across = (args.wd + tile.cols - 1) / tile.cols;
    const uint32_t down = (args.h + tile.rows - 1) / tile.rows;
    const uint32_t band = index / across;
    return {band / down, band % down * tile.rows, index % across * tile.cols};
}

/* Some channels of images in memory: [n][h][w][stride] chunks, from `first` on. */
struct image {
    const void *at;
    uint32_t h, w, stride, first;

    __device__ __forceinline__ size_t chunk(uint32_t image, uint32_t y,
                                            uint32_t x) const
    {
        return (((size_t)image * h + y) * w + x) * stride + first;
    }
};

/* Threads that work together: which one this is, and how many there are. */
struct team {
    uint32_t thread, threads;
};

__device__ __forceinline__ team whole_block()
{
    return {threadIdx.x, blockDim.x};
}

/* Walks over a rectangle's pixels and their chunks in steps of a team: who does what.
 * Nothing is divided on the way. A team is a multiple of `chunks` threads. */
struct walk {
    uint32_t chunk, y, x; /* now */
    uint32_t down, right; /* a step's */

    __device__ __forceinline__ walk(const team &of, uint32_t chunks, uint32_t width)
    {
        const uint32_t pixels = of.threads / chunks, pixel = of.thread / chunks;
        chunk = of.thread % chunks;
        y = pixel / width;
        x = pixel % width;
        down = pixels / width;
        right = pixels % width;
    }

    __device__ __forceinline__ void next(uint32_t width)
    {
        y += down;
        x += right;
        if (x >= width) {
            x -= width;
            y++;
        }
    }
};

/* A region with a border of so many pixels, on its way to shared memory; zeros beside
 * the image. */
template <int Channels, int Border>
__device__ __forceinline__ void fetch_region(uint32_t to, const image &from,
                                             const region &at,
                                             const vgg__conv_mma_tile &tile)
{
    using lay = layout<Channels>;
    const uint32_t height = tile.rows + 2 * Border, width = tile.cols + 2 * Border;
    walk w(whole_block(), lay::chunks, width);
    const uint4 *const first = (const uint4 *)from.at;
#pragma unroll 1
    for (; w.y < height; w.next(width)) {
        /* may be -1, which is not below anything */
        const uint32_t y = at.y + w.y - Border, x = at.x + w.x - Border;
        const bool valid = y < from.h && x < from.w;
        copy_async<16>(to + w.y * width * lay::pitch + lay::place(w.x, w.chunk),
                       valid ? first + from.chunk(at.image, y, x) + w.chunk : first,
                       valid);
    }
}

/* ---- Pooled gradients ------------------------------------------------------------ */

/* Windows that a region touches: with a border one more on each side. They are kept as
 * they come, gradients [windows][chunks] of 16 bytes and then winners, of 8. */
template <int Border> struct windows {
    uint32_t down, across, chunks;

    __host__ __device__ __forceinline__ constexpr windows(uint32_t rows, uint32_t cols,
                                                          uint32_t channels)
        : down(rows / 2 + 2 * Border), across(cols / 2 + 2 * Border),
          chunks(channels / 8)
    {
    }

    __host__ __device__ __forceinline__ constexpr uint32_t count() const
    {
        return down * across * chunks;
    }

    __host__ __device__ __forceinline__ constexpr uint32_t bytes() const
    {
        return count() * 24;
    }
};

/* `from` is the pooled gradient. */
template <int Border>
__device__ __forceinline__ void
fetch_windows(const team &of, uint32_t to, const windows<Border> &some,
              const image &from, const uint8_t *winner, const region &at)
{
    walk w(of, some.chunks, some.across);
    const uint4 *const first = (const uint4 *)from.at;
    const uint32_t winners = to + some.count() * 16;
#pragma unroll 1
    for (; w.y < some.down; w.next(some.across)) {
        const uint32_t y = at.y / 2 + w.y - Border, x = at.x / 2 + w.x - Border;
        const bool valid = y < from.h && x < from.w;
        const size_t chunk = from.chunk(at.image, y, x) + w.chunk;
        const uint32_t place = (w.y * some.across + w.x) * some.chunks + w.chunk;
        copy_async<16>(to + place * 16, valid ? first + chunk : first, valid);
        copy_async<8>(winners + place * 8, valid ? winner + chunk * 8 : winner, valid);
    }
}

/* Eight channels of a window: each pixel of it gets those that it won. `pick` are four
 * winners: twice the same one in two nibbles, so that a byte of 0xff at place p of a
 * table makes a mask of who won p. */
__device__ __forceinline__ uint4 won(uint4 gradient, uint2 pick, uint32_t place)
{
    const uint32_t table = 0xffu << 8 * place;
    return make_uint4(gradient.x & __byte_perm(table, 0, pick.x),
                      gradient.y & __byte_perm(table, 0, pick.x >> 16),
                      gradient.z & __byte_perm(table, 0, pick.y),
                      gradient.w & __byte_perm(table, 0, pick.y >> 16));
}

/* From windows to the region's pixels; place(y, x, chunk) is where one lies. */
template <int Border, typename Place>
__device__ __forceinline__ void spread(const team &of, const uint8_t *from,
                                       uint32_t rows, uint32_t cols, uint32_t channels,
                                       const Place &place)
{
    const windows<Border> some(rows, cols, channels);
    const uint32_t height = rows + 2 * Border, width = cols + 2 * Border;
    walk w(of, some.chunks, some.across);
    const uint8_t *const winners = from + some.count() * 16;
#pragma unroll 1
    for (; w.y < some.down; w.next(some.across)) {
        const uint32_t index = (w.y * some.across + w.x) * some.chunks + w.chunk;
        const uint4 gradient = ((const uint4 *)from)[index];
        const uint2 winner = ((const uint2 *)winners)[index];
        const uint2 pick =
            make_uint2(winner.x | winner.x << 4, winner.y | winner.y << 4);
#pragma unroll
        for (uint32_t i = 0; i < 4; i++) {
            const uint32_t y = 2 * w.y + i / 2 - Border;
            const uint32_t x = 2 * w.x + i % 2 - Border;
            if (y >= height || x >= width) continue; /* -1 as well */
            *(uint4 *)place(y, x, w.chunk) = won(gradient, pick, i);
        }
    }
}

/* The same to a region as fetch_region leaves one. */
template <int Channels, int Border>
__device__ __forceinline__ void spread_region(uint8_t *to, const uint8_t *from,
                                              const vgg__conv_mma_tile &tile)
{
    using lay = layout<Channels>;
    const uint32_t pitch = (tile.cols + 2 * Border) * lay::pitch;
    spread<Border>(whole_block(), from, tile.rows, tile.cols, Channels,
                   [=](uint32_t y, uint32_t x, uint32_t chunk) {
                       return to + y * pitch + lay::place(x, chunk);
                   });
}

/* ---- The host's side ------------------------------------------------------------- */

/* By a filled-in tile. */
const struct vgg__kernel *conv_mma_kernel(bool forward, const vgg__conv_mma_args &args);
size_t conv_mma_shared(bool forward, const vgg__conv_mma_args &args);
const struct vgg__kernel *conv_mma_weights_kernel(const vgg__conv_mma_args &args);
size_t conv_mma_weights_shared(const vgg__conv_mma_args &args);
/* Warps that it takes to have all sums of a block's group. */
uint32_t conv_mma_weights_units(const vgg__conv_mma_args &args);

} // namespace vgg

#endif
