/* SPDX-License-Identifier: Apache-2.0 */
/* Optimisers: SGD, Adam and AdamW as common/update.c has them, with the same roundings:
 * no product is contracted into a sum, so that results are the CPU's bit for bit. */
#include "kernel.cuh"
#include "tiles.h"

namespace
{

using vgg::bf16;

constexpr uint32_t threads = VGG__THREADS;
constexpr int width = 4;
constexpr uint32_t sgd = 0; /* VGG_SGD; the others are Adam and AdamW */

/* ---- Rules, of one element ------------------------------------------------------- */

/* A decay of 0 leaves the gradient alone, so that an infinite weight does not turn it
 * into NaN. */
__device__ __forceinline__ float decayed(float g, float value, float decay)
{
    return decay != 0 ? __fadd_rn(g, __fmul_rn(decay, value)) : g;
}

struct sgd_rule {
    const vgg__update_args_gpu &a;
    float lr, decay;

    __device__ void apply(float &value, float g, float &velocity, float &) const
    {
        g = decayed(g, value, decay);
        if (a.has_momentum != 0) {
            velocity = __fadd_rn(__fmul_rn(a.momentum, velocity), g);
            g = a.nesterov != 0 ? __fadd_rn(g, __fmul_rn(a.momentum, velocity))
                                : velocity;
        }
        value = __fsub_rn(value, __fmul_rn(lr, g));
    }
};

/* m + share * (g - m), from the end that is nearer. */
__device__ __forceinline__ float blend(float m, float g, float share)
{
    const float way = __fsub_rn(g, m);
    return share < 0.5f ? __fadd_rn(m, __fmul_rn(share, way))
                        : __fsub_rn(g, __fmul_rn(way, __fsub_rn(1, share)));
}

struct adam_rule {
    const vgg__update_args_gpu &a;

    __device__ void apply(float &value, float g, float &first, float &second) const
    {
        g = decayed(g, value, a.weight_decay);
        first = blend(first, g, a.share1);
        second =
            __fadd_rn(__fmul_rn(a.beta2, second), __fmul_rn(a.share2, __fmul_rn(g, g)));
        const float root = __fdiv_rn(__fsqrt_rn(second), a.root2);
        const float step = __fdiv_rn(first, __fadd_rn(root, a.epsilon));
        value = __fsub_rn(__fmul_rn(a.keep, value), __fmul_rn(a.step_size, step));
    }
};

/* ---- Chunks ---------------------------------------------------------------------- */

/* States earlier than the first step count as zero. */
template <int N>
__device__ __forceinline__ void load_state(const vgg__update_args_gpu &a,
                                           const float *state, uint64_t at,
                                           float (&s)[N])
{
    if (state != nullptr && a.first_step == 0) vgg::load<N>(state + at, s);
}

template <int N, typename Rule>
__device__ __forceinline__ void change(const vgg__update_args_gpu &a, const Rule &rule,
                                       uint64_t at)
{
    float value[N], g[N], s0[N] = {}, s1[N] = {};
    vgg::load<N>(a.value + at, value);
    vgg::load<N>(a.gradient + at, g);
    load_state<N>(a, a.state0, at, s0);
    load_state<N>(a, a.state1, at, s1);
#pragma unroll
    for (int i = 0; i < N; i++) rule.apply(value[i], g[i], s0[i], s1[i]);
    vgg::store(a.value + at, value);
    if (a.state0 != nullptr) vgg::store(a.state0 + at, s0);
    if (a.state1 != nullptr) vgg::store(a.state1 + at, s1);
    if (a.shadow != nullptr) vgg::store((bf16 *)a.shadow + at, value);
}

template <typename Rule>
__device__ __forceinline__ void change_chunk(const vgg__update_args_gpu &a,
                                             const Rule &rule)
{
    const vgg__chunk chunk = a.chunks[blockIdx.x];
    const uint32_t whole = chunk.offset % width == 0 ? chunk.count / width * width : 0;
#pragma unroll 2
    for (uint32_t i = threadIdx.x * width; i < whole; i += threads * width)
        change<width>(a, rule, chunk.offset + i);
    for (uint32_t i = whole + threadIdx.x; i < chunk.count; i += threads)
        change<1>(a, rule, chunk.offset + i);
}

__global__ void __launch_bounds__(threads) update(const vgg__update_args_gpu a)
{
    if (a.kind != sgd)
        change_chunk(a, adam_rule{a});
    else if (a.from_step == 0)
        change_chunk(a, sgd_rule{a, a.lr, a.weight_decay});
    else if (a.step->lr != 0)
        change_chunk(a, sgd_rule{a, a.step->lr, a.step->weight_decay});
}

__global__ void __launch_bounds__(threads) norm2(const vgg__norm2_args a)
{
    const vgg__chunk chunk = a.chunks[blockIdx.x];
    double sum = 0;
#pragma unroll 8
    for (uint32_t i = threadIdx.x; i < chunk.count; i += threads) {
        const double x = a.value[chunk.offset + i];
        sum += x * x;
    }
    sum = vgg::block_sum<threads>(sum);
    if (threadIdx.x == 0) a.partial[blockIdx.x] = sum;
}

} // namespace

extern "C" const struct vgg__kernel vgg__kernel_update =
    vgg::entry<update>("update", threads);
extern "C" const struct vgg__kernel vgg__kernel_norm2 =
    vgg::entry<norm2>("norm2", threads);
