/* SPDX-License-Identifier: Apache-2.0 */
/* First layer backward behind a pool, one input channel, bf16: see conv_first_rows.cuh.
 *
 * All four places of a window see the same patch of 4 x 4 pixels, so one product does
 * for all: [16 pixels] times [16 windows] times [4 places of 16 channels]. A pixel that
 * is no tap of a place is dropped at the end; in place 0 the last such pixel, in the
 * others the first, is a one instead, which gives the bias' gradient. */
#include "conv_first_rows.cuh"

namespace
{

using vgg::bf16;
using vgg::row_part;
using vgg::rows_channels;
using vgg::rows_warps;

constexpr uint32_t part_windows = VGG__ROWS_BACK_WINDOWS;
constexpr uint32_t line_pitch = vgg::line_pitch<part_windows>;
constexpr uint32_t pixel_words = vgg::pixel_words<part_windows>;

/* What a warp keeps of a part, in words: pixels; gradients [window][16 channels], in an
 * order of windows in which those of four threads lie in different banks; winners
 * [window][16 channels], bytes. */
constexpr uint32_t gradient_words = part_windows * rows_channels / 2;
constexpr uint32_t winner_words = part_windows * rows_channels / 4;
constexpr uint32_t stage_words = pixel_words + gradient_words + winner_words;
constexpr uint32_t warp_words = 2 * stage_words;
static_assert(warp_words * 4 * rows_warps == VGG__ROWS_BACK_SHARED, "grids.c knows it");

/* A warp's sums at the end: [place][pixel][channel]. */
constexpr uint32_t warp_sums = 4 * 16 * rows_channels;
static_assert(warp_sums <= warp_words, "they fit");

__device__ __forceinline__ uint32_t slot_of(uint32_t window)
{
    return window ^ (window >> 2 & 1);
}

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

struct rows_back {
    const vgg__conv_first_back_args &a;
    const uint32_t lane, g, q;
    const uint32_t channel; /* the first of the block's */
    uint32_t *const memory;
    float sums[4][2][4]; /* [place]; column n of block b is channel 2 n + b */

    __device__ rows_back(const vgg__conv_first_back_args &args, uint32_t *all)
        : a(args), lane(threadIdx.x % 32), g(lane / 4), q(lane % 4),
          channel(blockIdx.y * rows_channels),
          memory(all + threadIdx.x / 32 * warp_words)
    {
#pragma unroll
        for (int i = 0; i < 32; i++) sums[i / 8][i / 4 % 2][i % 4] = 0;
    }

    /* ---- Bringing ---------------------------------------------------------------- */

    /* Half a window's channels are one piece, of gradients and of winners. */
    __device__ void copy_gradients(const row_part &p, uint32_t to) const
    {
        const uint32_t window = lane / 2, half = lane % 2;
        const bool has = channel + 8 * half < a.oc;
        const uint64_t first = p.window * a.oc + channel;
        const bf16 *const dy = (const bf16 *)a.dy + first;
        const uint8_t *const won = a.winner + first;
        const uint32_t d = to + slot_of(window) * 32 + half * 16;
        const uint32_t winner = to + gradient_words * 4 + window * 16 + half * 8;
#pragma unroll
        for (uint32_t k = 0; k < part_windows; k += 16) {
            const bool there = has && window + k < p.columns;
            const uint32_t from = there ? (window + k) * a.oc + 8 * half : 0;
            vgg::copy_async<16>(d + k * 32, dy + from, there);
            vgg::copy_async<8>(winner + k * 16, won + from, there);
        }
    }

    /* ---- Multiplying ------------------------------------------------------------- */

    /* Where the lane's operands of a group lie. */
    struct place {
        const uint32_t *pixels, *gradients[2];
        uint32_t winners; /* the row that the lane loads */
        uint64_t y;       /* the element of its first window and channel */
    };

    /* Words of the lane's two channels, of its windows 2 q, 2 q + 1, and 8 more. */
    __device__ void load_gradients(const place &at, uint32_t left,
                                   uint32_t (&d)[4]) const
    {
#pragma unroll
        for (int k = 0; k < 4; k++) d[k] = at.gradients[k % 2][k / 2 * 8 * 8];
        if (a.y == nullptr) return;
        uint32_t y[4] = {}; /* all are read before the first is used */
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const uint32_t window = k / 2 * 8 + k % 2;
            if (2 * q + window >= left || channel + 2 * g >= a.oc) continue;
            const bf16 *const from = (const bf16 *)a.y + at.y + window * a.oc;
            y[k] = vgg::load_packet<2>(from).word(0);
        }
#pragma unroll
        for (int k = 0; k < 4; k++) d[k] = vgg::masked(d[k], y[k]);
    }

    /* From words of two channels of a window each to words of two windows of one
     * channel: d[block][pair], and the winners' bits likewise. */
    struct operands {
        uint32_t d[2][2], mask[2][2][2]; /* [bit] behind the others */
    };

    __device__ static void turn(const uint32_t (&d)[4], const uint32_t (&winners)[2],
                                operands &to)
    {
#pragma unroll
        for (int i = 0; i < 2; i++) {
            to.d[0][i] = __byte_perm(d[2 * i], d[2 * i + 1], 0x5410);
            to.d[1][i] = __byte_perm(d[2 * i], d[2 * i + 1], 0x7632);
#pragma unroll
            for (int bit = 0; bit < 2; bit++) {
                to.mask[0][i][bit] = signs<0>(winners[i] << (7 - bit));
                to.mask[1][i][bit] = signs<1>(winners[i] << (7 - bit));
            }
        }
    }

    __device__ void multiply(const uint32_t *pixels, const operands &of)
    {
        const uint32_t ones = 0x3f803f80u, selector = g % 2 != 0 ? 0x5410 : 0x7632;
        uint32_t patch[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            patch[i] =
                vgg::pixel_pair(pixels + i % 2 * 2 * line_pitch + i / 2 * 8, selector);
        const uint32_t first[4] = {patch[0], g == 7 ? ones : patch[1], patch[2],
                                   g == 7 ? ones : patch[3]};
        const uint32_t others[4] = {g == 0 ? ones : patch[0], patch[1],
                                    g == 0 ? ones : patch[2], patch[3]};
#pragma unroll
        for (int place = 0; place < 4; place++) {
#pragma unroll
            for (int b = 0; b < 2; b++) {
                uint32_t won[2];
#pragma unroll
                for (int i = 0; i < 2; i++) {
                    const uint32_t low = of.mask[b][i][0], high = of.mask[b][i][1];
                    won[i] = of.d[b][i] & (place % 2 != 0 ? low : ~low) &
                             (place / 2 != 0 ? high : ~high);
                }
                vgg::multiply_bf16(sums[place][b], place == 0 ? first : others, won[0],
                                   won[1]);
            }
        }
    }

    __device__ void part(const row_part &p, uint32_t stage)
    {
        const uint32_t *const pixels = memory + stage * stage_words;
        const uint32_t *const gradients = pixels + pixel_words;
        place at;
        /* pixel g of a patch, of window 2 q and the next */
        at.pixels = pixels + g / 4 * line_pitch + vgg::first_window - 1 + 2 * q +
                    (g % 4 + 1) / 2;
        at.gradients[0] = gradients + slot_of(2 * q) * 8 + g;
        at.gradients[1] = gradients + slot_of(2 * q + 1) * 8 + g;
        at.winners = vgg::shared_at(gradients + gradient_words + lane % 16 * 4);
        at.y = (p.window + 2 * q) * a.oc + channel + 2 * g;
#pragma unroll 1
        for (uint32_t i = 0; i < p.columns; i += vgg::group_windows) {
            uint32_t d[4], winners[2];
            operands of;
            vgg::load_two_matrices_across(winners, at.winners);
            load_gradients(at, p.columns - i, d);
            turn(d, winners, of);
            multiply(at.pixels, of);
            at.pixels += vgg::group_windows;
            at.gradients[0] += vgg::group_windows * 8;
            at.gradients[1] += vgg::group_windows * 8;
            at.winners += vgg::group_windows * 16;
            at.y += vgg::group_windows * a.oc;
        }
    }

    /* ---- All --------------------------------------------------------------------- */

    __device__ void all()
    {
        const vgg::pixel_source<part_windows> x = {(const bf16 *)a.x, a.h, a.wd};
        vgg::walk_rows(
            vgg::row_walk<part_windows>(a.n, a.h, a.wd),
            [&](const row_part &p, uint32_t stage) {
                uint32_t *const to = memory + stage * stage_words;
                x.bring(p, to);
                copy_gradients(p, vgg::shared_at(to + pixel_words));
            },
            [&](const row_part &p, uint32_t stage) { part(p, stage); });
    }

    __device__ void leave(float *of) const
    {
        float *const to = of + threadIdx.x / 32 * warp_sums;
#pragma unroll
        for (int i = 0; i < 32; i++) {
            const uint32_t place = i / 8, b = i / 4 % 2, k = i % 4;
            const uint32_t pixel = g + k / 2 * 8, n = 2 * q + k % 2;
            to[(place * 16 + pixel) * rows_channels + 2 * n + b] = sums[place][b][k];
        }
    }
};

/* Of all warps' sums, in their order: those of a tap (the one behind the last: the
 * bias) and a channel of the block's. */
__device__ __forceinline__ float sum_of_warps(const float *of, uint32_t tap,
                                              uint32_t channel)
{
    float sum = 0;
    for (uint32_t i = 0; i < rows_warps * 4; i++) {
        const uint32_t place = i % 4;
        uint32_t pixel = (tap / 3 + place / 2) * 4 + tap % 3 + place % 2;
        if (tap == 9) pixel = place == 0 ? 15 : 0;
        sum += of[i / 4 * warp_sums + (place * 16 + pixel) * rows_channels + channel];
    }
    return sum;
}

/* In the block's row: weights [oc][9], then biases. */
__device__ __forceinline__ void write_sums(const vgg__conv_first_back_args &a,
                                           const float *of)
{
    float *const row = a.partial + (uint64_t)blockIdx.x * a.oc * 10;
    for (uint32_t i = threadIdx.x; i < 10 * rows_channels; i += vgg::rows_threads) {
        const uint32_t tap = i / rows_channels, c = i % rows_channels;
        const uint32_t channel = blockIdx.y * rows_channels + c;
        if (channel < a.oc)
            row[tap < 9 ? channel * 9 + tap : a.oc * 9 + channel] =
                sum_of_warps(of, tap, c);
    }
}

__global__ void __launch_bounds__(vgg::rows_threads, VGG__ROWS_BLOCKS)
    conv_first_rows_back(const vgg__conv_first_back_args a)
{
    uint32_t *const memory = (uint32_t *)vgg::dynamic_shared();
    rows_back work(a, memory);
    work.all();
    __syncthreads();
    work.leave((float *)memory);
    __syncthreads();
    write_sums(a, (const float *)memory);
}

} // namespace

extern "C" const struct vgg__kernel vgg__kernel_conv_first_rows_back =
    vgg::entry<conv_first_rows_back>("conv_first_rows_back bf16", vgg::rows_threads);
