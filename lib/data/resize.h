/* SPDX-License-Identifier: Apache-2.0 */
/* Bilinear resizing of u8 planes by one of three rules, with tables made once per size.
 *
 * The rules agree on where a sample lies (pixel centres are at half-integers) and
 * differ in arithmetic; each gives bit for bit what its model gives. */
#ifndef VGG_DATA_RESIZE_H
#define VGG_DATA_RESIZE_H

#include "backend.h"

struct vgg__size {
    uint32_t height, width; /* 1 to VGG_MAX_SIDE */
};

/* Tables for one rule and pair of sizes, and rows to work in: one thread at a time. */
struct vgg__resize;

/* VGG_ENOMEM only. */
vgg_status vgg__resize_create(vgg_context *ctx, vgg_resize_rule rule,
                              struct vgg__size from, struct vgg__size to,
                              struct vgg__resize **out);

/* NULL is fine. */
void vgg__resize_free(struct vgg__resize *resize);

/* One channel: `from` [h][w] to `to` [h'][w'], which must not overlap. */
void vgg__resize_plane(struct vgg__resize *resize, const uint8_t *from, uint8_t *to);

/* Its tables as an engine gets them, which is to do the same arithmetic; to be given
 * back by vgg__axis_free(). VGG_ENOMEM only. */
vgg_status vgg__resize_axes(vgg_context *ctx, const struct vgg__resize *resize,
                            vgg_axis *x, vgg_axis *y);

/* An empty table of out x taps places and weights. VGG_ENOMEM only. */
vgg_status vgg__axis_create(vgg_context *ctx, vgg_axis *axis, uint32_t **at,
                            int32_t **weight);

/* All zero is fine. */
void vgg__axis_free(vgg_axis *axis);

/* The part of it that is Pillow's rule. */
struct vgg__pillow;
vgg_status vgg__pillow_create(vgg_context *ctx, struct vgg__size from,
                              struct vgg__size to, struct vgg__pillow **out);
void vgg__pillow_free(struct vgg__pillow *pillow);
void vgg__pillow_plane(struct vgg__pillow *pillow, const uint8_t *from, uint8_t *to);
vgg_status vgg__pillow_axes(vgg_context *ctx, const struct vgg__pillow *pillow,
                            vgg_axis *x, vgg_axis *y);

#endif
