/* SPDX-License-Identifier: Apache-2.0 */
/* Linear layers with bias, ReLU and dropout.
 *
 * The product's sums stay in f32 until bias, ReLU and dropout are done, in one pass.
 * Columns of weights are in c, h, w order, so a map [h][w][c] is first turned to that:
 * it is small where VGG has linear layers. The network's output is f32 whatever the
 * precision, so that the loss sees more than a bf16 can hold.
 *
 * In a step the weights are changed by the kernel that computes their gradient, after
 * the input's gradient has been taken from the old ones. */
#include <stdio.h>

#include "cudnn/matmul.h"
#include "cudnn/stages.h"

struct state {
    struct vgg__matmul forward, data, weights;
    bool steps; /* the kernel of a step takes the place of `weights` */
};

static bool has_map(const vgg_stage *s)
{
    return s->in.h > 1 || s->in.w > 1;
}

static uint64_t inputs(const vgg_stage *s)
{
    return vgg__extent_count(s->in);
}

static void measure(const struct vgg__stage_env *env, struct vgg__stage_need *need)
{
    const vgg_stage *s = env->stage;
    const size_t element = vgg__element(env->precision);
    const size_t x = vgg__cudnn_round_up(
        vgg__size_mul(vgg__size_mul(inputs(s), env->batch), element));
    const size_t y = vgg__size_mul(vgg__size_mul(s->out.c, env->batch), sizeof(float));
    const bool map = has_map(s), keeps = env->mode != VGG_MODE_INFER;
    need->algorithm = "cuBLASLt";
    need->reads_x = !map || s->input_relu != 0;
    need->reads_y = s->relu;
    need->element = env->last && !s->relu ? sizeof(float) : element;
    need->forward_scratch = vgg__cudnn_round_up(y);
    if (map && keeps)
        need->saved = x;
    else if (map)
        need->forward_scratch = vgg__size_add(need->forward_scratch, x);
    need->backward_scratch = vgg__size_add(vgg__cudnn_round_up(y), map ? x : 0);
}

static bool supports(const struct vgg__machine *machine, const vgg_stage *stage,
                     const char **why)
{
    *why = "dropout is fused only after a ReLU";
    return stage->dropout == 0 || stage->relu;
}

/* Where the input in c, h, w order is kept. */
static void *flat_input(const struct vgg__cudnn_call *call)
{
    const size_t acc = (size_t)call->batch * call->stage->out.c * sizeof(float);
    return call->mode != VGG_MODE_INFER
               ? call->saved
               : (unsigned char *)call->scratch + vgg__cudnn_round_up(acc);
}

/* Back it masks by x as well, if that is a ReLU's. */
static vgg_status flatten(const struct vgg__cudnn_call *call, const void *in, void *out,
                          bool back)
{
    const vgg_extent e = call->stage->in;
    const bool masks = back && call->stage->input_relu;
    const struct vgg__flatten_args args = {in,  out,  call->batch,           e.c, e.h,
                                           e.w, back, masks ? call->x : NULL};
    return vgg__queue(call, &vgg__kernel_flatten[call->type],
                      vgg__grid_elements(vgg__batch_count(call, e)), &args);
}

static vgg_status forward(const struct vgg__cudnn_call *call)
{
    const vgg_stage *s = call->stage;
    const struct state *state = call->state;
    const void *x = call->x;
    vgg_status status = VGG_OK;
    if (has_map(s)) {
        x = flat_input(call);
        status = flatten(call, call->x, flat_input(call), false);
    }
    const struct vgg__matmul_scratch product = {x, call->weight_typed, call->scratch};
    if (status == VGG_OK)
        status = vgg__matmul_run(call->device, call->stream, &state->forward, &product);
    if (status != VGG_OK) return status;
    const bool drops = call->mode == VGG_MODE_TRAIN && s->dropout > 0;
    const struct vgg__linear_finish_args args = {.acc = call->scratch,
                                                 .y = call->y,
                                                 .bias = call->bias,
                                                 .n = call->batch,
                                                 .c = s->out.c,
                                                 .relu = s->relu,
                                                 .out_f32 = call->y_type == VGG__F32,
                                                 .rate = drops ? s->dropout : 0,
                                                 .layer = s->dropout_layer,
                                                 .step = call->step};
    return vgg__queue(call, &vgg__kernel_linear_finish[call->type],
                      vgg__grid_elements(vgg__batch_count(call, s->out)), &args);
}

static vgg_status change_weights(const struct vgg__cudnn_call *call, const void *dz,
                                 const void *x)
{
    const vgg_stage *s = call->stage;
    const struct state *state = call->state;
    if (call->step_weight == NULL) {
        const struct vgg__matmul_scratch product = {dz, x, call->dweight};
        return vgg__matmul_run(call->device, call->stream, &state->weights, &product);
    }
    const struct vgg__linear_step_args args = {.dz = dz,
                                               .x = x,
                                               .w = call->step_weight,
                                               .shadow = call->step_shadow,
                                               .n = call->batch,
                                               .m = s->out.c,
                                               .k = (uint32_t)inputs(s),
                                               .tf32 = call->tf32,
                                               .step = call->step};
    return vgg__cudnn_launch(call->device, call->stream,
                             &vgg__kernel_linear_step[call->type],
                             vgg__linear_step_grid(&args),
                             vgg__linear_step_shared(&args, call->type), &args);
}

static vgg_status backward(const struct vgg__cudnn_call *call)
{
    const vgg_stage *s = call->stage;
    const struct state *state = call->state;
    const size_t y = (size_t)call->batch * s->out.c * sizeof(float);
    void *dz = call->scratch,
         *dx_flat = (unsigned char *)call->scratch + vgg__cudnn_round_up(y);
    const bool drops = call->mode == VGG_MODE_TRAIN && s->dropout > 0;
    const bool masks = s->relu && (drops || !call->dy_masked);
    const struct vgg__linear_mask_args args = {
        .dy = call->dy,
        .y = masks ? call->y : NULL,
        .dz = dz,
        .db = call->dbias,
        .n = call->batch,
        .c = s->out.c,
        .in_f32 = call->y_type == VGG__F32,
        .scale = drops ? (float)(1.0 / (1.0 - (double)s->dropout)) : 1};
    vgg_status status = vgg__queue(call, &vgg__kernel_linear_mask[call->type],
                                   vgg__grid_columns(s->out.c), &args);
    if (status == VGG_OK && call->dx != NULL) {
        void *dx = has_map(s) ? dx_flat : call->dx;
        const struct vgg__matmul_scratch product = {dz, call->weight_typed, dx};
        status = vgg__matmul_run(call->device, call->stream, &state->data, &product);
        if (status == VGG_OK && has_map(s))
            status = flatten(call, dx_flat, call->dx, true);
    }
    if (status != VGG_OK || (call->dweight == NULL && call->step_weight == NULL))
        return status;
    /* After the input's gradient, which a step's weights must not run into. */
    struct vgg__cudnn_call beside = *call;
    beside.stream = call->device->side;
    status = vgg__cudnn_fork(call->device, call->stream);
    if (status == VGG_OK)
        status = change_weights(&beside, dz, has_map(s) ? flat_input(call) : call->x);
    return status;
}

static void dispose(struct vgg__cudnn *device, void *opaque)
{
    struct state *state = opaque;
    vgg__matmul_free(device, &state->forward);
    vgg__matmul_free(device, &state->data);
    vgg__matmul_free(device, &state->weights);
    device->machine.host.release(state);
}

static vgg_status make_products(const struct vgg__cudnn_call *forward,
                                const struct vgg__cudnn_call *backward,
                                struct state *state)
{
    struct vgg__cudnn *device = forward->device;
    const vgg_stage *s = forward->stage;
    const uint64_t n = forward->batch, m = s->out.c, k = inputs(s);
    const uint32_t tries = forward->tune ? 8 : 1;
    const void *x = has_map(s) ? flat_input(forward) : forward->x;
    struct vgg__matmul_shape shape = {.m = n,
                                      .n = m,
                                      .k = k,
                                      .b_across = true,
                                      .in = forward->type,
                                      .out = VGG__F32,
                                      .tf32 = forward->tf32};
    struct vgg__matmul_scratch scratch = {x, forward->weight_typed, forward->scratch};
    vgg_status status =
        vgg__matmul_make(device, &shape, tries, &scratch, &state->forward);
    if (status == VGG_OK && backward->wants_dx) {
        shape.n = k;
        shape.k = m;
        shape.b_across = false;
        shape.out = forward->type;
        const size_t y = (size_t)n * m * sizeof(float);
        scratch = (struct vgg__matmul_scratch){
            backward->scratch, backward->weight_typed,
            has_map(s) ? (unsigned char *)backward->scratch + vgg__cudnn_round_up(y)
                       : backward->dx};
        status = vgg__matmul_make(device, &shape, tries, &scratch, &state->data);
    }
    /* Its result is what is added to, so there is nothing to try it on. */
    if (status == VGG_OK && backward->trains) {
        shape = (struct vgg__matmul_shape){.m = m,
                                           .n = k,
                                           .k = n,
                                           .a_across = true,
                                           .in = forward->type,
                                           .out = VGG__F32,
                                           .tf32 = forward->tf32,
                                           .accumulate = true};
        status = vgg__matmul_make(device, &shape, 1, NULL, &state->weights);
    }
    return status;
}

static vgg_status build(const struct vgg__cudnn_call *forward,
                        const struct vgg__cudnn_call *backward, void **out)
{
    struct vgg__cudnn *device = forward->device;
    struct state *state = vgg__machine_calloc(&device->machine, 1, sizeof *state);
    if (state == NULL) return VGG_ENOMEM;
    *out = state;
    state->steps = backward->step_weight != NULL;
    if (backward->masks != NULL)
        *backward->masks =
            backward->wants_dx && has_map(forward->stage) && forward->stage->input_relu;
    return make_products(forward, backward, state);
}

/* A product, if there is one. */
static void describe_product(const char *what, const struct vgg__matmul *m, char *text,
                             size_t size)
{
    char time[24] = "";
    if (m->desc == NULL) return;
    if (m->us > 0) snprintf(time, sizeof time, ", %.0f us", (double)m->us);
    snprintf(text, size, "%s%s%s", what, m->text, time);
}

static void describe(const void *opaque, char *text, size_t size)
{
    const struct state *state = opaque;
    char forward[96] = "", data[96] = "", weights[96] = "";
    describe_product("forward ", &state->forward, forward, sizeof forward);
    describe_product("; data ", &state->data, data, sizeof data);
    if (state->steps)
        snprintf(weights, sizeof weights, "; weights own kernel");
    else
        describe_product("; weights ", &state->weights, weights, sizeof weights);
    snprintf(text, size, "%s%s%s", forward, data, weights);
}

const struct vgg__cudnn_impl vgg__cudnn_linear = {
    .base = {.supports = supports, .measure = measure},
    .build = build,
    .dispose = dispose,
    .forward = forward,
    .backward = backward,
    .describe = describe};
