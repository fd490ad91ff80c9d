/* SPDX-License-Identifier: Apache-2.0 */
/* The stage: convolution with bias, ReLU and 2x2 pooling, its products queued by the
 * routes that conv_choose.c has chosen. */
#include "cudnn/conv.h"

#include <stdio.h>

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    const vgg_stage *s = env->stage;
    const size_t element = vgg__element(env->precision);
    const size_t full =
        vgg__size_mul(vgg__size_mul(vgg__extent_count(s->mid), env->batch), element);
    const bool keeps = env->mode != VGG_MODE_INFER;
    need->reads_x = true;
    need->reads_y = s->relu;
    if (keeps && s->pool == VGG_MAX_POOL)
        need->saved = vgg__size_mul(vgg__extent_count(s->out), env->batch);
    /* The mask of an average is that of the pixels that went into it. */
    if (keeps && s->pool == VGG_AVERAGE_POOL)
        need->saved = full;
    else if (s->pool != VGG_NO_POOL)
        need->forward_scratch = full;
    need->backward_scratch =
        vgg__conv_scratch((const struct vgg__cudnn *)env->machine, s, env->batch,
                          element == 2 ? VGG__BF16 : VGG__F32)
            .total;
}

static bool supports(const struct vgg__machine *machine, const vgg_stage *stage,
                     const char **why)
{
    *why = "batch normalisation is a stage of its own here";
    if (stage->batch_norm) return false;
    *why = "pooling is fused only after a ReLU";
    return stage->pool == VGG_NO_POOL || stage->relu;
}

/* ---- Forward and backward -------------------------------------------------------- */

static vgg_status forward(const struct vgg__cudnn_call *call)
{
    const struct vgg__conv_state *state = call->state;
    return vgg__conv_forward(call, &state->forward);
}

static vgg_status backward(const struct vgg__cudnn_call *call)
{
    const struct vgg__conv_state *state = call->state;
    struct vgg__cudnn_call rest = *call;
    const bool first = state->weights.way == VGG__CONV_FIRST;
    vgg_status status = VGG_OK;
    if (first && (call->dweight != NULL || call->dbias != NULL))
        status = vgg__conv_weights(call, &state->weights, call->dy, true);
    if (first) rest.dweight = rest.dbias = NULL;
    if (status != VGG_OK || (first && call->dx == NULL)) return status;
    /* The bias' gradient comes with the weights' where both are one kernel's. */
    const bool together = rest.dweight != NULL && state->weights.way == VGG__CONV_MMA;
    const void *dz = NULL;
    struct vgg__cudnn_call before = rest;
    if (together) before.dbias = NULL;
    status = vgg__conv_make_dz(&before, state->pooled, &dz);
    if (status == VGG_OK && rest.dweight != NULL) {
        struct vgg__cudnn_call beside = rest;
        beside.stream = call->device->side;
        status = vgg__cudnn_fork(call->device, call->stream);
        if (status == VGG_OK)
            status = vgg__conv_weights(&beside, &state->weights, dz, state->pooled);
    }
    if (status == VGG_OK && rest.dx != NULL)
        status = vgg__conv_data(&rest, &state->data, dz, state->pooled);
    return status;
}

static void describe_route(const char *what, const struct vgg__conv_route *route,
                           char *text, size_t size)
{
    static const char *const ways[VGG__CONV_WAYS] = {
        "plain kernel", "first-layer kernel", NULL, NULL, "own tensor-core kernel"};
    char time[24] = "";
    if (route->us > 0) snprintf(time, sizeof time, " %.0f us", (double)route->us);
    snprintf(text, size, "%s %s%s%s", what,
             ways[route->way] != NULL ? ways[route->way] : route->plan.text,
             route->way == VGG__CONV_DNN_FUSED ? ", fused" : "", time);
}

static void describe(const void *opaque, char *text, size_t size)
{
    const struct vgg__conv_state *state = opaque;
    char routes[3][96] = {"", "", ""}, refused[40] = "";
    describe_route("forward", &state->forward, routes[0], sizeof routes[0]);
    if (state->wants_dx)
        describe_route("; data", &state->data, routes[1], sizeof routes[1]);
    if (state->trains)
        describe_route("; weights", &state->weights, routes[2], sizeof routes[2]);
    if (state->refused > 0)
        snprintf(refused, sizeof refused, "; %u refused: results vary", state->refused);
    snprintf(text, size, "%s%s%s%s%s", routes[0], routes[1], routes[2],
             state->pooled ? "; pooled gradient" : "", refused);
}

const struct vgg__cudnn_impl vgg__cudnn_conv = {
    .base = {.supports = supports, .measure = measure},
    .build = vgg__conv_build,
    .dispose = vgg__conv_dispose,
    .forward = forward,
    .backward = backward,
    .describe = describe};
