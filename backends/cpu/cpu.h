/* SPDX-License-Identifier: Apache-2.0 */
/* The CPU engine: its device and its stages.
 *
 * Activations are [n][h][w][c] between stages. A stage cuts its sums in parts by its
 * shapes alone, adds these in a fixed order and runs matrix products within tasks, so
 * results do not depend on the number of workers. */
#ifndef VGG_CPU_CPU_H
#define VGG_CPU_CPU_H

#include <pthread.h>
#include <stdatomic.h>

#include "common/program.h"
#include "cpu/gemm.h"

struct vgg__conv_found; /* conv.h */

struct vgg__cpu {
    struct vgg__machine machine; /* first: the toolkit's view of the device */
    struct vgg__gemm gemm;
    uint32_t conv; /* vgg_conv */
    /* Under VGG_CONV_MEASURED: a list that only grows, under the lock. */
    const struct vgg__conv_found *_Atomic found;
    pthread_mutex_t searching;
    /* Seconds of a batch of a product (0: forward, 1: dx, 2: dweight) by an algorithm,
     * in place of what was measured: for tests. */
    double (*seconds)(const vgg_stage *stage, uint32_t algorithm, int product);
    uint32_t workers;
    char processor[64];
};

/* The device of a call. */
static inline const struct vgg__cpu *vgg__cpu_of(const struct vgg__machine *machine)
{
    return (const struct vgg__cpu *)machine;
}

/* One a file; device.c lists them by vgg_stage_kind. */
extern const struct vgg__stage_impl vgg__cpu_conv;
extern const struct vgg__stage_impl vgg__cpu_batch_norm;
extern const struct vgg__stage_impl vgg__cpu_relu;
extern const struct vgg__stage_impl vgg__cpu_tap;
extern const struct vgg__stage_impl vgg__cpu_pool;
extern const struct vgg__stage_impl vgg__cpu_adaptive_pool;
extern const struct vgg__stage_impl vgg__cpu_flatten;
extern const struct vgg__stage_impl vgg__cpu_linear;
extern const struct vgg__stage_impl vgg__cpu_dropout;
extern const struct vgg__stage_impl vgg__cpu_loss;

/* Under VGG_CONV_MEASURED: time the algorithms that the program's convolutions could
 * take, unless their shapes were met before. */
vgg_status vgg__conv_search(struct vgg__cpu *cpu, const vgg_program_desc *desc);
void vgg__conv_forget(struct vgg__cpu *cpu);

/* [rows][cols] to [cols][rows]. */
void vgg__cpu_transpose(const float *in, size_t rows, size_t cols, float *out);

/* A worker's part of a stage's scratch, rounded to lines of the cache. Saturates. */
static inline size_t vgg__cpu_floats(size_t floats)
{
    return floats > SIZE_MAX / 8 ? SIZE_MAX / 8 : (floats + 15) & ~(size_t)15;
}

/* Columns of a padded panel that are computed for the first `left` of them: all, or
 * half. */
static inline size_t vgg__cpu_width(const struct vgg__kernels *kernels, size_t left)
{
    return left > kernels->cols / 2 ? kernels->cols : kernels->cols / 2;
}

/* Part `i` of `parts` about equal parts of `count` begins here. */
static inline size_t vgg__cpu_part(size_t count, size_t i, size_t parts)
{
    return (size_t)((unsigned __int128)count * i / parts);
}

#endif
