/* SPDX-License-Identifier: Apache-2.0 */
/* What a first layer's two directions share behind a pool, with one input channel and
 * bf16: each warp walks through rows of windows (conv_first.cuh) on its own.
 *
 * A part is up to `Windows` windows of a row. Its bytes are copied to shared memory in
 * the background while the warp works on the part before; nobody waits for another
 * warp. */
#ifndef VGG_CUDNN_CONV_FIRST_ROWS_CUH
#define VGG_CUDNN_CONV_FIRST_ROWS_CUH

#include "mma.cuh"
#include "tiles.h"

namespace vgg
{

constexpr uint32_t rows_threads = VGG__THREADS;
constexpr uint32_t rows_warps = rows_threads / 32;
constexpr uint32_t rows_channels = VGG__FIRST_CHANNELS;
constexpr uint32_t group_windows = 16; /* rows, or the inner side, of a product */

/* ---- Parts ----------------------------------------------------------------------- */

struct row_part {
    uint64_t window;  /* number of its first window among all */
    uint32_t line;    /* number of that one's first line of pixels among all */
    uint32_t row;     /* of windows, in the image */
    uint32_t column;  /* of its first window, in the row */
    uint32_t columns; /* windows */
};

/* The parts of all images in order, of which each warp gets its share. All but a row's
 * last are whole groups. */
template <uint32_t Windows> struct row_walk {
    uint32_t h, down, across, columns; /* windows of an image, and of a part */
    uint64_t left;                     /* parts that the warp has still to do */
    row_part at;

    __device__ __forceinline__ row_walk(uint32_t n, uint32_t height, uint32_t w)
        : h(height), down(h / 2), across(w / 2), columns(0), left(0), at{}
    {
        const uint32_t parts = (across + Windows - 1) / Windows;
        const uint64_t count = (uint64_t)n * down * parts;
        if (count == 0) return;
        columns = (across + parts - 1) / parts;
        columns = (columns + group_windows - 1) / group_windows * group_windows;
        const uint64_t warp = (uint64_t)blockIdx.x * rows_warps + threadIdx.x / 32;
        const uint64_t warps = (uint64_t)gridDim.x * rows_warps;
        const uint64_t first = count * warp / warps;
        const uint64_t row = divide(first, parts), image = divide(row, down);
        left = count * (warp + 1) / warps - first;
        at.row = (uint32_t)(row - image * down);
        at.line = (uint32_t)image * h + 2 * at.row;
        at.column = (uint32_t)(first - row * parts) * columns;
        at.columns = min(across - at.column, columns);
        at.window = row * across + at.column;
    }

    __device__ __forceinline__ void next()
    {
        left--;
        at.window += at.columns;
        at.column += columns;
        if (at.column >= across) {
            at.column = 0;
            at.line += 2;
            at.row++;
        }
        if (at.row == down) {
            at.line += h % 2;
            at.row = 0;
        }
        at.columns = min(across - at.column, columns);
    }
};

/* use(part, stage) for each, and bring(part, stage) for the part after it before that;
 * stages are 0 and 1. */
template <uint32_t Windows, typename Bring, typename Use>
__device__ __forceinline__ void walk_rows(row_walk<Windows> ahead, const Bring &bring,
                                          const Use &use)
{
    uint32_t stage = 0;
    if (ahead.left == 0) return;
    bring(ahead.at, stage);
    copy_group();
#pragma unroll 1
    for (bool more = true; more; stage ^= 1) {
        const row_part now = ahead.at;
        ahead.next();
        more = ahead.left > 0;
        if (more) bring(ahead.at, stage ^ 1);
        copy_group();
        copy_wait<1>();
        __syncwarp();
        use(now, stage);
        __syncwarp(); /* who still reads what is overwritten next */
    }
}

/* ---- Pixels ----------------------------------------------------------------------
 * Four lines, from the one above a part's windows to the one below, each in words of
 * two pixels: those of window i of the part are word first_window + i, and before and
 * behind them stand their neighbours; zeros outside of the image. Two lines lie in
 * different halves of the banks. */
constexpr uint32_t first_window = 4; /* copies of 16 bytes begin here */

template <uint32_t Windows>
constexpr uint32_t line_pitch = (first_window + Windows + 1 + 15) / 32 * 32 + 16;

template <uint32_t Windows> constexpr uint32_t pixel_words = 4 * line_pitch<Windows>;

/* A half of each of two words that stand side by side; selector 0x5432: of the first
 * the later pixel, of the second the earlier one. */
__device__ __forceinline__ uint32_t pixel_pair(const uint32_t *words, uint32_t selector)
{
    return __byte_perm(words[0], words[1], selector);
}

struct pixel_source {
    const bf16 *x;
    uint32_t h, w;

    /* Line `line` of a part's four; it may lie outside of the image. */
    __device__ __forceinline__ const bf16 *at(const row_part &p, uint32_t line) const
    {
        return x + ((int64_t)p.line + line - 1) * w;
    }

    __device__ __forceinline__ bool has(const row_part &p, uint32_t line) const
    {
        return 2 * p.row + line - 1 < h;
    }
};

/* Where lines have a multiple of 8 pixels. `to` is a place in shared memory. */
template <uint32_t Windows>
__device__ __forceinline__ void copy_pixels(const pixel_source &from, const row_part &p,
                                            uint32_t to)
{
    constexpr uint32_t chunks = Windows / 4, at_once = 32 / chunks;
    constexpr uint32_t pitch = 4 * line_pitch<Windows>;
    const uint32_t lane = threadIdx.x % 32, first = lane / chunks, across = from.w / 2;
    const uint32_t column = p.column + lane % chunks * 4;
    const uint32_t at = to + first * pitch + (first_window + lane % chunks * 4) * 4;
    const bf16 *pixels = from.at(p, first) + 2 * column;
#pragma unroll
    for (uint32_t k = 0; k < 4; k += at_once) {
        copy_async<16>(at + k * pitch, pixels,
                       from.has(p, first + k) && column < across);
        pixels += at_once * from.w;
    }
    if (lane >= 8) return;
    /* what stands before and behind */
    const int32_t side = lane / 4 != 0 ? (int32_t)Windows : -1, line = lane % 4;
    copy_async<4>(to + line * pitch + (first_window + side) * 4,
                  from.at(p, line) + 2 * ((int64_t)p.column + side),
                  from.has(p, line) && p.column + side < across);
}

/* Any lines. */
template <uint32_t Windows>
__device__ __forceinline__ void read_pixels(const pixel_source &from, const row_part &p,
                                            uint32_t *to)
{
    constexpr uint32_t words = Windows + 2;
#pragma unroll 1
    for (uint32_t i = threadIdx.x % 32; i < 4 * words; i += 32) {
        const uint32_t line = i / words, column = 2 * (p.column + i % words) - 2;
        const bool low = from.has(p, line) && column < from.w;
        const bool high = from.has(p, line) && column + 1 < from.w;
        const bf16 *const pixels = from.at(p, line) + (int32_t)column;
        to[line * line_pitch<Windows> + first_window - 1 + i % words] =
            (low ? pixels[0].bits : 0) | (high ? (uint32_t)pixels[1].bits << 16 : 0);
    }
}

template <uint32_t Windows>
__device__ __forceinline__ void bring_pixels(const pixel_source &from,
                                             const row_part &p, uint32_t *to)
{
    if (from.w % 8 == 0)
        copy_pixels<Windows>(from, p, shared_at(to));
    else
        read_pixels<Windows>(from, p, to);
}

} // namespace vgg

#endif
