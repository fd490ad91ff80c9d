/* SPDX-License-Identifier: Apache-2.0 */
/* Inverted dropout: training drops elements at a rate and scales the others up, so that
 * their expectation stays; the other modes do nothing. Srivastava et al. 2014. */
#include "common/dropout.h"

#include "ref/ref.h"

static size_t element_count(const struct vgg__stage_args *args)
{
    return args->count * vgg__extent_count(args->stage->in);
}

static void forward(const struct vgg__stage_args *args)
{
    const size_t count = element_count(args);
    const real scale = (real)vgg__dropout_scale(args->stage);
    const real *x = args->x;
    real *y = args->y;
    uint8_t *keep = args->saved;
    vgg__dropout_keep(args->stage, args->run, 0, count, keep);
    for (size_t i = 0; i < count; i++) y[i] = keep[i] ? x[i] * scale : 0;
}

static void backward(const struct vgg__stage_args *args)
{
    const size_t count = element_count(args);
    const real scale = (real)vgg__dropout_scale(args->stage);
    const real *dy = args->dy;
    real *dx = args->dx;
    const uint8_t *keep = args->saved;
    for (size_t i = 0; i < count; i++) dx[i] = keep[i] ? dy[i] * scale : 0;
}

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    need->algorithm = "elementwise";
    need->identity = env->mode != VGG_MODE_TRAIN || env->stage->dropout == 0;
    need->saved = vgg__size_mul(vgg__extent_count(env->stage->in), env->batch);
}

const struct vgg__stage_impl vgg__ref_dropout = {
    .measure = measure, .forward = forward, .backward = backward};
