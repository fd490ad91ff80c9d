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
    uint64_t pixel;   /* number of that one's first pixel among all */
    uint32_t row;     /* of windows, in the image */
    uint32_t column;  /* of its first window, in the row */
    uint32_t columns; /* windows */

    /* Whole groups. */
    __device__ __forceinline__ uint32_t padded() const
    {
        return (columns + group_windows - 1) / group_windows * group_windows;
    }
};

/* The parts of all images in order, of which each warp gets its share. All but a row's
 * last are whole groups. */
template <uint32_t Windows> struct row_walk {
    uint32_t h, w, down, across,
        columns;   /* of an image; windows of it, and of a part */
    uint64_t left; /* parts that the warp has still to do */
    row_part at;

    __device__ __forceinline__ row_walk(uint32_t n, uint32_t height, uint32_t width)
        : h(height), w(width), down(h / 2), across(w / 2), columns(0), left(0), at{}
    {
        const uint32_t parts = (across + Windows - 1) / Windows;
        const uint64_t count = (uint64_t)n * down * parts;
        if (count == 0) return;
        columns = row_part{0, 0, 0, 0, (across + parts - 1) / parts}.padded();
        const uint64_t warp = (uint64_t)blockIdx.x * rows_warps + threadIdx.x / 32;
        const uint64_t warps = (uint64_t)gridDim.x * rows_warps;
        const uint64_t first = count * warp / warps;
        const uint64_t row = divide(first, parts), image = divide(row, down);
        left = count * (warp + 1) / warps - first;
        at.row = (uint32_t)(row - image * down);
        at.column = (uint32_t)(first - row * parts) * columns;
        at.columns = min(across - at.column, columns);
        at.window = row * across + at.column;
        at.pixel = (image * h + 2 * at.row) * w + 2 * at.column;
    }

    __device__ __forceinline__ void next()
    {
        left--;
        at.window += at.columns;
        at.pixel += 2 * at.columns;
        at.column += columns;
        if (at.column >= across) { /* the rest of a line, and the one below it */
            at.pixel += w % 2 + w;
            at.column = 0;
            at.row++;
        }
        if (at.row == down) {
            at.pixel += h % 2 * w;
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

template <uint32_t Windows> struct pixel_source {
    static constexpr uint32_t pitch = line_pitch<Windows>;
    const bf16 *x;
    uint32_t h, w;

    __device__ __forceinline__ bool has(const row_part &p, uint32_t line) const
    {
        return 2 * p.row + line - 1 < h;
    }

    /* Pixel 2 `column` of line `line`, both counted from the part's own first: a place
     * outside of the image is none, and stands for the part's first pixel. */
    __device__ __forceinline__ const bf16 *at(const row_part &p, uint32_t line,
                                              int32_t column, bool inside) const
    {
        const int32_t from = ((int32_t)line - 1) * (int32_t)w + 2 * column;
        return x + p.pixel + (inside ? from : 0);
    }

    /* Lines of a multiple of 8 pixels; `to` is a place in shared memory. */
    __device__ __forceinline__ void copy_chunks(const row_part &p, uint32_t to) const
    {
        constexpr uint32_t chunks = Windows / 4, at_once = 32 / chunks;
        const uint32_t lane = threadIdx.x % 32, first = lane / chunks;
        const uint32_t across = w / 2, i = lane % chunks * 4;
        const uint32_t place = to + 4 * (first * pitch + first_window + i);
#pragma unroll
        for (uint32_t k = 0; k < 4; k += at_once) {
            const bool inside = has(p, first + k) && p.column + i < across;
            copy_async<16>(place + 4 * k * pitch, at(p, first + k, i, inside), inside);
        }
        if (lane >= 8) return;
        /* what stands before and behind */
        const int32_t side = lane / 4 != 0 ? (int32_t)Windows : -1;
        const uint32_t line = lane % 4;
        const bool inside = has(p, line) && p.column + side < across;
        copy_async<4>(to + 4 * (line * pitch + first_window + side),
                      at(p, line, side, inside), inside);
    }

    /* Lines of an even number of pixels. */
    __device__ __forceinline__ void copy_words(const row_part &p, uint32_t to) const
    {
#pragma unroll 1
        for (uint32_t line = 0; line < 4; line++)
#pragma unroll 1
            for (uint32_t i = threadIdx.x % 32; i < p.padded() + 2; i += 32) {
                const int32_t column = (int32_t)i - 1;
                const bool inside = has(p, line) && p.column + column < w / 2;
                copy_async<4>(to + 4 * (line * pitch + first_window - 1 + i),
                              at(p, line, column, inside), inside);
            }
    }

    /* Any lines; nothing goes on in the background. */
    __device__ __forceinline__ void read(const row_part &p, uint32_t *to) const
    {
#pragma unroll 1
        for (uint32_t line = 0; line < 4; line++)
#pragma unroll 1
            for (uint32_t i = threadIdx.x % 32; i < p.padded() + 2; i += 32) {
                const int32_t column = (int32_t)i - 1;
                const uint32_t first = 2 * (p.column + column); /* wraps before 0 */
                const bool low = has(p, line) && first < w;
                const bool high = has(p, line) && first + 1 < w;
                const bf16 *const pixels = at(p, line, column, low || high);
                to[line * pitch + first_window - 1 + i] =
                    (low ? pixels[0].bits : 0) |
                    (high ? (uint32_t)pixels[1].bits << 16 : 0);
            }
    }

    __device__ __forceinline__ void bring(const row_part &p, uint32_t *to) const
    {
        if (w % 8 == 0)
            copy_chunks(p, shared_at(to));
        else if (w % 2 == 0)
            copy_words(p, shared_at(to));
        else
            read(p, to);
    }
};

} // namespace vgg

#endif
