/* SPDX-License-Identifier: Apache-2.0 */
/* Stages and sums that look at every element once, and what happens to flat arrays. */
#include "rows.cuh"

namespace
{

using vgg::bf16;
using vgg::lanes;
using vgg::packet;
using vgg::threads;

/* ---- Bias and ReLU ----------------------------------------------------------------- */

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

/* ---- The gradient behind a ReLU ---------------------------------------------------- */

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
        held h = {};
        h.dy = vgg::load_packet<V>((const T *)a.dy + at);
        if (a.y != nullptr) h.y = vgg::load_packet<V>((const T *)a.y + at);
        return h;
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

/* ---- Sums of rows ------------------------------------------------------------------ */

/* A block has 8 columns and 32 rows at a time. */
__global__ void __launch_bounds__(threads) sum_rows(const vgg__sum_rows_args a)
{
    constexpr uint32_t across = VGG__SUM_COLUMNS, down = threads / across;
    const vgg::share s = {across, across, down, threadIdx.x % across,
                          threadIdx.x / across};
    for (uint64_t first = (uint64_t)blockIdx.x * across; first < a.c;
         first += (uint64_t)gridDim.x * across) {
        const uint64_t column = first + s.column;
        float sum[1] = {0};
        if (column < a.c) {
#pragma unroll 8
            for (uint32_t row = s.row; row < a.rows; row += down)
                sum[0] += a.partial[(uint64_t)row * a.c + column];
        }
        vgg::sum_block_rows(s, sum);
        if (s.row == 0 && column < a.c)
            a.out[column] = a.add != 0 ? a.out[column] + sum[0] : sum[0];
    }
}

/* ---- Flat arrays ------------------------------------------------------------------- */

/* work(i, V elements at once) for all, then one by one for the rest. */
template <int V, typename Work>
__device__ __forceinline__ void for_flat(uint64_t count, const Work &work)
{
    const uint64_t step = vgg::thread_count(), number = vgg::thread_number();
    const uint64_t whole = count / V;
    for (uint64_t i = number; i < whole; i += step) work.template at<V>(i * V);
    for (uint64_t i = whole * V + number; i < count; i += step) work.template at<1>(i);
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
