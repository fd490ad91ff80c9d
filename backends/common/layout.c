/* SPDX-License-Identifier: Apache-2.0 */
/* From a list of stages to lifetimes and places; see layout.h for numbers and times. */
#include "common/layout.h"

#include <stdio.h>

#include "core/memory.h"

/* Where a precision is to be had that this engine does not compute in. */
static const char *whose_precision(uint32_t precision)
{
    static const char *const reasons[] = {
        [VGG_FP32] = "the engine does not compute in fp32",
        [VGG_FP64] = "fp64 needs the engine ref",
        [VGG_TF32] = "tf32 needs the engine cudnn",
        [VGG_BF16] = "bf16 needs the engine cudnn",
    };
    return precision < sizeof reasons / sizeof *reasons ? reasons[precision]
                                                        : "no such precision";
}

bool vgg__program_supports(void *device, const vgg_stage *stage, uint32_t precision,
                           const char **why)
{
    const struct vgg__machine *machine = device;
    const char *reason = NULL;
    if (precision >= VGG_PRECISIONS || !machine->stages[precision]) {
        reason = whose_precision(precision);
    } else if (stage->kind >= VGG_STAGE_KINDS ||
               !machine->stages[precision][stage->kind]) {
        reason = "the engine does not know this stage";
    } else {
        const struct vgg__stage_impl *impl = machine->stages[precision][stage->kind];
        if (!impl->supports || impl->supports(machine, stage, &reason)) return true;
    }
    if (why) *why = reason;
    return false;
}

int64_t vgg__layout_tap(const struct vgg__layout *layout, uint32_t tap,
                        vgg_extent *extent)
{
    for (uint32_t i = 0; i < layout->stage_count; i++) {
        const struct vgg__layout_stage *s = &layout->stages[i];
        if (s->stage.tap < 0 || (uint32_t)s->stage.tap != tap) continue;
        *extent = s->stage.out;
        return s->y;
    }
    return -1;
}

int64_t vgg__layout_tap_stage(const struct vgg__layout *layout, uint32_t tap)
{
    for (uint32_t i = 0; i < layout->stage_count; i++) {
        const struct vgg__layout_stage *s = &layout->stages[i];
        if (s->stage.kind == VGG_STAGE_TAP && (uint32_t)s->stage.tap == tap)
            return s->backward ? (int64_t)i : -1;
    }
    return -1;
}

void vgg__stage_slots(const vgg_stage *stage, int32_t slots[VGG__TRAINABLES])
{
    slots[VGG__WEIGHT] = stage->weight;
    slots[VGG__BIAS] = stage->bias;
    slots[VGG__GAMMA] = stage->gamma;
    slots[VGG__BETA] = stage->beta;
}

/* Which gradients a stage computes; `upstream`: one before it needs its dx. */
static bool choose_gradients(const vgg_program_desc *desc, bool upstream,
                             struct vgg__layout_stage *s)
{
    if (desc->mode == VGG_MODE_INFER) return false;
    int32_t slots[VGG__TRAINABLES];
    vgg__stage_slots(&s->stage, slots);
    bool any = false;
    for (uint32_t k = 0; k < VGG__TRAINABLES; k++) {
        s->trains[k] =
            slots[k] >= 0 && (!desc->params || desc->params[slots[k]].trainable);
        any = any || s->trains[k];
    }
    s->wants_dx = upstream || s->stage.kind == VGG_STAGE_TAP;
    return any;
}

static size_t param_count(const vgg_stage *stage, uint32_t which)
{
    if (which != VGG__WEIGHT) return stage->mid.c;
    if (stage->kind == VGG_STAGE_LINEAR)
        return vgg__extent_count(stage->in) * stage->out.c;
    return (size_t)stage->mid.c * stage->in.c * stage->kernel * stage->kernel;
}

/* In a step no store has room for gradients. Bytes of those that are needed. */
static size_t place_step(const vgg_program_desc *desc, struct vgg__layout_stage *s)
{
    size_t bytes = 0;
    for (uint32_t k = 0; desc->step && k < VGG__TRAINABLES; k++) {
        if (!s->trains[k] || (k == VGG__WEIGHT && s->need.updates)) continue;
        s->gradient_at[k] = bytes;
        s->gradient_count[k] = param_count(&s->stage, k);
        bytes += vgg__align_up(s->gradient_count[k] * vgg__element(desc->precision));
    }
    return bytes;
}

static vgg_status describe_stage(const struct vgg__machine *machine,
                                 const vgg_program_desc *desc, uint32_t index,
                                 bool *upstream, struct vgg__layout_stage *s)
{
    s->stage = desc->stages[index];
    snprintf(s->name, sizeof s->name, "%s", s->stage.name ? s->stage.name : "");
    s->stage.name = s->name;
    const char *why = NULL;
    if (!vgg__program_supports((void *)machine, &s->stage, desc->precision, &why))
        return machine->host.fail(VGG_EUNSUPPORTED, "%s: %s", s->name, why);
    s->impl = machine->stages[desc->precision][s->stage.kind];

    const bool wants_dparams = choose_gradients(desc, *upstream, s);
    const uint32_t left = desc->stage_count - 1 - index;
    const struct vgg__stage_env env = {
        .machine = machine,
        .stage = &s->stage,
        .batch = desc->batch,
        .mode = desc->mode,
        .precision = desc->precision,
        .wants_dx = s->wants_dx,
        .wants_dparams = wants_dparams,
        .updates = desc->step && wants_dparams,
        .half_weights = desc->weights == VGG_BF16,
        .last =
            left == 0 || (left == 1 && desc->stages[index + 1].kind == VGG_STAGE_LOSS)};
    s->impl->measure(&env, &s->need);
    s->gradient_bytes = place_step(desc, s);
    if (s->need.element == 0) s->need.element = vgg__element(desc->precision);
    s->backward = (s->wants_dx || wants_dparams) && !s->need.identity &&
                  s->stage.kind != VGG_STAGE_LOSS;
    *upstream =
        *upstream || wants_dparams || (s->stage.kind == VGG_STAGE_TAP && s->wants_dx);
    return VGG_OK;
}

/* Number the values. */
static void connect(struct vgg__layout *layout)
{
    uint32_t value = 0;
    layout->output_extent = layout->stages[0].stage.in;
    layout->output_element = vgg__element(layout->precision);
    for (uint32_t i = 0; i < layout->stage_count; i++) {
        struct vgg__layout_stage *s = &layout->stages[i];
        s->x = value;
        if (s->stage.kind == VGG_STAGE_LOSS) {
            s->y = value;
            continue;
        }
        layout->output_extent = s->stage.out;
        if (!s->need.identity) {
            value = i + 1;
            layout->output_element = s->need.element;
        }
        s->y = value;
    }
    layout->output = value;
}

static void live_until(struct vgg__block *block, uint32_t time)
{
    if (time > block->last) block->last = time;
}

/* Activations: from the stage that makes them to the last that reads them. */
static void place_values(const struct vgg__machine *machine, struct vgg__layout *layout,
                         uint32_t end)
{
    const uint32_t count = layout->stage_count;
    const size_t element = vgg__element(layout->precision);
    const size_t batch = layout->batch;
    struct vgg__block *blocks = layout->blocks;
    for (uint32_t i = 0; i < count; i++) {
        const struct vgg__layout_stage *s = &layout->stages[i];
        struct vgg__block *x = &blocks[s->x], *y = &blocks[s->y];
        if (s->y == i + 1) {
            y->size = vgg__size_mul(
                vgg__size_mul(vgg__extent_count(s->stage.out), batch), s->need.element);
            y->first = y->last = i;
        }
        live_until(x, i);
        if (s->backward && s->need.reads_x)
            live_until(x, machine->overlaps ? end : 2 * count - 1 - i);
        if (s->backward && s->need.reads_y) live_until(y, 2 * count - 1 - i);
        if (s->stage.tap >= 0) live_until(y, end);
    }
    live_until(&blocks[layout->output], end);
    /* A float input that nothing reads after the forward stays the caller's. */
    if (machine->apart || layout->precision == VGG_FP64 || blocks[0].last >= count ||
        vgg__samples_differ(machine, layout->stages[0].stage.in))
        blocks[0].size = vgg__size_mul(
            vgg__size_mul(vgg__extent_count(layout->stages[0].stage.in), batch),
            element);
}

static void add_gradient(const struct vgg__machine *machine, struct vgg__layout *layout,
                         uint32_t value, vgg_extent extent, uint32_t first)
{
    struct vgg__block *block = &layout->blocks[vgg__gradient_block(layout, value)];
    const uint32_t count = layout->stage_count;
    const size_t element = value == layout->output ? layout->output_element
                                                   : vgg__element(layout->precision);
    block->size =
        vgg__size_mul(vgg__size_mul(vgg__extent_count(extent), layout->batch), element);
    block->first = first;
    /* Its producer's backward; the input's: the end. */
    block->last = machine->overlaps ? 2 * count : 2 * count - value;
}

/* Gradients of activations: from the consumer's backward to the producer's. */
static void place_gradients(const struct vgg__machine *machine,
                            struct vgg__layout *layout)
{
    const uint32_t count = layout->stage_count;
    bool any = false, loss = false;
    for (uint32_t i = 0; i < count; i++) {
        const struct vgg__layout_stage *s = &layout->stages[i];
        any = any || s->backward;
        loss = loss || s->stage.kind == VGG_STAGE_LOSS;
        if (s->backward && s->wants_dx)
            add_gradient(machine, layout, s->x, s->stage.in, 2 * count - 1 - i);
    }
    if (any || layout->input_gradient)
        add_gradient(machine, layout, layout->output, layout->output_extent,
                     loss ? count - 1 : count);
}

static void place_kept(const struct vgg__machine *machine, struct vgg__layout *layout,
                       uint32_t end)
{
    const uint32_t count = layout->stage_count;
    for (uint32_t i = 0; i < count; i++) {
        const struct vgg__layout_stage *s = &layout->stages[i];
        struct vgg__block *kept = &layout->blocks[vgg__kept_block(layout, i, 0)];
        const uint32_t back = 2 * count - 1 - i;
        const uint32_t last = machine->overlaps ? end : back;
        /* A loss may be asked for at any time, also after the backward. */
        const uint32_t used = s->stage.kind == VGG_STAGE_LOSS ? end : i;
        /* What came back to a tap is looked at when all is over. */
        const uint32_t saved = s->stage.kind == VGG_STAGE_TAP ? end : last;
        if (s->need.identity) continue;
        kept[VGG__PREPARED] = (struct vgg__block){s->need.prepared, 0, end, 0};
        kept[VGG__SAVED] =
            (struct vgg__block){s->need.saved, i, s->backward ? saved : i, 0};
        kept[VGG__FORWARD_SCRATCH] =
            (struct vgg__block){s->need.forward_scratch, i, used, 0};
        if (s->backward)
            kept[VGG__BACKWARD_SCRATCH] =
                (struct vgg__block){s->need.backward_scratch, back, last, 0};
        if (s->backward)
            kept[VGG__GRADIENTS] =
                (struct vgg__block){s->gradient_bytes, back, back, 0};
    }
}

static vgg_status place(const struct vgg__machine *machine, struct vgg__layout *layout)
{
    const uint32_t end =
        layout->mode == VGG_MODE_INFER ? layout->stage_count : 2 * layout->stage_count;
    place_values(machine, layout, end);
    place_gradients(machine, layout);
    place_kept(machine, layout, end);

    uint32_t *order = vgg__machine_calloc(machine, layout->block_count, sizeof *order);
    if (!order) return VGG_ENOMEM;
    const vgg_status status =
        vgg__arena_plan(&machine->host, layout->blocks, layout->block_count, order,
                        &layout->arena_bytes);
    machine->host.release(order);
    return status;
}

vgg_status vgg__layout_create(const struct vgg__machine *machine,
                              const vgg_program_desc *desc, struct vgg__layout *layout)
{
    *layout = (struct vgg__layout){.stage_count = desc->stage_count,
                                   .batch = desc->batch,
                                   .mode = desc->mode,
                                   .precision = desc->precision,
                                   .input_gradient = desc->input_gradient &&
                                                     desc->mode != VGG_MODE_INFER};
    const size_t count = desc->stage_count;
    layout->block_count = vgg__kept_block(layout, desc->stage_count, 0);
    layout->stages = vgg__machine_calloc(machine, count, sizeof *layout->stages);
    layout->blocks =
        vgg__machine_calloc(machine, layout->block_count, sizeof *layout->blocks);
    layout->own_bytes =
        count * sizeof *layout->stages + layout->block_count * sizeof *layout->blocks;
    vgg_status status = layout->stages && layout->blocks ? VGG_OK : VGG_ENOMEM;

    bool upstream = layout->input_gradient;
    for (uint32_t i = 0; status == VGG_OK && i < desc->stage_count; i++)
        status = describe_stage(machine, desc, i, &upstream, &layout->stages[i]);
    if (status == VGG_OK) {
        connect(layout);
        status = place(machine, layout);
    }
    if (status != VGG_OK) vgg__layout_destroy(machine, layout);
    return status;
}

void vgg__layout_destroy(const struct vgg__machine *machine, struct vgg__layout *layout)
{
    machine->host.release(layout->stages);
    machine->host.release(layout->blocks);
    *layout = (struct vgg__layout){0};
}
