/* SPDX-License-Identifier: Apache-2.0 */
/* Softmax and cross-entropy with label smoothing in double, a warp a sample.
 *
 * With logits z of one sample, log p[c] = z[c] - log(sum of exp z), and targets
 * q[c] = smoothing / classes, plus 1 - smoothing at the label:
 *   loss = -sum of q[c] * log p[c],  d loss / d z[c] = p[c] - q[c]. */
#include "kernel.cuh"
#include "tiles.h"

namespace
{

using vgg::bf16;

constexpr uint32_t threads = VGG__THREADS;
constexpr uint32_t warp = 32;

/* Logits of one sample: a lane looks at every 32nd. */
template <typename T> struct sample {
    const T *z;
    uint32_t classes, lane;

    __device__ float at(uint32_t c) const
    {
        return vgg::to_float(z[c]);
    }

    /* The first of the largest; a NaN is larger than nothing. */
    __device__ uint32_t largest(float &value) const
    {
        uint32_t best = 0;
        value = at(0);
        for (uint32_t c = lane; c < classes; c += warp) {
            const float x = at(c);
            if (!(x > value)) continue;
            value = x;
            best = c;
        }
        for (int bit = warp / 2; bit > 0; bit /= 2) {
            const float other = __shfl_xor_sync(0xffffffffu, value, bit);
            const uint32_t place = __shfl_xor_sync(0xffffffffu, best, bit);
            if (!(other > value) && !(other == value && place < best)) continue;
            value = other;
            best = place;
        }
        return best;
    }

    /* log(sum of exp z), without overflow. */
    __device__ double log_sum(double largest) const
    {
        double sum = 0;
        for (uint32_t c = lane; c < classes; c += warp) sum += exp(at(c) - largest);
        return largest + log(vgg::warp_sum(sum));
    }

    __device__ double loss(double total, uint32_t label, double smoothing) const
    {
        double spread = 0;
        for (uint32_t c = lane; smoothing > 0 && c < classes; c += warp)
            spread += smoothing / classes * (total - at(c));
        return (1 - smoothing) * (total - at(label)) + vgg::warp_sum(spread);
    }
};

template <typename In> __device__ __forceinline__ void losses(const vgg__loss_args &a)
{
    const uint32_t lane = threadIdx.x % warp;
    const uint32_t count = a.step->count;
    const double smoothing = a.step->smoothing;
    const double factor = (double)a.step->gradient_scale / count;
    const uint64_t step = vgg::thread_count() / warp;
    for (uint64_t n = vgg::thread_number() / warp; n < a.n; n += step) {
        float *const dz = a.dlogits == nullptr ? nullptr : a.dlogits + n * a.classes;
        if (n >= count) {
            for (uint32_t c = lane; dz != nullptr && c < a.classes; c += warp)
                dz[c] = 0;
            if (lane != 0) continue;
            a.loss[n] = 0;
            a.correct[n] = 0;
            continue;
        }
        const sample<In> s = {(const In *)a.logits + n * a.classes, a.classes, lane};
        const uint32_t label = a.labels[n];
        float value;
        const uint32_t best = s.largest(value);
        const double total = s.log_sum(value);
        const double loss = s.loss(total, label, smoothing);
        if (lane == 0) {
            a.loss[n] = loss;
            a.correct[n] = best == label;
        }
        for (uint32_t c = lane; dz != nullptr && c < a.classes; c += warp) {
            const double target =
                smoothing / a.classes + (c == label ? 1 - smoothing : 0);
            dz[c] = (float)((exp(s.at(c) - total) - target) * factor);
        }
    }
}

template <typename T>
__global__ void __launch_bounds__(threads) loss(const vgg__loss_args a)
{
    if (a.in_f32 != 0)
        losses<float>(a);
    else
        losses<T>(a);
}

/* In the order of samples: from shared memory, where a block has put them. */
__global__ void __launch_bounds__(threads) loss_sum(const vgg__loss_sum_args a)
{
    using list = double[threads];
    list &losses = vgg::shared<list>();
    if (blockIdx.x != 0) return;
    const uint32_t count = a.step->count;
    double sum = 0;
    uint32_t correct = 0;
    for (uint32_t first = 0; first < count; first += threads) {
        const uint32_t n = first + threadIdx.x;
        __syncthreads();
        losses[threadIdx.x] = n < count ? a.loss[n] : 0;
        if (n < count) correct += a.correct[n];
        __syncthreads();
        const uint32_t here = count - first < threads ? count - first : threads;
#pragma unroll 8
        for (uint32_t i = 0; i < here; i++) sum += losses[i];
    }
    correct = vgg::block_sum<threads>(correct);
    if (threadIdx.x != 0) return;
    *a.result = vgg__loss_result{sum, correct, 0};
    if (!isfinite(sum)) a.step->lr = 0;
}

} // namespace

extern "C" const struct vgg__kernel vgg__kernel_loss[VGG__TYPES] = {
    vgg::entry<loss<float>>("loss f32", threads),
    vgg::entry<loss<bf16>>("loss bf16", threads)};
extern "C" const struct vgg__kernel vgg__kernel_loss_sum =
    vgg::entry<loss_sum>("loss_sum", threads);
