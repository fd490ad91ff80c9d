/* SPDX-License-Identifier: Apache-2.0 */
/* A place that the caller looks at: values pass, and a gradient of the caller's own is
 * added to the one that comes back. The sum stays in `saved`, to be looked at: the
 * stage before may overwrite its dy. */
#include "ref/ref.h"

#include <string.h>

static size_t element_count(const struct vgg__stage_args *args)
{
    return args->count * vgg__extent_count(args->stage->in);
}

static void forward(const struct vgg__stage_args *args)
{
    memcpy(args->y, args->x, element_count(args) * sizeof(real));
}

static void backward(const struct vgg__stage_args *args)
{
    const real *dy = args->dy;
    real *own = args->saved, *dx = args->dx;
    const size_t count = element_count(args);
    for (size_t i = 0; i < count; i++) dx[i] = own[i] += dy[i];
}

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    need->algorithm = "elementwise";
    if (!env->wants_dx) return; /* inference */
    need->saved =
        vgg__size_mul(vgg__size_mul(vgg__extent_count(env->stage->in), env->batch),
                      vgg__element(env->precision));
}

const struct vgg__stage_impl vgg__ref_tap = {
    .measure = measure, .forward = forward, .backward = backward};
