/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU engine with the kernels of narrower processors than the one it runs on. Where
 * the processor itself is as narrow, two of them are the same. */
#include "cpu/cpu.h"
#include "targets.h"

enum { AVX2, SSE2, SETS };

static vgg_engine engines[SETS];

/* A device of the engine, and other kernels in it before anything is compiled. */
static vgg_status open_with(const vgg_host *host, uint32_t index, uint32_t most,
                            void **device)
{
    vgg_status status = vgg__engine_cpu.open(host, index, device);
    if (status != VGG_OK) return status;
    struct vgg__cpu *cpu = *device;
    const struct vgg__gemm_options options = {
        .gemm = VGG_GEMM_OWN, .workers = cpu->workers, .most = most};
    struct vgg__gemm gemm;
    status = vgg__gemm_open(host, &options, &gemm);
    if (status != VGG_OK) {
        vgg__engine_cpu.close(cpu);
        return status;
    }
    vgg__gemm_close(&cpu->gemm);
    cpu->gemm = gemm;
    return VGG_OK;
}

static vgg_status open_avx2(const vgg_host *host, uint32_t index, void **device)
{
    return open_with(host, index, VGG_ISA_AVX2, device);
}

static vgg_status open_sse2(const vgg_host *host, uint32_t index, void **device)
{
    return open_with(host, index, VGG_ISA_BASE, device);
}

__attribute__((constructor)) static void make_engines(void)
{
    engines[AVX2] = engines[SSE2] = vgg__engine_cpu;
    engines[AVX2].open = open_avx2;
    engines[SSE2].open = open_sse2;
}

const struct target targets[] = {
    {"AVX2", &engines[AVX2], VGG_FP32, 2, VGG_GEMM_OWN, 1e-5, 24, 24},
    {"AVX2, columns", &engines[AVX2], VGG_FP32, 2, VGG_GEMM_OWN, 1e-5, 24, 24,
     .conv = VGG_CONV_COLUMNS},
    {"AVX2, F(2x2)", &engines[AVX2], VGG_FP32, 2, VGG_GEMM_OWN, 1e-5, 24, 24,
     .conv = VGG_CONV_WINOGRAD2},
    {"AVX2, F(4x4)", &engines[AVX2], VGG_FP32, 2, VGG_GEMM_OWN, 1e-5, 24, 24,
     .conv = VGG_CONV_WINOGRAD4},
    {"SSE2", &engines[SSE2], VGG_FP32, 2, VGG_GEMM_OWN, 1e-5, 24, 24},
    {"SSE2, columns", &engines[SSE2], VGG_FP32, 2, VGG_GEMM_OWN, 1e-5, 24, 24,
     .conv = VGG_CONV_COLUMNS},
    {"SSE2, F(2x2)", &engines[SSE2], VGG_FP32, 2, VGG_GEMM_OWN, 1e-5, 24, 24,
     .conv = VGG_CONV_WINOGRAD2},
    {"SSE2, F(4x4)", &engines[SSE2], VGG_FP32, 2, VGG_GEMM_OWN, 1e-5, 24, 24,
     .conv = VGG_CONV_WINOGRAD4},
};
const uint32_t target_count = sizeof targets / sizeof *targets;

void target_vary(struct target *target, uint32_t round)
{
    static const uint32_t threads[TARGET_ROUNDS] = {1, 2, 3, 8};
    target->threads = threads[round];
}

/* Linear layers' kernels have a test of their own at every set, tests/unit/device. */
bool session_takes(const struct net *net, uint32_t batch)
{
    return net_has(net, VGG_STAGE_CONV);
}
