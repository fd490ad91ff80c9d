/* SPDX-License-Identifier: Apache-2.0 */
/* Tensor-core products and copies that go on in the background, as PTX has them.
 *
 * Addresses are byte offsets into the block's shared memory (shared_at). Fragments lie
 * in a warp's registers as the PTX ISA says; with g = lane / 4 and q = lane % 4:
 *   c[0], c[1]   row g,     columns 2q, 2q + 1      of 16 x 8 floats
 *   c[2], c[3]   row g + 8, the same columns
 * The tests carry the instructions out on the host (tests/simulated/mma/isa.h). Before
 * sm_80 copies are plain and products trap: no engine launches them there. */
#ifndef VGG_CUDNN_MMA_CUH
#define VGG_CUDNN_MMA_CUH

#include "kernel.cuh"

#if defined VGG_HOST_CUDA || !defined __CUDA_ARCH__ || __CUDA_ARCH__ >= 800
#define VGG_MMA 1
#else
#define VGG_MMA 0
#endif

namespace vgg
{

/* Where in shared memory a pointer into dynamic_shared() points. */
__device__ __forceinline__ uint32_t shared_at(const void *pointer)
{
#ifdef VGG_HOST_CUDA
    return (uint32_t)((const uint8_t *)pointer - dynamic_shared());
#else
    return (uint32_t)__cvta_generic_to_shared(pointer);
#endif
}

/* ---- Copies in the background ---------------------------------------------------- */

/* Bytes (4, 8 or 16) from global to shared memory; zeros if not `valid`, and then
 * nothing is read. Both sides are aligned to them. */
template <int Bytes>
__device__ __forceinline__ void copy_async(uint32_t to, const void *from, bool valid)
{
    static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16,
                  "what the instruction takes");
#ifdef VGG_HOST_CUDA
    vgg__isa_copy_async(to, from, Bytes, valid ? Bytes : 0);
#elif VGG_MMA
    const int size = valid ? Bytes : 0;
    if constexpr (Bytes == 16)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to),
                     "l"(from), "r"(size)
                     : "memory");
    else
        asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to),
                     "l"(from), "n"(Bytes), "r"(size)
                     : "memory");
#else
    using type = typename word<Bytes>::type;
    type value = {};
    if (valid) value = *(const type *)from;
    *(type *)__cvta_shared_to_generic(to) = value;
#endif
}

/* What was copied since the last of these is a group. */
__device__ __forceinline__ void copy_group()
{
#ifdef VGG_HOST_CUDA
    vgg__isa_copy_group();
#elif VGG_MMA
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

/* Wait for the calling thread's groups but the newest `Pending`. */
template <int Pending> __device__ __forceinline__ void copy_wait()
{
#ifdef VGG_HOST_CUDA
    vgg__isa_copy_wait(Pending);
#elif VGG_MMA
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
#endif
}

/* ---- Fragments ------------------------------------------------------------------- */

/* Four 8 x 8 matrices of 16-bit elements. Lane 8 i + j says where row j of matrix i
 * lies (16 bytes, aligned); to[i] are elements 2q and 2q + 1 of matrix i's row g. */
__device__ __forceinline__ void load_matrices(uint32_t (&to)[4], uint32_t row)
{
#ifdef VGG_HOST_CUDA
    vgg__isa_load_matrices(to, row, false);
#elif VGG_MMA
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row)
                 : "memory");
#else
    __trap();
#endif
}

/* The same, but to[i] are rows 2q and 2q + 1 of matrix i's column g. */
__device__ __forceinline__ void load_matrices_across(uint32_t (&to)[4], uint32_t row)
{
#ifdef VGG_HOST_CUDA
    vgg__isa_load_matrices(to, row, true);
#elif VGG_MMA
    asm volatile(
        "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
        : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
        : "r"(row)
        : "memory");
#else
    __trap();
#endif
}

/* Two matrices, whose rows lanes 0 .. 15 tell. */
__device__ __forceinline__ void load_two_matrices_across(uint32_t (&to)[2],
                                                         uint32_t row)
{
#ifdef VGG_HOST_CUDA
    vgg__isa_load_matrices(to, row, true);
#elif VGG_MMA
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0, %1}, [%2];"
                 : "=r"(to[0]), "=r"(to[1])
                 : "r"(row)
                 : "memory");
#else
    __trap();
#endif
}

/* ---- Products -------------------------------------------------------------------- */

/* c += a * b, a 16 x 16 and b 16 x 8 of bf16. a: rows g, g + 8, g, g + 8; columns 2q
 * and 2q + 1, from a[2] on 8 more. b: rows 2q and 2q + 1, in b1 8 more; column g. */
__device__ __forceinline__ void multiply_bf16(float (&c)[4], const uint32_t (&a)[4],
                                              uint32_t b0, uint32_t b1)
{
#ifdef VGG_HOST_CUDA
    vgg__isa_multiply_bf16(c, a, b0, b1);
#elif VGG_MMA
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    __trap();
#endif
}

/* to = from + a * b */
__device__ __forceinline__ void multiply_bf16(float (&to)[4], const uint32_t (&a)[4],
                                              uint32_t b0, uint32_t b1,
                                              const float (&from)[4])
{
#if VGG_MMA && !defined VGG_HOST_CUDA
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%10, %11, %12, %13};"
        : "=f"(to[0]), "=f"(to[1]), "=f"(to[2]), "=f"(to[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(from[0]),
          "f"(from[1]), "f"(from[2]), "f"(from[3]));
#else
    for (int i = 0; i < 4; i++) to[i] = from[i];
    multiply_bf16(to, a, b0, b1);
#endif
}

/* c += a * b, a 16 x 8 and b 8 x 8 of TF32. a: rows g, g + 8, g, g + 8; column q, from
 * a[2] on q + 4. b: row q, in b1 q + 4; column g. */
__device__ __forceinline__ void multiply_tf32(float (&c)[4], const uint32_t (&a)[4],
                                              uint32_t b0, uint32_t b1)
{
#ifdef VGG_HOST_CUDA
    vgg__isa_multiply_tf32(c, a, b0, b1);
#elif VGG_MMA
    asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
    __trap();
#endif
}

/* To the nearest TF32 number (10 bits of fraction), ties away from zero. */
__device__ __forceinline__ uint32_t to_tf32(float x)
{
#ifdef VGG_HOST_CUDA
    return vgg__isa_to_tf32(x);
#elif VGG_MMA
    uint32_t bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
#else
    return __float_as_uint(x);
#endif
}

/* ---- What is touched once -------------------------------------------------------- */

/* 16 bytes that nobody needs again soon: first to leave the cache. */
__device__ __forceinline__ float4 load_once(const float *from)
{
#ifdef VGG_HOST_CUDA
    vgg__host_aligned((const float4 *)from);
    return *(const float4 *)from;
#else
    return __ldcs((const float4 *)from);
#endif
}

__device__ __forceinline__ void store_once(float *to, float4 value)
{
#ifdef VGG_HOST_CUDA
    vgg__host_aligned((float4 *)to);
    *(float4 *)to = value;
#else
    __stcs((float4 *)to, value);
#endif
}

} // namespace vgg

#endif
