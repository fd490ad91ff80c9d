/* SPDX-License-Identifier: Apache-2.0 */
/* A place that the caller looks at: values pass, and a gradient of the caller's own is
 * added to the one that comes back. The sum stays in `saved`, to be looked at: the
 * stage before may overwrite its dy. A sample a task. */
#include "cpu/cpu.h"

#include <string.h>

static void forward_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct vgg__stage_args *args = arg;
    const size_t count = vgg__extent_count(args->stage->in), at = task * count;
    memcpy((float *)args->y + at, (const float *)args->x + at, count * sizeof(float));
}

static void backward_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct vgg__stage_args *args = arg;
    const size_t count = vgg__extent_count(args->stage->in), at = task * count;
    const float *dy = (const float *)args->dy + at;
    float *restrict own = (float *)args->saved + at;
    float *restrict dx = (float *)args->dx + at;
    for (size_t i = 0; i < count; i++) dx[i] = own[i] += dy[i];
}

static void forward(const struct vgg__stage_args *args)
{
    args->machine->parallel(args->machine, args->count, forward_task, (void *)args);
}

static void backward(const struct vgg__stage_args *args)
{
    args->machine->parallel(args->machine, args->count, backward_task, (void *)args);
}

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    need->algorithm = "elementwise";
    if (!env->wants_dx) return; /* inference */
    need->saved = vgg__size_mul(
        vgg__size_mul(vgg__extent_count(env->stage->in), env->batch), sizeof(float));
}

const struct vgg__stage_impl vgg__cpu_tap = {
    .measure = measure, .forward = forward, .backward = backward};
