/* SPDX-License-Identifier: Apache-2.0 */
/* What a layer is before it stands in a model: the one place that says which inputs it
 * takes, what comes out, which parameters it has and how much work it is. arch.c checks
 * whole architectures with it, model.c every layer that is added. */
#ifndef VGG_LIB_MODEL_SPEC_H
#define VGG_LIB_MODEL_SPEC_H

#include "model/model.h"

#define VGG_MAX_EXTENT   INT32_MAX    /* of one axis */
#define VGG_MAX_ELEMENTS (1ULL << 40) /* of a layer's output or a parameter */
#define VGG_MAX_MACS     (1ULL << 52) /* of a layer: sums over a model can't overflow */
#define VGG_MAX_LAYERS   1024         /* of a model */
#define VGG_MAX_ROLES    (VGG_ROLE_VAR + 1) /* parameters and buffers of a layer */

struct vgg__spec {
    vgg_layer_kind kind;
    uint32_t width;           /* conv: output channels; linear: output features */
    uint32_t kernel;          /* conv: 1 or 3 */
    uint32_t pool;            /* pool: vgg_pool_kind */
    uint32_t height, columns; /* adaptive pool: output size */
    float dropout;            /* dropout: rate */
};

/* Check a layer on an input of shape `in` and say what comes out. `name` is for texts.
 * VGG_EINVAL (the layer's own numbers), VGG_ESHAPE (the input does not fit),
 * VGG_ELIMIT. */
vgg_status vgg__spec_infer(const struct vgg__spec *spec, const char *name,
                           const vgg_shape *in, vgg_shape *out);

/* VGG_ELIMIT when a shape has more than VGG_MAX_ELEMENTS; `what` of `name` it is. */
vgg_status vgg__need_elements(const char *name, const char *what,
                              const vgg_shape *shape);

/* Shapes of its parameters and buffers, by role; returns how many. `in` was
 * accepted. */
uint32_t vgg__spec_params(const struct vgg__spec *spec, const vgg_shape *in,
                          vgg_shape shapes[VGG_MAX_ROLES]);

/* Multiply-accumulate operations of one sample. */
uint64_t vgg__spec_macs(const struct vgg__spec *spec, const vgg_shape *in);

/* The names of the layer that would come next: `block`, `name` and `alias` of `layer`,
 * whose kind is set. `given` is the caller's name or NULL. VGG_EINVAL. */
vgg_status vgg__names_choose(const vgg_model *model, vgg_layer *layer,
                             const char *given);

/* A parameter with zeroed values. It is named after `layer`; NULL: out of memory. */
vgg_param *vgg__param_create(vgg_context *ctx, const vgg_layer *layer, uint32_t role,
                             const vgg_shape *shape);
void vgg__param_free(vgg_param *param);

/* A caller's architecture, of any release, checked. As vgg_arch_check(). */
vgg_status vgg__arch_read(const vgg_arch *source, uint32_t ratio, vgg_arch *out);

#endif
