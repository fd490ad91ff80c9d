/* SPDX-License-Identifier: Apache-2.0 */
/* What a program's stages keep, where, and for how long.
 *
 * Value 0 is the input, value i + 1 the output of stage i. A stage that changes nothing
 * (flatten) gives its output the number of its input, so values are named by the first
 * of equals. Time: stage i of S runs forward at i and backward at 2S - 1 - i; the loss
 * is the forward of its stage. What can be read after a run lives to the end. */
#ifndef VGG_COMMON_LAYOUT_H
#define VGG_COMMON_LAYOUT_H

#include "common/arena.h"
#include "common/program.h"

/* Parameters that a stage can train, in this order wherever they are listed. */
enum { VGG__WEIGHT, VGG__BIAS, VGG__GAMMA, VGG__BETA, VGG__TRAINABLES };

/* What a stage keeps in the arena beside activations. */
enum {
    VGG__PREPARED,
    VGG__SAVED,
    VGG__FORWARD_SCRATCH,
    VGG__BACKWARD_SCRATCH,
    VGG__GRADIENTS, /* of a step: those of its parameters, one after the other */
    VGG__KEPT
};

/* Bytes of a stage's name: two layers' of up to 63, ".." between them, and a zero. */
#define VGG__STAGE_NAME 130

struct vgg__layout_stage {
    vgg_stage stage; /* its name points to `name` */
    char name[VGG__STAGE_NAME];
    const struct vgg__stage_impl *impl;
    struct vgg__stage_need need;
    uint32_t x, y;                /* values */
    bool trains[VGG__TRAINABLES]; /* computes this gradient */
    /* Of a step: where in VGG__GRADIENTS, and how many elements; 0: the stage updates
     * the parameter itself, or it is frozen. */
    size_t gradient_at[VGG__TRAINABLES], gradient_count[VGG__TRAINABLES];
    size_t gradient_bytes;
    bool wants_dx;
    bool backward; /* takes part in backward */
};

struct vgg__layout {
    uint32_t stage_count, batch, mode, precision;
    bool input_gradient;
    struct vgg__layout_stage *stages;
    struct vgg__block *blocks; /* see vgg__value_block() and so on */
    uint32_t block_count;
    uint32_t output; /* value */
    vgg_extent output_extent;
    size_t output_element; /* bytes */
    size_t arena_bytes;
    size_t own_bytes; /* of this description */
};

/* Indices of blocks. */
static inline uint32_t vgg__value_block(const struct vgg__layout *layout,
                                        uint32_t value)
{
    return value;
}

static inline uint32_t vgg__gradient_block(const struct vgg__layout *layout,
                                           uint32_t value)
{
    return layout->stage_count + 1 + value;
}

static inline uint32_t vgg__kept_block(const struct vgg__layout *layout, uint32_t stage,
                                       uint32_t which)
{
    return 2 * (layout->stage_count + 1) + VGG__KEPT * stage + which;
}

/* Number of the value that a tap or the output shows, its extents in *extent; -1: no
 * such tap. */
int64_t vgg__layout_tap(const struct vgg__layout *layout, uint32_t tap,
                        vgg_extent *extent);

/* The stage of a tap, whose VGG__SAVED has its gradient after a backward; -1: no such
 * tap, or no backward. */
int64_t vgg__layout_tap_stage(const struct vgg__layout *layout, uint32_t tap);

/* Slots of a stage's trainable parameters, -1: none. */
void vgg__stage_slots(const vgg_stage *stage, int32_t slots[VGG__TRAINABLES]);

/* Ask every stage what it needs and place everything. On failure nothing is held. */
vgg_status vgg__layout_create(const struct vgg__machine *machine,
                              const vgg_program_desc *desc, struct vgg__layout *layout);
void vgg__layout_destroy(const struct vgg__machine *machine,
                         struct vgg__layout *layout);

#endif
