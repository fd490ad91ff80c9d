/* SPDX-License-Identifier: Apache-2.0 */
/* First layer forward with ReLU and pool, one input channel, bf16: see
 * conv_first_rows.cuh.
 *
 * The product is conv_first.cu's: 16 windows, times the 16 pixels of their patches,
 * times [4 places of 16 channels]; weights that a place does not see are 0 (so an
 * infinity in a patch reaches all four pixels of the window). Sums begin with the
 * bias, and a pool compares what would be kept. */
#include "conv_first_rows.cuh"
#include "window.cuh"

namespace
{

using vgg::bf16;
using vgg::row_part;

constexpr uint32_t part_windows = VGG__ROWS_WINDOWS;
constexpr uint32_t line_pitch = vgg::line_pitch<part_windows>;
constexpr uint32_t stage_words = vgg::pixel_words<part_windows>;
constexpr uint32_t warp_words = 2 * stage_words;

constexpr uint32_t own = 4; /* channels of a thread */
constexpr int blocks = vgg::rows_channels / 8;

static_assert(warp_words * 4 * vgg::rows_warps == VGG__ROWS_SHARED, "grids.c knows it");

struct rows {
    const vgg__conv_first_args &a;
    const uint32_t g, q, channel;
    uint32_t *const memory;
    uint2 w[blocks][4];    /* [place] */
    float bias[blocks][4]; /* as a product's sums lie */

    /* Pixel k of a patch is tap (r - place / 2, s - place % 2), where k counts along
     * [r][s]. Column n of block b is channel 4 (n / 2) + 2 b + n % 2: that is how a
     * thread gets four neighbours. */
    __device__ float weight(uint32_t k, uint32_t place, uint32_t oc) const
    {
        const uint32_t kh = k / 4 - place / 2, kw = k % 4 - place % 2;
        return kh > 2 || kw > 2 || oc >= a.oc ? 0 : a.w[oc * 9 + kh * 3 + kw];
    }

    __device__ uint32_t two_weights(uint32_t k, uint32_t place, uint32_t oc) const
    {
        return vgg::pack_bf16(weight(k, place, oc), weight(k + 1, place, oc));
    }

    __device__ rows(const vgg__conv_first_args &args, uint32_t *all)
        : a(args), g(threadIdx.x % 32 / 4), q(threadIdx.x % 4),
          channel(blockIdx.y * vgg::rows_channels + q * own),
          memory(all + threadIdx.x / 32 * warp_words)
    {
        const uint32_t column = blockIdx.y * vgg::rows_channels + g / 2 * own + g % 2;
#pragma unroll
        for (int b = 0; b < blocks; b++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const uint32_t oc = channel + 2 * b + i % 2;
                w[b][i] = make_uint2(two_weights(2 * q, i, column + 2 * b),
                                     two_weights(2 * q + 8, i, column + 2 * b));
                bias[b][i] = a.bias != nullptr && oc < a.oc ? a.bias[oc] : 0;
            }
    }

    /* Two neighbouring channels of a window, of a block's sums [place]. */
    __device__ vgg::pooled_pair pool(const float (&sums)[4][4], int window) const
    {
        uint32_t of[4];
#pragma unroll
        for (int p = 0; p < 4; p++)
            of[p] = vgg::pack_bf16(sums[p][2 * window], sums[p][2 * window + 1]);
        return vgg::pool_pair(of, true);
    }

    /* Where the lane's channels of a window go to. */
    struct place {
        bf16 *y;
        uint8_t *winner;

        __device__ place behind(uint32_t elements) const
        {
            return place{y + elements, winner + elements};
        }
    };

    __device__ void write(const place &to, const float (&sums)[blocks][4][4],
                          int window) const
    {
        static_assert(blocks == 2, "a thread has two pairs of channels");
        const vgg::pooled_pair pair[] = {pool(sums[0], window), pool(sums[1], window)};
        *(uint2 *)to.y = make_uint2(pair[0].value, pair[1].value);
        if (a.winner != nullptr)
            *(uint32_t *)to.winner = __byte_perm(pair[0].place, pair[1].place, 0x6420);
    }

    /* `words`: where the lane's pixels of a group lie; `left`: windows of the part,
     * from the lane's first on. */
    __device__ void group(const uint32_t *words, uint32_t left, const place &to) const
    {
        uint32_t patch[4];
        float sums[blocks][4][4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            patch[i] =
                vgg::pixel_pair(words + i / 2 * 2 * line_pitch + i % 2 * 8, 0x5432);
#pragma unroll
        for (int b = 0; b < blocks; b++)
#pragma unroll
            for (int p = 0; p < 4; p++)
                vgg::multiply_bf16(sums[b][p], patch, w[b][p].x, w[b][p].y, bias[b]);
        if (left > 0) write(to, sums, 0);
        if (left > 8) write(to.behind(8 * a.oc), sums, 1);
    }

    __device__ void part(const row_part &p, uint32_t stage) const
    {
        /* pixels 2 q and 2 q + 1 of a patch: its line, and which pair of it */
        const uint32_t *words = memory + stage * stage_words + q / 2 * line_pitch +
                                vgg::first_window - 1 + g + q % 2;
        const uint64_t first = (p.window + g) * a.oc + channel;
        /* where winners are not kept, any pointer that may be moved */
        uint8_t *const winner = a.winner != nullptr ? a.winner : (uint8_t *)a.y;
        place to = {(bf16 *)a.y + first, winner + first};
        uint32_t left = channel < a.oc && g < p.columns ? p.columns - g : 0;
#pragma unroll 1
        for (uint32_t i = 0; i < p.columns; i += vgg::group_windows) {
            group(words, left, to);
            words += vgg::group_windows;
            to = to.behind(vgg::group_windows * a.oc);
            left -= min(left, vgg::group_windows);
        }
    }

    __device__ void all() const
    {
        const vgg::pixel_source<part_windows> x = {(const bf16 *)a.x, a.h, a.wd};
        vgg::walk_rows(
            vgg::row_walk<part_windows>(a.n, a.h, a.wd),
            [&](const row_part &p, uint32_t stage) {
                x.bring(p, memory + stage * stage_words);
            },
            [&](const row_part &p, uint32_t stage) { part(p, stage); });
    }
};

__global__ void __launch_bounds__(vgg::rows_threads, VGG__ROWS_BLOCKS)
    conv_first_rows(const vgg__conv_first_args a)
{
    rows(a, (uint32_t *)vgg::dynamic_shared()).all();
}

} // namespace

extern "C" const struct vgg__kernel vgg__kernel_conv_first_rows =
    vgg::entry<conv_first_rows>("conv_first_rows bf16", vgg::rows_threads);
