/* SPDX-License-Identifier: Apache-2.0 */
/* Stages that change no element's neighbourhood: ReLU, dropout, flatten, taps; the
 * loss, which run.c queues; and the table of all stages. */
#include "cudnn/stages.h"

/* ---- ReLU ------------------------------------------------------------------------ */

static void measure_relu(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    need->algorithm = "own kernel";
    need->reads_y = true;
}

static vgg_status forward_relu(const struct vgg__cudnn_call *call)
{
    const vgg_extent e = call->stage->in;
    const struct vgg__bias_relu_args args = {.x = call->x,
                                             .y = call->y,
                                             .rows = (uint64_t)call->batch * e.h * e.w,
                                             .c = e.c,
                                             .relu = 1};
    return vgg__queue(call, &vgg__kernel_bias_relu[call->type],
                      vgg__grid_elements(vgg__batch_count(call, e)), &args);
}

static vgg_status backward_relu(const struct vgg__cudnn_call *call)
{
    const vgg_extent e = call->stage->in;
    const struct vgg__mask_args args = {.dy = call->dy,
                                        .y = call->y,
                                        .dz = call->dx,
                                        .rows = (uint64_t)call->batch * e.h * e.w,
                                        .c = e.c,
                                        .scale = 1};
    return vgg__queue(call, &vgg__kernel_mask[call->type],
                      vgg__grid_rows(args.rows, e.c), &args);
}

const struct vgg__cudnn_impl vgg__cudnn_relu = {.base = {.measure = measure_relu},
                                                .forward = forward_relu,
                                                .backward = backward_relu};

/* ---- Dropout --------------------------------------------------------------------- */

static void measure_dropout(const struct vgg__stage_env *env,
                            struct vgg__stage_need *need)
{
    need->algorithm = "own kernel";
    need->identity = env->mode != VGG_MODE_TRAIN || env->stage->dropout == 0;
}

/* The same elements are kept on the way back: they are drawn again. */
static vgg_status drop(const struct vgg__cudnn_call *call, const void *from, void *to)
{
    const vgg_stage *s = call->stage;
    const struct vgg__dropout_args args = {.x = from,
                                           .y = to,
                                           .n = call->batch,
                                           .c = s->in.c,
                                           .h = s->in.h,
                                           .w = s->in.w,
                                           .layer = s->dropout_layer,
                                           .rate = s->dropout,
                                           .step = call->step};
    return vgg__queue(call, &vgg__kernel_dropout[call->type],
                      vgg__grid_elements(vgg__batch_count(call, s->in)), &args);
}

static vgg_status forward_dropout(const struct vgg__cudnn_call *call)
{
    return drop(call, call->x, call->y);
}

static vgg_status backward_dropout(const struct vgg__cudnn_call *call)
{
    return drop(call, call->dy, call->dx);
}

const struct vgg__cudnn_impl vgg__cudnn_dropout = {.base = {.measure = measure_dropout},
                                                   .forward = forward_dropout,
                                                   .backward = backward_dropout};

/* ---- Flatten --------------------------------------------------------------------- */

static void measure_flatten(const struct vgg__stage_env *env,
                            struct vgg__stage_need *need)
{
    const vgg_extent e = env->stage->in;
    need->algorithm = "own kernel";
    need->identity = e.c == 1 || (e.h == 1 && e.w == 1);
}

static vgg_status flatten(const struct vgg__cudnn_call *call, const void *in, void *out,
                          bool back)
{
    const vgg_extent e = call->stage->in;
    const struct vgg__flatten_args args = {in,  out, call->batch, e.c,
                                           e.h, e.w, back,        NULL};
    return vgg__queue(call, &vgg__kernel_flatten[call->type],
                      vgg__grid_elements(vgg__batch_count(call, e)), &args);
}

static vgg_status forward_flatten(const struct vgg__cudnn_call *call)
{
    return flatten(call, call->x, call->y, false);
}

static vgg_status backward_flatten(const struct vgg__cudnn_call *call)
{
    return flatten(call, call->dy, call->dx, true);
}

const struct vgg__cudnn_impl vgg__cudnn_flatten = {.base = {.measure = measure_flatten},
                                                   .forward = forward_flatten,
                                                   .backward = backward_flatten};

/* ---- Taps ------------------------------------------------------------------------ */

/* The caller's gradient is in `saved` when the backward begins: run.c takes it in. The
 * sum stays there, to be looked at: the stage before may overwrite its dy. */
static void measure_tap(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    need->algorithm = "own kernel";
    if (!env->wants_dx) return;
    need->saved =
        vgg__size_mul(vgg__size_mul(vgg__extent_count(env->stage->in), env->batch),
                      vgg__element(env->precision));
}

static vgg_status forward_tap(const struct vgg__cudnn_call *call)
{
    const vgg_extent e = call->stage->in;
    const struct vgg__bias_relu_args args = {.x = call->x,
                                             .y = call->y,
                                             .rows = (uint64_t)call->batch * e.h * e.w,
                                             .c = e.c};
    return vgg__queue(call, &vgg__kernel_bias_relu[call->type],
                      vgg__grid_elements(vgg__batch_count(call, e)), &args);
}

static vgg_status backward_tap(const struct vgg__cudnn_call *call)
{
    const struct vgg__add_args args = {call->dy, call->saved, call->dx,
                                       vgg__batch_count(call, call->stage->in)};
    return vgg__queue(call, &vgg__kernel_add[call->type],
                      vgg__grid_elements(args.count), &args);
}

const struct vgg__cudnn_impl vgg__cudnn_tap = {
    .base = {.measure = measure_tap}, .forward = forward_tap, .backward = backward_tap};

/* ---- Loss and table -------------------------------------------------------------- */

static void measure_loss(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    const vgg_stage *s = env->stage;
    need->algorithm = "softmax and cross-entropy in double";
    /* The gradient in f32, for where the logits are not. */
    if (env->precision == VGG_BF16)
        need->forward_scratch =
            vgg__size_mul(vgg__size_mul(s->in.c, env->batch), sizeof(float));
}

const struct vgg__cudnn_impl vgg__cudnn_loss = {.base = {.measure = measure_loss}};

const struct vgg__stage_impl *const vgg__cudnn_stages[VGG_STAGE_KINDS] = {
    [VGG_STAGE_CONV] = &vgg__cudnn_conv.base,
    [VGG_STAGE_BATCH_NORM] = &vgg__cudnn_batch_norm.base,
    [VGG_STAGE_RELU] = &vgg__cudnn_relu.base,
    [VGG_STAGE_POOL] = &vgg__cudnn_pool.base,
    [VGG_STAGE_ADAPTIVE_POOL] = &vgg__cudnn_adaptive_pool.base,
    [VGG_STAGE_FLATTEN] = &vgg__cudnn_flatten.base,
    [VGG_STAGE_LINEAR] = &vgg__cudnn_linear.base,
    [VGG_STAGE_DROPOUT] = &vgg__cudnn_dropout.base,
    [VGG_STAGE_LOSS] = &vgg__cudnn_loss.base,
    [VGG_STAGE_TAP] = &vgg__cudnn_tap.base,
};
