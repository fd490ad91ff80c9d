/* SPDX-License-Identifier: Apache-2.0 */
/* Tensors: made, wrapped, viewed, counted. A view holds the tensor that has the memory,
 * not the view it was made of, so no chain of views can grow. */
#include "tensor/tensor.h"

#include "core/context.h"
#include "core/error.h"
#include "core/memory.h"

/* Check an element type and a shape; bytes of the elements. */
static vgg_status array_bytes(vgg_dtype dtype, const vgg_shape *shape, size_t *out)
{
    *out = 0;
    uint64_t count;
    VGG_TRY(vgg_shape_count(shape, &count));
    const size_t element = vgg_dtype_size(dtype);
    if (element == 0)
        return vgg__fail(VGG_EINVAL, "tensor: no vgg_dtype is %d", (int)dtype);
    if (count > SIZE_MAX || !vgg__mul((size_t)count, element, out)) {
        char text[96];
        vgg_shape_text(shape, text, sizeof text);
        return vgg__fail(VGG_ELIMIT, "tensor: %s of %s is over 2^64 bytes", text,
                         vgg_dtype_name(dtype));
    }
    return VGG_OK;
}

/* A tensor without elements; NULL: the error is set. */
static vgg_tensor *tensor_new(vgg_context *ctx, vgg_dtype dtype, const vgg_shape *shape,
                              size_t bytes)
{
    vgg_tensor *tensor = vgg__calloc(ctx, 1, sizeof *tensor);
    if (tensor == NULL) return NULL;
    atomic_init(&tensor->refs, 1);
    tensor->ctx = vgg__context_ref(ctx);
    tensor->dtype = dtype;
    tensor->shape.rank = shape->rank;
    for (uint32_t i = 0; i < shape->rank; i++) tensor->shape.dim[i] = shape->dim[i];
    tensor->bytes = bytes;
    return tensor;
}

vgg_status vgg_tensor_create(vgg_context *ctx, vgg_dtype dtype, const vgg_shape *shape,
                             vgg_tensor **out)
{
    VGG_REQUIRE(out != NULL);
    *out = NULL;
    VGG_REQUIRE(shape != NULL);
    size_t bytes;
    VGG_TRY(array_bytes(dtype, shape, &bytes));
    vgg_tensor *tensor = tensor_new(ctx, dtype, shape, bytes);
    if (tensor == NULL) return VGG_ENOMEM;
    tensor->data = tensor->owned = vgg__calloc(ctx, 1, bytes);
    if (tensor->data == NULL) {
        vgg_tensor_free(tensor);
        return VGG_ENOMEM;
    }
    *out = tensor;
    return VGG_OK;
}

vgg_status vgg_tensor_wrap(vgg_context *ctx, vgg_dtype dtype, const vgg_shape *shape,
                           void *data, void (*release)(void *cookie), void *cookie,
                           vgg_tensor **out)
{
    VGG_REQUIRE(out != NULL);
    *out = NULL;
    VGG_REQUIRE(shape != NULL);
    VGG_REQUIRE(data != NULL);
    size_t bytes;
    VGG_TRY(array_bytes(dtype, shape, &bytes));
    const size_t element = vgg_dtype_size(dtype);
    if ((uintptr_t)data % element != 0)
        return vgg__fail(VGG_EINVAL,
                         "vgg_tensor_wrap: data of %s must be aligned to %zu",
                         vgg_dtype_name(dtype), element);
    vgg_tensor *tensor = tensor_new(ctx, dtype, shape, bytes);
    if (tensor == NULL) return VGG_ENOMEM;
    tensor->data = data;
    tensor->release = release;
    tensor->cookie = cookie;
    *out = tensor;
    return VGG_OK;
}

vgg_status vgg_tensor_view(vgg_tensor *tensor, uint32_t first, uint32_t count,
                           vgg_tensor **out)
{
    VGG_REQUIRE(out != NULL);
    *out = NULL;
    VGG_REQUIRE(tensor != NULL);
    if (tensor->shape.rank == 0)
        return vgg__fail(VGG_EINVAL, "vgg_tensor_view: a scalar has no rows");
    const uint32_t rows = tensor->shape.dim[0];
    if (first > rows || count > rows - first)
        return vgg__fail(VGG_EINVAL,
                         "vgg_tensor_view: %u rows from row %u, the tensor has %u",
                         count, first, rows);
    const size_t row = rows > 0 ? (size_t)(tensor->bytes / rows) : 0;
    vgg_shape shape = tensor->shape;
    shape.dim[0] = count;
    vgg_tensor *view = tensor_new(tensor->ctx, tensor->dtype, &shape, row * count);
    if (view == NULL) return VGG_ENOMEM;
    view->data = (char *)tensor->data + row * first;
    view->parent = vgg_tensor_ref(tensor->parent != NULL ? tensor->parent : tensor);
    *out = view;
    return VGG_OK;
}

vgg_tensor *vgg_tensor_ref(vgg_tensor *tensor)
{
    if (tensor != NULL)
        atomic_fetch_add_explicit(&tensor->refs, 1, memory_order_relaxed);
    return tensor;
}

void vgg_tensor_free(vgg_tensor *tensor)
{
    if (tensor == NULL) return;
    if (atomic_fetch_sub_explicit(&tensor->refs, 1, memory_order_acq_rel) != 1) return;
    vgg__free(tensor->owned);
    if (tensor->release != NULL) tensor->release(tensor->cookie);
    vgg_tensor_free(tensor->parent);
    vgg_context *ctx = tensor->ctx;
    vgg__free(tensor);
    vgg__context_unref(ctx);
}

vgg_dtype vgg_tensor_dtype(const vgg_tensor *tensor)
{
    return tensor != NULL ? tensor->dtype : VGG_F32;
}

const vgg_shape *vgg_tensor_shape(const vgg_tensor *tensor)
{
    return tensor != NULL ? &tensor->shape : NULL;
}

void *vgg_tensor_data(vgg_tensor *tensor)
{
    return tensor != NULL ? tensor->data : NULL;
}

const void *vgg_tensor_data_const(const vgg_tensor *tensor)
{
    return tensor != NULL ? tensor->data : NULL;
}

uint64_t vgg_tensor_bytes(const vgg_tensor *tensor)
{
    return tensor != NULL ? tensor->bytes : 0;
}
