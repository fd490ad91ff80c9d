/* SPDX-License-Identifier: Apache-2.0 */
/* Convolutions by cuDNN's graph interface: a problem becomes an operation graph, the
 * heuristics' engine configurations become plans, and a plan runs with pointers.
 *
 * Tensors are [n][h][w][c], weights [oc][kh][kw][ic]; stride 1, padding kernel / 2.
 * Arithmetic is in float, as are virtual tensors and, with `single_out`, weight
 * gradients; everything else, biases too, is of the problem's type. Configurations that
 * may give other bits at another run, cut their inputs below the problem's type or keep
 * sums in less than float are never taken; with `strict` neither are those that use
 * tensor cores or compute by a transform (Winograd, FFT). */
#ifndef VGG_CUDNN_DNN_H
#define VGG_CUDNN_DNN_H

#include <stdbool.h>

#include "backend.h"
#include "cudnn/api.h"

enum vgg__dnn_what { VGG__DNN_FORWARD, VGG__DNN_DATA, VGG__DNN_WEIGHTS };

struct vgg__dnn_problem {
    enum vgg__dnn_what what;
    enum vgg__type type;
    uint32_t n, h, w, ic, oc, kernel;
    bool strict;
    bool bias_relu;  /* forward: y = max(conv + bias, 0) */
    bool mask;       /* data: dx = mask > 0 ? dx : 0 */
    bool single_out; /* weights: dw is f32 whatever the type */
};

/* Where cuDNN works: a handle, or (tests without a GPU) a description of a device. */
struct vgg__dnn_target {
    const struct vgg__api *api;
    cudnnHandle_t handle;                /* or NULL: */
    cudnnBackendDescriptor_t properties; /* NULL where there is a handle */
    size_t most_workspace;
};

struct vgg__dnn_plan {
    cudnnBackendDescriptor_t plan; /* NULL: none */
    size_t workspace;
    char text[VGG__ALGORITHM]; /* which engine, for describe */
};

/* What a run reads and writes; what the problem does not have stays NULL. */
struct vgg__dnn_pointers {
    const void *x, *w, *dy, *bias, *mask;
    void *out; /* y, dx or dw */
    void *workspace;
};

/* The first `most` plans that can be made of the heuristics' list, best first; returns
 * how many. `refused`: how many were left out because they are not deterministic. */
uint32_t vgg__dnn_plans(const struct vgg__dnn_target *target,
                        const struct vgg__dnn_problem *problem,
                        struct vgg__dnn_plan *plans, uint32_t most, uint32_t *refused);

void vgg__dnn_plan_free(const struct vgg__api *api, struct vgg__dnn_plan *plan);

/* A plan as text, and back: false if cuDNN will not (another version's text, say). The
 * text is `host` memory, to be released. Which engine it is can't be read back. */
bool vgg__dnn_plan_write(const struct vgg__dnn_target *target, const vgg_host *host,
                         const struct vgg__dnn_plan *plan, char **text, size_t *length);
bool vgg__dnn_plan_read(const struct vgg__dnn_target *target, const char *text,
                        size_t length, struct vgg__dnn_plan *out);

/* Queue a run on the handle's stream. */
cudnnStatus_t vgg__dnn_run(const struct vgg__dnn_target *target,
                           const struct vgg__dnn_plan *plan,
                           const struct vgg__dnn_pointers *pointers);

/* The operation graph of a problem (dnn_graph.c), finalised; NULL: cuDNN refuses it. It
 * owns nothing else: descriptors keep what they were made of. */
cudnnBackendDescriptor_t vgg__dnn_graph(const struct vgg__dnn_target *target,
                                        const struct vgg__dnn_problem *problem);

/* Numbers by which a run binds pointers to a graph's tensors. */
enum {
    VGG__DNN_X = 1,
    VGG__DNN_W,
    VGG__DNN_DY,
    VGG__DNN_BIAS,
    VGG__DNN_MASK,
    VGG__DNN_OUT,
    VGG__DNN_VIRTUAL
};

#endif
