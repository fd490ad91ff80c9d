/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU engine on the simulated device, as targets of the conformance suites.
 *
 * Tolerances are what rounding of operands does: half of the last place of 8 bits is
 * 2^-9 = 0.2 % of each, of 11 bits 0.024 %; sums of random products keep about the
 * relative error of one, stages one after the other add theirs up, and normalisation
 * and the loss take differences. */
#include "targets.h"

#include <check.h>
#include <stdlib.h>

#include "cudnn/device.h"
#include "simulated.h"

extern const vgg_engine vgg__engine_cudnn;

#define ENGINE &vgg__engine_cudnn

const struct target targets[] = {
    {"cudnn", ENGINE, VGG_FP32, 1, 0, 1e-5, 24, 24, true, false},
    {"cudnn, timed", ENGINE, VGG_FP32, 1, 0, 1e-5, 24, 24, true, true},
    {"cudnn, tf32", ENGINE, VGG_TF32, 1, 0, 3e-3, 11, 24, true, false},
    {"cudnn, tf32, timed", ENGINE, VGG_TF32, 1, 0, 3e-3, 11, 24, true, true},
    {"cudnn, bf16", ENGINE, VGG_BF16, 1, 0, 3e-2, 8, 8, true, false},
    {"cudnn, bf16, timed", ENGINE, VGG_BF16, 1, 0, 3e-2, 8, 8, true, true},
};
const uint32_t target_count = sizeof targets / sizeof *targets;

bool session_takes(const struct net *net, uint32_t batch)
{
    return net_macs(net) * batch <= 2e6;
}

void target_vary(struct target *target, uint32_t round)
{
    (void)target;
    vgg__simulated.seed = 1 + 1000 * (uint64_t)round;
}

/* Which work comes first, and how long it seems to take, differs from seed to seed;
 * whether memory ends at a guard page, or begins as aligned as cudaMalloc promises, is
 * one or the other. */
__attribute__((constructor)) static void seed(void)
{
    const char *text = getenv("VGG_SIMULATED_SEED");
    if (text) vgg__simulated.seed = strtoull(text, NULL, 10);
    vgg__simulated.flush = getenv("VGG_SIMULATED_FLUSH") != NULL;
    setenv("VGG_CACHE_DIR", "", 1);
    vgg__simulated.hurry = vgg__simulated.idle_joins = true;
}

static int sessions; /* that are open */

void session_opening(void)
{
    sessions++;
}

void session_closed(void)
{
    const char *complaint = vgg__simulated_complaint();
    ck_assert_msg(complaint == NULL, "misuse: %s", complaint);
    const char *leak = --sessions == 0 ? vgg__simulated_leak() : NULL;
    ck_assert_msg(leak == NULL, "not given back: %s", leak);
}
