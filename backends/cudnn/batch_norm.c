/* SPDX-License-Identifier: Apache-2.0 */
/* Batch normalisation with ReLU, as ref/batch_norm.c defines it, in the engine's own
 * kernels: sums over a batch, what follows from them, one pass over the elements. */
#include "cudnn/stages.h"

/* Of one channel each: mean, 1 / sqrt(var + epsilon) and the offset that goes with
 * them, kept for the backward. */
static size_t statistics_bytes(const vgg_stage *s)
{
    return 3 * (size_t)s->in.c * sizeof(float);
}

/* Partial sums [rows][2][c] of double, and the total. */
static size_t sums_bytes(const vgg_stage *s)
{
    return (VGG__MAX_PARTIAL + (size_t)1) * 2 * s->in.c * sizeof(double);
}

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    need->algorithm = "own kernels";
    need->reads_x = true;
    need->reads_y = env->stage->relu;
    need->forward_scratch = sums_bytes(env->stage);
    if (env->mode != VGG_MODE_INFER)
        need->saved = statistics_bytes(env->stage);
    else
        need->forward_scratch += statistics_bytes(env->stage);
    need->backward_scratch = sums_bytes(env->stage);
}

static float *statistics(const struct vgg__cudnn_call *call)
{
    if (call->mode != VGG_MODE_INFER) return call->saved;
    return (float *)((unsigned char *)call->scratch + sums_bytes(call->stage));
}

static uint64_t rows_of(const struct vgg__cudnn_call *call)
{
    return (uint64_t)call->batch * call->stage->in.h * call->stage->in.w;
}

static vgg_status forward(const struct vgg__cudnn_call *call)
{
    const vgg_stage *s = call->stage;
    const uint32_t c = s->in.c, hw = s->in.h * s->in.w;
    const bool batch = call->mode == VGG_MODE_TRAIN;
    float *mean = statistics(call), *inverse = mean + c, *offset = inverse + c;
    const struct vgg__grid grid = vgg__grid_rows(rows_of(call), c);
    vgg_status status = VGG_OK;
    if (batch) {
        const struct vgg__norm_sums_args args = {
            call->x, call->scratch, call->batch, hw, c, call->step};
        status = vgg__queue(call, &vgg__kernel_norm_sums[call->type], grid, &args);
    }
    const struct vgg__norm_finish_args finish = {.x = call->x,
                                                 .partial = call->scratch,
                                                 .mean = mean,
                                                 .inverse = inverse,
                                                 .offset = offset,
                                                 .running_mean = call->mean,
                                                 .running_var = call->var,
                                                 .rows = grid.blocks[0],
                                                 .hw = hw,
                                                 .c = c,
                                                 .batch = batch,
                                                 .epsilon = s->epsilon,
                                                 .momentum = s->momentum,
                                                 .step = call->step};
    if (status == VGG_OK)
        status = vgg__queue(call, &vgg__kernel_norm_finish[call->type],
                            vgg__grid_columns(c), &finish);
    const struct vgg__norm_apply_args apply = {.x = call->x,
                                               .y = call->y,
                                               .mean = mean,
                                               .inverse = inverse,
                                               .offset = offset,
                                               .gamma = call->gamma,
                                               .beta = call->beta,
                                               .rows = rows_of(call),
                                               .c = c,
                                               .relu = s->relu};
    if (status == VGG_OK)
        status = vgg__queue(call, &vgg__kernel_norm_apply[call->type],
                            vgg__grid_elements(vgg__batch_count(call, s->in)), &apply);
    return status;
}

static vgg_status backward(const struct vgg__cudnn_call *call)
{
    const vgg_stage *s = call->stage;
    const uint32_t c = s->in.c, hw = s->in.h * s->in.w;
    const float *mean = call->saved, *inverse = mean + c, *offset = inverse + c;
    const void *y = s->relu && !call->dy_masked ? call->y : NULL;
    double *total = call->scratch, *partial = total + 2 * (size_t)c;
    const struct vgg__grid grid = vgg__grid_rows(rows_of(call), c);
    const struct vgg__norm_back_sums_args sums = {
        call->x, call->dy, y, mean, inverse, partial, call->batch, hw, c, call->step};
    vgg_status status =
        vgg__queue(call, &vgg__kernel_norm_back_sums[call->type], grid, &sums);
    const struct vgg__norm_back_finish_args finish = {
        partial, total, offset, call->dgamma, call->dbeta, grid.blocks[0], c};
    if (status == VGG_OK)
        status = vgg__queue(call, &vgg__kernel_norm_back_finish, vgg__grid_columns(c),
                            &finish);
    if (status != VGG_OK || call->dx == NULL) return status;
    const struct vgg__norm_back_args args = {.x = call->x,
                                             .dy = call->dy,
                                             .y = y,
                                             .dx = call->dx,
                                             .mean = mean,
                                             .inverse = inverse,
                                             .offset = offset,
                                             .gamma = call->gamma,
                                             .total = total,
                                             .n = call->batch,
                                             .hw = hw,
                                             .c = c,
                                             .batch = call->mode == VGG_MODE_TRAIN,
                                             .step = call->step};
    return vgg__queue(call, &vgg__kernel_norm_back[call->type],
                      vgg__grid_elements(vgg__batch_count(call, s->in)), &args);
}

const struct vgg__cudnn_impl vgg__cudnn_batch_norm = {
    .base = {.measure = measure}, .forward = forward, .backward = backward};
