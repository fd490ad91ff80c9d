/* SPDX-License-Identifier: Apache-2.0 */
/* Inverted dropout. Element e of the step's batch, counted in [n][c][h][w], takes word
 * e % 4 of random block e / 4 and is dropped if that is below the rate (drop.cuh). */
#include "drop.cuh"
#include "tiles.h"

namespace
{

using vgg::bf16;
using vgg::lanes;

constexpr uint32_t threads = VGG__THREADS;

/* Maps of one pixel: both orders are the same. V is a multiple of 4, and a run of V
 * elements begins with a random block. */
template <typename T, int V>
__device__ __forceinline__ void drop_flat(const vgg__dropout_args &a, uint64_t first)
{
    const vgg::dropper drop(a.step, a.layer, a.rate);
    const uint64_t runs = (uint64_t)a.n * a.c / V;
    for (uint64_t i = vgg::thread_number(); i < runs; i += vgg::thread_count()) {
        float x[V];
        vgg::load<V>((const T *)a.x + i * V, x);
        drop.some(first + i * V, x);
        vgg::store((T *)a.y + i * V, x);
    }
}

template <typename T>
__device__ __forceinline__ void drop_map(const vgg__dropout_args &a, uint64_t first)
{
    const vgg::dropper drop(a.step, a.layer, a.rate);
    const uint32_t pixels = a.h * a.w;
    const uint64_t count = (uint64_t)a.n * a.c * pixels;
    for (uint64_t at = vgg::thread_number(); at < count; at += vgg::thread_count()) {
        const uint64_t row = vgg::divide(at, a.c), n = vgg::divide(row, pixels);
        const uint64_t channel = at - row * a.c, pixel = row - n * pixels;
        const uint64_t element = first + (n * a.c + channel) * pixels + pixel;
        const float x = vgg::to_float(((const T *)a.x)[at]);
        ((T *)a.y)[at] = vgg::from_float<T>(drop.one(element, x));
    }
}

template <typename T>
__global__ void __launch_bounds__(threads) dropout(const vgg__dropout_args a)
{
    const uint32_t pixels = a.h * a.w;
    const uint64_t first = (uint64_t)a.step->first * a.c * pixels;
    if (pixels == 1 && a.c % lanes<T> == 0)
        drop_flat<T, lanes<T>>(a, first);
    else
        drop_map<T>(a, first);
}

} // namespace

extern "C" const struct vgg__kernel vgg__kernel_dropout[VGG__TYPES] = {
    vgg::entry<dropout<float>>("dropout f32", threads),
    vgg::entry<dropout<bf16>>("dropout bf16", threads)};
