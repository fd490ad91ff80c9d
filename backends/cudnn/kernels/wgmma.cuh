/* SPDX-License-Identifier: Apache-2.0 */
/* Products of four warps together (a warp group), as PTX has them for sm_90a: factors
 * come from shared memory as they lie there, and the warps go on meanwhile.
 *
 * A matrix in shared memory is made of cores: 8 rows of 16 bytes (8 elements of bf16),
 * 128 bytes in a row. `along_k` and `along_mn` are the bytes from one core to the next,
 * in the direction of the sum and across it. Which way a core's 8 elements go is the
 * product's `Turn`: along the sum, or (true) across it, with the sum from row to row.
 *
 *   who            does
 *   every thread   fence_shared() after it has written what a product reads, however
 *                  it was written; then a barrier
 *   the group      products_begin(); multiply_group()...; products_commit()
 *   the group      products_wait<0>() and products_done(), before the sums or what was
 *                  read are touched
 *
 * Sums lie in registers as those of four m16n8 products of mma.cuh: warp i has rows
 * 16 i to 16 i + 15, and sum[4 j] to [4 j + 3] are of columns 8 j to 8 j + 7. The tests
 * carry the instructions out on the host (tests/simulated/mma/wgmma.h). On other GPUs
 * they trap: no engine launches them there. */
#ifndef VGG_CUDNN_WGMMA_CUH
#define VGG_CUDNN_WGMMA_CUH

#include "mma.cuh"

#if defined VGG_HOST_CUDA || defined __CUDA_ARCH_FEAT_SM90_ALL
#define VGG_WGMMA 1
#else
#define VGG_WGMMA 0
#endif

namespace vgg
{

constexpr uint32_t GROUP = 128; /* threads of a warp group */

/* Wait for the other threads of the warp group with this number in the block. */
__device__ __forceinline__ void group_barrier(uint32_t number)
{
#ifdef VGG_HOST_CUDA
    vgg__host_group_barrier(number + 1, GROUP, __FILE__, __LINE__);
#else
    asm volatile("barrier.sync %0, %1;" ::"r"(number + 1), "n"(GROUP) : "memory");
#endif
}

/* What this thread has written to shared memory may be read by products. */
__device__ __forceinline__ void fence_shared()
{
#ifdef VGG_HOST_CUDA
    vgg__isa_fence_shared();
#elif VGG_WGMMA
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

__device__ __forceinline__ void products_begin()
{
#ifdef VGG_HOST_CUDA
    vgg__isa_products_begin();
#elif VGG_WGMMA
    __syncwarp(); /* as all of these expect, whatever the lanes did before */
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

__device__ __forceinline__ void products_commit()
{
#ifdef VGG_HOST_CUDA
    vgg__isa_products_commit();
#elif VGG_WGMMA
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

/* Wait for what was committed but the newest `Pending`. */
template <int Pending> __device__ __forceinline__ void products_wait()
{
#ifdef VGG_HOST_CUDA
    vgg__isa_products_wait(Pending);
#elif VGG_WGMMA
    __syncwarp();
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
#endif
}

/* After a wait: the compiler may read these sums from here on, and not before. */
template <int Count> __device__ __forceinline__ void products_done(float (&sum)[Count])
{
#ifndef VGG_HOST_CUDA
#pragma unroll
    for (int i = 0; i < Count; i++) asm volatile("" : "+f"(sum[i])::"memory");
#endif
}

/* A matrix at `at`; all three are multiples of 16 below 2^18. A place further on is
 * the descriptor plus a sixteenth of the bytes. */
__device__ __forceinline__ uint64_t matrix_at(uint32_t at, uint32_t along_k,
                                              uint32_t along_mn)
{
    return (uint64_t)(along_mn >> 4) << 32 | (along_k >> 4) << 16 | (at & 0x3ffff) >> 4;
}

/* The registers of sums, as operands of an asm. */
#define VGG_SUMS4(s, i)  "+f"(s[i]), "+f"(s[i + 1]), "+f"(s[i + 2]), "+f"(s[i + 3])
#define VGG_SUMS8(s, i)  VGG_SUMS4(s, i), VGG_SUMS4(s, i + 4)
#define VGG_SUMS16(s, i) VGG_SUMS8(s, i), VGG_SUMS8(s, i + 8)
#define VGG_SUMS32(s, i) VGG_SUMS16(s, i), VGG_SUMS16(s, i + 16)

#define VGG_TEXT4  "%0, %1, %2, %3"
#define VGG_TEXT8  VGG_TEXT4 ", %4, %5, %6, %7"
#define VGG_TEXT16 VGG_TEXT8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define VGG_TEXT32                                                                     \
    VGG_TEXT16 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, "   \
               "%29, %30, %31"

/* `n` are the columns, `r` the registers of their sums, `a`, `b`... the numbers of the
 * operands behind them. The sums are begun anew where `add` is 0. */
#define VGG_PRODUCT_SHARED(n, r, a, b, p)                                              \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %" #p ", 0;\n"                  \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 "           \
                 "{" VGG_TEXT##r "}, %" #a ", %" #b ", add, 1, 1, 0, 0;\n}"            \
                 : VGG_SUMS##r(sum, 0)                                                 \
                 : "l"(left), "l"(right), "r"(add))
#define VGG_PRODUCT_HELD(n, r, a, b, c, d, e, p)                                       \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %" #p ", 0;\n"                  \
                 "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 "           \
                 "{" VGG_TEXT##r "}, {%" #a ", %" #b ", %" #c ", %" #d "}, %" #e       \
                                 ", add, 1, 1, 1;\n}"                                  \
                 : VGG_SUMS##r(sum, 0)                                                 \
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right), \
                   "r"(add))

/* sum = left * right, added to the sum if `add`: 64 x 16 and 16 x Columns; neither is
 * turned. */
template <int Columns>
__device__ __forceinline__ void multiply_group(float (&sum)[Columns / 2], uint64_t left,
                                               uint64_t right, int add)
{
    static_assert(Columns == 16 || Columns == 32 || Columns == 64, "taken");
#ifdef VGG_HOST_CUDA
    vgg__isa_multiply_group(sum, Columns, left, right, add);
#elif VGG_WGMMA
    if constexpr (Columns == 16)
        VGG_PRODUCT_SHARED(16, 8, 8, 9, 10);
    else if constexpr (Columns == 32)
        VGG_PRODUCT_SHARED(32, 16, 16, 17, 18);
    else
        VGG_PRODUCT_SHARED(64, 32, 32, 33, 34);
#else
    __trap();
#endif
}

/* The same with the left factor in registers, as warps hold it for multiply_bf16; the
 * right one is turned. */
template <int Columns>
__device__ __forceinline__ void multiply_group(float (&sum)[Columns / 2],
                                               const uint32_t (&left)[4],
                                               uint64_t right, int add)
{
    static_assert(Columns == 8 || Columns == 16 || Columns == 32 || Columns == 64,
                  "taken");
#ifdef VGG_HOST_CUDA
    vgg__isa_multiply_group_held(sum, Columns, left, right, add);
#elif VGG_WGMMA
    if constexpr (Columns == 8)
        VGG_PRODUCT_HELD(8, 4, 4, 5, 6, 7, 8, 9);
    else if constexpr (Columns == 16)
        VGG_PRODUCT_HELD(16, 8, 8, 9, 10, 11, 12, 13);
    else if constexpr (Columns == 32)
        VGG_PRODUCT_HELD(32, 16, 16, 17, 18, 19, 20, 21);
    else
        VGG_PRODUCT_HELD(64, 32, 32, 33, 34, 35, 36, 37);
#else
    __trap();
#endif
}

#undef VGG_PRODUCT_SHARED
#undef VGG_PRODUCT_HELD
#undef VGG_SUMS4
#undef VGG_SUMS8
#undef VGG_SUMS16
#undef VGG_SUMS32
#undef VGG_TEXT4
#undef VGG_TEXT8
#undef VGG_TEXT16
#undef VGG_TEXT32

} // namespace vgg

#endif
