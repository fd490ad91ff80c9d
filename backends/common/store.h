/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters, gradients and optimiser state in host memory, f32 or f64, in the
 * canonical layout. One store serves all programs of a model on a device.
 *
 * Elementwise work is cut into chunks of VGG_CHUNK elements that never cross a
 * parameter: results depend on the chunks, not on who computes them. */
#ifndef VGG_COMMON_STORE_H
#define VGG_COMMON_STORE_H

#include "common/machine.h"

#define VGG_CHUNK 65536 /* elements */

struct vgg__param {
    uint64_t count;
    bool buffer;
    uint32_t first_chunk; /* number of its first chunk in the store */
    void *value;
    void *gradient; /* NULL: frozen, or no gradients asked for */
    void *state[2]; /* NULL: no update needed it yet */
};

struct vgg__host_store {
    const struct vgg__machine *machine;
    struct vgg__param *params;
    uint32_t count;
    uint32_t precision;
    uint32_t chunk_count;
    uint64_t version; /* counts changes of values that are not buffers', from 1 */
    double *partial; /* a sum a chunk, for the norm; NULL: no gradients asked for yet */
};

/* Entries of vgg_engine; `device` points to a struct vgg__machine. */
vgg_status vgg__host_store_create(void *device, const vgg_param_desc *params,
                                  uint32_t count, uint32_t precision, void **store);
void vgg__host_store_free(void *store);
vgg_status vgg__host_store_gradients(void *store, const vgg_param_desc *params);
vgg_status vgg__host_store_read(void *store, uint32_t param, vgg_slot slot, void *out,
                                vgg_dtype dtype);
vgg_status vgg__host_store_write(void *store, uint32_t param, vgg_slot slot,
                                 const void *in, vgg_dtype dtype);
vgg_status vgg__host_store_zero_gradients(void *store);
vgg_status vgg__host_store_gradient_norm2(void *store, double *out);
vgg_status vgg__host_store_scale_gradients(void *store, double factor);
vgg_status vgg__host_store_update(void *store, const vgg_update *update);

/* Update one parameter by plain SGD and a gradient that lies elsewhere. The caller
 * counts the change in `version`. */
void vgg__host_store_descend(const struct vgg__host_store *store, uint32_t param,
                             const void *gradient, const vgg_update *update);

#endif
