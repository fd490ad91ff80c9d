/* SPDX-License-Identifier: Apache-2.0 */
#include "cudnn/kernels/kernel.cuh"
#include "kernels/faults.h"

namespace
{

constexpr uint32_t threads = 256, all = 0xffffffffu;

using list = float[threads];

/* 1 if each gives what CUDA's document says. */
__device__ float collectives()
{
    const uint32_t lane = threadIdx.x % 32;
    bool right = __shfl_sync(all, lane, 5) == 5;
    right &= __shfl_sync(all, lane, 3, 8) == lane / 8 * 8 + 3;
    right &= __shfl_xor_sync(all, lane, 9) == (lane ^ 9);
    right &= __shfl_down_sync(all, lane, 4) == (lane < 28 ? lane + 4 : lane);
    right &= __shfl_up_sync(all, lane, 4) == (lane >= 4 ? lane - 4 : lane);
    right &= __shfl_down_sync(all, lane, 2, 4) == (lane % 4 < 2 ? lane + 2 : lane);
    right &= __shfl_xor_sync(all, (double)lane, 1) == (double)(lane ^ 1);
    right &= __ballot_sync(all, lane % 3 == 0) == 0x49249249u;
    right &= __any_sync(all, lane == 7) != 0 && __any_sync(all, lane > 40) == 0;
    right &= __all_sync(all, lane < 32) != 0 && __all_sync(all, lane != 9) == 0;
    right &= vgg::warp_sum(lane) == 496;
    right &= vgg::block_sum<threads>(threadIdx.x) == 32640;
    return right;
}

__device__ float half_warps()
{
    const uint32_t lane = threadIdx.x % 32;
    const uint32_t mask = lane < 16 ? 0xffffu : 0xffff0000u;
    if (lane < 16) return (float)__shfl_xor_sync(mask, lane, 1) - (float)(lane ^ 1);
    return (float)__popc(__ballot_sync(mask, 1)) - 16;
}

/* What a thread does wrong before it goes on as it should. */
__device__ void go_wrong(const fault_args &a)
{
    const uint32_t i = threadIdx.x;
    if (a.fault == FAULT_BARRIER_MISSED && i == 40) __syncthreads();
    if (a.fault == FAULT_WARP_MISSED && i != 40) __shfl_sync(all, 1, 0);
    if (a.fault == FAULT_WARP_MASKS) __syncwarp(i % 2 == 0 ? all : 0xfffffffeu);
    if (a.fault == FAULT_NOT_IN_MASK) __syncwarp(0xffff);
    if (a.fault == FAULT_WARP_AND_BLOCK && i % 32 < 16) __syncwarp();
    if (a.fault == FAULT_SHARED_OVERRUN)
        ((volatile float *)vgg::shared<list>())[i + 1] = 1;
    if (a.fault == FAULT_DYNAMIC_OVERRUN && i == 3) vgg::dynamic_shared()[64] = 1;
    if (a.fault == FAULT_TOO_MUCH_SHARED) vgg::shared<float[13000]>()[i] = 1;
    if (a.fault == FAULT_NO_DYNAMIC) vgg::dynamic_shared()[i % 64] = 1;
    if (a.fault == FAULT_MISALIGNED) a.out[i] = vgg::load_packet<4>(a.out + 1).at[0];
    if (a.fault == FAULT_TRAP && i == 255) __trap();
    static const char keys[33] = {};
    for (int k = 0; a.fault == FAULT_MANY_VARIABLES && k < 33; k++)
        vgg__host_shared(&keys[k], 4);
    if (a.fault == FAULT_GROUP_BARRIER)
        vgg__host_group_barrier(16, threads, __FILE__, __LINE__);
    const uint32_t words[VGG__HOST_WORDS + 1] = {};
    if (a.fault == FAULT_WIDE_EXCHANGE)
        vgg__host_exchange(all, words, VGG__HOST_WORDS + 1, "exchange");
}

__global__ void __launch_bounds__(threads) faulty(const fault_args a)
{
    const uint32_t i = threadIdx.x;
    list &shared = vgg::shared<list, 1>();
    float *const out = a.out + blockIdx.x * threads;
    if (a.fault == FAULT_EARLY_RETURN && i % 7 == 3) {
        out[i] = 1;
        return;
    }
    go_wrong(a);
    if (a.fault != FAULT_STALE_SHARED) shared[i] = 1;
    __syncthreads();
    float x = shared[(i + 33) % threads];
    if (a.fault == FAULT_EARLY_RETURN && (i + 33) % threads % 7 == 3) x = 1;
    if (a.fault == FAULT_COLLECTIVES) x = collectives();
    if (a.fault == FAULT_HALF_WARPS) x = 1 + half_warps();
    out[i] = x;
}

__global__ void __launch_bounds__(threads) racing(const race_args a)
{
    list &shared = vgg::shared<list>();
    shared[threadIdx.x] = 1;
    if (a.race == 0) __syncthreads();
    a.out[blockIdx.x * threads + threadIdx.x] = shared[(threadIdx.x + 1) % threads];
}

} // namespace

extern "C" const struct vgg__kernel fault_kernel =
    vgg::entry<faulty>("faulty", threads);
extern "C" const struct vgg__kernel race_kernel = vgg::entry<racing>("racing", threads);
