/* SPDX-License-Identifier: Apache-2.0 */
/* A compiled network on a GPU.
 *
 * Work of a phase is queued stage by stage at its first run, recorded as a CUDA graph
 * at its second, and replayed from then on. So nothing that is queued may depend on a
 * run but through device memory: `step` says how many samples it has, and all plans are
 * for the whole batch. Samples past the count are padding, zero at the input and in the
 * output's gradient, so that they add nothing to any sum. */
#ifndef VGG_CUDNN_PROGRAM_H
#define VGG_CUDNN_PROGRAM_H

#include "common/layout.h"
#include "cudnn/stages.h"
#include "cudnn/store.h"

struct vgg__cudnn_stage {
    void *state;    /* made by the stage's build() */
    bool dy_masked; /* the stage after it masks the gradient */
};

/* What the device must know beside activations: one allocation. */
struct vgg__cudnn_small {
    struct vgg__step *step;
    uint32_t *labels;                   /* [batch] */
    double *loss;                       /* [batch] */
    uint32_t *correct;                  /* [batch] */
    struct vgg__loss_result *result;    /* 1 */
    struct vgg__kernel_sample *samples; /* [batch] */
    float *gradient; /* of a step: the store's small parameters'; else NULL */
    size_t bytes;
};

/* Its counterparts in pinned memory. */
struct vgg__cudnn_pinned {
    uint32_t *labels;
    struct vgg__loss_result *result;
    struct vgg__kernel_sample *samples;
    size_t bytes;
};

enum { VGG__RECORDED_FORWARD, VGG__RECORDED_BACKWARD, VGG__RECORDED };

struct vgg__cudnn_recorded {
    bool ran; /* once, queued call by call: libraries have loaded what they need */
    cudaGraphExec_t graph;
};

struct vgg__cudnn_program {
    struct vgg__cudnn *device;
    struct vgg__cudnn_store *store;
    struct vgg__layout layout;
    struct vgg__cudnn_stage *stages;
    unsigned char *arena;
    void *small_memory, *pinned_memory;
    struct vgg__cudnn_small small;
    struct vgg__cudnn_pinned pinned;
    cudaEvent_t samples_taken; /* samples may be overwritten, on both sides */
    cudaEvent_t answered;      /* the loss has reached the host, from the side stream */
    bool is_step, deterministic;
    struct vgg__chunk *chunks; /* of a step's update; on the device */
    uint32_t chunk_count;
    struct vgg__cudnn_recorded recorded[VGG__RECORDED];
    struct vgg__step step; /* as it is to be */
    struct vgg__step sent; /* as the device has it, if `told` */
    bool told;
    uint32_t count; /* samples of the last forward */
    bool consumed;  /* a backward has used up what it kept */
};

/* Device memory of a value, of its gradient; NULL: none. */
void *vgg__cudnn_value(const struct vgg__cudnn_program *program, uint32_t value);
void *vgg__cudnn_gradient(const struct vgg__cudnn_program *program, uint32_t value);

/* Types of activations, and of one value. */
enum vgg__type vgg__cudnn_type(const struct vgg__cudnn_program *program);
enum vgg__type vgg__cudnn_value_type(const struct vgg__cudnn_program *program,
                                     uint32_t value);

/* What a stage gets in forward and in backward. */
struct vgg__cudnn_call vgg__cudnn_forward_call(const struct vgg__cudnn_program *program,
                                               uint32_t index, cudaStream_t stream);
struct vgg__cudnn_call
vgg__cudnn_backward_call(const struct vgg__cudnn_program *program, uint32_t index,
                         cudaStream_t stream);

/* transfer.c: what a run is told, and samples over the boundary by way of pieces. */

/* The device's step is `program->step`. */
vgg_status vgg__cudnn_send_step(struct vgg__cudnn_program *program);

/* f32 [n][c][h][w] of the host to [n][h][w][c] of the type; what is past the program's
 * count becomes zero. */
vgg_status vgg__cudnn_take_in(struct vgg__cudnn_program *program, const float *from,
                              vgg_extent extent, enum vgg__type type, void *to);
/* The program's count of samples, back. */
vgg_status vgg__cudnn_give_out(struct vgg__cudnn_program *program, const void *from,
                               vgg_extent extent, enum vgg__type type, void *out,
                               vgg_dtype dtype);

/* data.c: the samples of a data set that stays on the device. */
vgg_status vgg__cudnn_gather(struct vgg__cudnn_program *program, const vgg_run *run,
                             void *to);

#endif
