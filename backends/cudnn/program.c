/* SPDX-License-Identifier: Apache-2.0 */
/* Compiling a network for a GPU; see program.h. */
#include "cudnn/program.h"

#include <stdio.h>
#include <string.h>

/* ---- Questions before there is a program ----------------------------------------- */

bool vgg__cudnn_supports(void *opaque, const vgg_stage *stage, uint32_t precision,
                         const char **why)
{
    const struct vgg__cudnn *device = opaque;
    if ((precision == VGG_BF16 || precision == VGG_TF32) && device->capability < 80) {
        if (why != NULL)
            *why = precision == VGG_BF16
                       ? "bf16 needs a GPU of compute capability 8.0 or better"
                       : "tf32 needs a GPU of compute capability 8.0 or better";
        return false;
    }
    return vgg__program_supports(opaque, stage, precision, why);
}

/* Parts of one allocation: each begins where the last ended, on a multiple of 256. */
static size_t part(size_t *end, size_t size)
{
    const size_t at = *end;
    *end = vgg__cudnn_round_up(at + size);
    return at;
}

static void *within(void *base, size_t at)
{
    return base != NULL ? (unsigned char *)base + at : NULL;
}

static struct vgg__cudnn_small place_small(void *base, uint32_t batch,
                                           uint64_t gradients)
{
    struct vgg__cudnn_small s = {0};
    size_t end = 0;
    s.step = within(base, part(&end, sizeof *s.step));
    s.result = within(base, part(&end, sizeof *s.result));
    s.labels = within(base, part(&end, batch * sizeof *s.labels));
    s.loss = within(base, part(&end, batch * sizeof *s.loss));
    s.correct = within(base, part(&end, batch * sizeof *s.correct));
    s.samples = within(base, part(&end, batch * sizeof *s.samples));
    const size_t gradient = part(&end, gradients * sizeof *s.gradient);
    s.gradient = gradients > 0 ? within(base, gradient) : NULL;
    s.bytes = end;
    return s;
}

static struct vgg__cudnn_pinned place_pinned(void *base, uint32_t batch)
{
    struct vgg__cudnn_pinned p = {0};
    size_t end = 0;
    p.result = within(base, part(&end, sizeof *p.result));
    p.labels = within(base, part(&end, batch * sizeof *p.labels));
    p.samples = within(base, part(&end, batch * sizeof *p.samples));
    p.bytes = end;
    return p;
}

/* Elements of the parameters that a step's gradients are kept for. */
static uint64_t small_gradients(const vgg_program_desc *desc)
{
    uint64_t count = 0;
    for (uint32_t i = 0; desc->step && i < desc->param_count; i++)
        if (!desc->params[i].linear) count += (desc->params[i].count + 63) / 64 * 64;
    return count;
}

vgg_status vgg__cudnn_measure(void *opaque, const vgg_program_desc *desc,
                              uint64_t *bytes)
{
    const struct vgg__machine *machine = opaque;
    struct vgg__layout layout;
    *bytes = 0;
    const vgg_status status = vgg__layout_create(machine, desc, &layout);
    if (status != VGG_OK) return status;
    *bytes = (uint64_t)layout.arena_bytes + layout.own_bytes +
             place_small(NULL, desc->batch, small_gradients(desc)).bytes +
             place_pinned(NULL, desc->batch).bytes + sizeof(struct vgg__cudnn_program) +
             desc->stage_count * sizeof(struct vgg__cudnn_stage);
    vgg__layout_destroy(machine, &layout);
    return VGG_OK;
}

/* ---- Places and types ------------------------------------------------------------ */

static void *at(const struct vgg__cudnn_program *p, uint32_t block)
{
    const struct vgg__block *b = &p->layout.blocks[block];
    return b->size > 0 ? p->arena + b->offset : NULL;
}

void *vgg__cudnn_value(const struct vgg__cudnn_program *p, uint32_t value)
{
    return at(p, vgg__value_block(&p->layout, value));
}

void *vgg__cudnn_gradient(const struct vgg__cudnn_program *p, uint32_t value)
{
    return at(p, vgg__gradient_block(&p->layout, value));
}

enum vgg__type vgg__cudnn_type(const struct vgg__cudnn_program *p)
{
    return p->layout.precision == VGG_BF16 ? VGG__BF16 : VGG__F32;
}

enum vgg__type vgg__cudnn_value_type(const struct vgg__cudnn_program *p, uint32_t value)
{
    const bool wide = value == p->layout.output && p->layout.output_element == 4;
    return wide ? VGG__F32 : vgg__cudnn_type(p);
}

/* ---- Calls ----------------------------------------------------------------------- */

static float *slot_of(float *base, const struct vgg__cudnn_store *store, int32_t slot)
{
    return slot >= 0 ? base + store->params[slot].offset : NULL;
}

/* A parameter in the activations' type. */
static const void *typed(const struct vgg__cudnn_program *p, int32_t slot)
{
    if (slot < 0) return NULL;
    const struct vgg__cudnn_store *store = p->store;
    if (store->shadow == NULL) return store->value + store->params[slot].offset;
    return (const uint16_t *)store->shadow + store->params[slot].offset;
}

struct vgg__cudnn_call vgg__cudnn_forward_call(const struct vgg__cudnn_program *p,
                                               uint32_t index, cudaStream_t stream)
{
    const struct vgg__layout *layout = &p->layout;
    const struct vgg__layout_stage *s = &layout->stages[index];
    const struct vgg__cudnn_store *store = p->store;
    const uint32_t kept = vgg__kept_block(layout, index, 0);
    return (struct vgg__cudnn_call){
        .device = p->device,
        .stream = stream,
        .stage = &s->stage,
        .state = p->stages[index].state,
        .batch = layout->batch,
        .mode = layout->mode,
        .type = vgg__cudnn_type(p),
        .x_type = vgg__cudnn_value_type(p, s->x),
        .y_type = vgg__cudnn_value_type(p, s->y),
        .tf32 = layout->precision == VGG_TF32,
        .tune = !p->deterministic,
        .step = p->small.step,
        .x = vgg__cudnn_value(p, s->x),
        .y = vgg__cudnn_value(p, s->y),
        .saved = at(p, kept + VGG__SAVED),
        .scratch = at(p, kept + VGG__FORWARD_SCRATCH),
        .weight = slot_of(store->value, store, s->stage.weight),
        .bias = slot_of(store->value, store, s->stage.bias),
        .gamma = slot_of(store->value, store, s->stage.gamma),
        .beta = slot_of(store->value, store, s->stage.beta),
        .mean = slot_of(store->value, store, s->stage.mean),
        .var = slot_of(store->value, store, s->stage.var),
        .weight_typed = typed(p, s->stage.weight),
        .bias_typed = typed(p, s->stage.bias),
    };
}

static float *gradient_of(const struct vgg__cudnn_program *p,
                          const struct vgg__layout_stage *s, uint32_t which)
{
    int32_t slots[VGG__TRAINABLES];
    vgg__stage_slots(&s->stage, slots);
    float *base = p->is_step ? p->small.gradient : p->store->gradient;
    return s->trains[which] && base != NULL ? slot_of(base, p->store, slots[which])
                                            : NULL;
}

struct vgg__cudnn_call vgg__cudnn_backward_call(const struct vgg__cudnn_program *p,
                                                uint32_t index, cudaStream_t stream)
{
    const struct vgg__layout_stage *s = &p->layout.stages[index];
    const bool linear = s->stage.kind == VGG_STAGE_LINEAR;
    const int32_t weight = s->stage.weight;
    struct vgg__cudnn_call call = vgg__cudnn_forward_call(p, index, stream);
    call.scratch = at(p, vgg__kept_block(&p->layout, index, VGG__BACKWARD_SCRATCH));
    call.dy_masked = p->stages[index].dy_masked;
    call.wants_dx = s->backward && s->wants_dx;
    call.trains = s->backward && s->trains[VGG__WEIGHT];
    call.dy = vgg__cudnn_gradient(p, s->y);
    call.dx = call.wants_dx ? vgg__cudnn_gradient(p, s->x) : NULL;
    call.dbias = gradient_of(p, s, VGG__BIAS);
    call.dgamma = gradient_of(p, s, VGG__GAMMA);
    call.dbeta = gradient_of(p, s, VGG__BETA);
    if (!p->is_step || !linear) {
        call.dweight = gradient_of(p, s, VGG__WEIGHT);
    } else if (s->trains[VGG__WEIGHT]) {
        call.step_weight = slot_of(p->store->value, p->store, weight);
        call.step_shadow = p->store->shadow != NULL ? (void *)typed(p, weight) : NULL;
    }
    return call;
}

/* ---- Compiling ------------------------------------------------------------------- */

static vgg_status fill(struct vgg__cudnn_program *p, void *memory, int byte,
                       size_t size)
{
    return vgg__cudnn_check(
        p->device, p->device->api->memsetAsync(memory, byte, size, p->device->stream),
        "fill memory");
}

/* Timing works on memory that holds no NaN and no zeros, and, where a pool keeps its
 * winners, places that there are. */
static vgg_status fill_stage(struct vgg__cudnn_program *p, uint32_t index)
{
    const struct vgg__layout_stage *s = &p->layout.stages[index];
    const uint32_t block = vgg__kept_block(&p->layout, index, VGG__SAVED);
    vgg_status status = fill(p, p->arena, 0x3c, p->layout.arena_bytes);
    if (status == VGG_OK && s->stage.pool == VGG_MAX_POOL && at(p, block) != NULL)
        status = fill(p, at(p, block), 1, p->layout.blocks[block].size);
    return status;
}

static vgg_status build_stage(struct vgg__cudnn_program *p, uint32_t index)
{
    const struct vgg__layout_stage *s = &p->layout.stages[index];
    const struct vgg__cudnn_impl *impl = vgg__cudnn_impl_of(s->impl);
    if (impl->build == NULL || s->need.identity) return VGG_OK;
    const cudaStream_t stream = p->device->stream;
    const struct vgg__cudnn_call forward = vgg__cudnn_forward_call(p, index, stream);
    struct vgg__cudnn_call backward = vgg__cudnn_backward_call(p, index, stream);
    bool masks = false;
    backward.masks = &masks;
    backward.dweight = NULL; /* timing must not touch what is accumulated */
    backward.dbias = NULL;
    vgg_status status = forward.tune ? fill_stage(p, index) : VGG_OK;
    if (status == VGG_OK)
        status = impl->build(&forward, &backward, &p->stages[index].state);
    if (masks && index > 0) p->stages[index - 1].dy_masked = true;
    return status;
}

static vgg_status build_stages(struct vgg__cudnn_program *p)
{
    vgg_status status = vgg__cudnn_store_refresh(p->store);
    for (uint32_t i = 0; status == VGG_OK && i < p->layout.stage_count; i++)
        status = build_stage(p, i);
    return status;
}

/* Elements of the largest sample that may go over the boundary. */
static size_t largest_sample(const struct vgg__cudnn_program *p)
{
    const struct vgg__layout *layout = &p->layout;
    size_t most = vgg__extent_count(layout->stages[0].stage.in);
    const size_t output = vgg__extent_count(layout->output_extent);
    if (output > most) most = output;
    for (uint32_t i = 0; i < layout->stage_count; i++) {
        const vgg_stage *s = &layout->stages[i].stage;
        const size_t tap = s->tap >= 0 ? vgg__extent_count(s->out) : 0;
        if (tap > most) most = tap;
    }
    return most;
}

static vgg_status allocate(struct vgg__cudnn_program *p, const vgg_program_desc *desc)
{
    struct vgg__cudnn *device = p->device;
    const uint32_t batch = desc->batch;
    const uint64_t gradients = small_gradients(desc);
    void *arena = NULL;
    vgg_status status = vgg__cudnn_malloc(device, p->layout.arena_bytes, &arena);
    p->arena = arena;
    if (status == VGG_OK)
        status = vgg__cudnn_malloc(device, place_small(NULL, batch, gradients).bytes,
                                   &p->small_memory);
    if (status != VGG_OK) return status;
    p->small = place_small(p->small_memory, batch, gradients);
    status = vgg__cudnn_pin(device, place_pinned(NULL, batch).bytes, &p->pinned_memory);
    if (status != VGG_OK) return status;
    p->pinned = place_pinned(p->pinned_memory, batch);
    status = vgg__cudnn_check(
        device,
        device->api->eventCreateWithFlags(&p->samples_taken, cudaEventDisableTiming),
        "make an event");
    if (status == VGG_OK)
        status = vgg__cudnn_check(
            device,
            device->api->eventCreateWithFlags(&p->answered, cudaEventDisableTiming),
            "make an event");
    if (status == VGG_OK)
        status = vgg__cudnn_grow_pieces(device, largest_sample(p) * sizeof(float));
    if (status == VGG_OK && p->is_step)
        status = vgg__cudnn_store_chunks(p->store, desc->params, true, &p->chunks,
                                         &p->chunk_count);
    return status;
}

static vgg_status make(struct vgg__cudnn_program *p, const vgg_program_desc *desc)
{
    vgg_status status = allocate(p, desc);
    if (status == VGG_OK) status = vgg__cudnn_send_step(p);
    if (status == VGG_OK) status = build_stages(p);
    /* Whatever timing has queued is done before anyone else uses the memory. */
    return status == VGG_OK ? vgg__cudnn_wait(p->device) : status;
}

vgg_status vgg__cudnn_compile(void *opaque, void *store, const vgg_program_desc *desc,
                              void **program)
{
    struct vgg__cudnn *device = opaque;
    *program = NULL;
    if (desc->step && desc->params == NULL)
        return device->machine.host.fail(VGG_EINVAL,
                                         "a step needs the parameters' descriptions");
    struct vgg__cudnn_program *p = vgg__machine_calloc(&device->machine, 1, sizeof *p);
    if (p == NULL) return VGG_ENOMEM;
    p->device = device;
    p->store = store;
    p->is_step = desc->step != 0;
    p->deterministic = desc->deterministic != 0;
    p->step.count = desc->batch;
    p->stages =
        vgg__machine_calloc(&device->machine, desc->stage_count, sizeof *p->stages);
    vgg_status status = p->stages != NULL
                            ? vgg__layout_create(&device->machine, desc, &p->layout)
                            : VGG_ENOMEM;
    if (status == VGG_OK) status = vgg__cudnn_enter(device);
    if (status == VGG_OK) {
        status = make(p, desc);
        vgg__cudnn_leave(device);
    }
    if (status != VGG_OK) {
        vgg__cudnn_program_free(p);
        return status;
    }
    *program = p;
    return VGG_OK;
}

static void free_device_parts(struct vgg__cudnn_program *p)
{
    struct vgg__cudnn *device = p->device;
    const struct vgg__api *api = device->api;
    vgg__cudnn_finish(device);
    for (int i = 0; i < VGG__RECORDED; i++)
        if (p->recorded[i].graph != NULL) api->graphExecDestroy(p->recorded[i].graph);
    for (uint32_t i = 0; i < p->layout.stage_count; i++)
        if (p->stages[i].state != NULL)
            vgg__cudnn_impl_of(p->layout.stages[i].impl)
                ->dispose(device, p->stages[i].state);
    vgg__cudnn_free(device, p->arena);
    vgg__cudnn_free(device, p->small_memory);
    vgg__cudnn_free(device, p->chunks);
    if (p->pinned_memory != NULL) api->freeHost(p->pinned_memory);
    if (p->samples_taken != NULL) api->eventDestroy(p->samples_taken);
    if (p->answered != NULL) api->eventDestroy(p->answered);
}

void vgg__cudnn_program_free(void *program)
{
    struct vgg__cudnn_program *p = program;
    if (p == NULL) return;
    struct vgg__cudnn *device = p->device;
    vgg__cudnn_enter_anyway(device);
    free_device_parts(p);
    vgg__cudnn_leave(device);
    if (p->layout.stages != NULL) vgg__layout_destroy(&device->machine, &p->layout);
    device->machine.host.release(p->stages);
    device->machine.host.release(p);
}

/* ---- Telling --------------------------------------------------------------------- */

static size_t kib(size_t bytes)
{
    return (bytes + 1023) / 1024;
}

void vgg__cudnn_describe(void *program, uint32_t stage, char *text, size_t size)
{
    const struct vgg__cudnn_program *p = program;
    const struct vgg__layout_stage *s = &p->layout.stages[stage];
    const vgg_extent in = s->stage.in, out = s->stage.out;
    const struct vgg__stage_need *need = &s->need;
    const size_t scratch =
        need->forward_scratch > need->backward_scratch || !s->backward
            ? need->forward_scratch
            : need->backward_scratch;
    char from[40], to[40], how[400] = "";
    const struct vgg__cudnn_impl *impl = vgg__cudnn_impl_of(s->impl);
    if (need->identity)
        snprintf(how, sizeof how, "nothing to do");
    else if (impl->describe != NULL && p->stages[stage].state != NULL)
        impl->describe(p->stages[stage].state, how, sizeof how);
    else
        snprintf(how, sizeof how, "%s", need->algorithm);
    snprintf(from, sizeof from, "%ux%ux%u", in.c, in.h, in.w);
    snprintf(to, sizeof to, "%ux%ux%u", out.c, out.h, out.w);
    snprintf(text, size, "%-18s %11s -> %-11s %7zu KiB out %6zu kept %6zu work  %s",
             s->name, from, to,
             s->y == stage + 1 ? kib(p->layout.blocks[s->y].size) : 0, kib(need->saved),
             kib(scratch), how);
}
