/* SPDX-License-Identifier: Apache-2.0 */
/* Lowering: from layers to the stages of one engine.
 *
 * Layers are taken in order. Each is first tried as a part of the stage before it (a
 * ReLU into its convolution, a pooling into the two, ...): the engine must have said
 * that it fuses such things, must support the fused stage, and nobody may want to see
 * the value in between (a tap splits a stage). Otherwise the layer becomes a stage of
 * its own. */
#include "plan/lower.h"

#include <stdio.h>
#include <string.h>

#include "core/error.h"
#include "core/memory.h"
#include "plan/plan.h"

struct lowering {
    const vgg_model *model;
    vgg_device *device;
    const vgg_plan_options *opts;
    struct vgg__lowered *to;
    uint32_t count;         /* stages so far */
    const vgg_layer *last;  /* layer that the last stage ends with */
    const vgg_layer *first; /* layer that the last stage begins with */
};

static vgg_extent extent_of(const vgg_shape *shape)
{
    if (shape->rank == 3)
        return (vgg_extent){shape->dim[0], shape->dim[1], shape->dim[2]};
    return (vgg_extent){shape->dim[0], 1, 1};
}

static bool is_tapped(const struct lowering *low, const vgg_layer *layer)
{
    for (uint32_t i = 0; i < low->opts->tap_count; i++)
        if (low->to->tap_layer[i] == layer) return true;
    return false;
}

/* Slot of a layer's parameter in a role, -1 if it has none. */
static int32_t slot_of(const vgg_layer *layer, uint32_t role)
{
    return role < layer->param_count ? (int32_t)(layer->param_first + role) : -1;
}

/* Dropout does nothing outside training. */
static bool is_idle(const struct lowering *low, const vgg_layer *layer)
{
    return layer->kind == VGG_LAYER_DROPOUT &&
           (low->opts->mode != VGG_MODE_TRAIN || layer->dropout == 0.0f);
}

/* Set what a fused batch normalisation and a stage of it have in common. */
static void set_batch_norm(vgg_stage *stage, const vgg_layer *layer)
{
    stage->gamma = slot_of(layer, VGG_ROLE_WEIGHT);
    stage->beta = slot_of(layer, VGG_ROLE_BIAS);
    stage->mean = slot_of(layer, VGG_ROLE_MEAN);
    stage->var = slot_of(layer, VGG_ROLE_VAR);
    stage->epsilon = VGG_BN_EPSILON;
    stage->momentum = VGG_BN_MOMENTUM;
}

/* Change `stage` so that it also does `layer`; false if the engine does not fuse
 * that. */
static bool fuse(uint32_t fusions, const vgg_layer *layer, vgg_stage *stage)
{
    const bool bare =
        !stage->relu && stage->pool == VGG_NO_POOL && stage->dropout == 0.0f;
    const bool is_conv = stage->kind == VGG_STAGE_CONV;
    const bool is_linear = stage->kind == VGG_STAGE_LINEAR;
    stage->out = extent_of(&layer->out);
    switch (layer->kind) {
    case VGG_LAYER_RELU:
        if (!(fusions & VGG_FUSE_RELU) || !bare) return false;
        stage->relu = 1;
        return is_conv || is_linear || stage->kind == VGG_STAGE_BATCH_NORM;
    case VGG_LAYER_POOL:
        if (!(fusions & VGG_FUSE_POOL) || !is_conv || stage->pool != VGG_NO_POOL)
            return false;
        stage->pool = layer->pool == VGG_POOL_MAX ? VGG_MAX_POOL : VGG_AVERAGE_POOL;
        return stage->relu;
    case VGG_LAYER_BATCH_NORM:
        if (!(fusions & VGG_FUSE_BATCH_NORM) || !is_conv || !bare || stage->batch_norm)
            return false;
        stage->batch_norm = 1;
        set_batch_norm(stage, layer);
        return true;
    case VGG_LAYER_DROPOUT:
        if (!(fusions & VGG_FUSE_DROPOUT) || !is_linear || stage->dropout > 0.0f)
            return false;
        stage->dropout = layer->dropout;
        stage->dropout_layer = layer->index;
        return stage->relu;
    default:
        return false;
    }
}

/* A stage that keeps its input's extent and has no parameters. */
static vgg_stage blank_stage(uint32_t kind, vgg_extent extent)
{
    return (vgg_stage){.kind = kind,
                       .in = extent,
                       .mid = extent,
                       .out = extent,
                       .weight = -1,
                       .bias = -1,
                       .gamma = -1,
                       .beta = -1,
                       .mean = -1,
                       .var = -1,
                       .tap = -1};
}

/* A stage that does one layer. */
static vgg_stage stage_for(const struct lowering *low, const vgg_layer *layer)
{
    static const uint32_t kinds[] = {
        [VGG_LAYER_CONV] = VGG_STAGE_CONV,
        [VGG_LAYER_BATCH_NORM] = VGG_STAGE_BATCH_NORM,
        [VGG_LAYER_RELU] = VGG_STAGE_RELU,
        [VGG_LAYER_POOL] = VGG_STAGE_POOL,
        [VGG_LAYER_ADAPTIVE_POOL] = VGG_STAGE_ADAPTIVE_POOL,
        [VGG_LAYER_FLATTEN] = VGG_STAGE_FLATTEN,
        [VGG_LAYER_LINEAR] = VGG_STAGE_LINEAR,
        [VGG_LAYER_DROPOUT] = VGG_STAGE_DROPOUT,
    };
    vgg_stage stage = blank_stage(kinds[layer->kind], extent_of(&layer->out));
    stage.in = extent_of(&layer->in);
    stage.kernel = layer->kernel;
    if (layer->kind == VGG_LAYER_CONV || layer->kind == VGG_LAYER_LINEAR) {
        stage.weight = slot_of(layer, VGG_ROLE_WEIGHT);
        stage.bias = slot_of(layer, VGG_ROLE_BIAS);
    }
    if (layer->kind == VGG_LAYER_BATCH_NORM) set_batch_norm(&stage, layer);
    if (layer->kind == VGG_LAYER_POOL)
        stage.pool = layer->pool == VGG_POOL_MAX ? VGG_MAX_POOL : VGG_AVERAGE_POOL;
    if (layer->kind == VGG_LAYER_DROPOUT && low->opts->mode == VGG_MODE_TRAIN) {
        stage.dropout = layer->dropout;
        stage.dropout_layer = layer->index;
    }
    return stage;
}

/* A linear layer reads its map as it lies: the flatten before it needs no stage, unless
 * somebody wants to see its output. */
static bool folds_into_linear(const struct lowering *low, const vgg_layer *flatten)
{
    const uint32_t next = flatten->index + 1;
    return !is_tapped(low, flatten) && next < low->model->layer_count &&
           low->model->layers[next]->kind == VGG_LAYER_LINEAR;
}

static bool is_relu_output(const vgg_stage *stage)
{
    return stage->relu || stage->kind == VGG_STAGE_RELU;
}

/* Add a stage for `layer`; `map` is the shape before a folded flatten, or NULL. */
static vgg_status add_stage(struct lowering *low, const vgg_layer *layer,
                            const vgg_shape *map)
{
    vgg_stage stage = stage_for(low, layer);
    if (map != NULL) {
        stage.in = extent_of(map);
        stage.flattened = 1;
    }
    stage.input_relu =
        low->count > 0 && is_relu_output(&low->to->stages[low->count - 1]);

    const char *why = "no reason given";
    if (!low->device->engine->supports(low->device->state, &stage, low->opts->precision,
                                       &why))
        return vgg__fail(VGG_EUNSUPPORTED, "%s: engine %s can't run it: %s",
                         layer->name, low->device->engine->name, why);
    low->to->stages[low->count++] = stage;
    low->first = layer;
    return VGG_OK;
}

/* Is a layer's output that of the network? Idle layers may come behind. */
static bool is_output(const struct lowering *low, const vgg_layer *layer)
{
    for (uint32_t i = layer->index + 1; i < low->model->layer_count; i++)
        if (!is_idle(low, low->model->layers[i])) return false;
    return true;
}

/* What comes back to the tapped `layer` meets a gradient of the caller's own, which
 * takes a stage behind it; not where the network ends, whose gradient the caller hands
 * in anyway. */
static vgg_status add_tap(struct lowering *low, const vgg_layer *layer)
{
    if (!low->opts->tap_gradients || is_output(low, layer)) return VGG_OK;
    vgg_stage stage = blank_stage(VGG_STAGE_TAP, extent_of(&layer->out));
    const char *why = "no reason given";
    if (!low->device->engine->supports(low->device->state, &stage, low->opts->precision,
                                       &why))
        return vgg__fail(VGG_EUNSUPPORTED,
                         "%s: engine %s takes no gradient of a tap: %s", layer->name,
                         low->device->engine->name, why);
    char *name = low->to->names[low->count];
    snprintf(name, sizeof low->to->names[0], "tap %s", layer->name);
    stage.name = name;
    low->to->stages[low->count++] = stage;
    return VGG_OK;
}

/* Try to make `layer` part of the last stage. */
static bool fuse_layer(struct lowering *low, const vgg_layer *layer)
{
    if (low->count == 0 || is_tapped(low, low->last)) return false;
    vgg_stage fused = low->to->stages[low->count - 1];
    const char *why;
    if (!fuse(low->device->engine->fusions, layer, &fused)) return false;
    if (!low->device->engine->supports(low->device->state, &fused, low->opts->precision,
                                       &why))
        return false;
    low->to->stages[low->count - 1] = fused;
    return true;
}

static void name_stage(struct lowering *low, const vgg_layer *last)
{
    char *name = low->to->names[low->count - 1];
    if (low->first == last)
        snprintf(name, sizeof low->to->names[0], "%s", last->name);
    else
        snprintf(name, sizeof low->to->names[0], "%s..%s", low->first->name,
                 last->name);
    low->to->stages[low->count - 1].name = name;
}

static vgg_status lower_layers(struct lowering *low)
{
    const vgg_shape *map = NULL; /* before a folded flatten */
    for (uint32_t i = 0; i < low->model->layer_count; i++) {
        const vgg_layer *layer = low->model->layers[i];
        if (layer->kind == VGG_LAYER_FLATTEN && folds_into_linear(low, layer)) {
            map = &layer->in;
            low->to->stage_of_layer[i] = low->count; /* the linear layer's */
            continue;
        }
        const bool skip = is_idle(low, layer) && low->count > 0 && map == NULL;
        if (!skip && !fuse_layer(low, layer)) VGG_TRY(add_stage(low, layer, map));
        map = NULL;
        if (!skip) name_stage(low, layer);
        low->to->stage_of_layer[i] = low->count - 1;
        /* An idle dropout's output is its input: a tap of the one is a tap of both. */
        if (!skip || is_tapped(low, layer)) low->last = layer;
        if (is_tapped(low, layer)) VGG_TRY(add_tap(low, layer));
    }
    return VGG_OK;
}

/* Flat outputs get the loss as a last stage. */
static void add_loss(struct lowering *low)
{
    const vgg_layer *last = low->model->layers[low->model->layer_count - 1];
    if (last->out.rank != 1) return;
    vgg_stage stage = blank_stage(VGG_STAGE_LOSS, extent_of(&last->out));
    stage.name = "loss";
    low->to->stages[low->count++] = stage;
}

/* Two taps may name the same value (an idle dropout and the layer before it, or twice
 * the same layer): they share a number. With gradients each tapped layer has a stage of
 * its own, and its number with it. */
static void number_taps(struct lowering *low)
{
    int32_t next = 0;
    for (uint32_t i = 0; i < low->opts->tap_count; i++) {
        const uint32_t at = low->to->stage_of_layer[low->to->tap_layer[i]->index];
        const bool apart =
            at + 1 < low->count && low->to->stages[at + 1].kind == VGG_STAGE_TAP;
        vgg_stage *stage = &low->to->stages[at + apart];
        if (stage->tap < 0) stage->tap = next++;
        low->to->tap_number[i] = (uint32_t)stage->tap;
    }
}

static vgg_status find_taps(struct lowering *low)
{
    for (uint32_t i = 0; i < low->opts->tap_count; i++) {
        const char *name = low->opts->taps[i];
        low->to->tap_layer[i] = name ? vgg_model_find_layer(low->model, name) : NULL;
        if (low->to->tap_layer[i] == NULL)
            return vgg__fail(VGG_EINVAL, "tap %u: the model has no layer \"%s\"", i,
                             name ? name : "(null)");
    }
    return VGG_OK;
}

static vgg_status allocate(vgg_model *model, const vgg_plan_options *opts,
                           struct vgg__lowered *to)
{
    vgg_context *ctx = model->ctx;
    const size_t layers = model->layer_count, taps = opts->tap_count;
    const size_t stages = layers + (opts->tap_gradients ? layers : 0) + 1;
    to->params = vgg__store_describe(model);
    to->stages = vgg__calloc(ctx, stages, sizeof *to->stages);
    to->names = vgg__calloc(ctx, stages, sizeof *to->names);
    to->stage_of_layer = vgg__calloc(ctx, layers, sizeof *to->stage_of_layer);
    to->tap_number = vgg__calloc(ctx, taps, sizeof *to->tap_number);
    to->tap_layer = vgg__calloc(ctx, taps, sizeof *to->tap_layer);
    const bool got = to->params && to->stages && to->names && to->stage_of_layer &&
                     to->tap_number && to->tap_layer;
    return got ? VGG_OK : VGG_ENOMEM;
}

vgg_status vgg__lower(vgg_model *model, vgg_device *device,
                      const vgg_plan_options *opts, struct vgg__lowered **out)
{
    *out = NULL;
    if (model->layer_count == 0)
        return vgg__fail(VGG_EINVAL, "the model has no layers; expected at least 1");
    struct vgg__lowered *to = vgg__calloc(model->ctx, 1, sizeof *to);
    if (to == NULL) return VGG_ENOMEM;
    struct lowering low = {.model = model, .device = device, .opts = opts, .to = to};

    vgg_status status = allocate(model, opts, to);
    if (status == VGG_OK) status = find_taps(&low);
    if (status == VGG_OK) status = lower_layers(&low);
    if (status != VGG_OK) {
        vgg__lowered_free(to);
        return status;
    }
    number_taps(&low);
    add_loss(&low);
    to->desc = (vgg_program_desc){.stages = to->stages,
                                  .stage_count = low.count,
                                  .batch = opts->batch,
                                  .mode = opts->mode,
                                  .precision = opts->precision,
                                  .input_gradient = opts->input_gradient,
                                  .deterministic = opts->deterministic,
                                  .weights = opts->weights,
                                  .params = to->params,
                                  .param_count = model->param_count};
    *out = to;
    return VGG_OK;
}

void vgg__lowered_free(struct vgg__lowered *lowered)
{
    if (lowered == NULL) return;
    vgg__free(lowered->params);
    vgg__free(lowered->stages);
    vgg__free(lowered->names);
    vgg__free(lowered->stage_of_layer);
    vgg__free(lowered->tap_number);
    vgg__free(lowered->tap_layer);
    vgg__free(lowered);
}
