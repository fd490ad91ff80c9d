/* SPDX-License-Identifier: Apache-2.0 */
/* Pictures of any size brought to one.
 *
 * What covers is as torchvision makes it: Resize(side) gives the shorter side exactly
 * and cuts the longer one's fraction off, CenterCrop(side) takes the middle. */
#include "core/error.h"
#include "core/fpmode.h"
#include "core/memory.h"
#include "data/dataset.h"
#include "data/resize.h"
#include "data/transform.h"
#include "tensor/tensor.h"

#include <inttypes.h>
#include <string.h>

/* From the picture to what is resized to what is kept of it. */
struct way {
    struct vgg__size from, scaled, to;
    uint32_t top, left; /* of `to` in `scaled` */
};

static vgg_status check_picture(const char *name, const vgg_tensor *tensor)
{
    const uint32_t *const dim = tensor->shape.dim; /* [c][h][w] */
    if (tensor->dtype != VGG_U8)
        return vgg__fail(VGG_EINVAL, "%s: type is %s, expected u8", name,
                         vgg_dtype_name(tensor->dtype));
    if (tensor->shape.rank != 3 || dim[0] == 0 || dim[1] == 0 || dim[2] == 0) {
        char text[96];
        vgg_shape_text(&tensor->shape, text, sizeof text);
        return vgg__fail(VGG_ESHAPE, "%s is %s, expected [c][h][w] of pixels", name,
                         text);
    }
    if (dim[1] > VGG_MAX_SIDE || dim[2] > VGG_MAX_SIDE)
        return vgg__fail(VGG_ELIMIT,
                         "%s: %" PRIu32 "x%" PRIu32 " pixels, at most %d a side", name,
                         dim[1], dim[2], VGG_MAX_SIDE);
    return VGG_OK;
}

static vgg_status find_way(uint32_t fit, const vgg_tensor *input,
                           const vgg_tensor *output, struct way *way)
{
    const uint32_t *const a = input->shape.dim, *const b = output->shape.dim;
    const uint64_t h = a[1], w = a[2], to_h = b[1], to_w = b[2];
    uint64_t tall = to_h, wide = to_w;
    if (fit == VGG_FIT_COVER && to_w * h >= to_h * w)
        tall = h * to_w / w;
    else if (fit == VGG_FIT_COVER)
        wide = w * to_h / h;
    if (tall > VGG_MAX_SIDE || wide > VGG_MAX_SIDE)
        return vgg__fail(VGG_ELIMIT,
                         "a picture of %" PRIu32 "x%" PRIu32 " that covers %" PRIu32
                         "x%" PRIu32 " has %" PRIu64 "x%" PRIu64
                         " pixels, at most %d a side",
                         a[1], a[2], b[1], b[2], tall, wide, VGG_MAX_SIDE);
    way->from = (struct vgg__size){a[1], a[2]};
    way->scaled = (struct vgg__size){(uint32_t)tall, (uint32_t)wide};
    way->to = (struct vgg__size){b[1], b[2]};
    way->top = vgg__crop_start(way->scaled.height, way->to.height);
    way->left = vgg__crop_start(way->scaled.width, way->to.width);
    return VGG_OK;
}

/* The part of one channel that is kept: `from` is [scaled.height][scaled.width]. */
static void cut(const struct way *way, const uint8_t *from, uint8_t *to)
{
    from += (size_t)way->top * way->scaled.width + way->left;
    for (uint32_t y = 0; y < way->to.height; y++)
        memcpy(to + (size_t)y * way->to.width, from + (size_t)y * way->scaled.width,
               way->to.width);
}

static vgg_status make(vgg_context *ctx, const struct way *way, uint32_t rule,
                       const vgg_tensor *input, vgg_tensor *output)
{
    const size_t from_plane = (size_t)way->from.height * way->from.width;
    const size_t to_plane = (size_t)way->to.height * way->to.width;
    const bool same = way->scaled.height == way->from.height &&
                      way->scaled.width == way->from.width; /* by every rule */
    const uint8_t *const from = vgg_tensor_data_const(input);
    uint8_t *const to = vgg_tensor_data(output);
    struct vgg__resize *resize = NULL;
    uint8_t *plane = NULL;
    if (!same) {
        plane = vgg__alloc(ctx, (size_t)way->scaled.height * way->scaled.width);
        if (plane == NULL) return VGG_ENOMEM;
        const vgg_status status = vgg__resize_create(ctx, (vgg_resize_rule)rule,
                                                     way->from, way->scaled, &resize);
        if (status != VGG_OK) {
            vgg__free(plane);
            return status;
        }
    }
    for (uint32_t c = 0; c < input->shape.dim[0]; c++) {
        const uint8_t *channel = from + c * from_plane;
        if (!same) vgg__resize_plane(resize, channel, plane);
        cut(way, same ? channel : plane, to + c * to_plane);
    }
    vgg__resize_free(resize);
    vgg__free(plane);
    return VGG_OK;
}

static bool overlap(const vgg_tensor *a, const vgg_tensor *b)
{
    const uintptr_t x = (uintptr_t)a->data, y = (uintptr_t)b->data;
    return x < y + b->bytes && y < x + a->bytes;
}

vgg_status vgg_image_fit(const vgg_tensor *input, uint32_t fit, uint32_t rule,
                         vgg_tensor *output)
{
    VGG_REQUIRE(input != NULL && output != NULL);
    VGG_REQUIRE(fit <= VGG_FIT_STRETCH);
    VGG_REQUIRE(rule <= VGG_RESIZE_PILLOW);
    VGG_TRY(check_picture("input", input));
    VGG_TRY(check_picture("output", output));
    if (input->shape.dim[0] != output->shape.dim[0])
        return vgg__fail(VGG_ESHAPE,
                         "output has %" PRIu32 " channels, and the input %" PRIu32,
                         output->shape.dim[0], input->shape.dim[0]);
    if (overlap(input, output))
        return vgg__fail(VGG_EINVAL, "output lies where the input is, expected memory "
                                     "of its own");
    struct way way = {.top = 0};
    VGG_TRY(find_way(fit, input, output, &way));
    const uint64_t mode = vgg__fpmode_enter();
    const vgg_status status = make(output->ctx, &way, rule, input, output);
    vgg__fpmode_leave(mode);
    return status;
}
