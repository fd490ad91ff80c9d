/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU engine on a GPU, as targets of the conformance suites. Tolerances are those
 * of the simulated device (tests/simulated/targets.c), and for the same reasons.
 *
 * ONLY (a number, when compiled) takes one of them, so that a long suite is a program a
 * precision. */
#include "targets.h"

extern const vgg_engine vgg__engine_cudnn;

#define ENGINE &vgg__engine_cudnn

const struct target targets[] = {
#if !defined ONLY || ONLY == 0
    {"cudnn, fp32", ENGINE, VGG_FP32, 1, 0, 1e-5, 24, 24, true, false},
#endif
#if !defined ONLY || ONLY == 1
    {"cudnn, tf32", ENGINE, VGG_TF32, 1, 0, 3e-3, 11, 24, true, false},
#endif
#if !defined ONLY || ONLY == 2
    {"cudnn, bf16", ENGINE, VGG_BF16, 1, 0, 3e-2, 8, 8, true, false},
#endif
#if !defined ONLY || ONLY == 3
    {"cudnn, bf16 timed", ENGINE, VGG_BF16, 1, 0, 3e-2, 8, 8, true, true},
#endif
#if !defined ONLY || ONLY == 4
    {"cudnn, tf32 timed", ENGINE, VGG_TF32, 1, 0, 3e-3, 11, 24, true, true},
#endif
#if !defined ONLY || ONLY == 5
    {"cudnn, fp32 timed", ENGINE, VGG_FP32, 1, 0, 1e-5, 24, 24, true, true},
#endif
};
const uint32_t target_count = sizeof targets / sizeof *targets;

/* One GPU, one queue: there is nothing to vary. */
void target_vary(struct target *target, uint32_t round)
{
    (void)target;
    (void)round;
}
