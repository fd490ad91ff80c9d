/* SPDX-License-Identifier: Apache-2.0 */
/* Layers: their kinds, what they do to shapes, and the accessors.
 *
 * Shapes are those of one sample: [c][h][w] before flattening, [features] after it. */
#include "core/error.h"
#include "model/spec.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#define SHAPE_TEXT 96 /* bytes: seven extents of ten digits and their signs */

static vgg_shape map_shape(uint32_t c, uint32_t h, uint32_t w)
{
    return (vgg_shape){3, {c, h, w}};
}

static vgg_status need_map(const char *name, const vgg_shape *in)
{
    if (in->rank == 3) return VGG_OK;
    char text[SHAPE_TEXT];
    vgg_shape_text(in, text, sizeof text);
    return vgg__fail(VGG_ESHAPE, "%s: needs an input [c][h][w], found %s", name, text);
}

/* A count that a caller chose freely: at least 1, at most an extent. */
static vgg_status need_extent(const char *name, const char *what, uint64_t value)
{
    if (value == 0)
        return vgg__fail(VGG_EINVAL, "%s: 0 %s, needs at least 1", name, what);
    if (value > VGG_MAX_EXTENT)
        return vgg__fail(VGG_ELIMIT, "%s: %" PRIu64 " %s, limit is %d", name, value,
                         what, VGG_MAX_EXTENT);
    return VGG_OK;
}

/* Product of the extents; all of them at most VGG_MAX_EXTENT. Saturates at
 * UINT64_MAX. */
static uint64_t elements(const vgg_shape *shape)
{
    uint64_t count = 1;
    for (uint32_t i = 0; i < shape->rank; i++)
        if (__builtin_mul_overflow(count, shape->dim[i], &count)) return UINT64_MAX;
    return count;
}

vgg_status vgg__need_elements(const char *name, const char *what,
                              const vgg_shape *shape)
{
    const uint64_t count = elements(shape);
    if (count <= VGG_MAX_ELEMENTS) return VGG_OK;
    char text[SHAPE_TEXT];
    vgg_shape_text(shape, text, sizeof text);
    return vgg__fail(VGG_ELIMIT, "%s: %s of %s elements, limit is 2^40", name, what,
                     text);
}

static vgg_status infer_conv(const struct vgg__spec *spec, const char *name,
                             const vgg_shape *in, vgg_shape *out)
{
    if (spec->kernel != 1 && spec->kernel != 3)
        return vgg__fail(VGG_EINVAL, "%s: kernel %" PRIu32 ", needs 1 or 3", name,
                         spec->kernel);
    VGG_TRY(need_extent(name, "output channels", spec->width));
    VGG_TRY(need_map(name, in));
    *out = map_shape(spec->width, in->dim[1], in->dim[2]);
    return VGG_OK;
}

static vgg_status infer_batch_norm(const struct vgg__spec *spec, const char *name,
                                   const vgg_shape *in, vgg_shape *out)
{
    VGG_TRY(need_map(name, in));
    *out = *in;
    return VGG_OK;
}

static vgg_status infer_same(const struct vgg__spec *spec, const char *name,
                             const vgg_shape *in, vgg_shape *out)
{
    *out = *in;
    return VGG_OK;
}

static vgg_status infer_pool(const struct vgg__spec *spec, const char *name,
                             const vgg_shape *in, vgg_shape *out)
{
    if (spec->pool > VGG_POOL_AVERAGE)
        return vgg__fail(VGG_EINVAL, "%s: pool kind %" PRIu32 ", needs 0 or 1", name,
                         spec->pool);
    VGG_TRY(need_map(name, in));
    if (in->dim[1] < 2 || in->dim[2] < 2)
        return vgg__fail(VGG_ESHAPE,
                         "%s: needs at least 2x2 pixels, found %" PRIu32 "x%" PRIu32,
                         name, in->dim[1], in->dim[2]);
    *out = map_shape(in->dim[0], in->dim[1] / 2, in->dim[2] / 2);
    return VGG_OK;
}

static vgg_status infer_adaptive_pool(const struct vgg__spec *spec, const char *name,
                                      const vgg_shape *in, vgg_shape *out)
{
    VGG_TRY(need_extent(name, "output rows", spec->height));
    VGG_TRY(need_extent(name, "output columns", spec->columns));
    VGG_TRY(need_map(name, in));
    *out = map_shape(in->dim[0], spec->height, spec->columns);
    return VGG_OK;
}

static vgg_status infer_flatten(const struct vgg__spec *spec, const char *name,
                                const vgg_shape *in, vgg_shape *out)
{
    VGG_TRY(need_map(name, in));
    const uint64_t features = elements(in);
    VGG_TRY(need_extent(name, "features", features));
    *out = (vgg_shape){1, {(uint32_t)features}};
    return VGG_OK;
}

static vgg_status infer_linear(const struct vgg__spec *spec, const char *name,
                               const vgg_shape *in, vgg_shape *out)
{
    VGG_TRY(need_extent(name, "output features", spec->width));
    if (in->rank != 1) {
        char text[SHAPE_TEXT];
        vgg_shape_text(in, text, sizeof text);
        return vgg__fail(VGG_ESHAPE, "%s: needs a flat input, found %s (flatten first)",
                         name, text);
    }
    *out = (vgg_shape){1, {spec->width}};
    return VGG_OK;
}

static vgg_status infer_dropout(const struct vgg__spec *spec, const char *name,
                                const vgg_shape *in, vgg_shape *out)
{
    if (!(spec->dropout >= 0.0f && spec->dropout < 1.0f))
        return vgg__fail(VGG_EINVAL, "%s: dropout rate %s, needs 0 <= rate < 1", name,
                         isnan(spec->dropout)   ? "NaN"
                         : spec->dropout < 0.0f ? "below 0"
                                                : "of 1 or more");
    *out = *in;
    return VGG_OK;
}

/* By vgg_layer_kind. */
static const struct {
    const char *name;
    vgg_status (*infer)(const struct vgg__spec *spec, const char *name,
                        const vgg_shape *in, vgg_shape *out);
} kinds[] = {
    [VGG_LAYER_CONV] = {"conv", infer_conv},
    [VGG_LAYER_BATCH_NORM] = {"batch_norm", infer_batch_norm},
    [VGG_LAYER_RELU] = {"relu", infer_same},
    [VGG_LAYER_POOL] = {"pool", infer_pool},
    [VGG_LAYER_ADAPTIVE_POOL] = {"adaptive_pool", infer_adaptive_pool},
    [VGG_LAYER_FLATTEN] = {"flatten", infer_flatten},
    [VGG_LAYER_LINEAR] = {"linear", infer_linear},
    [VGG_LAYER_DROPOUT] = {"dropout", infer_dropout},
};

uint32_t vgg__spec_params(const struct vgg__spec *spec, const vgg_shape *in,
                          vgg_shape shapes[VGG_MAX_ROLES])
{
    const vgg_shape channels = {1, {in->dim[0]}};
    const uint32_t k = spec->kernel;
    switch (spec->kind) {
    case VGG_LAYER_CONV:
        shapes[VGG_ROLE_WEIGHT] = (vgg_shape){4, {spec->width, in->dim[0], k, k}};
        shapes[VGG_ROLE_BIAS] = (vgg_shape){1, {spec->width}};
        return 2;
    case VGG_LAYER_LINEAR:
        shapes[VGG_ROLE_WEIGHT] = (vgg_shape){2, {spec->width, in->dim[0]}};
        shapes[VGG_ROLE_BIAS] = (vgg_shape){1, {spec->width}};
        return 2;
    case VGG_LAYER_BATCH_NORM:
        for (uint32_t role = 0; role < VGG_MAX_ROLES; role++) shapes[role] = channels;
        return VGG_MAX_ROLES;
    default:
        return 0;
    }
}

/* Every weight is used once at each place of the map, or once in a flat layer. Biases
 * and batch normalisation are not counted. Saturates at UINT64_MAX. */
uint64_t vgg__spec_macs(const struct vgg__spec *spec, const vgg_shape *in)
{
    if (spec->kind != VGG_LAYER_CONV && spec->kind != VGG_LAYER_LINEAR) return 0;
    vgg_shape shapes[VGG_MAX_ROLES];
    vgg__spec_params(spec, in, shapes);
    const uint64_t places =
        in->rank == 3 ? (uint64_t)in->dim[1] * in->dim[2] : 1; /* below 2^62 */
    uint64_t macs;
    if (__builtin_mul_overflow(elements(&shapes[VGG_ROLE_WEIGHT]), places, &macs))
        return UINT64_MAX;
    return macs;
}

vgg_status vgg__spec_infer(const struct vgg__spec *spec, const char *name,
                           const vgg_shape *in, vgg_shape *out)
{
    vgg_shape shapes[VGG_MAX_ROLES];
    VGG_TRY(kinds[spec->kind].infer(spec, name, in, out));
    VGG_TRY(vgg__need_elements(name, "an output", out));
    const uint32_t params = vgg__spec_params(spec, in, shapes);
    for (uint32_t i = 0; i < params; i++)
        VGG_TRY(vgg__need_elements(name, "a parameter", &shapes[i]));
    if (vgg__spec_macs(spec, in) > VGG_MAX_MACS)
        return vgg__fail(VGG_ELIMIT, "%s: over 2^52 multiplications a sample", name);
    return VGG_OK;
}

/* ---- Accessors ------------------------------------------------------------------- */

vgg_layer_kind vgg_layer_get_kind(const vgg_layer *layer)
{
    return layer != NULL ? layer->kind : VGG_LAYER_CONV;
}

const char *vgg_layer_kind_name(vgg_layer_kind kind)
{
    const size_t count = sizeof kinds / sizeof kinds[0];
    return (size_t)kind < count ? kinds[kind].name : "?";
}

const char *vgg_layer_name(const vgg_layer *layer)
{
    return layer != NULL ? layer->name : NULL;
}

const char *vgg_layer_alias(const vgg_layer *layer)
{
    return layer != NULL ? layer->alias : NULL;
}

uint32_t vgg_layer_block(const vgg_layer *layer)
{
    return layer != NULL ? layer->block : 0;
}

const vgg_shape *vgg_layer_in_shape(const vgg_layer *layer)
{
    return layer != NULL ? &layer->in : NULL;
}

const vgg_shape *vgg_layer_out_shape(const vgg_layer *layer)
{
    return layer != NULL ? &layer->out : NULL;
}

uint64_t vgg_layer_macs(const vgg_layer *layer)
{
    return layer != NULL ? layer->macs : 0;
}

uint32_t vgg_layer_param_count(const vgg_layer *layer)
{
    return layer != NULL ? layer->param_count : 0;
}

vgg_param *vgg_layer_param(const vgg_layer *layer, uint32_t index)
{
    if (layer == NULL || index >= layer->param_count) return NULL;
    return layer->model->params[layer->param_first + index];
}
