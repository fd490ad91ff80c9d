/* SPDX-License-Identifier: Apache-2.0 */
/* What stands on both sides of the products of conv_mma.h: matrices in the order that
 * gives a thread channels side by side; bias, ReLU and pooling of sums. */
#ifndef VGG_CUDNN_CONV_MMA_END_CUH
#define VGG_CUDNN_CONV_MMA_END_CUH

#include "conv_mma.cuh"

namespace vgg
{

/* ---- Channels -----------------------------------------------------------------------
 * Row 8 t + j of the matrices is column j of a warp's tile t, which thread j / 2 of a
 * group of four gets: its channels are then 2 * tiles in a row. */
__device__ __forceinline__ uint32_t channel_of_row(uint32_t row, uint32_t tiles)
{
    const uint32_t unit = 8 * tiles, in = row % unit;
    return row / unit * unit + in % 8 / 2 * 2 * tiles + in / 8 * 2 + in % 2;
}

__device__ __forceinline__ uint32_t row_of_channel(uint32_t channel, uint32_t tiles)
{
    const uint32_t unit = 8 * tiles, in = channel % unit;
    const uint32_t thread = in / (2 * tiles), rest = in % (2 * tiles);
    return channel / unit * unit + rest / 2 * 8 + thread * 2 + rest % 2;
}

/* ---- Matrices -----------------------------------------------------------------------
 * `group` of them from channel `first` on, on their way to shared memory. place(row,
 * tap, chunk) is where 8 of a row's K elements lie. */

/* Forward: rows are output channels, and K lies side by side already. */
template <int K, typename Place>
__device__ __forceinline__ void fetch_matrices(const vgg__conv_mma_args &args,
                                               uint32_t first, uint32_t group,
                                               const Place &place)
{
    constexpr uint32_t chunks = K / 8;
    for (uint32_t i = threadIdx.x; i < group * 9 * chunks; i += blockDim.x) {
        const uint32_t chunk = i % chunks, tap = i / chunks % 9, row = i / chunks / 9;
        const uint32_t channel = first + channel_of_row(row, tiles_of(group));
        const size_t from = (size_t)(channel * 9 + tap) * chunks + chunk;
        copy_async<16>(shared_at(place(row, tap, chunk)), (const uint4 *)args.w + from,
                       true);
    }
}

/* Data: rows are input channels, taps are turned around, and K (output channels) is
 * what lies apart: eight rows of two K each are put together. */
template <int K, typename Place>
__device__ __forceinline__ void turn_matrices(const vgg__conv_mma_args &args,
                                              uint32_t first, uint32_t group,
                                              const Place &place)
{
    constexpr uint32_t pairs = K / 2;
    const uint32_t parts = group / 8;
    for (uint32_t i = threadIdx.x; i < 9 * pairs * parts; i += blockDim.x) {
        const uint32_t pair = i % pairs, tap = i / pairs % 9, part = i / pairs / 9;
        const bf16 *const from = (const bf16 *)args.w +
                                 (size_t)(2 * pair * 9 + tap) * args.ic + first +
                                 part * 8;
        const packet<bf16, 8> low = load_packet<8>(from);
        const packet<bf16, 8> high = load_packet<8>(from + 9 * args.ic);
#pragma unroll
        for (uint32_t j = 0; j < 8; j++) {
            const uint32_t row = row_of_channel(part * 8 + j, tiles_of(group));
            *(uint32_t *)(place(row, 8 - tap, pair / 4) + pair % 4 * 4) =
                (uint32_t)high.at[j].bits << 16 | low.at[j].bits;
        }
    }
}

/* ---- Bias and ReLU --------------------------------------------------------------- */

template <int Count>
__device__ __forceinline__ void finish(float (&x)[Count], const float *bias,
                                       uint32_t relu)
{
    if (bias != nullptr) {
        float b[Count];
        load<Count>(bias, b);
#pragma unroll
        for (int i = 0; i < Count; i++) x[i] = __fadd_rn(x[i], b[i]);
    }
    if (relu != 0) {
#pragma unroll
        for (int i = 0; i < Count; i++) x[i] = x[i] <= 0 ? 0 : x[i]; /* NaN stays */
    }
}

/* ---- Pooling ---------------------------------------------------------------------
 * A thread has two halves of windows: the left or (odd) right column of each, two rows.
 * Lane ^ 4 has the others. Each of the two makes one window whole: the even lane the
 * first, the odd one the second. Which windows the two are is the caller's affair.
 *
 * The two lowest bits of a sum give way to its place, so that one maximum finds value
 * and winner: of what differs by less than 2^-21 the first place wins, which bf16
 * (2^-9) would call equal. This order holds above 0; below, all become 0. */

template <int Count> struct columns {
    float top[2][Count], bottom[2][Count]; /* with the bias */
};

template <int Count> struct windows_made {
    float value[Count];
    uint32_t place[(Count + 3) / 4]; /* of the winners: a byte each */
};

/* The larger of two; if either is a NaN, the one NaN that the hardware makes. */
__device__ __forceinline__ float larger(float a, float b)
{
#if VGG_MMA && !defined VGG_HOST_CUDA
    float c;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(c) : "f"(a), "f"(b));
    return c;
#else
    if (a != a || b != b) return __uint_as_float(0x7fffffffu);
    return a > b ? a : b;
#endif
}

/* A number of which the compiler knows nothing: else it computes `rest` below from a
 * bit each time that it is needed. */
__device__ __forceinline__ uint32_t unknown(uint32_t x)
{
#ifndef VGG_HOST_CUDA
    asm("" : "+r"(x));
#endif
    return x;
}

/* A sum that knows how many places come after its own. */
__device__ __forceinline__ float with_rest(float x, uint32_t rest)
{
    return __uint_as_float((__float_as_uint(x) & ~3u) | rest);
}

/* The same by comparisons alone, where a sum is not finite (an infinity with a place is
 * none any more): of several NaN the last wins, as in ref/pool.c. */
template <int Count>
__device__ __forceinline__ void make_windows_plainly(windows_made<Count> &made,
                                                     const columns<Count> &from)
{
    const uint32_t odd = threadIdx.x / 4 % 2;
    made = {};
#pragma unroll
    for (int i = 0; i < Count; i++) {
        float of[2][2]; /* [row][column] */
#pragma unroll
        for (int row = 0; row < 2; row++) {
            const float(&x)[2][Count] = row == 0 ? from.top : from.bottom;
            const float own = odd ? x[1][i] : x[0][i];
            const float taken =
                __shfl_xor_sync(0xffffffffu, odd ? x[0][i] : x[1][i], 4);
            of[row][0] = odd ? taken : own;
            of[row][1] = odd ? own : taken;
        }
        float best = of[0][0];
        uint32_t place = 0;
#pragma unroll
        for (uint32_t p = 1; p < 4; p++) {
            const float x = of[p / 2][p % 2];
            if (!(x > best) && x == x) continue;
            best = x;
            place = p;
        }
        if (best <= 0) continue;
        made.value[i] = best;
        made.place[i / 4] |= place << i % 4 * 8;
    }
}

/* Maximum of windows, and ReLU; where that gives 0, place 0 wins. */
template <int Count>
__device__ __forceinline__ windows_made<Count> make_windows(const columns<Count> &from)
{
    static_assert(Count == 2 || Count == 4 || Count == 8, "bits of a byte");
    const uint32_t odd = threadIdx.x / 4 % 2;
    const uint32_t rest[2] = {unknown(3 - odd), unknown(1 - odd)};
    windows_made<Count> made = {};
    float best[Count];
#pragma unroll
    for (int i = 0; i < Count; i++) {
        float of[2];
#pragma unroll
        for (int j = 0; j < 2; j++)
            of[j] = larger(with_rest(from.top[j][i], rest[0]),
                           with_rest(from.bottom[j][i], rest[1]));
        const float taken = __shfl_xor_sync(0xffffffffu, odd ? of[0] : of[1], 4);
        best[i] = larger(odd ? of[1] : of[0], taken);
        made.value[i] = __uint_as_float(__float_as_uint(best[i]) & ~3u);
    }
    bool nan = false;
#pragma unroll
    for (int i = 0; i < Count; i++) {
        const bool above = made.value[i] > 0;
        const uint32_t place = ~__float_as_uint(best[i]) & 3;
        nan |= best[i] != best[i];
        made.place[i / 4] |= (above ? place : 0) << i % 4 * 8;
        if (!above) made.value[i] = 0;
    }
    if (__any_sync(0xffffffffu, nan)) make_windows_plainly(made, from);
    return made;
}

/* Write a window whose top left pixel is (y, x), from a channel on. */
template <int Count>
__device__ __forceinline__ void
put_windows(const vgg__conv_mma_args &args, const windows_made<Count> &made,
            uint32_t image, uint32_t y, uint32_t x, uint32_t channel)
{
    if (y >= args.h || x >= args.wd) return; /* both are even */
    const size_t row = (size_t)image * (args.h / 2) + y / 2;
    const size_t to = (row * (args.wd / 2) + x / 2) * args.oc + channel;
    store<Count>((bf16 *)args.y + to, made.value);
    if (args.winner != nullptr) copy<Count>(args.winner + to, made.place);
}

} // namespace vgg

#endif
