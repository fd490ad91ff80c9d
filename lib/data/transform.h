/* SPDX-License-Identifier: Apache-2.0 */
/* A transform made ready for images of one shape. */
#ifndef VGG_DATA_TRANSFORM_H
#define VGG_DATA_TRANSFORM_H

#include <stdbool.h>
#include <vgg/data.h>

#include "backend.h"

/* What the counter of the random numbers has room for. */
#define VGG_MAX_EPOCH ((uint64_t)1 << 48)
#define VGG_MAX_INDEX ((uint64_t)1 << 60)

/* Where in a training a sample stands: all that is random follows from it. */
struct vgg__sample_place {
    uint64_t seed, epoch, index;
};

/* What is drawn for one sample. */
struct vgg__augment {
    int32_t down,
        right; /* output pixel (y, x) shows input pixel (y + down, x + right) */
    bool flip;
    struct {
        uint32_t top, left, height, width; /* height 0: nothing is erased */
    } erase;
};

/* Where a crop of `size` begins: torchvision's int(round((from - size) / 2.0)), and
 * Python rounds one half to even. */
static inline uint32_t vgg__crop_start(uint32_t from, uint32_t size)
{
    const uint32_t rest = from - size, half = rest / 2;
    return half + (rest % 2 & half % 2);
}

/* The caller's transform, sized and checked. VGG_EINVAL, VGG_EUNSUPPORTED. */
vgg_status vgg__transform_read(const vgg_transform *given, vgg_transform *out);

/* Draw for one sample of height x width pixels, after the crop. */
void vgg__augment_draw(const vgg_transform *spec, uint32_t height, uint32_t width,
                       const struct vgg__sample_place *place, struct vgg__augment *out);

/* Tables and scratch memory for one shape of images: one thread at a time. */
struct vgg__transformer;

/* `spec` has gone through vgg__transform_read(); `input` is [c][h][w].
 * VGG_EINVAL, VGG_ESHAPE, VGG_ELIMIT, VGG_ENOMEM. */
vgg_status vgg__transformer_create(vgg_context *ctx, const vgg_transform *spec,
                                   const vgg_shape *input,
                                   struct vgg__transformer **out);

/* NULL is fine. */
void vgg__transformer_free(struct vgg__transformer *transformer);

/* [c][h][w] of what it gives. Borrowed. */
const vgg_shape *vgg__transformer_shape(const struct vgg__transformer *transformer);

/* What an engine must know to do the same, but for count and reading; the axes are to
 * be given back by vgg__axis_free(), the table is the transformer's. VGG_ENOMEM
 * only. */
vgg_status vgg__transformer_describe(vgg_context *ctx,
                                     const struct vgg__transformer *transformer,
                                     vgg_data_desc *out);

/* u8 [c][h][w] to f32 [c][h'][w']. `augment` is NULL outside of training. */
void vgg__transformer_apply(struct vgg__transformer *transformer, const uint8_t *image,
                            const struct vgg__augment *augment, float *output);

#endif
