/* SPDX-License-Identifier: Apache-2.0 */
/* The three products of a linear layer by the own kernel, cut so that the weights, by
 * far the largest operand, go by once, and what they meet stays in the cache.
 *
 *     forward   y = x * w^T          a task: a block of outputs
 *     dx        dx = dy * w          a task: a strip of inputs
 *     dweight   w or dw += dy^T * x  a task: a block of outputs
 *
 * x [n][ins], dy [n][outs], w [outs][ins]. The other operand is packed before, in tasks
 * of its own. A worker's scratch is one for all three. */
#ifndef VGG_CPU_LINEAR_PRODUCTS_H
#define VGG_CPU_LINEAR_PRODUCTS_H

#include "cpu/cpu.h"
#include "cpu/kernels_linear.h"

#define VGG__LINEAR_OUTPUTS 64         /* of a forward task */
#define VGG__LINEAR_SCRATCH (14 * 528) /* least floats of a worker's */

struct vgg__linear {
    const struct vgg__gemm *gemm; /* its kernels; the provider is not asked */
    size_t count, ins, outs;
    const void *w; /* float */
    bool half;     /* or the copy in bf16 (forward) */
    float *packed; /* of the phase, see below */
    float *workers;
    size_t worker_floats; /* as vgg__linear_scratch() says */
};

/* Floats of a worker's scratch; the three packed operands. Saturating. */
size_t vgg__linear_scratch(const struct vgg__gemm *gemm, size_t count);
size_t vgg__linear_packed_x(const struct vgg__gemm *gemm, size_t count, size_t ins);
size_t vgg__linear_packed_dy(const struct vgg__gemm *gemm, size_t count, size_t outs);

/* Tasks that pack x for forward (x^T in panels of samples), dy for dx (in blocks of
 * samples), x for dweight (in panels of inputs). */
size_t vgg__linear_forward_packs(const struct vgg__linear *l);
void vgg__linear_forward_pack(const struct vgg__linear *l, const float *x, size_t task);
size_t vgg__linear_dx_packs(const struct vgg__linear *l);
void vgg__linear_dx_pack(const struct vgg__linear *l, const float *dy, size_t task);
size_t vgg__linear_dweight_packs(const struct vgg__linear *l);
void vgg__linear_dweight_pack(const struct vgg__linear *l, const float *x, size_t task);

/* Outputs VGG__LINEAR_OUTPUTS * task .. of all samples: out[o * stride + n]; the result
 * lies in the worker's scratch. */
const float *vgg__linear_forward_task(const struct vgg__linear *l, size_t task,
                                      uint32_t worker, size_t *stride);

size_t vgg__linear_dx_tasks(const struct vgg__linear *l);
void vgg__linear_dx_task(const struct vgg__linear *l, float *dx, size_t task,
                         uint32_t worker);

/* dw += the gradient; with `descent` dw is the weights themselves. */
size_t vgg__linear_dweight_tasks(const struct vgg__linear *l);
struct vgg__linear_target {
    const float *dy;
    float *dw;
    const struct vgg__descent *descent;
};
void vgg__linear_dweight_task(const struct vgg__linear *l,
                              const struct vgg__linear_target *target, size_t task,
                              uint32_t worker);

#endif
