/* SPDX-License-Identifier: Apache-2.0 */
/* First layer backward: gradients of its weights and bias, straight from the gradient
 * of what the forward wrote, pooled or not.
 *
 * The sum over pixels is one over places of windows; behind a pool only the winner's
 * place has a gradient. bf16: products on tensor cores, [taps and a row of ones] times
 * [16 windows] times [channels], one for each place; the row of ones gives the bias'
 * gradient. f32: FMA. A block leaves a row of partial sums. */
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
using vgg::first_warps;

/* ---- What both do ---------------------------------------------------------------- */

/* A thread works on two neighbouring channels: pair g of the block's 8. */
struct lane_place {
    uint32_t g, q;
    uint32_t channel;

    __device__ lane_place()
        : g(threadIdx.x % 32 / 4), q(threadIdx.x % 4),
          channel(blockIdx.y * first_channels + 2 * g)
    {
    }
};

/* Where the gradient of a window (pooled), or of its place i, lies; false: nowhere. */
struct gradient_at {
    uint64_t element;
    bool there;
};

__device__ __forceinline__ gradient_at find_gradient(const vgg__conv_first_back_args &a,
                                                     const first_tile &t,
                                                     const vgg::first_place &p,
                                                     uint32_t i, uint32_t channel)
{
    const uint32_t row = t.row + p.row, column = t.column + p.column;
    if (a.pool != 0) {
        const uint64_t pixel = (t.n * (a.h / 2) + row) * (a.wd / 2) + column;
        return gradient_at{pixel * a.oc + channel, channel < a.oc};
    }
    const uint32_t h = 2 * row + i / 2, w = 2 * column + i % 2;
    return gradient_at{((t.n * a.h + h) * a.wd + w) * a.oc + channel,
                       channel < a.oc && h < a.h && w < a.wd};
}

/* Partial sums in the block's row: weights [oc][9 ic], then biases. */
template <int IC>
__device__ __forceinline__ float &sum_at(const vgg__conv_first_back_args &a,
                                         uint32_t tap, uint32_t channel)
{
    constexpr uint32_t taps = 9 * IC;
    float *const row = a.partial + (uint64_t)blockIdx.x * a.oc * (taps + 1);
    return tap < taps ? row[channel * taps + tap] : row[a.oc * taps + channel];
}

/* The sums of the block's warps, in their order: of[warp][tap][channel], where the tap
 * behind the last is the bias. */
template <int IC>
__device__ __forceinline__ void write_sums(const vgg__conv_first_back_args &a,
                                           const float *of)
{
    constexpr uint32_t count = (9 * IC + 1) * first_channels;
    for (uint32_t i = threadIdx.x; i < count; i += first_threads) {
        const uint32_t channel = blockIdx.y * first_channels + i % first_channels;
        float sum = 0;
        for (uint32_t warp = 0; warp < first_warps; warp++) sum += of[warp * count + i];
        if (channel < a.oc) sum_at<IC>(a, i / first_channels, channel) = sum;
    }
}

/* ---- bf16: tensor cores ---------------------------------------------------------- */

/* Pixels in shared memory: [line][3 - 0 shift][channel][window], element w of shift s
 * being pixel 2 w + s of the line, so that neighbouring windows are neighbours. Strides
 * in words are such that the eight taps of a fragment lie in different banks. */
constexpr uint32_t plane = 36;
template <int IC>
constexpr uint32_t planes_pitch = (4 * IC * plane - 12 + 31) / 32 * 32 + 12;

template <int IC> struct tensor {
    static constexpr int tiles = (9 * IC + 1 + 15) / 16; /* of 16 taps */
    const vgg__conv_first_back_args &a;
    const lane_place lane;
    float sums[tiles][2][4];   /* column n of block b is channel 2 n + b */
    uint32_t offset[tiles][2]; /* words to the lane's tap; NONE, ONES */

    static constexpr uint32_t none = UINT32_MAX, ones = UINT32_MAX - 1;

    __device__ tensor(const vgg__conv_first_back_args &args) : a(args)
    {
#pragma unroll
        for (int m = 0; m < tiles; m++) {
            for (int i = 0; i < 8; i++) sums[m][i / 4][i % 4] = 0;
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const uint32_t tap = 16 * m + 8 * i + lane.g;
                const uint32_t kh = tap / (3 * IC), kw = tap / IC % 3, c = tap % IC;
                offset[m][i] = kh * planes_pitch<IC> + (kw * IC + c) * plane;
                if (tap == 9 * IC) offset[m][i] = ones;
                if (tap > 9 * IC) offset[m][i] = none;
            }
        }
    }

    /* The lane's tap i of tile m, place `place`, for two neighbouring windows. */
    __device__ uint32_t pixels(const uint32_t *window, int m, int i, int place) const
    {
        const uint32_t at = offset[m][i];
        const uint32_t shift = place / 2 * planes_pitch<IC> + place % 2 * IC * plane;
        if (at >= ones) return at == ones ? 0x3f803f80u : 0;
        return window[at + shift];
    }

    /* Words of the lane's two channels: of its four windows' gradients, and for each
     * the winners. */
    struct gradients {
        uint32_t d[4], winner[4];
    };

    __device__ gradients load(const first_tile &t, const vgg::first_place (&p)[4],
                              const bool (&live)[4], uint32_t place) const
    {
        gradients of = {};
        uint32_t y[4] = {};
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const gradient_at at = find_gradient(a, t, p[k], place, lane.channel);
            if (!live[k] || !at.there) continue;
            of.d[k] = vgg::load_packet<2>((const bf16 *)a.dy + at.element).word(0);
            if (a.y != nullptr)
                y[k] = vgg::load_packet<2>((const bf16 *)a.y + at.element).word(0);
            if (a.pool != 0) of.winner[k] = *(const uint16_t *)(a.winner + at.element);
        }
        if (a.y != nullptr)
            for (int k = 0; k < 4; k++) of.d[k] = vgg::masked(of.d[k], y[k]);
        return of;
    }

    /* From words of two channels of a window each to words of two windows of channel
     * b. */
    __device__ static void transpose(const uint32_t (&of)[4], int b, uint32_t (&to)[2])
    {
        const uint32_t selector = b == 0 ? 0x5410 : 0x7632;
        to[0] = __byte_perm(of[0], of[1], selector);
        to[1] = __byte_perm(of[2], of[3], selector);
    }

    /* 0xffff in the halves that hold a winner with this bit. */
    __device__ static uint32_t bit_mask(uint32_t winners, int bit)
    {
        return (winners >> bit & 0x00010001u) * 0xffff;
    }

    __device__ void multiply(const uint32_t *const (&window)[2], int place,
                             const uint32_t (&g)[2][2])
    {
#pragma unroll
        for (int m = 0; m < tiles; m++) {
            const uint32_t taps[4] = {
                pixels(window[0], m, 0, place), pixels(window[0], m, 1, place),
                pixels(window[1], m, 0, place), pixels(window[1], m, 1, place)};
            for (int b = 0; b < 2; b++)
                vgg::multiply_bf16(sums[m][b], taps, g[b][0], g[b][1]);
        }
    }

    __device__ void add_pooled(const first_tile &t, const vgg::first_place (&p)[4],
                               const bool (&live)[4],
                               const uint32_t *const (&window)[2])
    {
        const gradients of = load(t, p, live, 0);
        uint32_t d[2][2], mask[2][2][2]; /* [block][pair of windows], [bit] */
#pragma unroll
        for (int b = 0; b < 2; b++) {
            transpose(of.d, b, d[b]);
            for (int i = 0; i < 2; i++) {
                const uint32_t winners =
                    __byte_perm(of.winner[2 * i], of.winner[2 * i + 1],
                                b == 0 ? 0x5410 : 0x6521) &
                    0x00030003u;
                mask[b][i][0] = bit_mask(winners, 0);
                mask[b][i][1] = bit_mask(winners, 1);
            }
        }
#pragma unroll
        for (int place = 0; place < 4; place++) {
            uint32_t g[2][2];
#pragma unroll
            for (int k = 0; k < 4; k++) {
                const uint32_t low = mask[k / 2][k % 2][0],
                               high = mask[k / 2][k % 2][1];
                g[k / 2][k % 2] = d[k / 2][k % 2] & (place % 2 != 0 ? low : ~low) &
                                  (place / 2 != 0 ? high : ~high);
            }
            multiply(window, place, g);
        }
    }

    __device__ void add_plain(const first_tile &t, const vgg::first_place (&p)[4],
                              const bool (&live)[4], const uint32_t *const (&window)[2])
    {
#pragma unroll
        for (int place = 0; place < 4; place++) {
            const gradients of = load(t, p, live, place);
            uint32_t g[2][2];
            for (int b = 0; b < 2; b++) transpose(of.d, b, g[b]);
            multiply(window, place, g);
        }
    }

    /* The warp's 16 windows from number `first` of the tile on, in rows of `across`, an
     * even number; a window behind the row's end has no gradient. */
    __device__ void windows(const first_tile &t, uint32_t first, uint32_t across,
                            const uint32_t *staged)
    {
        const uint32_t inverse = vgg::inverse_of(across);
        vgg::first_place p[4];
        bool live[4];
        const uint32_t *window[2];
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const uint32_t at = first + 2 * lane.q + k / 2 * 8 + k % 2;
            const bool inside = at < t.rows * across;
            p[k] = vgg::place_in_tile(inside ? at : k % 2, across, inverse);
            live[k] = inside && p[k].column < t.columns;
        }
#pragma unroll
        for (int i = 0; i < 2; i++)
            window[i] =
                staged + 2 * p[2 * i].row * planes_pitch<IC> + p[2 * i].column / 2;
        if (a.pool != 0)
            add_pooled(t, p, live, window);
        else
            add_plain(t, p, live, window);
    }

    __device__ void leave(float *of) const
    {
        const uint32_t warp = threadIdx.x / 32;
#pragma unroll
        for (int i = 0; i < tiles * 8; i++) {
            const uint32_t m = i / 8, b = i / 4 % 2, k = i % 4;
            const uint32_t tap = 16 * m + lane.g + k / 2 * 8;
            const uint32_t channel = 2 * (2 * lane.q + k % 2) + b;
            if (tap <= 9 * IC)
                of[(warp * (9 * IC + 1) + tap) * first_channels + channel] =
                    sums[m][b][k];
        }
    }
};

template <int IC>
__device__ __forceinline__ void run(const vgg__conv_first_back_args &a, uint4 *memory,
                                    const bf16 *x)
{
    tensor<IC> work(a);
    uint16_t *const staged = (uint16_t *)memory;
    const first_tiling tiling(a.h, a.wd, a.pool != 0);
    for (uint64_t i = blockIdx.x; i < tiling.count(a.n); i += gridDim.x) {
        const first_tile t = tiling.tile(i);
        const uint32_t across = (t.columns + 1) / 2 * 2;
        __syncthreads(); /* who still reads the tile before */
        vgg::bring_pixels<IC>(
            x, a.h, a.wd, t, across, [&](uint32_t line, uint32_t e, uint16_t bits) {
                const uint32_t pixel = e / IC, c = e % IC, w = pixel / 2, s = pixel % 2;
                uint16_t *const to =
                    staged + line * 2 * planes_pitch<IC> + (s * IC + c) * 2 * plane + w;
                if (w < across) to[0] = bits;
                if (w > 0) to[2 * IC * 2 * plane - 1] = bits;
            });
        __syncthreads();
#pragma unroll 1
        for (uint32_t m = threadIdx.x / 32 * 16; m < t.rows * across;
             m += first_warps * 16)
            work.windows(t, m, across, (const uint32_t *)memory);
    }
    __syncthreads();
    work.leave((float *)memory);
    __syncthreads();
    write_sums<IC>(a, (const float *)memory);
}

/* ---- f32: FMA -------------------------------------------------------------------- */

template <int IC> constexpr uint32_t fma_pitch = 130 * IC; /* floats */

template <int IC> struct fma {
    static constexpr int taps = 9 * IC;
    const vgg__conv_first_back_args &a;
    const lane_place lane;
    float sums[2][taps], bias[2]; /* of two channels */

    __device__ fma(const vgg__conv_first_back_args &args) : a(args), bias{0, 0}
    {
        for (int i = 0; i < 2 * taps; i++) sums[i / taps][i % taps] = 0;
    }

    /* Gradients d of place[0] and place[1] of the window whose patch is given. */
    __device__ void add(const float *patch, const float (&d)[2],
                        const uint32_t (&place)[2])
    {
#pragma unroll
        for (int c = 0; c < 2; c++) {
            const float *const from =
                patch + place[c] / 2 * fma_pitch<IC> + place[c] % 2 * IC;
            bias[c] += d[c];
#pragma unroll
            for (int i = 0; i < taps; i++)
                sums[c][i] =
                    __fmaf_rn(d[c], from[i / (3 * IC) * fma_pitch<IC> + i % (3 * IC)],
                              sums[c][i]);
        }
    }

    /* Of two channels: gradients, 0 where there is none, and their places. */
    struct gradients {
        float d[2];
        uint32_t place[2];
    };

    __device__ gradients load(const first_tile &t, const vgg::first_place &p, bool live,
                              uint32_t i) const
    {
        gradients of = {{0, 0}, {i, i}};
        const gradient_at at = find_gradient(a, t, p, i, lane.channel);
        if (!live || !at.there) return of;
        float y[2] = {1, 1};
        vgg::load<2>((const float *)a.dy + at.element, of.d);
        if (a.y != nullptr) vgg::load<2>((const float *)a.y + at.element, y);
        if (a.pool != 0) {
            const uint32_t both = *(const uint16_t *)(a.winner + at.element);
            of.place[0] = both & 3;
            of.place[1] = both >> 8 & 3;
        }
        for (int c = 0; c < 2; c++)
            if (y[c] <= 0) of.d[c] = 0;
        return of;
    }

    /* Windows m and m + `step` of the tile: both are read before the first is used. */
    __device__ void windows(const first_tile &t, uint32_t m, uint32_t step,
                            uint32_t inverse, const float *staged)
    {
        const bool live = m + step < t.rows * t.columns;
        const vgg::first_place p[2] = {
            vgg::place_in_tile(m, t.columns, inverse),
            vgg::place_in_tile(live ? m + step : m, t.columns, inverse)};
        for (uint32_t i = 0; i < (a.pool != 0 ? 1u : 4u); i++) {
            const gradients of[2] = {load(t, p[0], true, i), load(t, p[1], live, i)};
#pragma unroll
            for (int k = 0; k < 2; k++)
                add(staged + 2 * p[k].row * fma_pitch<IC> + 2 * p[k].column * IC,
                    of[k].d, of[k].place);
        }
    }

    /* The thread's sums over the four windows that a warp works on at a time. */
    __device__ void leave(float *of) const
    {
        const uint32_t warp = threadIdx.x / 32;
#pragma unroll
        for (int i = 0; i < 2 * (taps + 1); i++) {
            const int tap = i % (taps + 1), c = i / (taps + 1);
            float sum = tap < taps ? sums[c][tap % taps] : bias[c];
            sum += __shfl_xor_sync(0xffffffffu, sum, 1);
            sum += __shfl_xor_sync(0xffffffffu, sum, 2);
            if (lane.q == 0)
                of[(warp * (taps + 1) + tap) * first_channels + 2 * lane.g + c] = sum;
        }
    }
};

template <int IC>
__device__ __forceinline__ void run(const vgg__conv_first_back_args &a, uint4 *memory,
                                    const float *x)
{
    fma<IC> work(a);
    float *const staged = (float *)memory;
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
#pragma unroll 1
        for (uint32_t m = threadIdx.x / 32 * 4 + work.lane.q; m < t.rows * t.columns;
             m += 2 * first_warps * 4)
            work.windows(t, m, first_warps * 4, inverse, staged);
    }
    __syncthreads();
    work.leave((float *)memory);
    __syncthreads();
    write_sums<IC>(a, (const float *)memory);
}

/* ---- Both ------------------------------------------------------------------------ */

/* Quarters of a tile's pixels, of as many channels as there may be. */
constexpr uint32_t tensor_memory = (first_lines * planes_pitch<4> + 3) / 4;
constexpr uint32_t fma_memory = (first_lines * fma_pitch<4> + 3) / 4;

template <typename T>
__global__ void __launch_bounds__(first_threads, VGG__FIRST_BLOCKS)
    conv_first_back(const vgg__conv_first_back_args a)
{
    using pixels = uint4[sizeof(T) == sizeof(float) ? fma_memory : tensor_memory];
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

extern "C" const struct vgg__kernel vgg__kernel_conv_first_back[VGG__TYPES] = {
    vgg::entry<conv_first_back<float>>("conv_first_back f32", first_threads),
    vgg::entry<conv_first_back<bf16>>("conv_first_back bf16", first_threads)};
