/* SPDX-License-Identifier: Apache-2.0 */
/* 2x2 pooling with stride 2 as a stage of its own; a row of windows a task. Of equal
 * values the first in reading order wins and gets the gradient, NaN wins over
 * numbers. */
#include "cpu/cpu.h"

#include <string.h>

static void forward_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct vgg__stage_args *args = arg;
    const struct vgg__kernels *kernels = vgg__cpu_of(args->machine)->gemm.kernels;
    const vgg_stage *s = args->stage;
    const size_t n = task / s->out.h, r = task % s->out.h,
                 row = (size_t)s->in.w * s->in.c;
    const size_t at = task * (size_t)s->out.w * s->out.c;
    const float *top = (const float *)args->x + (n * s->in.h + 2 * r) * row;
    const struct vgg__windows windows = {
        .top = top,
        .bottom = top + row,
        .count = s->out.w,
        .c = s->in.c,
        .y = (float *)args->y + at,
        .kept = args->saved ? (uint8_t *)args->saved + at : NULL};
    if (s->pool == VGG_MAX_POOL)
        kernels->max_pool(&windows);
    else
        kernels->average_pool(&windows, false);
}

/* A row of the map before pooling. */
static void backward_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct vgg__stage_args *args = arg;
    const struct vgg__kernels *kernels = vgg__cpu_of(args->machine)->gemm.kernels;
    const vgg_stage *s = args->stage;
    const size_t n = task / s->in.h, r = task % s->in.h,
                 row = (size_t)s->in.w * s->in.c;
    const size_t end = r / 2 < s->out.h ? 2 * (size_t)s->out.w : 0;
    const size_t at = (n * s->out.h + r / 2) * s->out.w * s->out.c;
    float *dx = (float *)args->dx + task * row;
    const struct vgg__unpool unpool = {.dy = (const float *)args->dy + at,
                                       .kept = (const uint8_t *)args->saved + at,
                                       .c = s->in.c,
                                       .begin = 0,
                                       .end = end,
                                       .row = r & 1,
                                       .out = dx};
    if (end > 0 && s->pool == VGG_MAX_POOL)
        kernels->max_unpool(&unpool);
    else if (end > 0)
        kernels->average_unpool(&unpool);
    memset(dx + end * s->in.c, 0, (s->in.w - end) * s->in.c * sizeof(float));
}

static void forward(const struct vgg__stage_args *args)
{
    args->machine->parallel(args->machine, args->count * args->stage->out.h,
                            forward_task, (void *)args);
}

static void backward(const struct vgg__stage_args *args)
{
    args->machine->parallel(args->machine, args->count * args->stage->in.h,
                            backward_task, (void *)args);
}

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    need->algorithm = env->stage->pool == VGG_MAX_POOL ? "maximum" : "average";
    if (env->mode != VGG_MODE_INFER)
        need->saved = vgg__size_mul(vgg__extent_count(env->stage->out), env->batch);
}

const struct vgg__stage_impl vgg__cpu_pool = {
    .measure = measure, .forward = forward, .backward = backward};
