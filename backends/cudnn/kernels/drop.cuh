/* SPDX-License-Identifier: Apache-2.0 */
/* Which elements dropout keeps: common/dropout.c on the device. */
#ifndef VGG_CUDNN_DROP_CUH
#define VGG_CUDNN_DROP_CUH

#include "kernel.cuh"

namespace vgg
{

constexpr uint32_t random_dropout = 0x8000; /* VGG_RANDOM_DROPOUT of core/random.h */

struct dropper {
    uint64_t seed, step;
    uint32_t purpose;
    float rate, scale;

    __device__ __forceinline__ dropper(const vgg__step *now, uint32_t layer,
                                       float drops)
        : seed(now->seed), step(now->step), purpose(random_dropout + layer),
          rate(drops), scale((float)(1.0 / (1.0 - (double)drops)))
    {
    }

    __device__ __forceinline__ float kept(uint32_t word, float x) const
    {
        return uniform(word) >= rate ? x * scale : 0;
    }

    /* Element number `element` of the step's batch. */
    __device__ __forceinline__ float one(uint64_t element, float x) const
    {
        const uint4 r = random_words(seed, purpose, step, element / 4);
        const uint32_t which = (uint32_t)element % 4;
        return kept(which < 2 ? which == 0 ? r.x : r.y : which == 2 ? r.z : r.w, x);
    }

    /* N of them in a row, a multiple of 4, the first being one, too. */
    template <int N>
    __device__ __forceinline__ void some(uint64_t element, float (&x)[N]) const
    {
#pragma unroll
        for (int i = 0; i < N; i += 4) {
            const uint4 r = random_words(seed, purpose, step, element / 4 + i / 4);
            x[i] = kept(r.x, x[i]);
            x[i + 1] = kept(r.y, x[i + 1]);
            x[i + 2] = kept(r.z, x[i + 2]);
            x[i + 3] = kept(r.w, x[i + 3]);
        }
    }
};

} // namespace vgg

#endif
