/* SPDX-License-Identifier: Apache-2.0 */
/* From a weights file to a model: which tensor is which parameter, and is all in order?
 * Nothing of the model is touched before every element is read and checked. */
#include "store/staged.h"
#include "tensor/tensor.h"

#include "core/context.h"
#include "core/error.h"
#include "core/fpmode.h"
#include "core/memory.h"
#include "model/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define COUNTER      ".num_batches_tracked"
#define COUNTER_SIZE (VGG_NAME_SIZE + sizeof COUNTER)
#define SHOWN_NAMES  3 /* of those that are missing or too many */

/* Names for an error text, the first few of many. */
struct list {
    uint32_t count;
    char text[220];
};

static void list_add(struct list *list, const char *name)
{
    const size_t used = strlen(list->text);
    if (list->count++ < SHOWN_NAMES)
        snprintf(list->text + used, sizeof list->text - used, "%s%.64s",
                 used > 0 ? ", " : "", name);
}

/* The binding of a file to a model. */
struct binding {
    const struct vgg__safetensors *st;
    vgg_model *model;
    const struct vgg__st_tensor **tensors; /* [parameter]; NULL: missing */
    bool *used;                            /* [tensor] */
};

/* A tensor by one of two names; marks it as used. */
static const struct vgg__st_tensor *take(struct binding *binding, const char *alias,
                                         const char *name)
{
    const struct vgg__st_tensor *found = vgg__safetensors_find(binding->st, alias);
    if (found == NULL) found = vgg__safetensors_find(binding->st, name);
    if (found != NULL) binding->used[found - binding->st->tensors] = true;
    return found;
}

static vgg_status check_names(struct binding *binding, const vgg_weights_options *opts)
{
    struct list missing = {0, ""}, extra = {0, ""};
    const vgg_model *model = binding->model;
    for (uint32_t i = 0; i < model->param_count; i++)
        if (binding->tensors[i] == NULL) list_add(&missing, model->params[i]->alias);
    for (uint32_t i = 0; i < binding->st->count; i++)
        if (!binding->used[i]) list_add(&extra, binding->st->tensors[i].name);
    const bool bad_missing = missing.count > 0 && !opts->allow_missing;
    const bool bad_extra = extra.count > 0 && !opts->allow_extra;
    if (!bad_missing && !bad_extra) return VGG_OK;
    const char *dots[2] = {missing.count > SHOWN_NAMES ? ", ..." : "",
                           extra.count > SHOWN_NAMES ? ", ..." : ""};
    if (!bad_extra)
        return vgg__fail(VGG_EMISMATCH, "%s: lacks %u of the model's %u tensors: %s%s",
                         binding->st->input->shown, missing.count, model->param_count,
                         missing.text, dots[0]);
    if (!bad_missing)
        return vgg__fail(VGG_EMISMATCH, "%s: has %u tensors that the model lacks: %s%s",
                         binding->st->input->shown, extra.count, extra.text, dots[1]);
    return vgg__fail(
        VGG_EMISMATCH,
        "%s: lacks %u of the model's %u tensors: %s%s; has %u that the model "
        "lacks: %s%s",
        binding->st->input->shown, missing.count, model->param_count, missing.text,
        dots[0], extra.count, extra.text, dots[1]);
}

vgg_status vgg__staged_check_shape(const struct vgg__safetensors *st,
                                   const struct vgg__st_tensor *tensor,
                                   const vgg_param *param)
{
    if (vgg__shape_equal(&tensor->shape, &param->shape)) return VGG_OK;
    char has[96], needs[96];
    vgg_shape_text(&tensor->shape, has, sizeof has);
    vgg_shape_text(&param->shape, needs, sizeof needs);
    return vgg__fail(VGG_EMISMATCH, "%s: %s (%s): file has %s, model needs %s",
                     st->input->shown, tensor->name,
                     param->model->layers[param->layer]->name, has, needs);
}

/* Where a tensor of another shape is allowed, the file is as good as without the whole
 * layer: half of one layer and half of another go together badly. */
static vgg_status check_shape(struct binding *binding, uint32_t index, bool allow)
{
    const vgg_model *model = binding->model;
    const vgg_param *param = model->params[index];
    struct vgg__error kept;
    vgg__error_keep(&kept);
    const vgg_status status =
        vgg__staged_check_shape(binding->st, binding->tensors[index], param);
    if (status == VGG_OK || !allow) return status;
    vgg__log(model->ctx, VGG_LOG_INFO, "%s; the layer stays as it is",
             vgg_last_error());
    vgg__error_restore(&kept);
    const vgg_layer *layer = model->layers[param->layer];
    for (uint32_t i = 0; i < layer->param_count; i++)
        binding->tensors[layer->param_first + i] = NULL;
    return VGG_OK;
}

/* The counter of a batch normalisation; NULL: there is none, as in older files of
 * PyTorch. */
static const struct vgg__st_tensor *take_counter(struct binding *binding,
                                                 const vgg_layer *layer)
{
    char alias[COUNTER_SIZE], name[COUNTER_SIZE];
    if (layer->kind != VGG_LAYER_BATCH_NORM) return NULL;
    snprintf(alias, sizeof alias, "%s" COUNTER, layer->alias);
    snprintf(name, sizeof name, "%s" COUNTER, layer->name);
    return take(binding, alias, name);
}

static void take_counters(struct binding *binding)
{
    for (uint32_t i = 0; i < binding->model->layer_count; i++)
        take_counter(binding, binding->model->layers[i]);
}

/* Does a layer get its parameters from the file? */
static bool is_bound(const struct binding *binding, const vgg_layer *layer)
{
    for (uint32_t i = 0; i < layer->param_count; i++)
        if (binding->tensors[layer->param_first + i] != NULL) return true;
    return false;
}

/* The model has one counter for all its batch normalisations; a file has one for
 * each. */
static vgg_status read_counters(struct binding *binding, struct vgg__staged *staged)
{
    for (uint32_t i = 0; i < binding->model->layer_count; i++) {
        const vgg_layer *layer = binding->model->layers[i];
        const struct vgg__st_tensor *tensor = take_counter(binding, layer);
        if (tensor == NULL || !is_bound(binding, layer)) continue;
        int64_t value = 0;
        VGG_TRY(vgg__safetensors_read_i64(binding->st, tensor, &value));
        if (value < 0)
            return vgg__fail(VGG_EMISMATCH,
                             "%s: %s is %" PRId64 ", expected at least 0",
                             binding->st->input->shown, tensor->name, value);
        if ((uint64_t)value > staged->batches) staged->batches = (uint64_t)value;
        staged->has_batches = true;
    }
    return VGG_OK;
}

static vgg_status check_variance(const struct binding *binding, const vgg_param *param,
                                 const float *values)
{
    if (param->role != VGG_ROLE_VAR) return VGG_OK;
    for (uint64_t i = 0; i < param->count; i++)
        if (values[i] < 0.0f)
            return vgg__fail(
                VGG_EMISMATCH,
                "%s: %s: element %" PRIu64 " is %g, a variance is not negative",
                binding->st->input->shown, param->alias, i, (double)values[i]);
    return VGG_OK;
}

static vgg_status bind(struct binding *binding, struct vgg__staged *staged,
                       const vgg_weights_options *opts)
{
    const vgg_model *model = binding->model;
    for (uint32_t i = 0; i < model->param_count; i++)
        binding->tensors[i] =
            take(binding, model->params[i]->alias, model->params[i]->name);
    take_counters(binding);
    VGG_TRY(check_names(binding, opts));
    bool any = model->param_count == 0 || opts->allow_missing != 0;
    for (uint32_t i = 0; i < model->param_count; i++)
        if (binding->tensors[i] != NULL)
            VGG_TRY(check_shape(binding, i, opts->allow_reshaped != 0));
    for (uint32_t i = 0; i < model->param_count; i++)
        any = any || binding->tensors[i] != NULL;
    if (!any)
        return vgg__fail(VGG_EMISMATCH, "%s: no layer has the model's shapes",
                         binding->st->input->shown);
    return read_counters(binding, staged);
}

/* Read every tensor. Its shape is the parameter's, and the file has all its bytes. */
static vgg_status read_values(const struct binding *binding, struct vgg__staged *staged,
                              const vgg_weights_options *opts)
{
    const vgg_model *model = binding->model;
    for (uint32_t i = 0; i < model->param_count; i++) {
        const vgg_param *param = model->params[i];
        if (binding->tensors[i] == NULL) continue;
        staged->values[i] = vgg__calloc(model->ctx, param->count, sizeof(float));
        if (staged->values[i] == NULL) return VGG_ENOMEM;
        VGG_TRY(vgg__safetensors_read_f32(binding->st, binding->tensors[i],
                                          opts->allow_infinite != 0,
                                          staged->values[i]));
        VGG_TRY(check_variance(binding, param, staged->values[i]));
    }
    return VGG_OK;
}

vgg_status vgg__staged_read(struct vgg__staged *staged, vgg_model *model,
                            const struct vgg__safetensors *st,
                            const vgg_weights_options *opts)
{
    *staged = (struct vgg__staged){.model = model};
    struct binding binding = {.st = st, .model = model};
    binding.tensors =
        vgg__calloc(model->ctx, model->param_count, sizeof *binding.tensors);
    binding.used = vgg__calloc(model->ctx, st->count, sizeof *binding.used);
    staged->values =
        vgg__calloc(model->ctx, model->param_count, sizeof *staged->values);
    vgg_status status = VGG_OK;
    if (binding.tensors == NULL || binding.used == NULL || staged->values == NULL)
        status = VGG_ENOMEM;
    if (status == VGG_OK) status = bind(&binding, staged, opts);
    const uint64_t mode = vgg__fpmode_enter();
    if (status == VGG_OK) status = read_values(&binding, staged, opts);
    vgg__fpmode_leave(mode);
    vgg__free(binding.tensors);
    vgg__free(binding.used);
    return status;
}

vgg_status vgg__staged_apply(const struct vgg__staged *staged)
{
    vgg_model *model = staged->model;
    VGG_TRY(vgg__model_refresh(model));
    pthread_mutex_lock(&model->lock);
    for (uint32_t i = 0; i < model->param_count; i++)
        if (staged->values[i] != NULL)
            memcpy(model->params[i]->value, staged->values[i],
                   model->params[i]->count * sizeof(float));
    if (staged->has_batches) model->batches_tracked = staged->batches;
    pthread_mutex_unlock(&model->lock);
    vgg__model_touch(model);
    return VGG_OK;
}

void vgg__staged_free(struct vgg__staged *staged)
{
    if (staged->values == NULL) return;
    for (uint32_t i = 0; i < staged->model->param_count; i++)
        vgg__free(staged->values[i]);
    vgg__free(staged->values);
    staged->values = NULL;
}

/* ---- The other way --------------------------------------------------------------- */

/* Items in the order of the layers; a batch normalisation's counter follows its
 * parameters. `names` is for the counters' names. */
static uint32_t list_items(const vgg_model *model, const int64_t *batches,
                           struct vgg__st_item *items, char (*names)[COUNTER_SIZE])
{
    uint32_t count = 0;
    for (uint32_t l = 0; l < model->layer_count; l++) {
        const vgg_layer *layer = model->layers[l];
        for (uint32_t i = 0; i < layer->param_count; i++) {
            const vgg_param *param = model->params[layer->param_first + i];
            items[count++] = (struct vgg__st_item){param->alias, &param->shape,
                                                   param->count, param->value};
        }
        if (layer->kind != VGG_LAYER_BATCH_NORM) continue;
        snprintf(names[l], sizeof names[l], "%s" COUNTER, layer->alias);
        items[count++] = (struct vgg__st_item){names[l], NULL, 1, batches};
    }
    return count;
}

vgg_status vgg__model_write(vgg_model *model, const vgg_metadata *metadata,
                            struct vgg__out *out)
{
    VGG_TRY(vgg__model_refresh(model));
    const int64_t batches = (int64_t)model->batches_tracked;
    const size_t most = (size_t)model->param_count + model->layer_count;
    struct vgg__st_item *items = vgg__calloc(model->ctx, most, sizeof *items);
    char(*names)[COUNTER_SIZE] =
        vgg__calloc(model->ctx, model->layer_count, sizeof *names);
    vgg_status status = items == NULL || names == NULL ? VGG_ENOMEM : VGG_OK;
    if (status == VGG_OK) {
        const uint32_t count = list_items(model, &batches, items, names);
        status = vgg__safetensors_write(out, model->ctx, items, count, metadata);
    }
    vgg__free(items);
    vgg__free(names);
    return status;
}
