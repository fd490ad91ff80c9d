/* SPDX-License-Identifier: Apache-2.0 */
/* First layer forward: 3x3 convolution of 1 to 4 channels, bias, ReLU and 2x2 pooling
 * by maximum in one pass.
 *
 * All four pixels of a window are made at once, so that the maximum stays in registers.
 * bf16: a matrix product on tensor cores, whose rows are 16 windows, whose inner
 * dimension are the 16 ic elements of the window's patch, and whose columns are places
 * and channels; weights that a place does not see are 0 (so an infinity in a patch
 * reaches all four pixels of the window), and a pool compares what would be kept. f32:
 * FMA. A thread ends up with four neighbouring channels of a window either way. */
#include "conv_first.cuh"
#include "mma.cuh"
#include "window.cuh"

namespace
{

using vgg::bf16;
using vgg::first_channels;
using vgg::first_lines;
using vgg::first_threads;
using vgg::first_tile;
using vgg::first_tiling;

constexpr int own = 4; /* channels of a thread */

/* ---- What both do ---------------------------------------------------------------- */

__device__ __forceinline__ float weight(const vgg__conv_first_args &a, uint32_t oc,
                                        uint32_t tap, bool rounds)
{
    if (oc >= a.oc) return 0;
    const float w = a.w[(uint64_t)oc * 9 * a.ic + tap];
    return rounds ? vgg::rounded<bf16>(w) : w;
}

/* Bias of a thread's channels; those behind the last have none. */
__device__ __forceinline__ void load_bias(const vgg__conv_first_args &a,
                                          uint32_t channel, float (&bias)[own])
{
    for (int k = 0; k < own; k++)
        bias[k] = a.bias != nullptr && channel + k < a.oc ? a.bias[channel + k] : 0;
}

template <typename T>
__device__ __forceinline__ void write_pooled(const vgg__conv_first_args &a, uint64_t at,
                                             const float (&v)[4][own])
{
    float y[own];
    uint32_t place[own];
#pragma unroll
    for (int k = 0; k < own; k++) {
        const vgg::winner best = vgg::find_winner(v[0][k], v[1][k], v[2][k], v[3][k]);
        const bool dead = a.relu != 0 && best.value <= 0; /* all four become 0 */
        y[k] = dead ? 0 : best.value;
        place[k] = dead ? 0 : best.place;
    }
    vgg::store((T *)a.y + at, y);
    if (a.winner != nullptr) vgg::store_packet(a.winner + at, vgg::pack_places(place));
}

/* v are the places' values, with bias, of the channels from `channel` on. */
template <typename T>
__device__ __forceinline__ void
write_window(const vgg__conv_first_args &a, const first_tile &t,
             const vgg::first_place &p, uint32_t channel, const float (&v)[4][own])
{
    const uint32_t row = t.row + p.row, column = t.column + p.column;
    if (channel >= a.oc) return;
    if (a.pool != 0) {
        const uint64_t pixel = (t.n * (a.h / 2) + row) * (a.wd / 2) + column;
        write_pooled<T>(a, pixel * a.oc + channel, v);
        return;
    }
#pragma unroll
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t h = 2 * row + i / 2, w = 2 * column + i % 2;
        if (h >= a.h || w >= a.wd) continue;
        float y[own];
#pragma unroll
        for (int k = 0; k < own; k++) y[k] = a.relu != 0 && v[i][k] <= 0 ? 0 : v[i][k];
        vgg::store((T *)a.y + ((t.n * a.h + h) * a.wd + w) * a.oc + channel, y);
    }
}

/* ---- bf16: tensor cores ---------------------------------------------------------- */

/* Elements between lines of pixels: even, and for one channel such that the words of
 * two lines lie in other banks. */
template <int IC> constexpr uint32_t tensor_pitch = IC == 1 ? 152 : 130 * IC;

constexpr int blocks = first_channels / 8; /* of 8 columns, for each place */

/* Fragments of the weights: [step][block][place][lane] of two words. */
using fragments = uint2[4 * blocks * 4 * 32];

template <int IC> struct tensor {
    const vgg__conv_first_args &a;
    uint32_t g, q; /* the lane's row (or column) and quarter in a fragment */
    uint32_t channel;
    float bias[own];
    const fragments &from;
    uint2 held[IC == 1 ? blocks * 4 : 1]; /* where registers suffice */
    uint32_t offset[IC][2]; /* words from a patch to the lane's pairs of elements */

    /* Element k of a patch is tap (r - place / 2, s - place % 2) of channel c, where k
     * counts along [r][s][c]. Column n of block b is channel 4 (n / 2) + 2 b + n % 2:
     * that is how a thread gets four neighbours. */
    __device__ static float element(const vgg__conv_first_args &a, uint32_t k,
                                    uint32_t place, uint32_t oc)
    {
        const uint32_t r = k / (4 * IC), s = k / IC % 4, c = k % IC;
        const uint32_t kh = r - place / 2, kw = s - place % 2;
        if (kh > 2 || kw > 2) return 0;
        return weight(a, oc, (kh * 3 + kw) * IC + c, true);
    }

    __device__ static void fill(const vgg__conv_first_args &a, fragments &to)
    {
        for (uint32_t i = threadIdx.x; i < IC * blocks * 4 * 32; i += first_threads) {
            const uint32_t lane = i % 32, place = i / 32 % 4, block = i / 128 % blocks;
            const uint32_t n = lane / 4, k = i / (128 * blocks) * 16 + lane % 4 * 2;
            const uint32_t oc =
                blockIdx.y * first_channels + n / 2 * 4 + block * 2 + n % 2;
            to[i] = make_uint2(
                vgg::pack_bf16(element(a, k, place, oc), element(a, k + 1, place, oc)),
                vgg::pack_bf16(element(a, k + 8, place, oc),
                               element(a, k + 9, place, oc)));
        }
    }

    __device__ tensor(const vgg__conv_first_args &args, const fragments &filled)
        : a(args), g(threadIdx.x % 32 / 4), q(threadIdx.x % 4),
          channel(blockIdx.y * first_channels + q * own), from(filled)
    {
        load_bias(a, channel, bias);
        if constexpr (IC == 1) {
#pragma unroll
            for (int i = 0; i < blocks * 4; i++)
                held[i] = from[i * 32 + threadIdx.x % 32];
        }
#pragma unroll
        for (uint32_t s = 0; s < IC; s++) {
#pragma unroll
            for (uint32_t i = 0; i < 2; i++) {
                const uint32_t pair = 8 * s + q + 4 * i;
                offset[s][i] =
                    pair / (2 * IC) * (tensor_pitch<IC> / 2) + pair % (2 * IC);
            }
        }
    }

    __device__ uint2 fragment(int i) const
    {
        if constexpr (IC == 1)
            return held[i];
        else
            return vgg::read_again(&from[i * 32 + threadIdx.x % 32]);
    }

    /* sums[block][place] += patches * weights, of two windows of this lane's. */
    __device__ void multiply(const uint32_t *first, const uint32_t *second,
                             float (&sums)[blocks][4][4]) const
    {
#pragma unroll
        for (int s = 0; s < IC; s++) {
            const uint32_t patches[4] = {first[offset[s][0]], second[offset[s][0]],
                                         first[offset[s][1]], second[offset[s][1]]};
#pragma unroll
            for (int i = 0; i < blocks * 4; i++) {
                const uint2 w = fragment(s * blocks * 4 + i);
                vgg::multiply_bf16(sums[i / 4][i % 4], patches, w.x, w.y);
            }
        }
    }

    /* A lane's two windows, and whether they are there. */
    struct first_place_of {
        const vgg::first_place (&place)[2];
        bool live[2];
    };

    /* Pooled: two channels at a time, as they are kept. */
    __device__ void write_pairs(const first_tile &t, const first_place_of &two,
                                const float (&sums)[blocks][4][4]) const
    {
        static_assert(blocks == 2, "a thread has two pairs of channels");
#pragma unroll
        for (int i = 0; i < 2; i++) {
            vgg::pooled_pair pair[blocks];
#pragma unroll
            for (int b = 0; b < blocks; b++) {
                uint32_t of[4];
#pragma unroll
                for (int p = 0; p < 4; p++)
                    of[p] = vgg::pack_bf16(sums[b][p][2 * i], sums[b][p][2 * i + 1]);
                pair[b] = vgg::pool_pair(of, a.relu != 0);
            }
            if (!two.live[i] || channel >= a.oc) continue;
            const uint32_t row = t.row + two.place[i].row;
            const uint32_t column = t.column + two.place[i].column;
            const uint64_t pixel = (t.n * (a.h / 2) + row) * (a.wd / 2) + column;
            const uint64_t at = pixel * a.oc + channel;
            *(uint2 *)((bf16 *)a.y + at) = make_uint2(pair[0].value, pair[1].value);
            if (a.winner != nullptr)
                *(uint32_t *)(a.winner + at) =
                    __byte_perm(pair[0].place, pair[1].place, 0x6420);
        }
    }

    /* The warp's 16 windows from number `first` of the tile on. */
    __device__ void windows(const first_tile &t, uint32_t first, uint32_t inverse,
                            const uint32_t *staged) const
    {
        const uint32_t count = t.rows * t.columns;
        float sums[blocks][4][4];
        const uint32_t *patch[2];
        vgg::first_place place[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const uint32_t at = first + g + 8 * i;
            place[i] = vgg::place_in_tile(at < count ? at : 0, t.columns, inverse);
            patch[i] = staged + place[i].row * tensor_pitch<IC> + place[i].column * IC;
        }
#pragma unroll
        for (int b = 0; b < blocks; b++)
#pragma unroll
            for (int i = 0; i < 16; i++) sums[b][i / 4][i % 4] = bias[2 * b + i % 2];
        multiply(patch[0], patch[1], sums);
        if (a.pool != 0) {
            const first_place_of two = {place,
                                        {first + g < count, first + g + 8 < count}};
            write_pairs(t, two, sums);
            return;
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float v[4][own];
#pragma unroll
            for (int k = 0; k < 4 * own; k++)
                v[k / own][k % own] = sums[k % own / 2][k / own][2 * i + k % 2];
            if (first + g + 8 * i < count)
                write_window<bf16>(a, t, place[i], channel, v);
        }
    }
};

template <int IC>
__device__ __forceinline__ void run(const vgg__conv_first_args &a, uint4 *memory,
                                    const bf16 *x)
{
    fragments &filled = vgg::shared<fragments>();
    tensor<IC>::fill(a, filled);
    __syncthreads();
    const tensor<IC> work(a, filled);
    const first_tiling tiling(a.h, a.wd, a.pool != 0);
    for (uint64_t i = blockIdx.x; i < tiling.count(a.n); i += gridDim.x) {
        const first_tile t = tiling.tile(i);
        __syncthreads(); /* who still reads the tile before */
        vgg::bring_pixels<IC>(
            x, a.h, a.wd, t, t.columns, [&](uint32_t line, uint32_t e, uint16_t bits) {
                ((uint16_t *)memory)[line * tensor_pitch<IC> + e] = bits;
            });
        __syncthreads();
        const uint32_t inverse = vgg::inverse_of(t.columns);
#pragma unroll 1
        for (uint32_t m = threadIdx.x / 32 * 16; m < t.rows * t.columns;
             m += vgg::first_warps * 16)
            work.windows(t, m, inverse, (const uint32_t *)memory);
    }
}

/* ---- f32: FMA -------------------------------------------------------------------- */

template <int IC> constexpr uint32_t fma_pitch = 130 * IC; /* floats */

using weights = float[9 * 4 * first_channels]; /* [tap][channel] */

/* sums of all places += patch * weights, by lines of the patch. */
template <int IC>
__device__ __forceinline__ void multiply(const float *patch, const float *w,
                                         float (&sums)[4][own])
{
#pragma unroll
    for (int r = 0; r < 4; r++) {
        float x[4 * IC];
#pragma unroll
        for (int s = 0; s < 4 * IC; s += 2) {
            float two[2];
            vgg::load<2>(patch + r * fma_pitch<IC> + s, two);
            x[s] = two[0];
            x[s + 1] = two[1];
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
            if (r - i < 0 || r - i > 2) continue;
#pragma unroll
            for (int tap = 0; tap < 3 * IC; tap++) {
                float of[own];
                vgg::load<own>(w + ((r - i) * 3 * IC + tap) * first_channels, of);
#pragma unroll
                for (int k = 0; k < 2 * own; k++) {
                    float &sum = sums[2 * i + k / own][k % own];
                    sum = __fmaf_rn(x[k / own * IC + tap], of[k % own], sum);
                }
            }
        }
    }
}

template <int IC>
__device__ __forceinline__ void run(const vgg__conv_first_args &a, uint4 *memory,
                                    const float *x)
{
    constexpr uint32_t across = first_channels / own; /* threads of a window */
    weights &filled = vgg::shared<weights>();
    for (uint32_t i = threadIdx.x; i < 9 * IC * first_channels; i += first_threads)
        filled[i] = weight(a, blockIdx.y * first_channels + i % first_channels,
                           i / first_channels, a.round_weights != 0);
    const uint32_t q = threadIdx.x % across,
                   channel = blockIdx.y * first_channels + q * own;
    float *const staged = (float *)memory, bias[own];
    load_bias(a, channel, bias);
    const first_tiling tiling(a.h, a.wd, a.pool != 0);
    for (uint64_t i = blockIdx.x; i < tiling.count(a.n); i += gridDim.x) {
        const first_tile t = tiling.tile(i);
        __syncthreads(); /* who still reads the tile before */
        vgg::bring_pixels<IC>(
            x, a.h, a.wd, t, t.columns, [&](uint32_t line, uint32_t e, uint32_t bits) {
                staged[line * fma_pitch<IC> + e] = __uint_as_float(bits);
            });
        __syncthreads();
        const uint32_t inverse = vgg::inverse_of(t.columns);
        for (uint32_t m = threadIdx.x / across; m < t.rows * t.columns;
             m += first_threads / across) {
            const vgg::first_place p = vgg::place_in_tile(m, t.columns, inverse);
            float v[4][own];
            vgg::read_again();
#pragma unroll
            for (int k = 0; k < 4 * own; k++) v[k / own][k % own] = bias[k % own];
            multiply<IC>(staged + 2 * p.row * fma_pitch<IC> + 2 * p.column * IC,
                         filled + q * own, v);
            write_window<float>(a, t, p, channel, v);
        }
    }
}

/* ---- Both ------------------------------------------------------------------------ */

template <typename T>
__global__ void __launch_bounds__(first_threads, VGG__FIRST_BLOCKS)
    conv_first(const vgg__conv_first_args a)
{
    using pixels = uint4[first_lines * 130 * 4 * sizeof(T) / sizeof(uint4) + 1];
    uint4 *const memory = vgg::shared<pixels>();
    const T *const x = (const T *)a.x;
    if (a.ic == 1)
        run<1>(a, memory, x);
    else if (a.ic == 2)
        run<2>(a, memory, x);
    else if (a.ic == 3)
        run<3>(a, memory, x);
    else
        run<4>(a, memory, x);
}

} // namespace

extern "C" const struct vgg__kernel vgg__kernel_conv_first[VGG__TYPES] = {
    vgg::entry<conv_first<float>>("conv_first f32", first_threads),
    vgg::entry<conv_first<bf16>>("conv_first bf16", first_threads)};
