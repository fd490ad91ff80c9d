/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters, gradients and optimiser state in device memory.
 *
 * Every parameter has a place in one array of floats; gradients, optimiser state and
 * the bf16 copy are arrays of the same form. Weights of linear layers come last: a step
 * that updates them inside their own gradient's product needs room for the others'
 * gradients alone, which is the array's beginning (`small`).
 *
 * Convolution weights are kept as [oc][kh][kw][ic], the layout of channels-last
 * products; everything else as it is outside. */
#ifndef VGG_CUDNN_STORE_H
#define VGG_CUDNN_STORE_H

#include "cudnn/cudnn.h"

struct vgg__cudnn_param {
    uint64_t offset, count; /* elements */
    uint32_t outer, inner;  /* convolution: I and kh * kw, to be exchanged; else 0 */
    bool linear, buffer, trainable;
};

struct vgg__cudnn_store {
    struct vgg__cudnn *device;
    struct vgg__cudnn_param *params;
    uint32_t count;
    uint64_t elements, small;
    float *value;
    float *gradient; /* NULL: not asked for */
    float *state[2]; /* NULL: no update needed it */
    void *shadow;    /* values in bf16; NULL: not that precision */
    bool shadow_stale;
    struct vgg__chunk *chunks; /* of what an optimiser changes; on the device */
    uint32_t chunk_count;
    double *partial; /* a sum a chunk; on the device */
};

/* Before a run: the bf16 copy is that of the values. */
vgg_status vgg__cudnn_store_refresh(struct vgg__cudnn_store *store);

/* A list of chunks of trainable parameters on the device; `small` leaves out weights of
 * linear layers. The caller frees it. */
vgg_status vgg__cudnn_store_chunks(struct vgg__cudnn_store *store,
                                   const vgg_param_desc *params, bool small,
                                   struct vgg__chunk **out, uint32_t *count);

/* The first `count` optimiser states exist, zero when new. */
vgg_status vgg__cudnn_store_states(struct vgg__cudnn_store *store, uint32_t count);

/* Constants of a rule for the update kernel, all but the arrays. */
struct vgg__update_args_gpu vgg__cudnn_update_args(const vgg_update *update);

#endif
