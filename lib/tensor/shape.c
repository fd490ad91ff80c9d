/* SPDX-License-Identifier: Apache-2.0 */
/* Element types and shapes: sizes, names, checked products, text. */
#include "core/error.h"

#include <stdio.h>
#include <vgg/tensor.h>

static const struct {
    size_t size;
    const char *name;
} dtypes[] = {
    [VGG_F32] = {4, "f32"}, [VGG_F64] = {8, "f64"}, [VGG_U8] = {1, "u8"},
    [VGG_I32] = {4, "i32"}, [VGG_I64] = {8, "i64"},
};

#define DTYPES        (sizeof dtypes / sizeof *dtypes)
#define MOST_ELEMENTS ((uint64_t)1 << 62)

size_t vgg_dtype_size(vgg_dtype dtype)
{
    return (size_t)dtype < DTYPES ? dtypes[dtype].size : 0;
}

const char *vgg_dtype_name(vgg_dtype dtype)
{
    return (size_t)dtype < DTYPES ? dtypes[dtype].name : "?";
}

vgg_status vgg_shape_count(const vgg_shape *shape, uint64_t *out)
{
    VGG_REQUIRE(out != NULL);
    *out = 0;
    VGG_REQUIRE(shape != NULL);
    if (shape->rank > VGG_MAX_RANK)
        return vgg__fail(VGG_EINVAL, "shape: rank is at most %d, found %u",
                         VGG_MAX_RANK, shape->rank);
    for (uint32_t i = 0; i < shape->rank; i++)
        if (shape->dim[i] == 0) return VGG_OK; /* none, however large the others are */
    uint64_t count = 1;
    for (uint32_t i = 0; i < shape->rank; i++)
        if (__builtin_mul_overflow(count, (uint64_t)shape->dim[i], &count) ||
            count > MOST_ELEMENTS) {
            char text[96];
            vgg_shape_text(shape, text, sizeof text);
            return vgg__fail(VGG_ELIMIT, "shape: %s is over 2^62 elements", text);
        }
    *out = count;
    return VGG_OK;
}

size_t vgg_shape_text(const vgg_shape *shape, char *text, size_t size)
{
    char whole[VGG_MAX_RANK * 11 + 1] = "scalar"; /* "4294967295x" each */
    size_t length = sizeof "scalar" - 1;
    if (shape == NULL || shape->rank > VGG_MAX_RANK) {
        length = (size_t)snprintf(whole, sizeof whole, "?");
    } else if (shape->rank > 0) {
        length = 0;
        for (uint32_t i = 0; i < shape->rank; i++)
            length += (size_t)snprintf(whole + length, sizeof whole - length, "%s%u",
                                       i > 0 ? "x" : "", shape->dim[i]);
    }
    if (text != NULL && size > 0) snprintf(text, size, "%s", whole);
    return length;
}
