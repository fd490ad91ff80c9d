/* SPDX-License-Identifier: Apache-2.0 */
/* What all kernels are made of: element types, wide loads and stores, sums, random
 * numbers, shared memory, and the table entry of a kernel.
 *
 * The same source is compiled by nvcc for the GPU and by a host compiler for the tests
 * (VGG_HOST_CUDA, tests/simulated/host_cuda.h). Arithmetic is in float; elements are
 * float or vgg::bf16. `vgg::lanes<T>` elements fill the 16 bytes of one access. */
#ifndef VGG_CUDNN_KERNEL_CUH
#define VGG_CUDNN_KERNEL_CUH

#include "kernels.h"

#ifndef VGG_HOST_CUDA
#include <cuda_bf16.h>
#endif

namespace vgg
{

/* ---- Elements -------------------------------------------------------------------- */

struct bf16 {
    uint16_t bits;
};

template <typename T> constexpr int lanes = 16 / (int)sizeof(T);

__device__ __forceinline__ float to_float(float x)
{
    return x;
}

__device__ __forceinline__ float to_float(bf16 x)
{
    return __uint_as_float((uint32_t)x.bits << 16);
}

/* Round to nearest even; any NaN becomes 0x7fff. */
__device__ __forceinline__ bf16 to_bf16(float x)
{
#ifdef VGG_HOST_CUDA
    const uint32_t bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return bf16{0x7fff};
    return bf16{(uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
#else
    return bf16{__bfloat16_as_ushort(__float2bfloat16_rn(x))};
#endif
}

/* Two at once: `low` in the lower half, which is the one at the lower address. */
__device__ __forceinline__ uint32_t pack_bf16(float low, float high)
{
#ifdef VGG_HOST_CUDA
    return (uint32_t)to_bf16(high).bits << 16 | to_bf16(low).bits;
#else
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    return (uint32_t)__bfloat16_as_ushort(__high2bfloat16(both)) << 16 |
           __bfloat16_as_ushort(__low2bfloat16(both));
#endif
}

/* Two elements where those of x are above 0; a NaN of x lets pass. */
__device__ __forceinline__ uint32_t masked(uint32_t two, uint32_t x)
{
#ifdef VGG_HOST_CUDA
    const float low = __uint_as_float(x << 16), high = __uint_as_float(x & 0xffff0000u);
    return two & ((low <= 0 ? 0 : 0xffffu) | (high <= 0 ? 0 : 0xffff0000u));
#else
    __nv_bfloat162 both;
    memcpy(&both, &x, sizeof both);
    return two & __hgtu2_mask(
                     both, __nv_bfloat162(__nv_bfloat16_raw{0}, __nv_bfloat16_raw{0}));
#endif
}

template <typename T> __device__ __forceinline__ T from_float(float x);

template <> __device__ __forceinline__ float from_float<float>(float x)
{
    return x;
}

template <> __device__ __forceinline__ bf16 from_float<bf16>(float x)
{
    return to_bf16(x);
}

/* x as the type would keep it. */
template <typename T> __device__ __forceinline__ float rounded(float x)
{
    return to_float(from_float<T>(x));
}

/* ---- Wide loads and stores ------------------------------------------------------- */

/* What moves so many bytes at once. */
template <int Bytes> struct word;
template <> struct word<1> {
    using type = uint8_t;
};
template <> struct word<2> {
    using type = uint16_t;
};
template <> struct word<4> {
    using type = uint32_t;
};
template <> struct word<8> {
    using type = uint2;
};
template <> struct word<16> {
    using type = uint4;
};

/* Bytes as they are, in accesses of up to 16. `Bytes` is a power of two; both sides are
 * aligned to it, or to 16. */
template <int Bytes>
__device__ __forceinline__ void copy(void *__restrict__ to,
                                     const void *__restrict__ from)
{
    constexpr int each = Bytes < 16 ? Bytes : 16;
    using type = typename word<each>::type;
#ifdef VGG_HOST_CUDA
    vgg__host_aligned((const type *)from);
    vgg__host_aligned((type *)to);
    memcpy(to, from, Bytes);
#else
#pragma unroll
    for (int i = 0; i < Bytes / each; i++) ((type *)to)[i] = ((const type *)from)[i];
#endif
}

/* N elements in registers. Who looks at them by word() alone keeps them packed. */
template <typename T, int N>
struct alignas((int)sizeof(T) * N < 16 ? (int)sizeof(T) * N : 16) packet {
    T at[N];

    __device__ __forceinline__ uint32_t word(int i) const
    {
        uint32_t bits;
        memcpy(&bits, (const uint8_t *)at + 4 * i, 4);
        return bits;
    }

    __device__ __forceinline__ void set_word(int i, uint32_t bits)
    {
        memcpy((uint8_t *)at + 4 * i, &bits, 4);
    }
};

/* The address is aligned to all N elements, or to 16 bytes. */
template <int N, typename T>
__device__ __forceinline__ packet<T, N> load_packet(const T *from)
{
    packet<T, N> p;
    copy<N *(int)sizeof(T)>(&p, from);
    return p;
}

template <int N, typename T>
__device__ __forceinline__ void store_packet(T *to, const packet<T, N> &p)
{
    copy<N *(int)sizeof(T)>(to, &p);
}

template <typename T, int N>
__device__ __forceinline__ void unpack(const packet<T, N> &p, float (&to)[N])
{
    if constexpr (sizeof(T) == 2 && N % 2 == 0) {
#pragma unroll
        for (int i = 0; i < N / 2; i++) {
            to[2 * i] = __uint_as_float(p.word(i) << 16);
            to[2 * i + 1] = __uint_as_float(p.word(i) & 0xffff0000u);
        }
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) to[i] = to_float(p.at[i]);
    }
}

template <typename T, int N>
__device__ __forceinline__ packet<T, N> pack(const float (&from)[N])
{
    packet<T, N> p;
    if constexpr (sizeof(T) == 2 && N % 2 == 0) {
#pragma unroll
        for (int i = 0; i < N / 2; i++)
            p.set_word(i, pack_bf16(from[2 * i], from[2 * i + 1]));
    } else {
#pragma unroll
        for (int i = 0; i < N; i++) p.at[i] = from_float<T>(from[i]);
    }
    return p;
}

/* N elements at once. */
template <int N, typename T>
__device__ __forceinline__ void load(const T *from, float (&to)[N])
{
    unpack(load_packet<N>(from), to);
}

template <int N, typename T>
__device__ __forceinline__ void store(T *to, const float (&from)[N])
{
    store_packet(to, pack<T, N>(from));
}

/* ---- Places ---------------------------------------------------------------------- */

/* Number of this thread among all of the launch, and how many there are. */
__device__ __forceinline__ uint64_t thread_number()
{
    return (uint64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

__device__ __forceinline__ uint64_t thread_count()
{
    return (uint64_t)gridDim.x * blockDim.x;
}

/* a / b, which is much cheaper where 32 bits are enough. */
__device__ __forceinline__ uint64_t divide(uint64_t a, uint32_t b)
{
    return a >> 32 == 0 ? (uint32_t)a / b : a / b;
}

/* ---- Shared memory --------------------------------------------------------------- */

/* A variable of the block, which begins without a value. `Tag` tells several of the
 * same type apart. */
template <typename T, int Tag = 0> __device__ __forceinline__ T &shared()
{
#ifdef VGG_HOST_CUDA
    static const char key = 0;
    return *(T *)vgg__host_shared(&key, sizeof(T));
#else
    __shared__ __align__(16) T memory;
    return memory;
#endif
}

/* The launch's dynamic shared memory, aligned to 128 bytes. */
__device__ __forceinline__ uint8_t *dynamic_shared()
{
#ifdef VGG_HOST_CUDA
    return (uint8_t *)vgg__host_dynamic_shared();
#else
    extern __shared__ __align__(128) uint8_t dynamic_memory[];
    return dynamic_memory;
#endif
}

/* ---- Sums in a fixed order ------------------------------------------------------- */

/* Over the 32 lanes of a warp; all get the same bits. */
template <typename T> __device__ __forceinline__ T warp_sum(T x)
{
#pragma unroll
    for (int bit = 16; bit > 0; bit /= 2) x += __shfl_xor_sync(0xffffffffu, x, bit);
    return x;
}

/* Over a block of `Threads` in one dimension; all threads take part and get the sum. */
template <int Threads, typename T> __device__ __forceinline__ T block_sum(T x)
{
    static_assert(Threads % 32 == 0 && Threads <= 1024, "whole warps");
    using sums = T[Threads / 32];
    sums &of_warps = shared<sums, 1000>();
    x = warp_sum(x);
    __syncthreads(); /* who still reads the sums of the call before */
    if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = x;
    __syncthreads();
    T total = of_warps[0];
#pragma unroll
    for (int i = 1; i < Threads / 32; i++) total += of_warps[i];
    return total;
}

/* ---- Random numbers -------------------------------------------------------------- */

/* Philox4x32-10: the four words of vgg__random() in core/random.h. */
__device__ __forceinline__ uint4 random_words(uint64_t seed, uint32_t purpose,
                                              uint64_t step, uint64_t index)
{
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    uint4 c = make_uint4((uint32_t)index, (uint32_t)(index >> 32), (uint32_t)step,
                         (uint32_t)(step >> 32) << 16 | (purpose & 0xffff));
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint32_t high0 = __umulhi(c.x, 0xD2511F53u), low0 = c.x * 0xD2511F53u;
        const uint32_t high1 = __umulhi(c.z, 0xCD9E8D57u), low1 = c.z * 0xCD9E8D57u;
        c = make_uint4(high1 ^ c.y ^ k0, low1, high0 ^ c.w ^ k1, low0);
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

/* A word as a number in [0, 1), a multiple of 2^-24: exact. */
__device__ __forceinline__ float uniform(uint32_t word)
{
    return (float)(word >> 8) * 0x1p-24f;
}

/* ---- Table entries --------------------------------------------------------------- */

template <typename Args> constexpr size_t args_size(void (*)(Args))
{
    return sizeof(Args);
}

#ifdef VGG_HOST_CUDA
template <typename Args> inline void call_with(void (*kernel)(Args), const void *args)
{
    Args copy;
    memcpy(&copy, args, sizeof copy);
    kernel(copy);
}

template <auto Kernel> void host_thread(const void *args)
{
    call_with(Kernel, args);
}
#endif

/* The entry of a __global__ function with one argument; `threads` are its launch
 * bounds. */
template <auto Kernel>
inline struct vgg__kernel entry(const char *name, uint32_t threads)
{
#ifdef VGG_HOST_CUDA
    return vgg__kernel{name, nullptr, host_thread<Kernel>, args_size(Kernel), threads};
#else
    return vgg__kernel{name, (const void *)Kernel, nullptr, args_size(Kernel), threads};
#endif
}

} // namespace vgg

#endif
