/* SPDX-License-Identifier: Apache-2.0 */
/* Stages of the GPU engine.
 *
 * A stage says what memory it needs as every stage-by-stage engine does (the part
 * called `base`), makes what it needs of the libraries once (build), and then queues
 * work. All pointers are the device's; nothing here waits or allocates but build().
 *
 * Who masks: the gradient of a ReLU's output is masked either by the stage after it, if
 * its product can do so in passing (it then sets `*masks` in build()), or by the stage
 * that has the ReLU (`dy_masked` tells it). */
#ifndef VGG_CUDNN_STAGES_H
#define VGG_CUDNN_STAGES_H

#include "common/program.h"
#include "cudnn/cudnn.h"

struct vgg__cudnn_call {
    struct vgg__cudnn *device;
    cudaStream_t stream;
    const vgg_stage *stage;
    void *state; /* made by build() */
    uint32_t batch, mode;
    enum vgg__type type;           /* of activations */
    enum vgg__type x_type, y_type; /* of x and dx, of y and dy */
    bool tf32;                     /* f32 products may use tensor cores */
    bool tune;                     /* build: choose by timing */
    bool dy_masked;
    bool wants_dx, trains; /* build: what backward will be asked for */
    bool *masks;           /* build: set if dx will be masked by x > 0 */
    const struct vgg__step *step;
    const void *x;
    void *y, *dy, *dx, *saved, *scratch;
    const float *weight, *bias, *gamma, *beta;
    const void *weight_typed, *bias_typed; /* in the activations' type */
    float *mean, *var;
    float *dweight, *dbias, *dgamma, *dbeta; /* added to; NULL: frozen */
    /* A step: instead of dweight, the weight itself is to be changed. */
    float *step_weight;
    void *step_shadow; /* its bf16 copy; NULL: none */
};

struct vgg__cudnn_impl {
    struct vgg__stage_impl base; /* supports, measure */
    /* With the calls as forward() and backward() will get them; or NULL. */
    vgg_status (*build)(const struct vgg__cudnn_call *forward,
                        const struct vgg__cudnn_call *backward, void **state);
    void (*dispose)(struct vgg__cudnn *device, void *state);
    vgg_status (*forward)(const struct vgg__cudnn_call *call);
    vgg_status (*backward)(const struct vgg__cudnn_call *call);
    /* Algorithms, for describe; NULL: need.algorithm says it all. */
    void (*describe)(const void *state, char *text, size_t size);
};

/* By vgg_stage_kind; each points to the base of one of the below. */
extern const struct vgg__stage_impl *const vgg__cudnn_stages[VGG_STAGE_KINDS];

extern const struct vgg__cudnn_impl vgg__cudnn_conv;
extern const struct vgg__cudnn_impl vgg__cudnn_batch_norm;
extern const struct vgg__cudnn_impl vgg__cudnn_relu;
extern const struct vgg__cudnn_impl vgg__cudnn_pool;
extern const struct vgg__cudnn_impl vgg__cudnn_adaptive_pool;
extern const struct vgg__cudnn_impl vgg__cudnn_flatten;
extern const struct vgg__cudnn_impl vgg__cudnn_linear;
extern const struct vgg__cudnn_impl vgg__cudnn_dropout;
extern const struct vgg__cudnn_impl vgg__cudnn_loss;
extern const struct vgg__cudnn_impl vgg__cudnn_tap;

static inline const struct vgg__cudnn_impl *
vgg__cudnn_impl_of(const struct vgg__stage_impl *base)
{
    return (const struct vgg__cudnn_impl *)base; /* its first member */
}

/* Elements of a whole batch. */
static inline uint64_t vgg__batch_count(const struct vgg__cudnn_call *call,
                                        vgg_extent e)
{
    return (uint64_t)call->batch * e.c * e.h * e.w;
}

static inline size_t vgg__type_bytes(enum vgg__type type)
{
    return type == VGG__BF16 ? 2 : 4;
}

/* Queue a kernel of a call. */
static inline vgg_status vgg__queue(const struct vgg__cudnn_call *call,
                                    const struct vgg__kernel *kernel,
                                    struct vgg__grid grid, const void *args)
{
    return vgg__cudnn_launch(call->device, call->stream, kernel, grid, 0, args);
}

#endif
