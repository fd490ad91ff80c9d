/* SPDX-License-Identifier: Apache-2.0 */
/* CUDA C++ for a host compiler: what the kernels use of it, in terms of host_run.h.
 *
 * Included before everything else (-include) when a .cu file is compiled as C++17 for
 * the simulated device. No header of CUDA is needed. Shared memory is declared by
 * vgg::shared() of kernel.cuh; the keyword __shared__ is not there. */
#ifndef VGG_TEST_HOST_CUDA_H
#define VGG_TEST_HOST_CUDA_H

#define VGG_HOST_CUDA 1

#include <cmath>
#include <cstdint>
#include <cstring>

#include "host_run.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __grid_constant__

#define threadIdx (vgg__host_now.thread)
#define blockIdx  (vgg__host_now.block)
#define blockDim  (vgg__host_now.threads)
#define gridDim   (vgg__host_now.blocks)

#define __syncthreads() vgg__host_barrier(__FILE__, __LINE__)

/* ---- Types ----------------------------------------------------------------------- */

struct alignas(8) uint2 {
    uint32_t x, y;
};
struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};
struct alignas(8) int2 {
    int32_t x, y;
};
struct alignas(16) int4 {
    int32_t x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) double2 {
    double x, y;
};

static inline uint2 make_uint2(uint32_t x, uint32_t y)
{
    return uint2{x, y};
}

static inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w)
{
    return uint4{x, y, z, w};
}

static inline float2 make_float2(float x, float y)
{
    return float2{x, y};
}

static inline float4 make_float4(float x, float y, float z, float w)
{
    return float4{x, y, z, w};
}

/* ---- Arithmetic ------------------------------------------------------------------ */

using std::isfinite;
using std::isnan;

template <typename T> static inline T min(T a, T b)
{
    return b < a ? b : a;
}

template <typename T> static inline T max(T a, T b)
{
    return a < b ? b : a;
}

template <typename To, typename From> static inline To vgg__host_bits(From from)
{
    static_assert(sizeof(To) == sizeof(From), "bits of another size");
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}

static inline float __uint_as_float(uint32_t x)
{
    return vgg__host_bits<float>(x);
}

static inline uint32_t __float_as_uint(float x)
{
    return vgg__host_bits<uint32_t>(x);
}

static inline float __int_as_float(int32_t x)
{
    return vgg__host_bits<float>(x);
}

static inline int32_t __float_as_int(float x)
{
    return vgg__host_bits<int32_t>(x);
}

static inline float __fmaf_rn(float a, float b, float c)
{
    return fmaf(a, b, c);
}

static inline float __fadd_rn(float a, float b)
{
    return a + b;
}

static inline float __fsub_rn(float a, float b)
{
    return a - b;
}

static inline float __fmul_rn(float a, float b)
{
    return a * b;
}

static inline float __fdiv_rn(float a, float b)
{
    return a / b;
}

static inline float __fsqrt_rn(float a)
{
    return sqrtf(a);
}

static inline double __dadd_rn(double a, double b)
{
    return a + b;
}

static inline double __dsub_rn(double a, double b)
{
    return a - b;
}

static inline double __dmul_rn(double a, double b)
{
    return a * b;
}

static inline double __ddiv_rn(double a, double b)
{
    return a / b;
}

static inline int32_t __float2int_rn(float x)
{
    return (int32_t)rintf(x);
}

static inline uint32_t __umulhi(uint32_t a, uint32_t b)
{
    return (uint32_t)((uint64_t)a * b >> 32);
}

static inline uint64_t __umul64hi(uint64_t a, uint64_t b)
{
    return (uint64_t)((unsigned __int128)a * b >> 64);
}

static inline int __popc(uint32_t x)
{
    return __builtin_popcount(x);
}

static inline int __ffs(int32_t x)
{
    return __builtin_ffs(x);
}

static inline int __clz(int32_t x)
{
    return x == 0 ? 32 : __builtin_clz((uint32_t)x);
}

/* Byte i of the result is byte (selector >> 4 i) & 7 of b:a. */
static inline uint32_t __byte_perm(uint32_t a, uint32_t b, uint32_t selector)
{
    const uint64_t both = (uint64_t)b << 32 | a;
    uint32_t result = 0;
    for (int i = 0; i < 4; i++) {
        const uint32_t pick = selector >> 4 * i & 7;
        result |= (uint32_t)(both >> 8 * pick & 0xff) << 8 * i;
    }
    return result;
}

/* ---- Memory ---------------------------------------------------------------------- */

/* The hardware faults on an address that is not a multiple of the access' size. */
template <typename T> static inline void vgg__host_aligned(const T *at)
{
    if ((uintptr_t)at % sizeof(T) != 0)
        vgg__host_fault("address %p is no multiple of %zu", (const void *)at,
                        sizeof(T));
}

template <typename T> static inline T __ldg(const T *at)
{
    vgg__host_aligned(at);
    return *at;
}

static inline void __threadfence(void)
{
}

[[noreturn]] static inline void __trap(void)
{
    vgg__host_fault("trap");
}

/* ---- Warps ----------------------------------------------------------------------- */

static inline void __syncwarp(uint32_t mask = 0xffffffffu)
{
    vgg__host_warp_barrier(mask, "__syncwarp");
}

/* The value of lane `from`, which may be one that is not in the mask. */
template <typename T>
static inline T vgg__host_from(uint32_t mask, T value, uint32_t from, const char *what)
{
    static_assert(sizeof(T) % 4 == 0 && sizeof(T) <= 16, "shuffles move words");
    uint32_t words[sizeof(T) / 4];
    memcpy(words, &value, sizeof value);
    const vgg__host_words *const all =
        vgg__host_exchange(mask, words, sizeof(T) / 4, what);
    memcpy(&value, all[from], sizeof value);
    return value;
}

template <typename T>
static inline T __shfl_sync(uint32_t mask, T value, int source, int width = 32)
{
    const uint32_t lane = vgg__host_now.lane, first = lane & ~(uint32_t)(width - 1);
    return vgg__host_from(mask, value, first + ((uint32_t)source & (width - 1)),
                          "__shfl_sync");
}

template <typename T>
static inline T __shfl_xor_sync(uint32_t mask, T value, int bits, int width = 32)
{
    const uint32_t lane = vgg__host_now.lane, from = lane ^ (uint32_t)bits;
    const uint32_t end = (lane & ~(uint32_t)(width - 1)) + (uint32_t)width;
    return vgg__host_from(mask, value, from < end ? from : lane, "__shfl_xor_sync");
}

template <typename T>
static inline T __shfl_down_sync(uint32_t mask, T value, uint32_t by, int width = 32)
{
    const uint32_t lane = vgg__host_now.lane, from = lane + by;
    const uint32_t end = (lane & ~(uint32_t)(width - 1)) + (uint32_t)width;
    return vgg__host_from(mask, value, from < end ? from : lane, "__shfl_down_sync");
}

template <typename T>
static inline T __shfl_up_sync(uint32_t mask, T value, uint32_t by, int width = 32)
{
    const uint32_t lane = vgg__host_now.lane;
    const bool inside = (lane & (uint32_t)(width - 1)) >= by;
    return vgg__host_from(mask, value, inside ? lane - by : lane, "__shfl_up_sync");
}

static inline uint32_t __ballot_sync(uint32_t mask, int predicate)
{
    const uint32_t word = predicate != 0;
    const vgg__host_words *const all =
        vgg__host_exchange(mask, &word, 1, "__ballot_sync");
    uint32_t result = 0;
    for (uint32_t lane = 0; lane < 32; lane++)
        if (mask >> lane & 1) result |= (all[lane][0] == 1) << lane;
    return result;
}

static inline int __any_sync(uint32_t mask, int predicate)
{
    return __ballot_sync(mask, predicate) != 0;
}

/* Lanes of the mask that have ended count as true. */
static inline int __all_sync(uint32_t mask, int predicate)
{
    return __ballot_sync(mask, !predicate) == 0;
}

/* ---- Instructions that CUDA C++ has no names for -------------------------------- */

#include "mma/wgmma.h"

#endif
