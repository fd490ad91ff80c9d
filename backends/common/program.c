/* SPDX-License-Identifier: Apache-2.0 */
/* Running a laid-out program; see program.h. */
#include "common/program.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/layout.h"
#include "common/store.h"
#include "core/clock.h"

/* Seconds since compile(). */
struct spent {
    double prepare, forward, backward, update;
};

struct program {
    const struct vgg__machine *machine;
    struct vgg__host_store *store;
    struct vgg__layout layout;
    unsigned char *arena;
    uint64_t prepared; /* the store's version that prepare() has seen; 0: none */
    uint32_t count;    /* samples of the last forward */
    bool consumed; /* a backward came after it: gradients have taken over the arena */
    struct spent spent[]; /* on each stage, and on what belongs to none */
};

static size_t own_bytes(const vgg_program_desc *desc)
{
    return sizeof(struct program) +
           (desc->stage_count + (size_t)1) * sizeof(struct spent);
}

/* Add the time since the last reading of the clock. Returns the new one. */
static double lap(double *seconds, double since)
{
    const double now = vgg__seconds();
    *seconds += now - since;
    return now;
}

vgg_status vgg__program_measure(void *device, const vgg_program_desc *desc,
                                uint64_t *bytes)
{
    const struct vgg__machine *machine = device;
    struct vgg__layout layout;
    *bytes = 0;
    const vgg_status status = vgg__layout_create(machine, desc, &layout);
    if (status != VGG_OK) return status;
    *bytes = (uint64_t)layout.arena_bytes + layout.own_bytes + own_bytes(desc);
    vgg__layout_destroy(machine, &layout);
    return VGG_OK;
}

vgg_status vgg__program_compile(void *device, void *store, const vgg_program_desc *desc,
                                void **program)
{
    const struct vgg__machine *machine = device;
    *program = NULL;
    struct program *p = vgg__machine_calloc(machine, 1, own_bytes(desc));
    if (!p) return VGG_ENOMEM;
    p->machine = machine;
    p->store = store;
    vgg_status status = vgg__layout_create(machine, desc, &p->layout);
    if (status == VGG_OK) {
        p->arena = machine->host.alloc(machine->host.ctx, p->layout.arena_bytes);
        if (!p->arena) status = VGG_ENOMEM;
    }
    if (status != VGG_OK) {
        vgg__program_free(p);
        return status;
    }
    *program = p;
    return VGG_OK;
}

void vgg__program_free(void *program)
{
    struct program *p = program;
    if (!p) return;
    vgg__layout_destroy(p->machine, &p->layout);
    p->machine->host.release(p->arena);
    p->machine->host.release(p);
}

/* A block's memory; NULL if it takes no room. */
static void *at(const struct program *p, uint32_t block)
{
    const struct vgg__block *b = &p->layout.blocks[block];
    return b->size > 0 ? p->arena + b->offset : NULL;
}

static void *value_at(const struct program *p, uint32_t value)
{
    return at(p, vgg__value_block(&p->layout, value));
}

static void *gradient_at(const struct program *p, uint32_t value)
{
    return at(p, vgg__gradient_block(&p->layout, value));
}

static void *kept_at(const struct program *p, uint32_t stage, uint32_t which)
{
    return at(p, vgg__kept_block(&p->layout, stage, which));
}

static void *slot_value(const struct program *p, int32_t slot)
{
    return slot >= 0 ? p->store->params[slot].value : NULL;
}

static struct vgg__stage_args stage_args(const struct program *p, uint32_t index,
                                         const vgg_run *run)
{
    const struct vgg__layout_stage *s = &p->layout.stages[index];
    return (struct vgg__stage_args){
        .machine = p->machine,
        .stage = &s->stage,
        .run = run,
        .count = p->count,
        .batch = p->layout.batch,
        .mode = p->layout.mode,
        .x = value_at(p, s->x),
        .y = value_at(p, s->y),
        .prepared = kept_at(p, index, VGG__PREPARED),
        .saved = kept_at(p, index, VGG__SAVED),
        .scratch = kept_at(p, index, VGG__FORWARD_SCRATCH),
        .weight = slot_value(p, s->stage.weight),
        .bias = slot_value(p, s->stage.bias),
        .gamma = slot_value(p, s->stage.gamma),
        .beta = slot_value(p, s->stage.beta),
        .mean = slot_value(p, s->stage.mean),
        .var = slot_value(p, s->stage.var),
    };
}

/* Before the arena holds anything of this run: a prepare() may use its scratch. */
static void prepare(struct program *p)
{
    if (p->prepared == p->store->version) return;
    double clock = vgg__seconds();
    for (uint32_t i = 0; i < p->layout.stage_count; i++) {
        const struct vgg__layout_stage *s = &p->layout.stages[i];
        if (!s->impl->prepare || s->need.prepared == 0) continue;
        struct vgg__stage_args args = stage_args(p, i, NULL);
        args.mean = args.var = NULL;
        s->impl->prepare(&args);
        clock = lap(&p->spent[i].prepare, clock);
    }
    p->prepared = p->store->version;
}

static vgg_dtype own_type(const struct program *p)
{
    return p->layout.precision == VGG_FP64 ? VGG_F64 : VGG_F32;
}

/* The run's samples of f32 from the boundary. */
static void take_in(const struct program *p, void *to, const float *from,
                    vgg_extent extent)
{
    const struct vgg__samples samples = {to,      own_type(p), from,
                                         VGG_F32, extent,      p->count};
    vgg__samples_in(p->machine, &samples);
}

static vgg_status forward(struct program *p, const vgg_run *run)
{
    const struct vgg__layout *layout = &p->layout;
    p->count = run->count;
    p->consumed = false;
    prepare(p);
    double clock = vgg__seconds();
    void *input = value_at(p, 0);
    if (input) take_in(p, input, run->input, layout->stages[0].stage.in);
    clock = lap(&p->spent[layout->stage_count].forward, clock);
    for (uint32_t i = 0; i < layout->stage_count; i++) {
        const struct vgg__layout_stage *s = &layout->stages[i];
        if (s->need.identity || s->stage.kind == VGG_STAGE_LOSS) continue;
        struct vgg__stage_args args = stage_args(p, i, run);
        if (!args.x) args.x = run->input;
        s->impl->forward(&args);
        clock = lap(&p->spent[i].forward, clock);
    }
    return VGG_OK;
}

static vgg_status loss(struct program *p, const vgg_run *run)
{
    const uint32_t last = p->layout.stage_count - 1;
    const struct vgg__layout_stage *s = &p->layout.stages[last];
    if (s->stage.kind != VGG_STAGE_LOSS)
        return p->machine->host.fail(VGG_ESTATE, "loss: the program has no loss stage");
    double sum = 0;
    uint32_t correct = 0;
    vgg_run inner = *run;
    inner.loss_sum = &sum;
    inner.correct = &correct;
    struct vgg__stage_args args = stage_args(p, last, &inner);
    args.y = NULL;
    args.dx = p->consumed ? NULL : gradient_at(p, s->x);
    const double begin = vgg__seconds();
    s->impl->forward(&args);
    lap(&p->spent[last].forward, begin);
    if (run->loss_sum) *run->loss_sum = sum;
    if (run->correct) *run->correct = correct;
    if (!isfinite(sum))
        return p->machine->host.fail(VGG_ENONFINITE, "loss: not finite over %u samples",
                                     run->count);
    return VGG_OK;
}

static void *slot_gradient(const struct program *p, const struct vgg__layout_stage *s,
                           uint32_t which)
{
    int32_t slots[VGG__TRAINABLES];
    vgg__stage_slots(&s->stage, slots);
    return s->trains[which] ? p->store->params[slots[which]].gradient : NULL;
}

/* In a step: zeroed gradients of the stage's own, or the weight itself. */
static void take_update(const struct program *p, uint32_t index,
                        const vgg_update *update, struct vgg__stage_args *args)
{
    const struct vgg__layout_stage *s = &p->layout.stages[index];
    unsigned char *memory = kept_at(p, index, VGG__GRADIENTS);
    void **const gradients[VGG__TRAINABLES] = {&args->dweight, &args->dbias,
                                               &args->dgamma, &args->dbeta};
    if (memory) memset(memory, 0, s->gradient_bytes);
    for (uint32_t k = 0; k < VGG__TRAINABLES; k++)
        *gradients[k] = s->gradient_count[k] > 0 ? memory + s->gradient_at[k] : NULL;
    if (!s->need.updates || !s->trains[VGG__WEIGHT]) return;
    args->dweight = slot_value(p, s->stage.weight);
    args->update = update;
}

/* What take_update() has not left to the stage. */
static void finish_update(const struct program *p, uint32_t index,
                          const vgg_update *update)
{
    const struct vgg__layout_stage *s = &p->layout.stages[index];
    const unsigned char *memory = kept_at(p, index, VGG__GRADIENTS);
    int32_t slots[VGG__TRAINABLES];
    vgg__stage_slots(&s->stage, slots);
    for (uint32_t k = 0; k < VGG__TRAINABLES; k++)
        if (s->gradient_count[k] > 0)
            vgg__host_store_descend(p->store, (uint32_t)slots[k],
                                    memory + s->gradient_at[k], update);
}

/* What the caller adds to the gradients of taps, to where their stages look for it. */
static void take_tap_gradients(const struct program *p, const vgg_run *run)
{
    const struct vgg__layout *layout = &p->layout;
    for (uint32_t i = 0; i < layout->stage_count; i++) {
        const struct vgg__layout_stage *s = &layout->stages[i];
        if (s->stage.kind != VGG_STAGE_TAP || !s->backward) continue;
        const float *from =
            run->tap_gradients ? run->tap_gradients[s->stage.tap] : NULL;
        void *to = kept_at(p, i, VGG__SAVED);
        if (from)
            take_in(p, to, from, s->stage.out);
        else
            memset(to, 0, s->need.saved);
    }
}

/* `update`: of a step, else NULL. */
static vgg_status go_back(struct program *p, const vgg_run *run,
                          const vgg_update *update)
{
    const struct vgg__layout *layout = &p->layout;
    double clock = vgg__seconds();
    void *output_gradient = gradient_at(p, layout->output);
    if (run->output_gradient && output_gradient)
        take_in(p, output_gradient, run->output_gradient, layout->output_extent);
    take_tap_gradients(p, run);
    clock = lap(&p->spent[layout->stage_count].backward, clock);
    for (uint32_t i = layout->stage_count; i-- > 0;) {
        const struct vgg__layout_stage *s = &layout->stages[i];
        if (!s->backward) continue;
        struct vgg__stage_args args = stage_args(p, i, run);
        args.scratch = kept_at(p, i, VGG__BACKWARD_SCRATCH);
        args.dy = gradient_at(p, s->y);
        args.dx = s->wants_dx ? gradient_at(p, s->x) : NULL;
        args.dweight = slot_gradient(p, s, VGG__WEIGHT);
        args.dbias = slot_gradient(p, s, VGG__BIAS);
        args.dgamma = slot_gradient(p, s, VGG__GAMMA);
        args.dbeta = slot_gradient(p, s, VGG__BETA);
        if (update) take_update(p, i, update, &args);
        s->impl->backward(&args);
        clock = lap(&p->spent[i].backward, clock);
        if (!update) continue;
        finish_update(p, i, update);
        clock = lap(&p->spent[i].update, clock);
    }
    if (update) p->store->version++;
    p->consumed = true;
    return VGG_OK;
}

static vgg_status backward(struct program *p, const vgg_run *run)
{
    return go_back(p, run, NULL);
}

static vgg_status step(struct program *p, const vgg_run *run)
{
    const vgg_status status = loss(p, run);
    return status == VGG_OK ? go_back(p, run, run->update) : status;
}

vgg_status vgg__program_run(void *program, vgg_phase phase, const vgg_run *run)
{
    static vgg_status (*const phases[])(struct program *, const vgg_run *) = {
        [VGG_PHASE_FORWARD] = forward,
        [VGG_PHASE_LOSS] = loss,
        [VGG_PHASE_BACKWARD] = backward,
        [VGG_PHASE_STEP] = step,
    };
    return phases[phase](program, run);
}

vgg_status vgg__program_read(void *program, vgg_view view, uint32_t index, void *out,
                             vgg_dtype dtype)
{
    const struct program *p = program;
    const struct vgg__layout *layout = &p->layout;
    vgg_extent extent = layout->output_extent;
    const void *from = NULL;
    if (view == VGG_VIEW_OUTPUT) {
        from = value_at(p, layout->output);
    } else if (view == VGG_VIEW_INPUT_GRADIENT) {
        extent = layout->stages[0].stage.in;
        if (layout->input_gradient) from = gradient_at(p, 0);
    } else if (view == VGG_VIEW_TAP_GRADIENT) {
        const int64_t stage = vgg__layout_tap_stage(layout, index);
        if (stage >= 0) {
            extent = layout->stages[stage].stage.in;
            from = kept_at(p, (uint32_t)stage, VGG__SAVED);
        }
    } else {
        const int64_t value = vgg__layout_tap(layout, index, &extent);
        if (value >= 0) from = value_at(p, (uint32_t)value);
    }
    if (!from)
        return p->machine->host.fail(VGG_ESTATE,
                                     "read: the program does not keep this");
    const struct vgg__samples samples = {out,         dtype,  from,
                                         own_type(p), extent, p->count};
    vgg__samples_out(p->machine, &samples);
    return VGG_OK;
}

/* Rounded up: what takes any room is not shown as nothing. */
static size_t kib(size_t bytes)
{
    return (bytes + 1023) / 1024;
}

static const char *algorithm(const struct vgg__stage_need *need)
{
    return need->identity    ? "nothing to do"
           : need->algorithm ? need->algorithm
                             : "loops";
}

/* The larger of its two scratches, which are never there at once. */
static size_t scratch_bytes(const struct vgg__layout_stage *s)
{
    const struct vgg__stage_need *need = &s->need;
    return need->forward_scratch > need->backward_scratch || !s->backward
               ? need->forward_scratch
               : need->backward_scratch;
}

void vgg__program_describe(void *program, uint32_t stage, char *text, size_t size)
{
    const struct program *p = program;
    const struct vgg__layout_stage *s = &p->layout.stages[stage];
    const vgg_stage *d = &s->stage;
    const struct vgg__stage_need *need = &s->need;
    char in[40], out[40];
    snprintf(in, sizeof in, "%ux%ux%u", d->in.c, d->in.h, d->in.w);
    snprintf(out, sizeof out, "%ux%ux%u", d->out.c, d->out.h, d->out.w);
    snprintf(text, size, "%-18s %11s -> %-11s %7zu KiB out %6zu kept %6zu work  %s",
             s->name, in, out, s->y == stage + 1 ? kib(p->layout.blocks[s->y].size) : 0,
             kib(need->saved + need->prepared), kib(scratch_bytes(s)), algorithm(need));
}

void vgg__program_report(void *program, uint32_t stage, vgg_report *out)
{
    const struct program *p = program;
    const struct spent *spent = &p->spent[stage];
    *out = (vgg_report){.algorithm = "",
                        .prepare = spent->prepare,
                        .forward = spent->forward,
                        .backward = spent->backward,
                        .update = spent->update};
    if (stage == p->layout.stage_count) return;
    const struct vgg__layout_stage *s = &p->layout.stages[stage];
    out->algorithm = algorithm(&s->need);
    out->kept = s->need.saved + s->need.prepared;
    out->scratch = scratch_bytes(s);
}
