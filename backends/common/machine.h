/* SPDX-License-Identifier: Apache-2.0 */
/* What the device of a stage-by-stage engine begins with: the toolkit of this folder
 * (program, store, update) takes a `void *device` for a pointer to it.
 *
 * Such an engine computes on host memory, one stage after the other. It owns a table of
 * stages and a way to run tasks in parallel; everything else is the toolkit's. */
#ifndef VGG_COMMON_MACHINE_H
#define VGG_COMMON_MACHINE_H

#include "backend.h"
#include "core/context.h"

struct vgg__stage_impl;

struct vgg__machine {
    vgg_host host; /* a copy */
    /* By vgg_precision, then by vgg_stage_kind; NULL: the engine does not have it. */
    const struct vgg__stage_impl *const *stages[4];
    /* Activations are [n][h][w][c] between the stages (f32 alone); flat ones keep their
     * order c, h, w, so that flattening is a stage that moves. */
    bool channels_last;
    /* Memory is not the host's: even an input that needs no conversion has a place. */
    bool apart;
    /* Gradients of weights are computed beside what comes after them: what they read
     * stays to the end of a backward. */
    bool overlaps;
    /* As vgg__parallel(): run task 0 .. tasks - 1, in any order, and wait for all. */
    void (*parallel)(const struct vgg__machine *machine, uint32_t tasks,
                     vgg__task_fn run, void *arg);
};

#define VGG_PRECISIONS  4
#define VGG_STAGE_KINDS 10

/* Bytes of an activation's element in a precision. */
static inline size_t vgg__element(uint32_t precision)
{
    static const size_t bytes[VGG_PRECISIONS] = {
        [VGG_FP32] = 4, [VGG_FP64] = 8, [VGG_TF32] = 4, [VGG_BF16] = 2};
    return bytes[precision];
}

static inline size_t vgg__extent_count(vgg_extent e)
{
    return (size_t)e.c * e.h * e.w;
}

/* Products that may be too large saturate: the planner refuses SIZE_MAX with
 * VGG_ELIMIT. */
static inline size_t vgg__size_mul(size_t a, size_t b)
{
    size_t product;
    return __builtin_mul_overflow(a, b, &product) ? SIZE_MAX : product;
}

static inline size_t vgg__size_add(size_t a, size_t b)
{
    size_t sum;
    return __builtin_add_overflow(a, b, &sum) ? SIZE_MAX : sum;
}

static inline size_t vgg__size_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

static inline size_t vgg__size_max(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Zeroed memory of the machine's context; NULL: the error text is set. */
void *vgg__machine_calloc(const struct vgg__machine *machine, size_t count,
                          size_t size);

/* Samples on their way over the boundary. */
struct vgg__samples {
    void *out;
    vgg_dtype out_type;
    const void *in;
    vgg_dtype in_type;
    vgg_extent extent;
    size_t count;
};

/* From the boundary's [n][c][h][w] to the machine's order, and back; types convert. */
void vgg__samples_in(const struct vgg__machine *machine, const struct vgg__samples *s);
void vgg__samples_out(const struct vgg__machine *machine, const struct vgg__samples *s);

/* Whether the machine's order of a sample is not the boundary's. */
bool vgg__samples_differ(const struct vgg__machine *machine, vgg_extent extent);

/* Copy `count` elements and convert them where the types differ (VGG_F32, VGG_F64). */
void vgg__convert(void *out, vgg_dtype out_type, const void *in, vgg_dtype in_type,
                  size_t count);

#endif
