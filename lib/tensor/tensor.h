/* SPDX-License-Identifier: Apache-2.0 */
/* The tensor's own struct, for lib/.
 *
 * Elements are dense and row-major. A tensor owns its elements (`owned`), or has them
 * from the caller (`release`, which may be NULL), or from another tensor (`parent`,
 * never itself a view). */
#ifndef VGG_LIB_TENSOR_H
#define VGG_LIB_TENSOR_H

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <vgg/tensor.h>

struct vgg_tensor {
    atomic_uint refs;
    vgg_context *ctx;
    vgg_dtype dtype;
    vgg_shape shape;
    uint64_t bytes; /* of the elements */
    void *data;
    void *owned;        /* == data if it has memory of its own */
    vgg_tensor *parent; /* a view's, holding one reference */
    void (*release)(void *cookie);
    void *cookie;
};

/* Same rank and extents; unused axes do not count. */
static inline bool vgg__shape_equal(const vgg_shape *a, const vgg_shape *b)
{
    return a->rank == b->rank &&
           memcmp(a->dim, b->dim, a->rank * sizeof a->dim[0]) == 0;
}

#endif
