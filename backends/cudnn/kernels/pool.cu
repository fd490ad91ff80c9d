/* SPDX-License-Identifier: Apache-2.0 */
/* 2x2 pooling with stride 2, and its way back. The last row and column of an odd map
 * are in no window.
 *
 * Maximum: of equal values the first in row-major order wins; a NaN wins over numbers,
 * and the last of several NaN over the others (window.cuh). */
#include "rows.cuh"
#include "window.cuh"

namespace
{

using vgg::bf16;
using vgg::lanes;
using vgg::packet;
using vgg::threads;

/* ---- Forward --------------------------------------------------------------------- */

/* A row is a pixel of the output. */
template <typename T, int V> struct pool_work {
    struct held {
        packet<T, V> x[4];
    };
    const vgg__pool_args &a;
    float bias[V];

    __device__ void begin(uint32_t channel)
    {
        for (int i = 0; i < V; i++)
            bias[i] = a.bias != nullptr ? a.bias[channel + i] : 0;
    }

    __device__ held load(uint64_t row, uint32_t channel) const
    {
        const uint64_t line = vgg::divide(row, a.w), n = vgg::divide(line, a.h);
        const uint64_t h = line - n * a.h, w = row - line * a.w;
        const uint64_t pixel = (n * a.ih + 2 * h) * a.iw + 2 * w;
        const T *const x = (const T *)a.x + channel;
        held v;
#pragma unroll
        for (int i = 0; i < 4; i++)
            v.x[i] = vgg::load_packet<V>(x + (pixel + i / 2 * a.iw + i % 2) * a.c);
        return v;
    }

    __device__ void use(const held &x, uint64_t row, uint32_t channel) const
    {
        float v[4][V], y[V];
        uint32_t place[V];
#pragma unroll
        for (int i = 0; i < 4; i++) vgg::unpack(x.x[i], v[i]);
#pragma unroll
        for (int k = 0; k < V; k++) {
            float of[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                of[i] = a.bias != nullptr ? v[i][k] + bias[k] : v[i][k];
                if (a.relu != 0 && of[i] <= 0) of[i] = 0;
            }
            const vgg::winner best = vgg::find_winner(of[0], of[1], of[2], of[3]);
            y[k] =
                a.maximum != 0 ? best.value : (of[0] + of[1] + of[2] + of[3]) * 0.25f;
            place[k] = best.place;
        }
        vgg::store((T *)a.y + row * a.c + channel, y);
        if (a.winner != nullptr)
            vgg::store_packet(a.winner + row * a.c + channel, vgg::pack_places(place));
    }
};

template <typename T>
__global__ void __launch_bounds__(threads) pool(const vgg__pool_args a)
{
    const uint64_t rows = (uint64_t)a.n * a.h * a.w;
    if (a.c % lanes<T> == 0) {
        pool_work<T, lanes<T>> work{a, {}};
        vgg::for_rows<lanes<T>>(rows, a.c, work);
    } else {
        pool_work<T, 1> work{a, {}};
        vgg::for_rows<1>(rows, a.c, work);
    }
}

/* ---- Backward -------------------------------------------------------------------- */

/* A row is a window of the input, those cut off by the border too, whose gradient is
 * 0. */
template <typename T, int V, bool Maximum> struct unpool_work {
    struct held {
        packet<T, V> dy, y;
        packet<uint8_t, V> winner;
        uint64_t pixel; /* the window's first, in the input */
        bool right, below;
    };
    const vgg__unpool_args &a;
    float sums[V];

    __device__ void begin(uint32_t)
    {
        for (int i = 0; i < V; i++) sums[i] = 0;
    }

    __device__ held load(uint64_t row, uint32_t channel) const
    {
        const uint32_t across = (a.iw + 1) / 2, down = (a.ih + 1) / 2;
        const uint64_t line = vgg::divide(row, across), n = vgg::divide(line, down);
        const uint32_t h = (uint32_t)(line - n * down);
        const uint32_t w = (uint32_t)(row - line * across);
        const bool whole = h < a.h && w < a.w;
        const uint64_t at = ((n * a.h + h) * a.w + w) * a.c + channel;
        held v;
        v.pixel = (n * a.ih + 2 * h) * a.iw + 2 * w;
        v.right = 2 * w + 1 < a.iw;
        v.below = 2 * h + 1 < a.ih;
        v.dy = vgg::load_if<V>((const T *)a.dy + at, whole);
        v.winner = vgg::load_if<V>(a.winner + at, Maximum && whole);
        v.y = vgg::load_if<V>((const T *)a.y + at, Maximum && whole && a.y != nullptr);
        return v;
    }

    /* dy times factor where y, if there is one, is above 0. */
    __device__ packet<T, V> masked(const packet<T, V> &dy, const packet<T, V> &y,
                                   float factor)
    {
        float d[V], of[V];
        vgg::unpack(dy, d);
        vgg::unpack(y, of);
#pragma unroll
        for (int k = 0; k < V; k++) {
            d[k] = a.y != nullptr && of[k] <= 0 ? 0 : d[k] * factor;
            sums[k] += d[k];
        }
        return vgg::pack<T>(d);
    }

    __device__ void use(const held &v, uint64_t, uint32_t channel)
    {
        packet<T, V> all;
        if (Maximum) all = masked(v.dy, v.y, 1);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            if ((i % 2 != 0 && !v.right) || (i / 2 != 0 && !v.below)) continue;
            const uint64_t at = (v.pixel + i / 2 * a.iw + i % 2) * a.c + channel;
            packet<T, V> one = {};
            if (Maximum) {
                one = vgg::won_by(all, v.winner, i);
            } else {
                if (a.y != nullptr) one = vgg::load_packet<V>((const T *)a.y + at);
                one = masked(v.dy, one, 0.25f);
            }
            vgg::store_packet((T *)a.dx + at, one);
        }
    }
};

template <typename T, int V>
__device__ __forceinline__ void unpool_rows(const vgg__unpool_args &a)
{
    const uint64_t rows = (uint64_t)a.n * ((a.ih + 1) / 2) * ((a.iw + 1) / 2);
    if (a.maximum != 0) {
        unpool_work<T, V, true> work{a, {}};
        vgg::for_rows_with_sums<V>(rows, a.c, work, a.partial);
    } else {
        unpool_work<T, V, false> work{a, {}};
        vgg::for_rows_with_sums<V>(rows, a.c, work, a.partial);
    }
}

template <typename T>
__global__ void __launch_bounds__(threads, 4) unpool(const vgg__unpool_args a)
{
    if (a.c % lanes<T> == 0)
        unpool_rows<T, lanes<T>>(a);
    else
        unpool_rows<T, 1>(a);
}

} // namespace

extern "C" const struct vgg__kernel vgg__kernel_pool[VGG__TYPES] = {
    vgg::entry<pool<float>>("pool f32", threads),
    vgg::entry<pool<bf16>>("pool bf16", threads)};
extern "C" const struct vgg__kernel vgg__kernel_unpool[VGG__TYPES] = {
    vgg::entry<unpool<float>>("unpool f32", threads),
    vgg::entry<unpool<bf16>>("unpool bf16", threads)};
