/* SPDX-License-Identifier: Apache-2.0 */
/* A model: a counted sequence of layers and their parameters.
 *
 * Adding a layer first checks everything, then allocates, then commits: a call that
 * fails leaves the model as it was. */
#include "model/model.h"
#include "core/context.h"
#include "core/error.h"
#include "core/memory.h"
#include "model/spec.h"

#include <inttypes.h>
#include <string.h>

vgg_status vgg_model_create_empty(vgg_context *ctx, const vgg_shape *input,
                                  vgg_model **out)
{
    VGG_REQUIRE(out != NULL);
    *out = NULL;
    VGG_REQUIRE(input != NULL);
    if (input->rank != 1 && input->rank != 3)
        return vgg__fail(VGG_EINVAL,
                         "input: needs [c][h][w] or [features], found %" PRIu32 " axes",
                         input->rank);
    for (uint32_t i = 0; i < input->rank; i++)
        if (input->dim[i] == 0)
            return vgg__fail(VGG_EINVAL,
                             "input: axis %" PRIu32 " is 0, needs at least 1", i);
        else if (input->dim[i] > VGG_MAX_EXTENT)
            return vgg__fail(VGG_ELIMIT,
                             "input: axis %" PRIu32 " is %" PRIu32 ", limit is %d", i,
                             input->dim[i], VGG_MAX_EXTENT);
    VGG_TRY(vgg__need_elements("input", "a sample", input));
    vgg_model *model = vgg__calloc(ctx, 1, sizeof *model);
    if (model == NULL) return VGG_ENOMEM;
    atomic_init(&model->refs, 1);
    model->ctx = vgg__context_ref(ctx);
    model->input.rank = input->rank;
    memcpy(model->input.dim, input->dim, input->rank * sizeof input->dim[0]);
    pthread_mutex_init(&model->lock, NULL);
    *out = model;
    return VGG_OK;
}

vgg_model *vgg__model_ref(vgg_model *model)
{
    atomic_fetch_add_explicit(&model->refs, 1, memory_order_relaxed);
    return model;
}

void vgg_model_free(vgg_model *model)
{
    if (model == NULL) return;
    if (atomic_fetch_sub_explicit(&model->refs, 1, memory_order_acq_rel) != 1) return;
    for (uint32_t i = 0; i < model->param_count; i++) vgg__param_free(model->params[i]);
    for (uint32_t i = 0; i < model->layer_count; i++) vgg__free(model->layers[i]);
    vgg__free(model->params);
    vgg__free(model->layers);
    pthread_mutex_destroy(&model->lock);
    vgg_context *ctx = model->ctx;
    vgg__free(model);
    vgg__context_unref(ctx);
}

/* ---- Adding layers --------------------------------------------------------------- */

/* Room for `more` pointers in an array. On failure nothing changed. */
static vgg_status reserve(vgg_context *ctx, void ***array, uint32_t count,
                          uint32_t more, uint32_t *capacity)
{
    if (count + more <= *capacity) return VGG_OK;
    const uint32_t grown = 2 * (count + more); /* counts are small: VGG_MAX_LAYERS */
    void **next = vgg__calloc(ctx, grown, sizeof *next);
    if (next == NULL) return VGG_ENOMEM;
    if (count > 0) memcpy(next, *array, count * sizeof *next);
    vgg__free(*array);
    *array = next;
    *capacity = grown;
    return VGG_OK;
}

/* Fill in a layer that stands at the model's end; nothing of the model changes. */
static vgg_status describe(const vgg_model *model, const struct vgg__spec *spec,
                           const char *name, vgg_layer *layer)
{
    *layer = (vgg_layer){
        .model = (vgg_model *)model,
        .index = model->layer_count,
        .kind = spec->kind,
        .in = *vgg_model_output_shape(model),
        .kernel = spec->kernel,
        .pool = spec->pool,
        .dropout = spec->dropout,
        .param_first = model->param_count,
    };
    VGG_TRY(vgg__names_choose(model, layer, name));
    VGG_TRY(vgg__spec_infer(spec, layer->name, &layer->in, &layer->out));
    layer->macs = vgg__spec_macs(spec, &layer->in);
    return VGG_OK;
}

/* Make a layer's parameters, in room that is there already. */
static vgg_status add_params(vgg_model *model, const vgg_layer *layer,
                             const vgg_shape shapes[VGG_MAX_ROLES])
{
    vgg_param **params = model->params + model->param_count;
    for (uint32_t role = 0; role < layer->param_count; role++) {
        params[role] = vgg__param_create(model->ctx, layer, role, &shapes[role]);
        if (params[role] == NULL) {
            while (role > 0) vgg__param_free(params[--role]);
            return VGG_ENOMEM;
        }
        params[role]->index = model->param_count + role;
    }
    return VGG_OK;
}

static vgg_status add(vgg_model *model, const struct vgg__spec *spec, const char *name)
{
    if (model->sealed)
        return vgg__fail(
            VGG_ESTATE, "a plan was made from this model: no layer can be added to it");
    if (model->layer_count == VGG_MAX_LAYERS)
        return vgg__fail(VGG_ELIMIT, "the model has %d layers, which is the limit",
                         VGG_MAX_LAYERS);
    vgg_layer next;
    VGG_TRY(describe(model, spec, name, &next));
    vgg_shape shapes[VGG_MAX_ROLES];
    next.param_count = vgg__spec_params(spec, &next.in, shapes);

    VGG_TRY(reserve(model->ctx, (void ***)&model->layers, model->layer_count, 1,
                    &model->layer_capacity));
    VGG_TRY(reserve(model->ctx, (void ***)&model->params, model->param_count,
                    next.param_count, &model->param_capacity));
    vgg_layer *layer = vgg__alloc(model->ctx, sizeof *layer);
    if (layer == NULL) return VGG_ENOMEM;
    *layer = next;
    const vgg_status status = add_params(model, layer, shapes);
    if (status != VGG_OK) {
        vgg__free(layer);
        return status;
    }
    model->layers[model->layer_count++] = layer;
    model->param_count += layer->param_count;
    model->has_arch = false; /* it is no longer what an architecture says */
    return VGG_OK;
}

vgg_status vgg_model_add_conv(vgg_model *model, uint32_t channels, uint32_t kernel,
                              const char *name)
{
    VGG_REQUIRE(model != NULL);
    const struct vgg__spec spec = {
        .kind = VGG_LAYER_CONV, .width = channels, .kernel = kernel};
    return add(model, &spec, name);
}

vgg_status vgg_model_add_batch_norm(vgg_model *model, const char *name)
{
    VGG_REQUIRE(model != NULL);
    return add(model, &(struct vgg__spec){.kind = VGG_LAYER_BATCH_NORM}, name);
}

vgg_status vgg_model_add_relu(vgg_model *model, const char *name)
{
    VGG_REQUIRE(model != NULL);
    return add(model, &(struct vgg__spec){.kind = VGG_LAYER_RELU}, name);
}

vgg_status vgg_model_add_pool(vgg_model *model, vgg_pool_kind kind, const char *name)
{
    VGG_REQUIRE(model != NULL);
    const struct vgg__spec spec = {.kind = VGG_LAYER_POOL, .pool = kind};
    return add(model, &spec, name);
}

vgg_status vgg_model_add_adaptive_pool(vgg_model *model, uint32_t height,
                                       uint32_t width, const char *name)
{
    VGG_REQUIRE(model != NULL);
    const struct vgg__spec spec = {
        .kind = VGG_LAYER_ADAPTIVE_POOL, .height = height, .columns = width};
    return add(model, &spec, name);
}

vgg_status vgg_model_add_flatten(vgg_model *model, const char *name)
{
    VGG_REQUIRE(model != NULL);
    return add(model, &(struct vgg__spec){.kind = VGG_LAYER_FLATTEN}, name);
}

vgg_status vgg_model_add_linear(vgg_model *model, uint32_t features, const char *name)
{
    VGG_REQUIRE(model != NULL);
    const struct vgg__spec spec = {.kind = VGG_LAYER_LINEAR, .width = features};
    return add(model, &spec, name);
}

vgg_status vgg_model_add_dropout(vgg_model *model, float rate, const char *name)
{
    VGG_REQUIRE(model != NULL);
    const struct vgg__spec spec = {.kind = VGG_LAYER_DROPOUT, .dropout = rate};
    return add(model, &spec, name);
}

/* ---- Looking at it --------------------------------------------------------------- */

const vgg_shape *vgg_model_input_shape(const vgg_model *model)
{
    return model != NULL ? &model->input : NULL;
}

const vgg_shape *vgg_model_output_shape(const vgg_model *model)
{
    if (model == NULL) return NULL;
    return model->layer_count > 0 ? &model->layers[model->layer_count - 1]->out
                                  : &model->input;
}

uint32_t vgg_model_layer_count(const vgg_model *model)
{
    return model != NULL ? model->layer_count : 0;
}

const vgg_layer *vgg_model_layer(const vgg_model *model, uint32_t index)
{
    return model != NULL && index < model->layer_count ? model->layers[index] : NULL;
}

const vgg_layer *vgg_model_find_layer(const vgg_model *model, const char *name)
{
    if (model == NULL || name == NULL) return NULL;
    for (uint32_t i = 0; i < model->layer_count; i++)
        if (strcmp(model->layers[i]->name, name) == 0 ||
            strcmp(model->layers[i]->alias, name) == 0)
            return model->layers[i];
    return NULL;
}

uint32_t vgg_model_param_count(const vgg_model *model)
{
    return model != NULL ? model->param_count : 0;
}

vgg_param *vgg_model_param(const vgg_model *model, uint32_t index)
{
    return model != NULL && index < model->param_count ? model->params[index] : NULL;
}

vgg_param *vgg_model_find_param(const vgg_model *model, const char *name)
{
    if (model == NULL || name == NULL) return NULL;
    for (uint32_t i = 0; i < model->param_count; i++)
        if (strcmp(model->params[i]->name, name) == 0 ||
            strcmp(model->params[i]->alias, name) == 0)
            return model->params[i];
    return NULL;
}

uint64_t vgg_model_parameters(const vgg_model *model)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < vgg_model_param_count(model); i++)
        if (!vgg_param_is_buffer(model->params[i])) sum += model->params[i]->count;
    return sum;
}

uint64_t vgg_model_macs(const vgg_model *model)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < vgg_model_layer_count(model); i++)
        sum += model->layers[i]->macs;
    return sum;
}
