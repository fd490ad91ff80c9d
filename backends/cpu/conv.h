/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the convolution share: the algorithms, and how they cut a stage. */
#ifndef VGG_CPU_CONV_H
#define VGG_CPU_CONV_H

#include "cpu/cpu.h"
#include "cpu/winograd.h"

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

/* ---- A stage's arrays (conv_operands.c) ------------------------------------ */

/* A sample's output from channel `channel` on; extents and width are the caller's. */
void vgg__conv_output(const struct vgg__stage_args *args, size_t sample, size_t channel,
                      struct vgg__output *out);

/* dY before ReLU and pooling, and x. */
struct vgg__source vgg__conv_gradient_source(const struct vgg__stage_args *args,
                                             size_t sample);
struct vgg__source vgg__conv_input_source(const struct vgg__stage_args *args,
                                          size_t sample);

/* ---- Which algorithm (conv_choose.c) --------------------------------------- */

enum vgg__conv_algorithm { VGG__COLUMNS, VGG__FIRST, VGG__WINOGRAD2, VGG__WINOGRAD4 };

/* How a stage is computed: its output, and the gradients of its input and filters. */
struct vgg__conv_choice {
    enum vgg__conv_algorithm forward, data, weights;
};

/* By the stage's shape and the context's options; never by timing. */
struct vgg__conv_choice vgg__conv_choose(const struct vgg__cpu *cpu,
                                         const vgg_stage *stage);

const char *vgg__conv_name(const struct vgg__cpu *cpu,
                           enum vgg__conv_algorithm algorithm);

/* What a search has found for a shape; lives as long as the device. */
struct vgg__conv_found {
    const struct vgg__conv_found *next;
    vgg_stage shape;
    uint32_t batch;
    bool back;     /* the gradients were measured too */
    bool measured; /* false: there was no memory to */
    struct vgg__conv_choice choice;
    char text[2][32]; /* forward/dx/dweight, or what is the same for all; [0]: no dx */
};

/* NULL: nothing was searched. May run beside a search (conv_search.c). */
const struct vgg__conv_found *vgg__conv_find(const struct vgg__cpu *cpu,
                                             const vgg_stage *stage, uint32_t batch,
                                             bool back);

/* ---- As one matrix product (columns.c, columns_backward.c) ----------------- */

/* OIHW to [kh][kw][ic][oc], or `back`: to [kh][kw][oc][ic] with the kernel turned by
 * 180 degrees, packed as a right-hand matrix of so many floats. */
size_t vgg__columns_packed(const struct vgg__cpu *cpu, const vgg_stage *stage,
                           bool back);
void vgg__columns_prepare(const struct vgg__stage_args *args, bool back, float *packed);

void vgg__columns_forward(const struct vgg__stage_args *args, const float *packed);
size_t vgg__columns_forward_scratch(const struct vgg__stage_env *env); /* bytes */

/* All gradients that args has a place for. */
void vgg__columns_backward(const struct vgg__stage_args *args, const float *packed);
size_t vgg__columns_backward_scratch(const struct vgg__stage_env *env);

/* ---- Few input channels (first.c) ------------------------------------------ */

/* OIHW to [kh][kw][ic][oc], rows padded to full vectors. */
size_t vgg__first_packed(const struct vgg__cpu *cpu, const vgg_stage *stage);
void vgg__first_prepare(const struct vgg__stage_args *args, float *packed);
void vgg__first_forward(const struct vgg__stage_args *args, const float *packed);
void vgg__first_weights(const struct vgg__stage_args *args); /* dweight and dbias */
size_t vgg__first_scratch(const struct vgg__stage_env *env, bool back);

/* ---- Winograd (winograd.c, winograd_backward.c) ---------------------------- */

/* G, [m + 2][3]. */
const double (*vgg__winograd_filters(uint32_t m))[3];

/* Filters transformed, of the forward or, turned, of the input's gradient. */
size_t vgg__winograd_packed(const struct vgg__cpu *cpu, const vgg_stage *stage,
                            uint32_t m, bool back);
void vgg__winograd_prepare(const struct vgg__stage_args *args, uint32_t m, bool back,
                           float *u);

/* Forward, or `back`: dx. Bytes of scratch. */
void vgg__winograd_pass(const struct vgg__stage_args *args, uint32_t m, bool back,
                        const float *u);
size_t vgg__winograd_scratch(const struct vgg__stage_env *env, uint32_t m, bool back);

/* dweight and dbias. */
void vgg__winograd_weights(const struct vgg__stage_args *args, uint32_t m);
size_t vgg__winograd_backward_scratch(const struct vgg__stage_env *env, uint32_t m);

/* The tiles of `count` samples' maps: of each sample row by row. `pooled`: only those
 * that a 2x2 window reads. */
struct vgg__tiling {
    size_t rows, cols, total;
};

struct vgg__tiling vgg__winograd_tiling(const vgg_stage *stage, uint32_t m, bool pooled,
                                        size_t count);

/* The longest run that begins at *tile and ends before `end`; false: there is none.
 * Moves *tile behind it. */
bool vgg__winograd_next(const struct vgg__tiling *tiling, size_t *tile, size_t end,
                        size_t *sample, struct vgg__run *run);

/* A block's transformed tiles, and the floats that they take. */
struct vgg__tiles {
    struct vgg__strides at;
    size_t floats;
};

/* A frequency's tiles together, [f][group][tile][width]: for matrix products. */
struct vgg__tiles vgg__winograd_by_frequency(uint32_t m, size_t block, size_t channels,
                                             size_t width);
/* A tile's frequencies together, [tile][group][f][width]: written at once. */
struct vgg__tiles vgg__winograd_by_tile(uint32_t m, size_t block, size_t channels,
                                        size_t width);

#endif
