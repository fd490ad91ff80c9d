/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file tensor.h
 * @brief Dense arrays in host memory, row-major: the last axis varies fastest.
 *
 * Images are [n][c][h][w], weights of a convolution [oc][ic][kh][kw], of a linear layer
 * [out][in]. A tensor owns its memory, or wraps the caller's, or is a view of another
 * tensor's rows; it is counted, so a view keeps its memory alive.
 */
#ifndef VGG_TENSOR_H
#define VGG_TENSOR_H

#include <vgg/context.h>

VGG_BEGIN_DECLS

/** Most axes a shape can have. */
#define VGG_MAX_RANK 7

/** Extents of an array. Frozen layout. Axes from `rank` on are ignored. */
typedef struct vgg_shape {
    uint32_t rank;              /**< number of axes, 0 for a scalar */
    uint32_t dim[VGG_MAX_RANK]; /**< extents, slowest axis first */
} vgg_shape;

/** Element types. The numbers never change. */
typedef enum vgg_dtype {
    VGG_F32 = 0, /**< IEEE binary32 */
    VGG_F64 = 1, /**< IEEE binary64 */
    VGG_U8 = 2,  /**< unsigned 8 bits */
    VGG_I32 = 3, /**< signed 32 bits */
    VGG_I64 = 4  /**< signed 64 bits */
} vgg_dtype;

/**
 * A dense array in host memory.
 * Thread-safety: counting is safe; the elements are the caller's to guard.
 */
typedef struct vgg_tensor vgg_tensor;

/** Bytes of one element, 0 for an unknown type. Thread-safety: safe. */
VGG_API size_t vgg_dtype_size(vgg_dtype dtype);

/** Name of an element type, for instance "f32". Thread-safety: safe. */
VGG_API const char *vgg_dtype_name(vgg_dtype dtype);

/**
 * Number of elements of a shape: the product of its extents, 1 for a scalar.
 *
 * @param out 0 on failure.
 * @return VGG_OK, VGG_EINVAL (NULL, rank over #VGG_MAX_RANK), VGG_ELIMIT (over 2^62).
 */
VGG_API vgg_status vgg_shape_count(const vgg_shape *shape, uint64_t *out);

/**
 * A shape as text, for instance "128x64x3x3"; "scalar" for rank 0.
 *
 * @param text receives at most `size` bytes, always ended by a zero byte if size > 0.
 * @return the length it has or would have had, as snprintf() does.
 */
VGG_API size_t vgg_shape_text(const vgg_shape *shape, char *text, size_t size);

/**
 * Make a tensor of zeros with memory of its own, aligned to 64 bytes.
 *
 * @param ctx where the memory comes from; NULL for the default context.
 * @return VGG_OK, VGG_EINVAL, VGG_ELIMIT, VGG_ENOMEM.
 */
VGG_API vgg_status vgg_tensor_create(vgg_context *ctx, vgg_dtype dtype,
                                     const vgg_shape *shape, vgg_tensor **out);

/**
 * Make a tensor of memory that the caller has.
 *
 * @param data    the elements, aligned to the element's size; they must stay until
 *                `release` is called, or without `release` until the tensor is gone.
 * @param release called once with `cookie` when the last reference goes; may be NULL.
 *                On failure it is not called and the memory stays the caller's.
 * @return VGG_OK, VGG_EINVAL, VGG_ELIMIT, VGG_ENOMEM.
 */
VGG_API vgg_status vgg_tensor_wrap(vgg_context *ctx, vgg_dtype dtype,
                                   const vgg_shape *shape, void *data,
                                   void (*release)(void *cookie), void *cookie,
                                   vgg_tensor **out);

/**
 * Rows `first` to `first + count - 1` of a tensor's first axis, sharing its memory.
 *
 * @return VGG_OK, VGG_EINVAL (scalar, or rows that are not there), VGG_ENOMEM.
 */
VGG_API vgg_status vgg_tensor_view(vgg_tensor *tensor, uint32_t first, uint32_t count,
                                   vgg_tensor **out);

/** One more reference to a tensor; returns it. */
VGG_API vgg_tensor *vgg_tensor_ref(vgg_tensor *tensor);

/** One reference less; the memory goes with the last one. NULL is fine. */
VGG_API void vgg_tensor_free(vgg_tensor *tensor);

/** Element type. */
VGG_API vgg_dtype vgg_tensor_dtype(const vgg_tensor *tensor);

/** Extents, borrowed. */
VGG_API const vgg_shape *vgg_tensor_shape(const vgg_tensor *tensor);

/** The elements, borrowed. */
VGG_API void *vgg_tensor_data(vgg_tensor *tensor);

/** The elements of a tensor that is only read, borrowed. */
VGG_API const void *vgg_tensor_data_const(const vgg_tensor *tensor);

/** Size of the elements in bytes. */
VGG_API uint64_t vgg_tensor_bytes(const vgg_tensor *tensor);

VGG_END_DECLS

#endif
