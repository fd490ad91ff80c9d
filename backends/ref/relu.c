/* SPDX-License-Identifier: Apache-2.0 */
/* max(x, 0), elementwise. A NaN stays one, forward and backward, as in PyTorch. */
#include "ref/ref.h"

static size_t element_count(const struct vgg__stage_args *args)
{
    return args->count * vgg__extent_count(args->stage->in);
}

static void forward(const struct vgg__stage_args *args)
{
    const real *x = args->x;
    real *y = args->y;
    const size_t count = element_count(args);
    for (size_t i = 0; i < count; i++) y[i] = x[i] <= 0 ? 0 : x[i];
}

static void backward(const struct vgg__stage_args *args)
{
    const real *y = args->y, *dy = args->dy;
    real *dx = args->dx;
    const size_t count = element_count(args);
    for (size_t i = 0; i < count; i++) dx[i] = y[i] <= 0 ? 0 : dy[i];
}

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    need->algorithm = "elementwise";
    need->reads_y = true;
}

const struct vgg__stage_impl vgg__ref_relu = {
    .measure = measure, .forward = forward, .backward = backward};
