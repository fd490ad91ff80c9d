/* SPDX-License-Identifier: Apache-2.0 */
/* First layer backward behind a pool, one input channel, bf16: a warp takes one row of
 * windows after the other, on its own.
 *
 * All four places of a window see the same patch of 4 x 4 pixels, so one product does
 * for all: [16 pixels] times [16 windows] times [4 places of 16 channels]. A pixel that
 * is no tap of a place is dropped at the end; in place 0 the last such pixel, in the
 * others the first, is a one instead, which gives the bias' gradient. A row's bytes are
 * fetched into the cache while the row before is worked on, and a group's gradients
 * into registers while the group before is. */
#ifndef VGG_CUDNN_CONV_FIRST_ROWS_CUH
#define VGG_CUDNN_CONV_FIRST_ROWS_CUH

#include "conv_first.cuh"
#include "mma.cuh"

namespace vgg
{

constexpr uint32_t group_windows = 16;
constexpr uint32_t part_windows = 128; /* of a row that a warp works on at a time */

/* A warp's pixels in shared memory: [line of the patch][its column][window], two
 * windows a word. Strides in words put a fragment's eight pixels into different
 * banks. */
constexpr uint32_t column_pitch = part_windows / 2 + 4;
constexpr uint32_t line_pitch = 4 * column_pitch;
static_assert(column_pitch % 32 == 4 && line_pitch % 32 == 16, "no bank twice");
constexpr uint32_t warp_pixels = 4 * line_pitch;

constexpr uint32_t warp_sums = 4 * 16 * first_channels; /* [place][pixel][channel] */

/* Four bytes, each the sign bit of one of x's: of bytes 0 and 2, or 1 and 3, twice. */
template <int Which> __device__ __forceinline__ uint32_t signs(uint32_t x)
{
#ifdef VGG_HOST_CUDA
    const uint32_t low = x >> (Which == 0 ? 7 : 15) & 1;
    const uint32_t high = x >> (Which == 0 ? 23 : 31) & 1;
    return low * 0xffffu | high * 0xffff0000u;
#else
    uint32_t to;
    asm("prmt.b32 %0, %1, %1, %2;"
        : "=r"(to)
        : "r"(x), "n"(Which == 0 ? 0xaa88 : 0xbb99));
    return to;
#endif
}

__device__ __forceinline__ void fetch_line(const void *from)
{
#ifndef VGG_HOST_CUDA
    asm volatile("prefetch.global.L2 [%0];" ::"l"(from));
#endif
}

/* Some windows of one row. */
struct window_row {
    uint64_t n;
    uint32_t row, column, columns;
};

struct window_rows {
    uint32_t down, across, parts, columns;

    __device__ __forceinline__ window_rows(uint32_t h, uint32_t w)
        : down(h / 2), across(w / 2)
    {
        parts = (across + part_windows - 1) / part_windows;
        columns = parts == 0 ? 0 : (across + parts - 1) / parts;
        columns = (columns + group_windows - 1) / group_windows * group_windows;
    }

    __device__ __forceinline__ window_row at(uint64_t i) const
    {
        const uint64_t line = divide(i, parts), n = divide(line, down);
        const uint32_t column = (uint32_t)(i - line * parts) * columns;
        /* rounding up may leave the last part with nothing */
        const uint32_t rest = column < across ? across - column : 0;
        return window_row{n, (uint32_t)(line - n * down), column, min(rest, columns)};
    }
};

struct row_sums {
    const vgg__conv_first_back_args &a;
    const window_rows rows;
    const uint32_t lane, g, q, channel;
    uint32_t *const pixels;
    float sums[4][2][4]; /* [place]; column n of block b is channel 2 n + b */

    __device__ row_sums(const vgg__conv_first_back_args &args, uint32_t *memory)
        : a(args), rows(args.h, args.wd), lane(threadIdx.x % 32), g(lane / 4),
          q(lane % 4), channel(blockIdx.y * first_channels + 2 * g),
          pixels(memory + threadIdx.x / 32 * warp_pixels)
    {
#pragma unroll
        for (int i = 0; i < 32; i++) sums[i / 8][i / 4 % 2][i % 4] = 0;
    }

    /* ---- Pixels ------------------------------------------------------------------ */

    /* The row's elements of dy and winner begin with this one. */
    __device__ uint64_t first_element(const window_row &r) const
    {
        return ((r.n * rows.down + r.row) * rows.across + r.column) * a.oc;
    }

    /* The row's bytes into the cache. */
    __device__ void fetch(const window_row &r) const
    {
        const uint32_t count = r.columns * a.oc, line = 128;
        const uint64_t first = first_element(r);
        const uint32_t top = 2 * r.row == 0 ? 0 : 2 * r.row - 1;
        const uint32_t bottom = min(2 * r.row + 3, a.h), pixels = (bottom - top) * a.wd;
        const bf16 *const x = (const bf16 *)a.x + (r.n * a.h + top) * a.wd;
#pragma unroll 1
        for (uint32_t i = lane * line / 2; i < count; i += 32 * line / 2)
            fetch_line((const bf16 *)a.dy + first + i);
#pragma unroll 1
        for (uint32_t i = lane * line; i < count; i += 32 * line)
            fetch_line(a.winner + first + i);
#pragma unroll 1
        for (uint32_t i = lane * line / 2; i < pixels; i += 32 * line / 2)
            fetch_line(x + i);
    }

    /* Pixels `at` - 1 .. `at` + 4 of a line, as the words of two windows; zeros outside
     * of it. */
    struct run {
        uint32_t before, low, high, after;
    };

    __device__ uint32_t pixel(const bf16 *from, uint32_t at) const
    {
        return at < a.wd ? from->bits : 0;
    }

    /* `from` is pixel `at`; Fours: lines are multiples of four pixels. */
    template <bool Fours> __device__ run load_run(const bf16 *from, uint32_t at) const
    {
        run r = {pixel(from - 1, at - 1), 0, 0, pixel(from + 4, at + 4)};
        if (!Fours) {
            r.low = pixel(from, at) | pixel(from + 1, at + 1) << 16;
            r.high = pixel(from + 2, at + 2) | pixel(from + 3, at + 3) << 16;
        } else if (at < a.wd) {
            const packet<bf16, 4> four = load_packet<4>(from);
            r.low = four.word(0);
            r.high = four.word(1);
        }
        return r;
    }

    template <bool Fours> __device__ void bring_pixels(const window_row &r)
    {
        const uint32_t words =
            (r.columns + group_windows - 1) / group_windows * group_windows / 2;
        /* the line above the first is not read */
        const bf16 *from = (const bf16 *)a.x + 2 * r.column + 4 * lane +
                           (int64_t)(r.n * a.h + 2 * r.row - 1) * a.wd;
        uint32_t at = 2 * r.column + 4 * lane;
#pragma unroll 1
        for (uint32_t m = lane; m < words; m += 32, at += 128, from += 128) {
            run of[4];
#pragma unroll
            for (uint32_t i = 0; i < 4; i++) {
                of[i] = run{};
                if (2 * r.row + i - 1 < a.h)
                    of[i] = load_run<Fours>(from + i * a.wd, at);
            }
#pragma unroll
            for (uint32_t i = 0; i < 4; i++) {
                uint32_t *const to = pixels + i * line_pitch + m;
                to[0] = __byte_perm(of[i].before, of[i].low, 0x7610);
                to[column_pitch] = __byte_perm(of[i].low, of[i].high, 0x5410);
                to[2 * column_pitch] = __byte_perm(of[i].low, of[i].high, 0x7632);
                to[3 * column_pitch] = __byte_perm(of[i].high, of[i].after, 0x5410);
            }
        }
    }

    /* ---- Gradients --------------------------------------------------------------- */

    /* Words of the lane's two channels of its four windows of a group, and the winners
     * of each. */
    struct gradients {
        uint32_t d[4], winner[4];
    };

    __device__ static uint32_t masked(uint32_t d, uint32_t y)
    {
        const float low = __uint_as_float(y << 16),
                    high = __uint_as_float(y & 0xffff0000u);
        return (low <= 0 ? 0 : d & 0xffffu) | (high <= 0 ? 0 : d & 0xffff0000u);
    }

    /* The lane's next windows: how many of the row are left from its first on, and
     * where that is. */
    struct place {
        uint32_t left;
        const bf16 *dy;
        const uint8_t *winner;
    };

    __device__ place begin(const window_row &r) const
    {
        const uint64_t first = first_element(r) + 2 * q * a.oc + channel;
        const bool has = channel < a.oc && r.columns > 2 * q;
        return place{has ? r.columns - 2 * q : 0, (const bf16 *)a.dy + first,
                     a.winner + first};
    }

    /* Those of a group; `at` goes on to the next one's. */
    __device__ gradients load(place &at) const
    {
        const uint32_t windows[4] = {0, 1, 8, 9};
        gradients of = {};
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const uint32_t element = windows[k] * a.oc;
            if (at.left <= windows[k]) continue;
            of.d[k] = load_packet<2>(at.dy + element).word(0);
            of.winner[k] = *(const uint16_t *)(at.winner + element);
        }
        if (a.y != nullptr) {
            const bf16 *const y = (const bf16 *)a.y + (at.winner - a.winner);
#pragma unroll
            for (int k = 0; k < 4; k++)
                if (at.left > windows[k])
                    of.d[k] =
                        masked(of.d[k], load_packet<2>(y + windows[k] * a.oc).word(0));
        }
        at.left -= min(at.left, group_windows);
        at.dy += group_windows * a.oc;
        at.winner += group_windows * a.oc;
        return of;
    }

    /* From words of two channels of a window each to words of two windows of one
     * channel: d[block][pair]. `at` is the lane's word of the group's pixels. */
    __device__ void multiply(const gradients &of, const uint32_t *at)
    {
        uint32_t d[2][2], mask[2][2][2]; /* [bit] behind the others */
#pragma unroll
        for (int i = 0; i < 2; i++) {
            d[0][i] = __byte_perm(of.d[2 * i], of.d[2 * i + 1], 0x5410);
            d[1][i] = __byte_perm(of.d[2 * i], of.d[2 * i + 1], 0x7632);
            const uint32_t both =
                __byte_perm(of.winner[2 * i], of.winner[2 * i + 1], 0x5410);
#pragma unroll
            for (int bit = 0; bit < 2; bit++) {
                mask[0][i][bit] = signs<0>(both << (7 - bit));
                mask[1][i][bit] = signs<1>(both << (7 - bit));
            }
        }
        const uint32_t ones = 0x3f803f80u;
        const uint32_t upper[2] = {at[0], at[4]};
        const uint32_t lower[2] = {at[2 * line_pitch], at[2 * line_pitch + 4]};
        const uint32_t first[4] = {upper[0], g == 7 ? ones : lower[0], upper[1],
                                   g == 7 ? ones : lower[1]};
        const uint32_t others[4] = {g == 0 ? ones : upper[0], lower[0],
                                    g == 0 ? ones : upper[1], lower[1]};
#pragma unroll
        for (int place = 0; place < 4; place++) {
#pragma unroll
            for (int b = 0; b < 2; b++) {
                uint32_t won[2];
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const uint32_t low = mask[b][i][0], high = mask[b][i][1];
                    won[i] = d[b][i] & (place % 2 != 0 ? low : ~low) &
                             (place / 2 != 0 ? high : ~high);
                }
                multiply_bf16(sums[place][b], place == 0 ? first : others, won[0],
                              won[1]);
            }
        }
    }

    /* ---- All --------------------------------------------------------------------- */

    __device__ void add_row(const window_row &r)
    {
        place at = begin(r);
        gradients next = load(at);
        __syncwarp(); /* who still reads the pixels before */
        if (a.wd % 4 == 0)
            bring_pixels<true>(r);
        else
            bring_pixels<false>(r);
        __syncwarp();
        const uint32_t *window = pixels + g / 4 * line_pitch + g % 4 * column_pitch + q;
        for (uint32_t left = r.columns; left > 0;) {
            const gradients now = next;
            if (left > group_windows) next = load(at);
            multiply(now, window);
            window += group_windows / 2;
            left -= min(left, group_windows);
        }
    }

    __device__ void add_all()
    {
        const uint64_t count = (uint64_t)a.n * rows.down * rows.parts;
        const uint64_t step = (uint64_t)gridDim.x * first_warps;
        uint64_t i = (uint64_t)blockIdx.x * first_warps + threadIdx.x / 32;
        if (i < count) fetch(rows.at(i));
#pragma unroll 1
        for (; i < count; i += step) {
            if (i + step < count) fetch(rows.at(i + step));
            add_row(rows.at(i));
        }
    }

    __device__ void leave(float *of) const
    {
        float *const to = of + threadIdx.x / 32 * warp_sums;
#pragma unroll
        for (int i = 0; i < 32; i++) {
            const uint32_t place = i / 8, b = i / 4 % 2, k = i % 4;
            const uint32_t pixel = g + k / 2 * 8, n = 2 * q + k % 2;
            to[(place * 16 + pixel) * first_channels + 2 * n + b] = sums[place][b][k];
        }
    }
};

/* Of all warps' sums, in their order: those of a tap (the one behind the last: the
 * bias) and a channel of the block's. */
__device__ __forceinline__ float sum_of_rows(const float *of, uint32_t tap,
                                             uint32_t channel)
{
    float sum = 0;
    for (uint32_t i = 0; i < first_warps * 4; i++) {
        const uint32_t place = i % 4;
        uint32_t pixel = (tap / 3 + place / 2) * 4 + tap % 3 + place % 2;
        if (tap == 9) pixel = place == 0 ? 15 : 0;
        sum += of[i / 4 * warp_sums + (place * 16 + pixel) * first_channels + channel];
    }
    return sum;
}

} // namespace vgg

#endif
