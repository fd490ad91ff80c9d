/* SPDX-License-Identifier: Apache-2.0 */
/* The largest of a 2x2 window, as all kernels that pool choose it: of equal values the
 * first in row-major order; a NaN wins over numbers, the last of several NaN over the
 * others. */
#ifndef VGG_CUDNN_WINDOW_CUH
#define VGG_CUDNN_WINDOW_CUH

#include "kernel.cuh"

namespace vgg
{

struct winner {
    float value;
    uint32_t place; /* 0 .. 3 */
};

/* Whether a later value takes the place of an earlier one. */
__device__ __forceinline__ bool beats(float later, float earlier)
{
    return later > earlier || later != later;
}

__device__ __forceinline__ winner find_winner(float a, float b, float c, float d)
{
    const bool right = beats(b, a), lower_right = beats(d, c);
    const float upper = right ? b : a, lower = lower_right ? d : c;
    const bool below = beats(lower, upper);
    return winner{below ? lower : upper,
                  below ? 2 + (uint32_t)lower_right : (uint32_t)right};
}

/* N places as bytes. */
template <int N>
__device__ __forceinline__ packet<uint8_t, N> pack_places(const uint32_t (&place)[N])
{
    packet<uint8_t, N> p;
    if constexpr (N % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N / 4; i++)
            p.set_word(i, place[4 * i] | place[4 * i + 1] << 8 |
                              place[4 * i + 2] << 16 | place[4 * i + 3] << 24);
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) p.at[i] = (uint8_t)place[i];
    }
    return p;
}

/* 0xff in each byte, all of them 0 .. 3, that is `place`. */
__device__ __forceinline__ uint32_t bytes_equal(uint32_t bytes, uint32_t place)
{
    const uint32_t other = bytes ^ place * 0x01010101u;
    return (~(other | other >> 1) & 0x01010101u) * 0xff;
}

/* x where the winner is `place`, else 0. */
template <typename T, int N>
__device__ __forceinline__ packet<T, N>
won_by(const packet<T, N> &x, const packet<uint8_t, N> &winner, uint32_t place)
{
    packet<T, N> to = {};
    if constexpr (sizeof(T) == 2 && N % 4 == 0) {
#pragma unroll
        for (int i = 0; i < N / 4; i++) {
            const uint32_t mask = bytes_equal(winner.word(i), place);
            to.set_word(2 * i, x.word(2 * i) & __byte_perm(mask, 0, 0x1100));
            to.set_word(2 * i + 1, x.word(2 * i + 1) & __byte_perm(mask, 0, 0x3322));
        }
    } else {
#pragma unroll
        for (int i = 0; i < N; i++)
            if (winner.at[i] == place) to.at[i] = x.at[i];
    }
    return to;
}

} // namespace vgg

#endif
