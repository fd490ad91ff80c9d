/* SPDX-License-Identifier: Apache-2.0 */
/* Between the boundary's [n][c][h][w] and the engine's [n][h][w][c]: transposed
 * matrices, one a sample, with the type converted on the way. */
#include "kernel.cuh"
#include "tiles.h"

namespace
{

using vgg::bf16;

constexpr uint32_t threads = VGG__THREADS;
constexpr uint32_t side = 32;  /* of a tile */
constexpr uint32_t narrow = 8; /* a tile of fewer rows or columns would be half empty */

/* in [count][rows][columns], out [count][columns][rows]; from matrix `live` on, out is
 * zero and in is not read. */
template <typename In, typename Out> struct matrices {
    const In *in;
    Out *out;
    uint32_t count, live, rows, columns;
    const Out *mask; /* like out; NULL: none */

    __device__ __forceinline__ void put(uint64_t at, float x) const
    {
        if (mask != nullptr && vgg::to_float(mask[at]) <= 0) x = 0;
        out[at] = vgg::from_float<Out>(x);
    }
};

template <typename In, typename Out>
__device__ __forceinline__ void transpose_elements(const matrices<In, Out> &m)
{
    const uint64_t size = (uint64_t)m.rows * m.columns, all = m.count * size;
    for (uint64_t at = vgg::thread_number(); at < all; at += vgg::thread_count()) {
        const uint64_t line = vgg::divide(at, m.rows), row = at - line * m.rows;
        const uint64_t which = vgg::divide(line, m.columns);
        const uint64_t column = line - which * m.columns;
        float x = 0;
        if (which < m.live)
            x = vgg::to_float(m.in[which * size + row * m.columns + column]);
        m.put(at, x);
    }
}

/* By tiles in shared memory, so that both sides are read and written along their
 * rows. */
template <typename In, typename Out>
__device__ __forceinline__ void transpose_tiles(const matrices<In, Out> &m)
{
    using table = float[side][side + 1];
    table &tile = vgg::shared<table>();
    const uint32_t x = threadIdx.x % side, y = threadIdx.x / side;
    const uint32_t down = (m.rows + side - 1) / side;
    const uint32_t across = (m.columns + side - 1) / side;
    const uint64_t size = (uint64_t)m.rows * m.columns;
    const uint64_t all = (uint64_t)m.count * down * across;
    for (uint64_t t = blockIdx.x; t < all; t += gridDim.x) {
        const uint64_t line = vgg::divide(t, across), which = vgg::divide(line, down);
        const uint32_t column = (uint32_t)(t - line * across) * side;
        const uint32_t row = (uint32_t)(line - which * down) * side;
        const In *const in = m.in + which * size;
        __syncthreads();
#pragma unroll
        for (uint32_t i = y; i < side; i += threads / side)
            tile[i][x] =
                which < m.live && row + i < m.rows && column + x < m.columns
                    ? vgg::to_float(in[(uint64_t)(row + i) * m.columns + column + x])
                    : 0;
        __syncthreads();
#pragma unroll
        for (uint32_t i = y; i < side; i += threads / side)
            if (column + i < m.columns && row + x < m.rows)
                m.put(which * size + (uint64_t)(column + i) * m.rows + row + x,
                      tile[x][i]);
    }
}

template <typename In, typename Out>
__device__ __forceinline__ void transpose(const matrices<In, Out> &m)
{
    if (m.rows < narrow || m.columns < narrow)
        transpose_elements(m);
    else
        transpose_tiles(m);
}

template <typename T>
__global__ void __launch_bounds__(threads) take_in(const vgg__take_in_args a)
{
    transpose(matrices<float, T>{a.in, (T *)a.out, a.n, a.step->count, a.c, a.h * a.w,
                                 nullptr});
}

template <typename T>
__global__ void __launch_bounds__(threads) give_out(const vgg__give_out_args a)
{
    transpose(
        matrices<T, float>{(const T *)a.in, a.out, a.n, a.n, a.h * a.w, a.c, nullptr});
}

template <typename T>
__global__ void __launch_bounds__(threads) flatten(const vgg__flatten_args a)
{
    const uint32_t pixels = a.h * a.w;
    transpose(matrices<T, T>{(const T *)a.in, (T *)a.out, a.n, a.n,
                             a.back != 0 ? a.c : pixels, a.back != 0 ? pixels : a.c,
                             (const T *)a.mask});
}

} // namespace

extern "C" const struct vgg__kernel vgg__kernel_take_in[VGG__TYPES] = {
    vgg::entry<take_in<float>>("take_in f32", threads),
    vgg::entry<take_in<bf16>>("take_in bf16", threads)};
extern "C" const struct vgg__kernel vgg__kernel_give_out[VGG__TYPES] = {
    vgg::entry<give_out<float>>("give_out f32", threads),
    vgg::entry<give_out<bf16>>("give_out bf16", threads)};
extern "C" const struct vgg__kernel vgg__kernel_flatten[VGG__TYPES] = {
    vgg::entry<flatten<float>>("flatten f32", threads),
    vgg::entry<flatten<bf16>>("flatten bf16", threads)};
