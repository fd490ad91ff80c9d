/* SPDX-License-Identifier: Apache-2.0 */
/* Average pooling to a given size: output i of `out` covers the inputs from
 * floor(i * in / out) to ceil((i + 1) * in / out), the end not included. Windows
 * overlap where the sizes do not divide; the way back gathers from every window that
 * covers a place. */
#include "kernel.cuh"
#include "tiles.h"

namespace
{

using vgg::bf16;
using vgg::lanes;

constexpr uint32_t threads = VGG__THREADS;

struct span {
    uint32_t begin, end; /* the end is not included */

    __device__ uint32_t size() const
    {
        return end - begin;
    }
};

/* What output i of `out` covers of `in`. */
__device__ __forceinline__ span covered(uint32_t i, uint32_t in, uint32_t out)
{
    return span{(uint32_t)((uint64_t)i * in / out),
                (uint32_t)((((uint64_t)i + 1) * in + out - 1) / out)};
}

/* The same formulas the other way round: outputs that cover input i. */
__device__ __forceinline__ span covering(uint32_t i, uint32_t in, uint32_t out)
{
    return covered(i, out, in);
}

template <typename T, int V> struct adaptive {
    const vgg__adaptive_pool_args &a;

    __device__ void add(uint64_t pixel, uint32_t channel, float factor,
                        float (&sum)[V]) const
    {
        float x[V];
        vgg::load<V>((const T *)a.x + pixel * a.c + channel, x);
#pragma unroll
        for (int i = 0; i < V; i++) sum[i] += x[i] * factor;
    }

    __device__ void forward(uint64_t n, uint32_t h, uint32_t w, uint32_t channel,
                            float (&y)[V]) const
    {
        const span down = covered(h, a.ih, a.h), across = covered(w, a.iw, a.w);
        for (uint32_t i = down.begin; i < down.end; i++)
            for (uint32_t j = across.begin; j < across.end; j++)
                add((n * a.ih + i) * a.iw + j, channel, 1, y);
        const float size = (float)(down.size() * across.size());
        for (int i = 0; i < V; i++) y[i] /= size;
    }

    __device__ void backward(uint64_t n, uint32_t h, uint32_t w, uint32_t channel,
                             float (&dx)[V]) const
    {
        const span down = covering(h, a.ih, a.h), across = covering(w, a.iw, a.w);
        for (uint32_t i = down.begin; i < down.end; i++)
            for (uint32_t j = across.begin; j < across.end; j++) {
                const uint32_t size =
                    covered(i, a.ih, a.h).size() * covered(j, a.iw, a.w).size();
                add((n * a.h + i) * a.w + j, channel, 1 / (float)size, dx);
            }
    }

    __device__ void all() const
    {
        const bool back = a.backward != 0;
        const uint32_t height = back ? a.ih : a.h, width = back ? a.iw : a.w;
        const uint32_t groups = a.c / V;
        const uint64_t count = (uint64_t)a.n * height * width * groups;
        for (uint64_t at = vgg::thread_number(); at < count;
             at += vgg::thread_count()) {
            const uint64_t pixel = vgg::divide(at, groups);
            const uint64_t row = vgg::divide(pixel, width),
                           n = vgg::divide(row, height);
            const uint32_t channel = (uint32_t)(at - pixel * groups) * V;
            const uint32_t h = (uint32_t)(row - n * height);
            const uint32_t w = (uint32_t)(pixel - row * width);
            float y[V] = {};
            if (back)
                backward(n, h, w, channel, y);
            else
                forward(n, h, w, channel, y);
            vgg::store((T *)a.y + pixel * a.c + channel, y);
        }
    }
};

template <typename T>
__global__ void __launch_bounds__(threads)
    adaptive_pool(const vgg__adaptive_pool_args a)
{
    if (a.c % lanes<T> == 0)
        adaptive<T, lanes<T>>{a}.all();
    else
        adaptive<T, 1>{a}.all();
}

} // namespace

extern "C" const struct vgg__kernel vgg__kernel_adaptive_pool[VGG__TYPES] = {
    vgg::entry<adaptive_pool<float>>("adaptive_pool f32", threads),
    vgg::entry<adaptive_pool<bf16>>("adaptive_pool bf16", threads)};
