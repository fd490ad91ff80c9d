/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing a convolution's routes.
 *
 * Without tuning: the fused kernels of a first layer, else cuDNN's product alone by the
 * first plan of its heuristics that can be made, else the plain kernel. With tuning every
 * way is timed on the program's own memory, as a whole (with the kernels that it needs
 * around it), and the fastest is taken. */
#include <stdio.h>
#include <string.h>

#include "cudnn/cache.h"
#include "cudnn/conv.h"

#define MOST_PLANS 6
#define WARM_UP    2
#define TIMED      5

/* One of the three products of a stage, for choosing. */
struct product {
    const struct vgg__cudnn_call *call;
    enum vgg__dnn_what what;
    struct vgg__conv_state *state;
};

static struct vgg__dnn_target target_of(struct vgg__cudnn *device)
{
    return (struct vgg__dnn_target){
        .api = device->api, .handle = device->dnn, .most_workspace = VGG__WORKSPACE};
}

static struct vgg__dnn_problem problem_of(const struct product *p)
{
    const vgg_stage *s = p->call->stage;
    return (struct vgg__dnn_problem){.what = p->what,
                                     .type = p->call->type,
                                     .n = p->call->batch,
                                     .h = s->mid.h,
                                     .w = s->mid.w,
                                     .ic = s->in.c,
                                     .oc = s->out.c,
                                     .kernel = s->kernel,
                                     .strict = p->call->type == VGG__F32 && !p->call->tf32};
}

static vgg_status run(const struct product *p, const struct vgg__conv_route *route)
{
    if (p->what == VGG__DNN_FORWARD) return vgg__conv_forward(p->call, route);
    const void *dz = p->call->stage->pool != VGG_NO_POOL ? p->call->scratch : p->call->dy;
    if (p->what == VGG__DNN_DATA) return vgg__conv_data(p->call, route, dz);
    return vgg__conv_weights(p->call, route, dz);
}

/* Microseconds of one run; negative: it fails. */
static float time_route(const struct product *p, const struct vgg__conv_route *route)
{
    struct vgg__cudnn *device = p->call->device;
    const struct vgg__api *api = device->api;
    vgg_status status = VGG_OK;
    float ms = 0;
    for (int i = 0; status == VGG_OK && i < WARM_UP + TIMED; i++) {
        if (i == WARM_UP) api->eventRecord(device->begin, device->stream);
        status = run(p, route);
    }
    api->eventRecord(device->end, device->stream);
    if (api->eventSynchronize(device->end) != cudaSuccess) return -1;
    if (status != VGG_OK) return -1;
    if (api->eventElapsedTime(&ms, device->begin, device->end) != cudaSuccess) return -1;
    return ms * 1000 / TIMED;
}

/* What masking costs the stage before if this one does not do it: it reads the product
 * and its mask and writes once more; a lower bound, at 3 TB/s. */
static float mask_us(const struct vgg__cudnn_call *call)
{
    return (float)(vgg__batch_count(call, call->stage->in) * vgg__type_bytes(call->type)) /
           3e6f;
}

/* Take `route` if it is faster than the best; what is not taken is given back. */
static void compete(const struct product *p, struct vgg__conv_route *route,
                    struct vgg__conv_route *best)
{
    const struct vgg__api *api = p->call->device->api;
    route->us = time_route(p, route);
    const bool masks = p->what == VGG__DNN_DATA && p->call->stage->input_relu;
    float cost = route->us, least = best->us;
    if (masks && route->way != VGG__CONV_DNN_FUSED) cost += mask_us(p->call);
    if (masks && best->way != VGG__CONV_DNN_FUSED) least += mask_us(p->call);
    if (route->us <= 0 || (best->us > 0 && cost >= least)) {
        vgg__dnn_plan_free(api, &route->plan);
        return;
    }
    vgg__dnn_plan_free(api, &best->plan);
    *best = *route;
}

/* All of cuDNN's plans for one form of the product, up to `most`. */
static void try_form(const struct product *p, const struct vgg__dnn_problem *problem,
                     uint32_t most, struct vgg__conv_route *best)
{
    struct vgg__dnn_plan plans[MOST_PLANS];
    const struct vgg__dnn_target target = target_of(p->call->device);
    const bool fused = problem->bias_relu || problem->mask;
    uint32_t refused = 0;
    const uint32_t count = vgg__dnn_plans(&target, problem, plans, most, &refused);
    p->state->refused += refused;
    for (uint32_t i = 0; i < count; i++) {
        struct vgg__conv_route route = {
            .way = fused ? VGG__CONV_DNN_FUSED : VGG__CONV_DNN,
            .plan = plans[i],
            .single_out = problem->single_out || p->call->type == VGG__F32};
        if (p->call->tune)
            compete(p, &route, best);
        else
            *best = route; /* most is 1 */
    }
}

/* Everything that a choice depends on, in words. */
static size_t question(const struct product *p, char text[200])
{
    const struct vgg__dnn_problem m = problem_of(p);
    const vgg_stage *s = p->call->stage;
    return (size_t)snprintf(text, 200,
                            "conv %d type %d strict %d tf32 %d n %u %ux%ux%u oc %u k %u "
                            "relu %u pool %u input_relu %u mode %u",
                            m.what, m.type, m.strict, p->call->tf32, m.n, m.ic, m.h, m.w,
                            m.oc, m.kernel, s->relu, s->pool, s->input_relu,
                            p->call->mode);
}

/* The route that was chosen before, if it can still be taken. */
static bool recall(const struct product *p, struct vgg__conv_route *out)
{
    struct vgg__cudnn *device = p->call->device;
    const struct vgg__dnn_target target = target_of(device);
    char text[200];
    struct vgg__cached answer;
    if (!vgg__cache_load(device, text, question(p, text), &answer)) return false;
    *out = (struct vgg__conv_route){
        .way = answer.way, .single_out = answer.flag, .us = (float)answer.ns / 1000};
    bool good = answer.way < VGG__CONV_WAYS;
    if (good && answer.length > 0)
        good = vgg__dnn_plan_read(&target, answer.text, answer.length, &out->plan);
    const bool needs = answer.way == VGG__CONV_DNN || answer.way == VGG__CONV_DNN_FUSED;
    device->machine.host.release(answer.text);
    if (good && needs == (out->plan.plan != NULL)) return true;
    vgg__dnn_plan_free(device->api, &out->plan);
    return false;
}

static void remember(const struct product *p, const struct vgg__conv_route *route)
{
    struct vgg__cudnn *device = p->call->device;
    const struct vgg__dnn_target target = target_of(device);
    char text[200];
    struct vgg__cached answer = {
        .way = route->way, .flag = route->single_out, .ns = (uint32_t)(route->us * 1000)};
    if (route->plan.plan != NULL &&
        !vgg__dnn_plan_write(&target, &device->machine.host, &route->plan, &answer.text,
                             &answer.length))
        return;
    vgg__cache_save(device, text, question(p, text), &answer);
    device->machine.host.release(answer.text);
}

static void choose_by_timing(const struct product *p, struct vgg__conv_route *best)
{
    struct vgg__dnn_problem problem = problem_of(p);
    try_form(p, &problem, MOST_PLANS, best);
    if (p->what == VGG__DNN_FORWARD && p->call->stage->relu) {
        problem.bias_relu = true;
        try_form(p, &problem, 4, best);
    } else if (p->what == VGG__DNN_DATA && p->call->stage->input_relu) {
        problem.mask = true;
        try_form(p, &problem, 1, best);
    } else if (p->what == VGG__DNN_WEIGHTS && p->call->type != VGG__F32) {
        problem.single_out = true;
        try_form(p, &problem, 1, best);
    }
}

static void choose(const struct product *p, struct vgg__conv_route *best)
{
    const struct vgg__dnn_problem problem = problem_of(p);
    *best = (struct vgg__conv_route){0};
    if (p->call->tune && recall(p, best)) return;
    *best = (struct vgg__conv_route){.way = VGG__CONV_PLAIN, .single_out = true};
    if (!p->call->tune) {
        try_form(p, &problem, 1, best);
        return;
    }
    choose_by_timing(p, best);
    remember(p, best);
}

vgg_status vgg__conv_build(const struct vgg__cudnn_call *forward,
                           const struct vgg__cudnn_call *backward, void **out)
{
    struct vgg__cudnn *device = forward->device;
    struct vgg__conv_state *state = vgg__machine_calloc(&device->machine, 1, sizeof *state);
    if (state == NULL) return VGG_ENOMEM;
    *out = state;
    struct product product = {forward, VGG__DNN_FORWARD, state};
    const bool first = vgg__conv_is_first(forward->stage);
    if (first)
        state->forward.way = state->weights.way = VGG__CONV_FIRST;
    else
        choose(&product, &state->forward);
    product.call = backward;
    product.what = VGG__DNN_WEIGHTS;
    if (!first && backward->trains) choose(&product, &state->weights);
    product.what = VGG__DNN_DATA;
    if (backward->wants_dx) choose(&product, &state->data);
    if (backward->masks != NULL)
        *backward->masks = backward->wants_dx && state->data.way == VGG__CONV_DNN_FUSED;
    return device->lost ? VGG_EDEVICE : VGG_OK;
}

void vgg__conv_dispose(struct vgg__cudnn *device, void *opaque)
{
    struct vgg__conv_state *state = opaque;
    vgg__dnn_plan_free(device->api, &state->forward.plan);
    vgg__dnn_plan_free(device->api, &state->data.plan);
    vgg__dnn_plan_free(device->api, &state->weights.plan);
    device->machine.host.release(state);
}
