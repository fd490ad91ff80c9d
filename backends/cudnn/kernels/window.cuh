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

/* The same of two windows of bf16 at once, which lie in the halves of a word: the
 * values as they are kept, and the places as halves. With `relu` what is not above 0
 * becomes 0, and its place 0. A NaN wins, by place 3 wherever it was. */
struct pooled_pair {
    uint32_t value, place;
};

#ifdef VGG_HOST_CUDA
inline pooled_pair pool_pair(const uint32_t (&of)[4], bool relu)
{
    pooled_pair to = {0, 0};
    for (int half = 0; half < 2; half++) {
        float v[4];
        bool nan = false;
        for (int i = 0; i < 4; i++) {
            v[i] = to_float(bf16{(uint16_t)(of[i] >> 16 * half)});
            nan = nan || v[i] != v[i];
        }
        winner best = find_winner(v[0], v[1], v[2], v[3]);
        if (nan) best.place = 3;
        if (relu && best.value <= 0) best = {0, 0};
        to.value |= (uint32_t)to_bf16(best.value).bits << 16 * half;
        to.place |= best.place << 16 * half;
    }
    return to;
}
#else
__device__ __forceinline__ __nv_bfloat162 halves(uint32_t word)
{
    __nv_bfloat162 two;
    memcpy(&two, &word, sizeof two);
    return two;
}

__device__ __forceinline__ pooled_pair pool_pair(const uint32_t (&of)[4], bool relu)
{
    const __nv_bfloat162 v1 = halves(of[1]), v2 = halves(of[2]), v3 = halves(of[3]);
    /* a zero in place 0 stands for all that the ReLU makes one of */
    __nv_bfloat162 v0 = halves(of[0]);
    if (relu) v0 = __hmax2_nan(v0, halves(0));
    const __nv_bfloat162 most = __hmax2_nan(__hmax2_nan(v0, v1), __hmax2_nan(v2, v3));
    const uint32_t is0 = __heq2_mask(v0, most), is1 = __heq2_mask(v1, most);
    const uint32_t is2 = __heq2_mask(v2, most);
    pooled_pair to;
    to.place = (~is0 & (is1 | ~is2) & 0x00010001u) | (~(is0 | is1) & 0x00020002u);
    memcpy(&to.value, &most, sizeof most);
    return to;
}
#endif

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
