/* SPDX-License-Identifier: Apache-2.0 */
/* A convolution stage: which way each of its three products takes.
 *
 * The ways of one product all give the same thing; conv_choose.c takes the fastest, or,
 * where timing is not allowed, the first that works. Scratch of a backward is laid out
 * by vgg__conv_scratch. */
#ifndef VGG_CUDNN_CONV_H
#define VGG_CUDNN_CONV_H

#include "cudnn/dnn.h"
#include "cudnn/stages.h"

enum vgg__conv_way {
    VGG__CONV_PLAIN,     /* the engine's plain kernel: takes everything, slowly */
    VGG__CONV_FIRST,     /* the engine's kernel for few input channels, fused */
    VGG__CONV_DNN,       /* cuDNN's product alone */
    VGG__CONV_DNN_FUSED, /* with bias and ReLU; data: with the mask before it */
    VGG__CONV_MMA,       /* the engine's kernels on tensor cores, fused */
    VGG__CONV_WAYS
};

/* Tiles that the tensor-core kernels may be cut by. */
#define VGG__CONV_TILES 6

/* One product's way. */
struct vgg__conv_route {
    enum vgg__conv_way way;
    struct vgg__dnn_plan plan; /* of cuDNN's ways */
    bool single_out;           /* weights: the plan's result is f32 */
    uint32_t tile;             /* of VGG__CONV_MMA: 0 .. VGG__CONV_TILES - 1 */
    float us;                  /* measured; 0: not */
};

struct vgg__conv_state {
    struct vgg__conv_route forward, data, weights;
    bool pooled; /* backward takes the pooled gradient and its winners as they are */
    bool wants_dx, trains;
    uint32_t refused; /* algorithms left out because their results vary */
};

/* ---- conv_products.c ------------------------------------------------------------- */

/* Whether the first-layer kernels take a stage. */
bool vgg__conv_is_first(const vgg_stage *stage);

/* Where things lie in a backward's scratch: the gradient before pooling, the weight
 * gradient as its product writes it, partial sums. */
struct vgg__conv_scratch {
    size_t dz, dw, partial, total;
};
struct vgg__conv_scratch vgg__conv_scratch(const struct vgg__cudnn *device,
                                           const vgg_stage *stage, uint32_t batch,
                                           enum vgg__type type);

/* Queue one product by a route. `dz` is the gradient before bias and ReLU; with
 * `pooled` the pooled one. */
vgg_status vgg__conv_forward(const struct vgg__cudnn_call *call,
                             const struct vgg__conv_route *route);
vgg_status vgg__conv_data(const struct vgg__cudnn_call *call,
                          const struct vgg__conv_route *route, const void *dz,
                          bool pooled);
vgg_status vgg__conv_weights(const struct vgg__cudnn_call *call,
                             const struct vgg__conv_route *route, const void *dz,
                             bool pooled);
/* What comes before them: dz from the output's gradient, and the bias' gradient. */
vgg_status vgg__conv_make_dz(const struct vgg__cudnn_call *call, bool pooled,
                             const void **dz);

/* ---- conv_mma.c: the engine's kernels on tensor cores ---------------------------- */

struct vgg__conv_mma {
    enum vgg__conv_mma_what what;
    bool pooled; /* the gradient is the pooled one; forward: the stage pools */
    uint32_t tile;
};
bool vgg__conv_mma_takes(const struct vgg__cudnn *device, const vgg_stage *stage,
                         uint32_t batch, enum vgg__type type,
                         const struct vgg__conv_mma *how);
uint32_t vgg__conv_mma_rows(const struct vgg__cudnn *device, const vgg_stage *stage,
                            uint32_t batch, enum vgg__type type);
/* `partial`, `rows`: of the weights alone, where their partial sums go, and of how many
 * rows they are. */
vgg_status vgg__conv_mma_run(const struct vgg__cudnn_call *call,
                             const struct vgg__conv_mma *how, const void *dz,
                             float *partial, uint32_t *rows);

/* ---- conv_choose.c --------------------------------------------------------------- */

vgg_status vgg__conv_build(const struct vgg__cudnn_call *forward,
                           const struct vgg__cudnn_call *backward, void **state);
void vgg__conv_dispose(struct vgg__cudnn *device, void *state);

#endif
