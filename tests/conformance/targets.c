/* SPDX-License-Identifier: Apache-2.0 */
/* The host's engines. */
#include "targets.h"

const struct target targets[] = {
    {"ref in double", &vgg__engine_ref, VGG_FP64, 1, VGG_GEMM_AUTO, 0, 53, 53},
    {"ref in float", &vgg__engine_ref, VGG_FP32, 1, VGG_GEMM_AUTO, 1e-5, 24, 24},
    {"cpu", &vgg__engine_cpu, VGG_FP32, 2, VGG_GEMM_OWN, 1e-5, 24, 24},
    {"cpu, columns", &vgg__engine_cpu, VGG_FP32, 2, VGG_GEMM_OWN, 1e-5, 24, 24,
     .conv = VGG_CONV_COLUMNS},
    {"cpu, F(2x2)", &vgg__engine_cpu, VGG_FP32, 1, VGG_GEMM_OWN, 1e-5, 24, 24,
     .conv = VGG_CONV_WINOGRAD2},
    {"cpu, F(4x4)", &vgg__engine_cpu, VGG_FP32, 3, VGG_GEMM_OWN, 1e-5, 24, 24,
     .conv = VGG_CONV_WINOGRAD4},
    {"cpu, OpenBLAS", &vgg__engine_cpu, VGG_FP32, 3, VGG_GEMM_OPENBLAS, 1e-5, 24, 24},
};
const uint32_t target_count = sizeof targets / sizeof *targets;

void target_vary(struct target *target, uint32_t round)
{
    static const uint32_t threads[TARGET_ROUNDS] = {1, 2, 3, 8};
    target->threads = threads[round];
}
