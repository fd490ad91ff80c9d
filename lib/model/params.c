/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters and buffers: their descriptions and the host's copy of their values, f32
 * in the canonical layout. A parameter owns its values; the model owns the parameter.
 *
 * Whoever reads the copy brings it up to date first (vgg__model_refresh), whoever
 * writes it says so afterwards (vgg__model_touch). */
#include "core/error.h"
#include "core/fpmode.h"
#include "core/memory.h"
#include "model/spec.h"
#include "tensor/tensor.h"

#include <stdio.h>
#include <string.h>

/* torchvision's last part of a parameter's name, by role. */
static const char *const roles[VGG_MAX_ROLES] = {
    [VGG_ROLE_WEIGHT] = "weight",
    [VGG_ROLE_BIAS] = "bias",
    [VGG_ROLE_MEAN] = "running_mean",
    [VGG_ROLE_VAR] = "running_var",
};

static bool is_buffer(const vgg_param *param)
{
    return param->role == VGG_ROLE_MEAN || param->role == VGG_ROLE_VAR;
}

vgg_param *vgg__param_create(vgg_context *ctx, const vgg_layer *layer, uint32_t role,
                             const vgg_shape *shape)
{
    vgg_param *param = vgg__calloc(ctx, 1, sizeof *param);
    if (param == NULL) return NULL;
    param->model = layer->model;
    param->layer = layer->index;
    param->role = role;
    param->shape = *shape;
    param->trainable = !is_buffer(param);
    snprintf(param->name, sizeof param->name, "%s.%s", layer->name, roles[role]);
    snprintf(param->alias, sizeof param->alias, "%s.%s", layer->alias, roles[role]);
    if (vgg_shape_count(shape, &param->count) == VGG_OK)
        param->value = vgg__calloc(ctx, param->count, sizeof *param->value);
    if (param->value == NULL) {
        vgg__param_free(param);
        return NULL;
    }
    return param;
}

void vgg__param_free(vgg_param *param)
{
    if (param == NULL) return;
    vgg__free(param->value);
    vgg__free(param);
}

const char *vgg_param_name(const vgg_param *param)
{
    return param != NULL ? param->name : NULL;
}

const char *vgg_param_alias(const vgg_param *param)
{
    return param != NULL ? param->alias : NULL;
}

const vgg_shape *vgg_param_shape(const vgg_param *param)
{
    return param != NULL ? &param->shape : NULL;
}

int vgg_param_is_buffer(const vgg_param *param)
{
    return param != NULL && is_buffer(param);
}

int vgg_param_trainable(const vgg_param *param)
{
    return param != NULL && param->trainable;
}

vgg_status vgg_param_set_trainable(vgg_param *param, int trainable)
{
    VGG_REQUIRE(param != NULL);
    if (is_buffer(param))
        return vgg__fail(VGG_EINVAL, "%s: a buffer is never trainable", param->name);
    param->trainable = trainable != 0;
    return VGG_OK;
}

/* ---- The host's copy of the values ----------------------------------------------- */

vgg_status vgg__model_refresh(vgg_model *model)
{
    vgg_status status = VGG_OK;
    pthread_mutex_lock(&model->lock);
    if (model->newest != NULL) {
        const uint64_t mode = vgg__fpmode_enter(); /* f64 values are rounded */
        status = model->pull(model, model->newest);
        vgg__fpmode_leave(mode);
        if (status == VGG_OK) model->newest = NULL;
    }
    pthread_mutex_unlock(&model->lock);
    return status;
}

void vgg__model_touch(vgg_model *model)
{
    pthread_mutex_lock(&model->lock);
    model->version++;
    model->newest = NULL;
    pthread_mutex_unlock(&model->lock);
}

/* Is this tensor one to read or write a parameter with? */
static vgg_status check_tensor(const vgg_param *param, const vgg_tensor *tensor)
{
    const vgg_dtype dtype = vgg_tensor_dtype(tensor);
    if (dtype != VGG_F32 && dtype != VGG_F64)
        return vgg__fail(VGG_EINVAL, "%s: needs an f32 or f64 tensor, found %s",
                         param->name, vgg_dtype_name(dtype));
    const vgg_shape *shape = vgg_tensor_shape(tensor);
    if (vgg__shape_equal(shape, &param->shape)) return VGG_OK;
    char has[96], needs[96];
    vgg_shape_text(shape, has, sizeof has);
    vgg_shape_text(&param->shape, needs, sizeof needs);
    return vgg__fail(VGG_ESHAPE, "%s: tensor is %s, parameter is %s", param->name, has,
                     needs);
}

vgg_status vgg_param_read(vgg_param *param, vgg_tensor *out)
{
    VGG_REQUIRE(param != NULL);
    VGG_REQUIRE(out != NULL);
    VGG_TRY(check_tensor(param, out));
    VGG_TRY(vgg__model_refresh(param->model));
    pthread_mutex_lock(&param->model->lock);
    if (vgg_tensor_dtype(out) == VGG_F32) {
        memcpy(vgg_tensor_data(out), param->value, param->count * sizeof(float));
    } else {
        double *wide = vgg_tensor_data(out);
        for (uint64_t i = 0; i < param->count; i++) wide[i] = param->value[i];
    }
    pthread_mutex_unlock(&param->model->lock);
    return VGG_OK;
}

vgg_status vgg_param_write(vgg_param *param, const vgg_tensor *values)
{
    VGG_REQUIRE(param != NULL);
    VGG_REQUIRE(values != NULL);
    VGG_TRY(check_tensor(param, values));
    VGG_TRY(vgg__model_refresh(param->model));
    pthread_mutex_lock(&param->model->lock);
    if (vgg_tensor_dtype(values) == VGG_F32) {
        memcpy(param->value, vgg_tensor_data_const(values),
               param->count * sizeof(float));
    } else {
        const double *wide = vgg_tensor_data_const(values);
        const uint64_t mode = vgg__fpmode_enter(); /* round to nearest */
        for (uint64_t i = 0; i < param->count; i++) param->value[i] = (float)wide[i];
        vgg__fpmode_leave(mode);
    }
    pthread_mutex_unlock(&param->model->lock);
    vgg__model_touch(param->model);
    return VGG_OK;
}
