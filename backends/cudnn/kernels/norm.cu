/* SPDX-License-Identifier: Apache-2.0 */
/* Batch normalisation. Sums are in double, of the samples of the run alone; those
 * behind them are padding. The forward's are taken about a channel's first value, so
 * that a mean far from 0 does not swallow the spread. */
#include "rows.cuh"

namespace
{

using vgg::bf16;
using vgg::lanes;
using vgg::packet;
using vgg::threads;

constexpr int wide = 4; /* channels of a thread where it has sums of them */

/* ---- Forward: sums --------------------------------------------------------------- */

template <typename T, int V> struct sums_work {
    using held = packet<T, V>;
    const vgg__norm_sums_args &a;
    float first[V];
    double sums[2 * V];

    __device__ void begin(uint32_t channel)
    {
        vgg::load<V>((const T *)a.x + channel, first);
        for (int i = 0; i < 2 * V; i++) sums[i] = 0;
    }

    __device__ held load(uint64_t row, uint32_t channel) const
    {
        return vgg::load_packet<V>((const T *)a.x + row * a.c + channel);
    }

    __device__ void use(const held &x, uint64_t, uint32_t)
    {
        float v[V];
        vgg::unpack(x, v);
#pragma unroll
        for (int i = 0; i < V; i++) {
            const double d = (double)v[i] - (double)first[i];
            sums[i] += d;
            sums[V + i] += d * d;
        }
    }
};

template <typename T>
__global__ void __launch_bounds__(threads) norm_sums(const vgg__norm_sums_args a)
{
    const uint64_t rows = (uint64_t)a.step->count * a.hw;
    if (a.c % wide == 0) {
        sums_work<T, wide> work{a, {}, {}};
        vgg::for_rows_with_sums<wide>(rows, a.c, work, a.partial);
    } else {
        sums_work<T, 1> work{a, {}, {}};
        vgg::for_rows_with_sums<1>(rows, a.c, work, a.partial);
    }
}

/* ---- Sums of the blocks' sums ---------------------------------------------------- */

constexpr uint32_t columns = VGG__SUM_COLUMNS;

__device__ __forceinline__ vgg::share share_columns()
{
    return vgg::share{columns, columns, threads / columns, threadIdx.x % columns,
                      threadIdx.x / columns};
}

/* Both sums of a channel, from partial [rows][2][c]; for the threads of the first
 * row. */
__device__ __forceinline__ void add_rows(const vgg::share &s, const double *partial,
                                         uint32_t rows, uint64_t channel, uint32_t c,
                                         double (&sums)[2])
{
    sums[0] = sums[1] = 0;
    if (channel < c) {
#pragma unroll 4
        for (uint32_t row = s.row; row < rows; row += s.down) {
            sums[0] += partial[(uint64_t)row * 2 * c + channel];
            sums[1] += partial[((uint64_t)row * 2 + 1) * c + channel];
        }
    }
    vgg::sum_block_rows(s, sums);
}

struct statistics {
    double mean, spread; /* sum of squared distances to the mean */
};

__device__ __forceinline__ statistics from_sums(const double (&sums)[2], double first,
                                                double values)
{
    const double spread = sums[1] - sums[0] * sums[0] / values;
    return statistics{first + sums[0] / values, spread < 0 ? 0 : spread};
}

/* Towards the batch's, unless one of the two would not be finite; a single value has no
 * unbiased variance. */
__device__ __forceinline__ void move_running(const vgg__norm_finish_args &a,
                                             uint64_t channel, const statistics &s,
                                             double values)
{
    const double keep = 1 - a.momentum;
    const float mean = (float)(keep * a.running_mean[channel] + a.momentum * s.mean);
    float var = a.running_var[channel];
    if (values > 1) var = (float)(keep * var + a.momentum * (s.spread / (values - 1)));
    if (!isfinite(mean) || !isfinite(var)) return;
    a.running_mean[channel] = mean;
    a.running_var[channel] = var;
}

template <typename T>
__global__ void __launch_bounds__(threads) norm_finish(const vgg__norm_finish_args a)
{
    const vgg::share s = share_columns();
    const double values = (double)a.step->count * a.hw;
    for (uint64_t first = (uint64_t)blockIdx.x * columns; first < a.c;
         first += (uint64_t)gridDim.x * columns) {
        const uint64_t channel = first + s.column;
        double sums[2];
        if (a.batch != 0) add_rows(s, a.partial, a.rows, channel, a.c, sums);
        if (s.row != 0 || channel >= a.c) continue;
        if (a.batch == 0) {
            a.mean[channel] = a.running_mean[channel];
            a.offset[channel] = 0;
            a.inverse[channel] = (float)(1 / sqrt(a.running_var[channel] + a.epsilon));
            continue;
        }
        const double origin = vgg::to_float(((const T *)a.x)[channel]);
        const statistics of = from_sums(sums, origin, values);
        const double inverse = 1 / sqrt(of.spread / values + a.epsilon);
        const float mean = (float)of.mean;
        a.mean[channel] = mean;
        a.inverse[channel] = (float)inverse;
        a.offset[channel] = (float)((of.mean - (double)mean) * inverse);
        move_running(a, channel, of, values);
    }
}

/* ---- Forward: y ------------------------------------------------------------------ */

template <typename T, int V> struct apply_work {
    using held = packet<T, V>;
    const vgg__norm_apply_args &a;
    float mean[V], scale[V], shift[V];

    __device__ void begin(uint32_t channel)
    {
        for (int i = 0; i < V; i++) {
            mean[i] = a.mean[channel + i];
            scale[i] = a.gamma[channel + i] * a.inverse[channel + i];
            const float left = a.offset[channel + i]; /* gamma may be infinite */
            shift[i] = a.beta[channel + i];
            if (left != 0) shift[i] -= a.gamma[channel + i] * left;
        }
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
            v[i] = (v[i] - mean[i]) * scale[i] + shift[i];
            if (a.relu != 0 && v[i] <= 0) v[i] = 0;
        }
        vgg::store((T *)a.y + row * a.c + channel, v);
    }
};

template <typename T>
__global__ void __launch_bounds__(threads) norm_apply(const vgg__norm_apply_args a)
{
    if (a.c % lanes<T> == 0) {
        apply_work<T, lanes<T>> work{a, {}, {}, {}};
        vgg::for_rows<lanes<T>>(a.rows, a.c, work);
    } else {
        apply_work<T, 1> work{a, {}, {}, {}};
        vgg::for_rows<1>(a.rows, a.c, work);
    }
}

/* ---- Backward: sums -------------------------------------------------------------- */

template <typename T, int V> struct triple {
    packet<T, V> x, dy, y;
};

/* What both passes of the backward read; dy where y, if there is one, is above 0. */
template <typename T, int V, typename Args>
__device__ __forceinline__ triple<T, V> load_triple(const Args &a, uint64_t at)
{
    triple<T, V> h = {};
    h.x = vgg::load_packet<V>((const T *)a.x + at);
    h.dy = vgg::load_packet<V>((const T *)a.dy + at);
    if (a.y != nullptr) h.y = vgg::load_packet<V>((const T *)a.y + at);
    return h;
}

template <typename T, int V>
__device__ __forceinline__ void masked_dy(const triple<T, V> &h, bool masks,
                                          float (&dy)[V])
{
    float y[V];
    vgg::unpack(h.dy, dy);
    vgg::unpack(h.y, y);
#pragma unroll
    for (int i = 0; i < V; i++)
        if (masks && y[i] <= 0) dy[i] = 0;
}

template <typename T, int V> struct back_sums_work {
    using held = triple<T, V>;
    const vgg__norm_back_sums_args &a;
    float mean[V], inverse[V];
    double sums[2 * V];

    __device__ void begin(uint32_t channel)
    {
        for (int i = 0; i < V; i++) {
            mean[i] = a.mean[channel + i];
            inverse[i] = a.inverse[channel + i];
            sums[i] = sums[V + i] = 0;
        }
    }

    __device__ held load(uint64_t row, uint32_t channel) const
    {
        return load_triple<T, V>(a, row * a.c + channel);
    }

    __device__ void use(const held &h, uint64_t, uint32_t)
    {
        float x[V], dy[V];
        vgg::unpack(h.x, x);
        masked_dy(h, a.y != nullptr, dy);
#pragma unroll
        for (int i = 0; i < V; i++) {
            const float distance = (x[i] - mean[i]) * inverse[i];
            sums[i] += (double)dy[i];
            sums[V + i] += (double)dy[i] * (double)distance;
        }
    }
};

template <typename T>
__global__ void __launch_bounds__(threads)
    norm_back_sums(const vgg__norm_back_sums_args a)
{
    const uint64_t rows = (uint64_t)a.step->count * a.hw;
    if (a.c % wide == 0) {
        back_sums_work<T, wide> work{a, {}, {}, {}};
        vgg::for_rows_with_sums<wide>(rows, a.c, work, a.partial);
    } else {
        back_sums_work<T, 1> work{a, {}, {}, {}};
        vgg::for_rows_with_sums<1>(rows, a.c, work, a.partial);
    }
}

__global__ void __launch_bounds__(threads)
    norm_back_finish(const vgg__norm_back_finish_args a)
{
    const vgg::share s = share_columns();
    for (uint64_t first = (uint64_t)blockIdx.x * columns; first < a.c;
         first += (uint64_t)gridDim.x * columns) {
        const uint64_t channel = first + s.column;
        double sums[2];
        add_rows(s, a.partial, a.rows, channel, a.c, sums);
        if (s.row != 0 || channel >= a.c) continue;
        const double offset = a.offset[channel];
        if (offset != 0) sums[1] -= offset * sums[0];
        a.total[channel] = sums[0];
        a.total[a.c + channel] = sums[1];
        if (a.dbeta != nullptr) a.dbeta[channel] += (float)sums[0];
        if (a.dgamma != nullptr) a.dgamma[channel] += (float)sums[1];
    }
}

/* ---- Backward: dx ---------------------------------------------------------------- */

template <typename T, int V> struct back_work {
    using held = triple<T, V>;
    const vgg__norm_back_args &a;
    uint64_t live; /* rows of the run's samples */
    float mean[V], inverse[V], scale[V], by_mean[V], by_spread[V];

    __device__ void begin(uint32_t channel)
    {
        const double share = 1 / (double)live;
        for (int i = 0; i < V; i++) {
            mean[i] = a.mean[channel + i];
            inverse[i] = a.inverse[channel + i];
            scale[i] = a.gamma[channel + i] * inverse[i];
            const double spread = a.total[a.c + channel + i] * share;
            by_mean[i] =
                (float)(a.total[channel + i] * share - a.offset[channel + i] * spread);
            by_spread[i] = (float)spread;
        }
    }

    __device__ held load(uint64_t row, uint32_t channel) const
    {
        if (row >= live) return held{};
        return load_triple<T, V>(a, row * a.c + channel);
    }

    __device__ void use(const held &h, uint64_t row, uint32_t channel) const
    {
        float x[V], dy[V];
        vgg::unpack(h.x, x);
        masked_dy(h, a.y != nullptr, dy);
#pragma unroll
        for (int i = 0; i < V; i++) {
            const float distance = (x[i] - mean[i]) * inverse[i];
            const float rest = dy[i] - by_mean[i] - distance * by_spread[i];
            dy[i] = row < live ? scale[i] * (a.batch != 0 ? rest : dy[i]) : 0;
        }
        vgg::store((T *)a.dx + row * a.c + channel, dy);
    }
};

template <typename T>
__global__ void __launch_bounds__(threads) norm_back(const vgg__norm_back_args a)
{
    const uint64_t rows = (uint64_t)a.n * a.hw, live = (uint64_t)a.step->count * a.hw;
    if (a.c % wide == 0) {
        back_work<T, wide> work{a, live, {}, {}, {}, {}, {}};
        vgg::for_rows<wide>(rows, a.c, work);
    } else {
        back_work<T, 1> work{a, live, {}, {}, {}, {}, {}};
        vgg::for_rows<1>(rows, a.c, work);
    }
}

} // namespace

extern "C" const struct vgg__kernel vgg__kernel_norm_sums[VGG__TYPES] = {
    vgg::entry<norm_sums<float>>("norm_sums f32", threads),
    vgg::entry<norm_sums<bf16>>("norm_sums bf16", threads)};
extern "C" const struct vgg__kernel vgg__kernel_norm_finish[VGG__TYPES] = {
    vgg::entry<norm_finish<float>>("norm_finish f32", threads),
    vgg::entry<norm_finish<bf16>>("norm_finish bf16", threads)};
extern "C" const struct vgg__kernel vgg__kernel_norm_apply[VGG__TYPES] = {
    vgg::entry<norm_apply<float>>("norm_apply f32", threads),
    vgg::entry<norm_apply<bf16>>("norm_apply bf16", threads)};
extern "C" const struct vgg__kernel vgg__kernel_norm_back_sums[VGG__TYPES] = {
    vgg::entry<norm_back_sums<float>>("norm_back_sums f32", threads),
    vgg::entry<norm_back_sums<bf16>>("norm_back_sums bf16", threads)};
extern "C" const struct vgg__kernel vgg__kernel_norm_back_finish =
    vgg::entry<norm_back_finish>("norm_back_finish", threads);
extern "C" const struct vgg__kernel vgg__kernel_norm_back[VGG__TYPES] = {
    vgg::entry<norm_back<float>>("norm_back f32", threads),
    vgg::entry<norm_back<bf16>>("norm_back bf16", threads)};
