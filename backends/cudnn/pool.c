/* SPDX-License-Identifier: Apache-2.0 */
/* Pooling that stands alone: 2x2, and adaptive average. */
#include "cudnn/stages.h"

static void measure_pool(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    const bool maximum = env->stage->pool == VGG_MAX_POOL;
    need->algorithm = maximum ? "own kernel, maximum" : "own kernel, average";
    if (maximum && env->mode != VGG_MODE_INFER)
        need->saved = vgg__size_mul(vgg__extent_count(env->stage->out), env->batch);
}

static vgg_status forward_pool(const struct vgg__cudnn_call *call)
{
    const vgg_stage *s = call->stage;
    const bool maximum = s->pool == VGG_MAX_POOL;
    const struct vgg__pool_args args = {.x = call->x,
                                        .y = call->y,
                                        .winner = maximum ? call->saved : NULL,
                                        .n = call->batch,
                                        .ih = s->in.h,
                                        .iw = s->in.w,
                                        .h = s->out.h,
                                        .w = s->out.w,
                                        .c = s->in.c,
                                        .maximum = maximum};
    return vgg__queue(call, &vgg__kernel_pool[call->type],
                      vgg__grid_elements(vgg__batch_count(call, s->out)), &args);
}

static vgg_status backward_pool(const struct vgg__cudnn_call *call)
{
    const vgg_stage *s = call->stage;
    const bool maximum = s->pool == VGG_MAX_POOL;
    const struct vgg__unpool_args args = {.dy = call->dy,
                                          .winner = maximum ? call->saved : NULL,
                                          .dx = call->dx,
                                          .n = call->batch,
                                          .ih = s->in.h,
                                          .iw = s->in.w,
                                          .h = s->out.h,
                                          .w = s->out.w,
                                          .c = s->in.c,
                                          .maximum = maximum};
    const uint64_t rows = (uint64_t)call->batch * s->in.h * s->in.w;
    return vgg__queue(call, &vgg__kernel_unpool[call->type],
                      vgg__grid_rows(rows, s->in.c), &args);
}

const struct vgg__cudnn_impl vgg__cudnn_pool = {.base = {.measure = measure_pool},
                                                .forward = forward_pool,
                                                .backward = backward_pool};

static void measure_adaptive(const struct vgg__stage_env *env,
                             struct vgg__stage_need *need)
{
    need->algorithm = "own kernel";
}

static vgg_status adaptive(const struct vgg__cudnn_call *call, bool back)
{
    const vgg_stage *s = call->stage;
    const struct vgg__adaptive_pool_args args = {.x = back ? call->dy : call->x,
                                                 .y = back ? call->dx : call->y,
                                                 .n = call->batch,
                                                 .c = s->in.c,
                                                 .ih = s->in.h,
                                                 .iw = s->in.w,
                                                 .h = s->out.h,
                                                 .w = s->out.w,
                                                 .backward = back};
    return vgg__queue(call, &vgg__kernel_adaptive_pool[call->type],
                      vgg__grid_elements(vgg__batch_count(call, back ? s->in : s->out)),
                      &args);
}

static vgg_status forward_adaptive(const struct vgg__cudnn_call *call)
{
    return adaptive(call, false);
}

static vgg_status backward_adaptive(const struct vgg__cudnn_call *call)
{
    return adaptive(call, true);
}

const struct vgg__cudnn_impl vgg__cudnn_adaptive_pool = {
    .base = {.measure = measure_adaptive},
    .forward = forward_adaptive,
    .backward = backward_adaptive};
