/* SPDX-License-Identifier: Apache-2.0 */
/* What surrounds the matrix products of a linear layer: bias, ReLU and dropout behind
 * the forward's, mask and bias gradient before the backward's. */
#include "drop.cuh"
#include "rows.cuh"

namespace
{

using vgg::bf16;
using vgg::lanes;
using vgg::threads;

/* ---- Forward --------------------------------------------------------------------- */

template <typename Out, int V>
__device__ __forceinline__ void finish(const vgg__linear_finish_args &a)
{
    const vgg::dropper drop(a.step, a.layer, a.rate);
    const uint32_t groups = a.c / V;
    const uint64_t first = (uint64_t)a.step->first * a.c, all = (uint64_t)a.n * groups;
    for (uint64_t i = vgg::thread_number(); i < all; i += vgg::thread_count()) {
        const uint64_t row = vgg::divide(i, groups);
        const uint32_t channel = (uint32_t)(i - row * groups) * V;
        float x[V], bias[V] = {};
        vgg::load<V>(a.acc + i * V, x);
        if (a.bias != nullptr) vgg::load<V>(a.bias + channel, bias);
#pragma unroll
        for (int k = 0; k < V; k++) {
            if (a.bias != nullptr) x[k] += bias[k];
            if (a.relu != 0 && x[k] <= 0) x[k] = 0;
            if (V == 1 && a.rate != 0) x[k] = drop.one(first + i, x[k]);
        }
        if constexpr (V % 4 == 0)
            if (a.rate != 0) drop.some(first + i * V, x);
        vgg::store((Out *)a.y + i * V, x);
    }
}

template <typename Out>
__device__ __forceinline__ void finish_as(const vgg__linear_finish_args &a)
{
    if (a.c % lanes<Out> == 0)
        finish<Out, lanes<Out>>(a);
    else
        finish<Out, 1>(a);
}

template <typename T>
__global__ void __launch_bounds__(threads)
    linear_finish(const vgg__linear_finish_args a)
{
    if (a.out_f32 != 0)
        finish_as<float>(a);
    else
        finish_as<T>(a);
}

/* ---- Backward -------------------------------------------------------------------- */

/* A block has 8 groups of V columns and 32 rows at a time. */
template <typename T, typename In, int V>
__device__ __forceinline__ void mask_columns(const vgg__linear_mask_args &a)
{
    constexpr uint32_t across = VGG__SUM_COLUMNS, down = threads / across;
    const vgg::share s = {across, across, down, threadIdx.x % across,
                          threadIdx.x / across};
    for (uint64_t first = (uint64_t)blockIdx.x * across * V; first < a.c;
         first += (uint64_t)gridDim.x * across * V) {
        const uint64_t channel = first + s.column * V;
        float sums[V] = {};
        if (channel < a.c) {
#pragma unroll 4
            for (uint32_t row = s.row; row < a.n; row += down) {
                const uint64_t at = (uint64_t)row * a.c + channel;
                float d[V], y[V];
                vgg::load<V>((const In *)a.dy + at, d);
                if (a.y != nullptr) vgg::load<V>((const T *)a.y + at, y);
#pragma unroll
                for (int k = 0; k < V; k++) {
                    d[k] = a.y != nullptr && y[k] <= 0 ? 0 : d[k] * a.scale;
                    sums[k] += d[k];
                }
                vgg::store((T *)a.dz + at, d);
            }
        }
        if (a.db == nullptr) continue;
        vgg::sum_block_rows(s, sums);
        if (s.row != 0 || channel >= a.c) continue;
        for (int k = 0; k < V; k++) a.db[channel + k] += sums[k];
    }
}

template <typename T, typename In>
__device__ __forceinline__ void mask_from(const vgg__linear_mask_args &a)
{
    if (a.c % 2 == 0)
        mask_columns<T, In, 2>(a);
    else
        mask_columns<T, In, 1>(a);
}

template <typename T>
__global__ void __launch_bounds__(threads) linear_mask(const vgg__linear_mask_args a)
{
    if (a.in_f32 != 0)
        mask_from<T, float>(a);
    else
        mask_from<T, T>(a);
}

} // namespace

extern "C" const struct vgg__kernel vgg__kernel_linear_finish[VGG__TYPES] = {
    vgg::entry<linear_finish<float>>("linear_finish f32", threads),
    vgg::entry<linear_finish<bf16>>("linear_finish bf16", threads)};
extern "C" const struct vgg__kernel vgg__kernel_linear_mask[VGG__TYPES] = {
    vgg::entry<linear_mask<float>>("linear_mask f32", threads),
    vgg::entry<linear_mask<bf16>>("linear_mask bf16", threads)};
