/* SPDX-License-Identifier: Apache-2.0 */
/* Stages and sums that look at every element once, and what happens to flat arrays. */
#include "rows.cuh"

namespace
{

using vgg::bf16;
using vgg::lanes;
using vgg::packet;
using vgg::threads;

/* ---- Bias and ReLU --------------------------------------------------------------- */

template <typename T, int V> struct bias_relu_work {
    using held = packet<T, V>;
    const vgg__bias_relu_args &a;
    float bias[V];

    __device__ void begin(uint32_t channel)
    {
        for (int i = 0; i < V; i++)
            bias[i] = a.bias != nullptr ? a.bias[channel + i] : 0;
    }

    __device__ held load(uint64_t row, uint32_t channel) const
    {
        return vgg::load_packet<V>((const T *)a.x + row * a.c + channel);
    }

    __device__ void use(const held &x, uint64_t row, uint32_t channel) const
    {
        float v[V];
        vgg::unpack(x, v);
#pragma unroll
        for (int i = 0; i < V; i++) {
            if (a.bias != nullptr) v[i] += bias[i];
            if (a.relu != 0 && v[i] <= 0) v[i] = 0;
        }
        vgg::store((T *)a.y + row * a.c + channel, v);
    }
};

template <typename T>
__global__ void __launch_bounds__(threads) bias_relu(const vgg__bias_relu_args a)
{
    if (a.c % lanes<T> == 0) {
        bias_relu_work<T, lanes<T>> work{a, {}};
        vgg::for_rows<lanes<T>>(a.rows, a.c, work);
    } else {
        bias_relu_work<T, 1> work{a, {}};
        vgg::for_rows<1>(a.rows, a.c, work);
    }
}

/* ---- The gradient behind a ReLU -------------------------------------------------- */

template <typename T, int V> struct mask_work {
    struct held {
        packet<T, V> dy, y;
    };
    const vgg__mask_args &a;
    float sums[V];

    __device__ void begin(uint32_t)
    {
        for (int i = 0; i < V; i++) sums[i] = 0;
    }

    __device__ held load(uint64_t row, uint32_t channel) const
    {
        const uint64_t at = row * a.c + channel;
        return held{vgg::load_packet<V>((const T *)a.dy + at),
                    vgg::load_if<V>((const T *)a.y + at, a.y != nullptr)};
    }

    __device__ void use(const held &h, uint64_t row, uint32_t channel)
    {
        float d[V], y[V];
        vgg::unpack(h.dy, d);
        if (a.y != nullptr) vgg::unpack(h.y, y);
#pragma unroll
        for (int i = 0; i < V; i++) {
            d[i] = a.y != nullptr && y[i] <= 0 ? 0 : d[i] * a.scale;
            sums[i] += d[i];
        }
        if (a.dz != nullptr) vgg::store((T *)a.dz + row * a.c + channel, d);
    }
};

template <typename T>
__global__ void __launch_bounds__(threads) mask(const vgg__mask_args a)
{
    if (a.c % lanes<T> == 0) {
        mask_work<T, lanes<T>> work{a, {}};
        vgg::for_rows_with_sums<lanes<T>>(a.rows, a.c, work, a.partial);
    } else {
        mask_work<T, 1> work{a, {}};
        vgg::for_rows_with_sums<1>(a.rows, a.c, work, a.partial);
    }
}

/* ---- Sums of rows ---------------------------------------------------------------- */

/* Of a column, every `down`th row from `row` on: many are read before the first is
 * added. */
__device__ __forceinline__ float sum_column(const vgg__sum_rows_args &a, uint32_t row,
                                            uint32_t down, uint64_t column)
{
    constexpr uint32_t ahead = 18;
    const uint64_t step = (uint64_t)down * a.c;
    const float *from = a.partial + (uint64_t)row * a.c + column;
    float sum = 0;
#pragma unroll 1
    for (; row < a.rows; row += ahead * down) {
        float of[ahead];
#pragma unroll
        for (uint32_t i = 0; i < ahead; i++, from += step)
            of[i] = row + i * down < a.rows ? *from : 0;
#pragma unroll
        for (uint32_t i = 0; i < ahead; i++) sum += of[i];
    }
    return sum;
}

/* A block has 8 columns and 32 rows at a time, a warp 4 of them. */
__global__ void __launch_bounds__(threads) sum_rows(const vgg__sum_rows_args a)
{
    constexpr uint32_t across = VGG__SUM_COLUMNS, down = threads / across;
    using table = float[threads / 32][across];
    table &of_warps = vgg::shared<table>();
    const uint32_t place = threadIdx.x % across;
    for (uint64_t first = (uint64_t)blockIdx.x * across; first < a.c;
         first += (uint64_t)gridDim.x * across) {
        const uint64_t column = first + place;
        const bool apart = a.split != 0 && column >= a.split;
        float *const to = apart ? a.rest : a.out;
        float *const out = to + (apart ? column - a.split : column);
        const bool writes = threadIdx.x < across && column < a.c && to != nullptr;
        float total = writes && a.add != 0 ? *out : 0, sum = 0;
        if (column < a.c) sum = sum_column(a, threadIdx.x / across, down, column);
#pragma unroll
        for (uint32_t lanes = across; lanes < 32; lanes *= 2)
            sum += __shfl_xor_sync(0xffffffffu, sum, (int)lanes);
        __syncthreads(); /* who still reads the sums before */
        if (threadIdx.x % 32 < across) of_warps[threadIdx.x / 32][place] = sum;
        __syncthreads();
        sum = of_warps[0][place];
#pragma unroll
        for (uint32_t i = 1; i < threads / 32; i++) sum += of_warps[i][place];
        total += sum;
        if (writes) *out = total;
    }
}

/* ---- Flat arrays ----------------------------------------------------------------- */

/* work(i, V elements at once) for all, then one by one for the rest. */
template <int V, typename Work>
__device__ __forceinline__ void for_flat(uint64_t count, const Work &work)
{
    const uint64_t step = vgg::thread_count(), number = vgg::thread_number();
    const uint64_t whole = count / V;
    for (uint64_t i = number; i < whole; i += step) work.template at<V>(i * V);
    for (uint64_t i = whole * V + number; i < count; i += step) work.template at<1>(i);
}

template <typename T> struct add_work {
    const vgg__add_args &a;

    template <int V> __device__ void at(uint64_t i) const
    {
        float in[V], sum[V];
        vgg::load<V>((const T *)a.in + i, in);
        vgg::load<V>((const T *)a.sum + i, sum);
#pragma unroll
        for (int k = 0; k < V; k++) sum[k] += in[k];
        vgg::store((T *)a.sum + i, sum);
        vgg::store((T *)a.out + i, sum);
    }
};

template <typename T>
__global__ void __launch_bounds__(threads) add(const vgg__add_args a)
{
    for_flat<lanes<T>>(a.count, add_work<T>{a});
}

template <typename T> struct accumulate_work {
    const vgg__accumulate_args &a;

    template <int V> __device__ void at(uint64_t i) const
    {
        float in[V], out[V];
        vgg::load<V>((const T *)a.in + i, in);
        vgg::load<V>(a.out + i, out);
#pragma unroll
        for (int k = 0; k < V; k++) out[k] += in[k];
        vgg::store(a.out + i, out);
    }
};

template <typename T>
__global__ void __launch_bounds__(threads) accumulate(const vgg__accumulate_args a)
{
    for_flat<lanes<T>>(a.count, accumulate_work<T>{a});
}

struct scale_work {
    const vgg__scale_args &a;

    template <int V> __device__ void at(uint64_t i) const
    {
        float x[V];
        vgg::load<V>(a.value + i, x);
#pragma unroll
        for (int k = 0; k < V; k++) x[k] *= a.factor;
        vgg::store(a.value + i, x);
    }
};

__global__ void __launch_bounds__(threads) scale(const vgg__scale_args a)
{
    for_flat<4>(a.count, scale_work{a});
}

struct shadow_work {
    const vgg__shadow_args &a;

    template <int V> __device__ void at(uint64_t i) const
    {
        float x[V];
        vgg::load<V>(a.value + i, x);
        vgg::store((bf16 *)a.shadow + i, x);
    }
};

__global__ void __launch_bounds__(threads) shadow(const vgg__shadow_args a)
{
    for_flat<8>(a.count, shadow_work{a});
}

/* Element [i][k][j] of the output is [i][j][k] of the input. */
__global__ void __launch_bounds__(threads) permute(const vgg__permute_args a)
{
    const uint64_t count = (uint64_t)a.a * a.b * a.c;
    for (uint64_t at = vgg::thread_number(); at < count; at += vgg::thread_count()) {
        const uint64_t row = vgg::divide(at, a.b), i = vgg::divide(row, a.c);
        const uint64_t j = at - row * a.b, k = row - i * a.c;
        a.out[at] = a.in[(i * a.b + j) * a.c + k];
    }
}

} // namespace

extern "C" const struct vgg__kernel vgg__kernel_bias_relu[VGG__TYPES] = {
    vgg::entry<bias_relu<float>>("bias_relu f32", threads),
    vgg::entry<bias_relu<bf16>>("bias_relu bf16", threads)};
extern "C" const struct vgg__kernel vgg__kernel_mask[VGG__TYPES] = {
    vgg::entry<mask<float>>("mask f32", threads),
    vgg::entry<mask<bf16>>("mask bf16", threads)};
extern "C" const struct vgg__kernel vgg__kernel_add[VGG__TYPES] = {
    vgg::entry<add<float>>("add f32", threads),
    vgg::entry<add<bf16>>("add bf16", threads)};
extern "C" const struct vgg__kernel vgg__kernel_accumulate[VGG__TYPES] = {
    vgg::entry<accumulate<float>>("accumulate f32", threads),
    vgg::entry<accumulate<bf16>>("accumulate bf16", threads)};
extern "C" const struct vgg__kernel vgg__kernel_sum_rows =
    vgg::entry<sum_rows>("sum_rows", threads);
extern "C" const struct vgg__kernel vgg__kernel_scale =
    vgg::entry<scale>("scale", threads);
extern "C" const struct vgg__kernel vgg__kernel_shadow =
    vgg::entry<shadow>("shadow", threads);
extern "C" const struct vgg__kernel vgg__kernel_permute =
    vgg::entry<permute>("permute", threads);
