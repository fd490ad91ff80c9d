/* SPDX-License-Identifier: Apache-2.0 */
/* The table of stages, and the one stage that has nothing to do. */
#include "ref/ref.h"

/* [c][h][w] to [c*h*w]: the elements lie in this order already. */
static void measure_flatten(const struct vgg__stage_env *env,
                            struct vgg__stage_need *need)
{
    need->identity = true;
}

const struct vgg__stage_impl vgg__ref_flatten = {.measure = measure_flatten};

const struct vgg__stage_impl *const vgg__ref_stages[VGG_STAGE_KINDS] = {
    [VGG_STAGE_CONV] = &vgg__ref_conv,
    [VGG_STAGE_BATCH_NORM] = &vgg__ref_batch_norm,
    [VGG_STAGE_RELU] = &vgg__ref_relu,
    [VGG_STAGE_POOL] = &vgg__ref_pool,
    [VGG_STAGE_ADAPTIVE_POOL] = &vgg__ref_adaptive_pool,
    [VGG_STAGE_FLATTEN] = &vgg__ref_flatten,
    [VGG_STAGE_LINEAR] = &vgg__ref_linear,
    [VGG_STAGE_DROPOUT] = &vgg__ref_dropout,
    [VGG_STAGE_LOSS] = &vgg__ref_loss,
    [VGG_STAGE_TAP] = &vgg__ref_tap,
};
