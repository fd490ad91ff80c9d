/* SPDX-License-Identifier: Apache-2.0 */
/* Choosing a convolution's routes.
 *
 * Without tuning: the fused kernels of a first layer, else cuDNN's product alone by the
 * first plan of its heuristics that can be made, else the plain kernel. With tuning
 * every way is timed on the program's own memory, as a whole (with the kernels that it
 * needs around it), and the fastest is taken. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cudnn/cache.h"
#include "cudnn/conv.h"

#define MOST_PLANS 8
#define COMPILED                                                                       \
    2 /* of plans that are compiled at run time, which takes a second each */
#define QUESTION 240

/* One of the three products of a stage, for choosing. */
struct product {
    const struct vgg__cudnn_call *call;
    enum vgg__dnn_what what;
    bool pooled; /* backward: from the pooled gradient */
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
                                     .strict =
                                         p->call->type == VGG__F32 && !p->call->tf32};
}

/* A product as the tensor-core kernels are asked for it. */
static struct vgg__conv_mma mma_of(const struct product *p, uint32_t tile)
{
    static const enum vgg__conv_mma_what whats[] = {
        [VGG__DNN_FORWARD] = VGG__CONV_MMA_FORWARD,
        [VGG__DNN_DATA] = VGG__CONV_MMA_DATA,
        [VGG__DNN_WEIGHTS] = VGG__CONV_MMA_WEIGHTS,
    };
    const bool forward = p->what == VGG__DNN_FORWARD;
    return (struct vgg__conv_mma){
        whats[p->what], forward ? p->call->stage->pool == VGG_MAX_POOL : p->pooled,
        tile};
}

static vgg_status run(const struct product *p, const struct vgg__conv_route *route)
{
    const bool full = p->call->stage->pool != VGG_NO_POOL && !p->pooled;
    const void *dz = full ? p->call->scratch : p->call->dy;
    if (p->what == VGG__DNN_FORWARD) return vgg__conv_forward(p->call, route);
    if (p->what == VGG__DNN_DATA) return vgg__conv_data(p->call, route, dz, p->pooled);
    return vgg__conv_weights(p->call, route, dz, p->pooled);
}

/* A route to be timed. */
struct candidate {
    const struct product *product;
    const struct vgg__conv_route *route;
};

static vgg_status run_candidate(const void *cookie)
{
    const struct candidate *c = cookie;
    return run(c->product, c->route);
}

/* What masking costs the stage before if this one does not do it: it must read the mask
 * and write the gradient besides summing it up; at 3.4 TB/s, what such passes reach on
 * an H200. */
static float mask_us(const struct vgg__cudnn_call *call)
{
    return 2 *
           (float)(vgg__batch_count(call, call->stage->in) *
                   vgg__type_bytes(call->type)) /
           3.4e6f;
}

static bool masks_input(const struct vgg__conv_route *route)
{
    return route->way == VGG__CONV_DNN_FUSED || route->way == VGG__CONV_MMA;
}

/* Take `route` if it is faster than the best; what is not taken is given back. */
static void compete(const struct product *p, struct vgg__conv_route *route,
                    struct vgg__conv_route *best)
{
    const struct vgg__api *api = p->call->device->api;
    route->us =
        vgg__cudnn_time(p->call->device, run_candidate, &(struct candidate){p, route});
    const bool masks = p->what == VGG__DNN_DATA && p->call->stage->input_relu;
    float cost = route->us, least = best->us;
    if (masks && !masks_input(route)) cost += mask_us(p->call);
    if (masks && !masks_input(best)) least += mask_us(p->call);
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
        if (p->call->device->lost) {
            vgg__dnn_plan_free(p->call->device->api, &plans[i]);
            continue;
        }
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

/* Counts changes of the engine's own kernels after which old choices mean nothing. */
#define KERNELS 2

/* Everything that a choice depends on, in words. */
static void question(const struct product *p, char text[QUESTION])
{
    const struct vgg__dnn_problem m = problem_of(p);
    const vgg_stage *s = p->call->stage;
    snprintf(text, QUESTION,
             "kernels %d groups %d conv %d type %d strict %d tf32 %d n %u %ux%ux%u "
             "oc %u k %u relu %u pool %u input_relu %u mode %u pooled %d",
             KERNELS, p->call->device->mma.wide, m.what, m.type, m.strict,
             p->call->tf32, m.n, m.ic, m.h, m.w, m.oc, m.kernel, s->relu, s->pool,
             s->input_relu, p->call->mode, p->pooled);
}

/* The same for what a backward works on. */
static void pooled_question(const struct product *p, char text[QUESTION])
{
    const vgg_stage *s = p->call->stage;
    snprintf(text, QUESTION,
             "kernels %d groups %d pooled gradient: n %u %ux%ux%u oc %u k %u relu %u "
             "input_relu %u mode %u trains %d dx %d",
             KERNELS, p->call->device->mma.wide, p->call->batch, s->in.c, s->mid.h,
             s->mid.w, s->out.c, s->kernel, s->relu, s->input_relu, p->call->mode,
             p->call->trains, p->call->wants_dx);
}

/* Whether a route that was read is one that could have been chosen. */
static bool can_go(const struct product *p, const struct vgg__conv_route *route)
{
    const struct vgg__cudnn_call *call = p->call;
    const vgg_stage *s = call->stage;
    const struct vgg__conv_mma how = mma_of(p, route->tile);
    switch (route->way) {
    case VGG__CONV_PLAIN:
        return !p->pooled && route->single_out && route->us > 0;
    case VGG__CONV_DNN:
        return !p->pooled && (call->type != VGG__F32 || route->single_out);
    case VGG__CONV_DNN_FUSED:
        return !p->pooled && ((p->what == VGG__DNN_FORWARD && s->relu) ||
                              (p->what == VGG__DNN_DATA && s->input_relu));
    case VGG__CONV_MMA:
        return route->tile < VGG__CONV_TILES &&
               vgg__conv_mma_takes(call->device, s, call->batch, call->type, &how);
    default:
        return false; /* a first layer's is never asked for */
    }
}

/* The route that was chosen before, if it can still be taken. */
static bool recall(const struct product *p, struct vgg__conv_route *out,
                   uint32_t *refused)
{
    struct vgg__cudnn *device = p->call->device;
    const struct vgg__dnn_target target = target_of(device);
    char text[QUESTION];
    struct vgg__cached answer;
    question(p, text);
    if (!vgg__cache_load(device, text, &answer)) return false;
    *refused = answer.refused;
    *out = (struct vgg__conv_route){.way = answer.way,
                                    .single_out = answer.flag & 1,
                                    .tile = answer.flag >> 1,
                                    .us = (float)answer.ns / 1000};
    bool good = can_go(p, out);
    if (good && answer.length > 0)
        good = vgg__dnn_plan_read(&target, answer.text, answer.length, &out->plan);
    snprintf(out->plan.text, sizeof out->plan.text, "%s", answer.name);
    const bool needs = answer.way == VGG__CONV_DNN || answer.way == VGG__CONV_DNN_FUSED;
    device->machine.host.release(answer.text);
    if (good && needs == (out->plan.plan != NULL)) return true;
    vgg__dnn_plan_free(device->api, &out->plan);
    return false;
}

static void remember(const struct product *p, const struct vgg__conv_route *route,
                     uint32_t refused)
{
    struct vgg__cudnn *device = p->call->device;
    const struct vgg__dnn_target target = target_of(device);
    char text[QUESTION];
    struct vgg__cached answer = {.way = route->way,
                                 .flag = route->single_out | route->tile << 1,
                                 .ns = (uint32_t)lroundf(route->us * 1000),
                                 .refused = refused};
    if (route->plan.plan != NULL &&
        !vgg__dnn_plan_write(&target, &device->machine.host, &route->plan, &answer.text,
                             &answer.length))
        return;
    snprintf(answer.name, sizeof answer.name, "%s", route->plan.text);
    question(p, text);
    vgg__cache_save(device, text, &answer);
    device->machine.host.release(answer.text);
}

static void try_mma(const struct product *p, struct vgg__conv_route *best)
{
    const struct vgg__cudnn_call *call = p->call;
    for (uint32_t tile = 0; tile < VGG__CONV_TILES; tile++) {
        struct vgg__conv_route route = {
            .way = VGG__CONV_MMA, .single_out = true, .tile = tile};
        const struct vgg__conv_mma how = mma_of(p, tile);
        if (vgg__conv_mma_takes(call->device, call->stage, call->batch, call->type,
                                &how))
            compete(p, &route, best);
    }
}

static void choose_by_timing(const struct product *p, struct vgg__conv_route *best)
{
    struct vgg__dnn_problem problem = problem_of(p);
    try_mma(p, best);
    if (p->pooled) return; /* nothing else takes that */
    try_form(p, &problem, MOST_PLANS, best);
    if (p->what == VGG__DNN_FORWARD && p->call->stage->relu) {
        problem.bias_relu = true;
        try_form(p, &problem, MOST_PLANS, best);
    } else if (p->what == VGG__DNN_DATA && p->call->stage->input_relu) {
        problem.mask = true;
        try_form(p, &problem, COMPILED, best);
    } else if (p->what == VGG__DNN_WEIGHTS && p->call->type != VGG__F32) {
        problem.single_out = true;
        try_form(p, &problem, COMPILED, best);
    }
}

static void choose(const struct product *p, struct vgg__conv_route *best)
{
    const struct vgg__dnn_problem problem = problem_of(p);
    const uint32_t before = p->state->refused;
    uint32_t refused = 0;
    *best = (struct vgg__conv_route){0};
    if (p->call->tune && recall(p, best, &refused)) {
        p->state->refused += refused;
        return;
    }
    *best = (struct vgg__conv_route){.way = VGG__CONV_PLAIN, .single_out = true};
    if (!p->call->tune) {
        try_form(p, &problem, 1, best);
        return;
    }
    choose_by_timing(p, best);
    /* What could not be timed is no choice to keep. */
    if (best->us > 0 && !p->call->device->lost)
        remember(p, best, p->state->refused - before);
}

/* Both products of a backward in one way of looking at the gradient; microseconds. */
static float choose_backward(struct product *p, bool pooled,
                             struct vgg__conv_state *out)
{
    float us = 0;
    out->pooled = pooled;
    p->pooled = pooled;
    p->what = VGG__DNN_WEIGHTS;
    if (p->call->trains) choose(p, &out->weights);
    p->what = VGG__DNN_DATA;
    if (p->call->wants_dx) choose(p, &out->data);
    if (p->call->trains) us += out->weights.us;
    if (p->call->wants_dx) us += out->data.us;
    return us;
}

/* Making the gradient before pooling, and after. */
static vgg_status make_dz(const struct vgg__cudnn_call *given, bool pooled)
{
    struct vgg__cudnn_call call = *given;
    const void *dz;
    call.dbias = NULL;
    return vgg__conv_make_dz(&call, pooled, &dz);
}

static vgg_status make_full_dz(const void *call)
{
    return make_dz(call, false);
}

static vgg_status make_pooled_dz(const void *call)
{
    return make_dz(call, true);
}

static bool takes_pooled(const struct vgg__cudnn_call *call)
{
    const struct vgg__cudnn *device = call->device;
    const vgg_stage *s = call->stage;
    const struct vgg__conv_mma weights = {VGG__CONV_MMA_WEIGHTS, true, 0};
    const struct vgg__conv_mma data = {VGG__CONV_MMA_DATA, true, 0};
    return call->tune && s->pool == VGG_MAX_POOL &&
           (!call->trains ||
            vgg__conv_mma_takes(device, s, call->batch, call->type, &weights)) &&
           (!call->wants_dx ||
            vgg__conv_mma_takes(device, s, call->batch, call->type, &data));
}

/* Whether the pooled gradient is what both products take. */
static bool is_complete(const struct product *p, const struct vgg__conv_state *state)
{
    return (!p->call->trains || state->weights.way == VGG__CONV_MMA) &&
           (!p->call->wants_dx || state->data.way == VGG__CONV_MMA);
}

static bool is_timed(const struct product *p, const struct vgg__conv_state *state)
{
    return (!p->call->trains || state->weights.us > 0) &&
           (!p->call->wants_dx || state->data.us > 0);
}

/* What was decided before, with its products; false: nothing that still holds. */
static bool recall_backwards(struct product *p)
{
    struct vgg__cudnn *device = p->call->device;
    char text[QUESTION];
    struct vgg__cached answer;
    pooled_question(p, text);
    if (!vgg__cache_load(device, text, &answer)) return false;
    device->machine.host.release(answer.text);
    if (answer.way > 1 || answer.length > 0) return false;
    choose_backward(p, answer.way == 1, p->state);
    p->state->refused += answer.refused;
    return answer.way == 0 || is_complete(p, p->state);
}

/* `refused`: of products that are not taken, which nobody will ask about again. */
static void remember_backwards(const struct product *p, bool pooled, float us,
                               uint32_t refused)
{
    char text[QUESTION];
    const struct vgg__cached answer = {
        .way = pooled, .ns = (uint32_t)lroundf(us * 1000), .refused = refused};
    pooled_question(p, text);
    if (!p->call->device->lost) vgg__cache_save(p->call->device, text, &answer);
}

/* The gradient before pooling as a whole, or as the pooled one and its winners:
 * whichever is faster with all that follows. */
static void choose_backwards(struct product *p)
{
    struct vgg__conv_state *state = p->state;
    const bool either = takes_pooled(p->call);
    if (either && recall_backwards(p)) return;
    const uint32_t before = state->refused;
    const float full = choose_backward(p, false, state);
    if (!either) return;
    struct vgg__conv_state other = {0};
    const float pooled = choose_backward(p, true, &other);
    if (!is_complete(p, &other)) return;
    struct vgg__cudnn *device = p->call->device;
    const float make_pooled = vgg__cudnn_time(device, make_pooled_dz, p->call);
    const float make_full = vgg__cudnn_time(device, make_full_dz, p->call);
    const bool takes =
        make_pooled > 0 && make_full > 0 && pooled + make_pooled < full + make_full;
    /* What could not be timed is no choice to keep. */
    if (is_timed(p, state) && make_pooled > 0 && make_full > 0)
        remember_backwards(p, takes, takes ? pooled + make_pooled : full + make_full,
                           takes ? state->refused - before : 0);
    if (!takes) return;
    vgg__dnn_plan_free(device->api, &state->weights.plan);
    vgg__dnn_plan_free(device->api, &state->data.plan);
    state->weights = other.weights;
    state->data = other.data;
    state->pooled = true;
}

vgg_status vgg__conv_build(const struct vgg__cudnn_call *forward,
                           const struct vgg__cudnn_call *backward, void **out)
{
    struct vgg__cudnn *device = forward->device;
    if (forward->tune && forward->type == VGG__BF16) {
        const vgg_status status = vgg__cudnn_try_groups(device);
        if (status != VGG_OK) return status;
    }
    struct vgg__conv_state *state =
        vgg__machine_calloc(&device->machine, 1, sizeof *state);
    if (state == NULL) return VGG_ENOMEM;
    *out = state;
    state->wants_dx = backward->wants_dx;
    state->trains = backward->trains;
    struct product product = {
        .call = forward, .what = VGG__DNN_FORWARD, .state = state};
    const bool first = vgg__conv_is_first(forward->stage);
    if (first)
        state->forward.way = VGG__CONV_FIRST;
    else
        choose(&product, &state->forward);
    product.call = backward;
    product.what = VGG__DNN_DATA;
    if (first && backward->wants_dx) choose(&product, &state->data);
    if (first)
        state->weights.way = VGG__CONV_FIRST;
    else if (backward->trains || backward->wants_dx)
        choose_backwards(&product);
    if (backward->masks != NULL)
        *backward->masks =
            backward->wants_dx &&
            (state->data.way == VGG__CONV_DNN_FUSED ||
             (state->data.way == VGG__CONV_MMA && backward->stage->input_relu));
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
