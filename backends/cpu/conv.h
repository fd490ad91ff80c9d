/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the convolution share: how a stage is cut. */
#ifndef VGG_CPU_CONV_H
#define VGG_CPU_CONV_H

#include "cpu/cpu.h"

/* A stage cut in rectangles of pixels, small enough that a rectangle's columns (the
 * pixels' neighbourhoods side by side, [pixels][k]) stay in the second-level cache. */
struct vgg__cut {
    size_t k;          /* kernel * kernel * input channels of the product */
    size_t stride;     /* floats from one pixel's columns to the next's */
    size_t h, w;       /* of the map that is cut */
    size_t th, tw;     /* of a rectangle; those at the end are smaller */
    size_t rows, cols; /* rectangles of a map */
};

/* A rectangle of a sample. */
struct vgg__piece {
    size_t n, top, left, rows, cols;
};

/* `even`: rectangles are of whole 2x2 windows. */
struct vgg__cut vgg__cut_map(size_t k, size_t h, size_t w, bool even);

/* Rectangle `index` of all samples', a sample after the other. */
struct vgg__piece vgg__cut_piece(const struct vgg__cut *cut, size_t index);

/* OIHW to [kh][kw][ic][oc], and to [kh][kw][oc][ic] with the kernel turned by 180
 * degrees, both then packed as right-hand matrices. Part of prepare(). */
void vgg__conv_prepare(const struct vgg__stage_args *args);

/* Gradients; see conv_backward.c. */
void vgg__conv_backward(const struct vgg__stage_args *args);
size_t vgg__conv_backward_scratch(const struct vgg__stage_env *env);

/* Floats of the two prepared matrices. */
size_t vgg__conv_packed(const struct vgg__cpu *cpu, const vgg_stage *stage);
size_t vgg__conv_packed_back(const struct vgg__cpu *cpu, const vgg_stage *stage);

#endif
