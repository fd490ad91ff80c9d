/* SPDX-License-Identifier: Apache-2.0 */
/* From a stored image to the network's input.
 *
 * Up to the crop everything is u8; then a table of 256 entries a channel gives the
 * normalised f32, so the arithmetic of normalising is done once per value, not per
 * pixel. Crop, shift and flip are no passes of their own: they say which input pixel an
 * output pixel looks up. */
#include "data/transform.h"

#include "core/error.h"
#include "core/fpmode.h"
#include "core/memory.h"
#include "core/options.h"
#include "data/dataset.h"
#include "data/resize.h"
#include "tensor/tensor.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

struct vgg__transformer {
    vgg_transform spec;
    vgg_shape output;                 /* [c][h'][w'] */
    struct vgg__size stored, resized; /* before and after the resize */
    uint32_t top, left;               /* of the crop */
    struct vgg__resize *resize;       /* NULL: the size stays */
    uint8_t *plane;                   /* [resized.height][resized.width], with resize */
    float (*table)[256];              /* [c][value] */
};

/* ---- Presets of mean and std: those of gray images for any channel --------------- */

static const struct preset {
    const char *name;
    float mean[VGG_MAX_CHANNELS], std[VGG_MAX_CHANNELS];
} presets[] = {
    {"none", {0.0f, 0.0f, 0.0f, 0.0f}, {1.0f, 1.0f, 1.0f, 1.0f}},
    {"imagenet", {0.485f, 0.456f, 0.406f, 0.0f}, {0.229f, 0.224f, 0.225f, 1.0f}},
    {"fashion-mnist",
     {0.2860f, 0.2860f, 0.2860f, 0.2860f},
     {0.3530f, 0.3530f, 0.3530f, 0.3530f}},
    {"mnist",
     {0.1307f, 0.1307f, 0.1307f, 0.1307f},
     {0.3081f, 0.3081f, 0.3081f, 0.3081f}},
    {"cifar10", {0.4914f, 0.4822f, 0.4465f, 0.0f}, {0.2470f, 0.2435f, 0.2616f, 1.0f}},
    {"cifar100", {0.5071f, 0.4865f, 0.4409f, 0.0f}, {0.2673f, 0.2564f, 0.2762f, 1.0f}},
};

vgg_status vgg_transform_normalize(vgg_transform *transform, const char *name)
{
    VGG_REQUIRE(transform != NULL && name != NULL);
    vgg_transform read; /* refuses a size that can't be */
    VGG_TRY(
        vgg__options_read("vgg_transform", transform, sizeof read, &read, sizeof read));
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        if (strcmp(name, presets[i].name) != 0) continue;
        memcpy(transform->mean, presets[i].mean, sizeof transform->mean);
        memcpy(transform->std, presets[i].std, sizeof transform->std);
        return VGG_OK;
    }
    return vgg__fail(VGG_EINVAL,
                     "normalization %.64s is unknown, expected none, imagenet, "
                     "fashion-mnist, mnist, cifar10 or cifar100",
                     name);
}

/* ---- Checks ---------------------------------------------------------------------- */

static vgg_status check_chance(const char *name, float chance)
{
    if (chance >= 0.0f && chance <= 1.0f) return VGG_OK; /* a NaN is neither */
    return vgg__fail(VGG_EINVAL, "vgg_transform.%s: expected 0 to 1", name);
}

vgg_status vgg__transform_read(const vgg_transform *given, vgg_transform *out)
{
    *out = (vgg_transform)VGG_TRANSFORM_INIT;
    VGG_TRY(vgg__options_read("vgg_transform", given, sizeof *out, out, sizeof *out));
    if (out->resize_rule > VGG_RESIZE_PILLOW)
        return vgg__fail(VGG_EINVAL,
                         "vgg_transform.resize_rule: %" PRIu32 " is unknown",
                         out->resize_rule);
    if (out->resize_height > VGG_MAX_SIDE || out->resize_width > VGG_MAX_SIDE)
        return vgg__fail(VGG_EINVAL,
                         "vgg_transform: resize to %" PRIu32 "x%" PRIu32 ", at most %d",
                         out->resize_height, out->resize_width, VGG_MAX_SIDE);
    VGG_TRY(check_chance("flip", out->flip));
    VGG_TRY(check_chance("erase", out->erase));
    for (int i = 0; i < VGG_MAX_CHANNELS; i++)
        if (!isfinite(out->mean[i]) || !isfinite(out->std[i]) || !(out->std[i] > 0.0f))
            return vgg__fail(
                VGG_EINVAL,
                "vgg_transform: mean[%d] must be finite and std[%d] positive", i, i);
    return VGG_OK;
}

/* ---- Making one ready ------------------------------------------------------------ */

/* All sizes that follow from `input`; no memory yet. */
static vgg_status plan(struct vgg__transformer *t, const vgg_shape *input)
{
    const vgg_transform *const spec = &t->spec;
    const uint32_t *const dim = input->dim; /* [c][h][w] */
    if (dim[0] > VGG_MAX_CHANNELS)
        return vgg__fail(VGG_ELIMIT, "images have %" PRIu32 " channels, at most %d",
                         dim[0], VGG_MAX_CHANNELS);
    t->stored = (struct vgg__size){dim[1], dim[2]};
    t->resized = t->stored;
    if (spec->resize_height != 0) t->resized.height = spec->resize_height;
    if (spec->resize_width != 0) t->resized.width = spec->resize_width;
    struct vgg__size out = t->resized;
    if (spec->crop_height != 0) out.height = spec->crop_height;
    if (spec->crop_width != 0) out.width = spec->crop_width;
    if (out.height > t->resized.height || out.width > t->resized.width)
        return vgg__fail(VGG_ESHAPE,
                         "crop is %" PRIu32 "x%" PRIu32 ", image has %" PRIu32
                         "x%" PRIu32,
                         out.height, out.width, t->resized.height, t->resized.width);
    if (spec->shift != 0 && (spec->shift >= out.height || spec->shift >= out.width))
        return vgg__fail(VGG_EINVAL,
                         "shift is %" PRIu32 ", image has only %" PRIu32 "x%" PRIu32,
                         spec->shift, out.height, out.width);
    t->top = vgg__crop_start(t->resized.height, out.height);
    t->left = vgg__crop_start(t->resized.width, out.width);
    t->output = (vgg_shape){3, {dim[0], out.height, out.width}};
    return VGG_OK;
}

static void fill_table(const vgg_transform *spec, uint32_t channels,
                       float (*table)[256])
{
    const uint64_t mode = vgg__fpmode_enter();
    for (uint32_t c = 0; c < channels; c++)
        for (int value = 0; value < 256; value++)
            table[c][value] = ((float)value / 255.0f - spec->mean[c]) / spec->std[c];
    vgg__fpmode_leave(mode);
}

static vgg_status make_resize(vgg_context *ctx, struct vgg__transformer *t)
{
    if (t->resized.height == t->stored.height && t->resized.width == t->stored.width)
        return VGG_OK; /* every rule gives back the image itself */
    t->plane = vgg__alloc(ctx, (size_t)t->resized.height * t->resized.width);
    if (t->plane == NULL) return VGG_ENOMEM;
    const uint64_t mode = vgg__fpmode_enter();
    const vgg_status status = vgg__resize_create(
        ctx, (vgg_resize_rule)t->spec.resize_rule, t->stored, t->resized, &t->resize);
    vgg__fpmode_leave(mode);
    return status;
}

vgg_status vgg__transformer_create(vgg_context *ctx, const vgg_transform *spec,
                                   const vgg_shape *input,
                                   struct vgg__transformer **out)
{
    *out = NULL;
    struct vgg__transformer *const t = vgg__calloc(ctx, 1, sizeof *t);
    if (t == NULL) return VGG_ENOMEM;
    t->spec = *spec;
    vgg_status status = plan(t, input);
    if (status != VGG_OK) goto fail;
    status = VGG_ENOMEM;
    t->table = vgg__calloc(ctx, input->dim[0], sizeof *t->table);
    if (t->table == NULL) goto fail;
    fill_table(spec, input->dim[0], t->table);
    status = make_resize(ctx, t);
    if (status != VGG_OK) goto fail;
    *out = t;
    return VGG_OK;
fail:
    vgg__transformer_free(t);
    return status;
}

void vgg__transformer_free(struct vgg__transformer *t)
{
    if (t == NULL) return;
    vgg__resize_free(t->resize);
    vgg__free(t->plane);
    vgg__free(t->table);
    vgg__free(t);
}

const vgg_shape *vgg__transformer_shape(const struct vgg__transformer *t)
{
    return &t->output;
}

vgg_status vgg__transformer_describe(vgg_context *ctx, const struct vgg__transformer *t,
                                     vgg_data_desc *out)
{
    const uint32_t *const dim = t->output.dim; /* [c][h][w] */
    *out = (vgg_data_desc){
        .stored = {dim[0], t->stored.height, t->stored.width},
        .shown = {dim[0], dim[1], dim[2]},
        .resize_rule = t->resize != NULL ? t->spec.resize_rule : VGG_NO_RESIZE,
        .top = t->top,
        .left = t->left,
        .table = t->table[0],
    };
    if (t->resize == NULL) return VGG_OK;
    return vgg__resize_axes(ctx, t->resize, &out->x, &out->y);
}

/* ---- Applying it ----------------------------------------------------------------- */

static void look_up_row(const float *table, const uint8_t *row, uint32_t width,
                        float *to)
{
    for (uint32_t x = 0; x < width; x++) to[x] = table[row[x]];
}

/* The same where pixels are moved; those from outside are black, which is table[0]. */
static void look_up_moved_row(const float *table, const uint8_t *row, uint32_t width,
                              const struct vgg__augment *augment, float *to)
{
    for (uint32_t x = 0; x < width; x++) {
        const uint32_t shown = augment->flip ? width - 1 - x : x;
        const int64_t from = (int64_t)shown + augment->right;
        to[x] = table[from >= 0 && from < width ? row[from] : 0];
    }
}

/* Crop, shift, flip and normalise one channel. `plane` is [resized.h][resized.w]. */
static void look_up_plane(const struct vgg__transformer *t, const float *table,
                          const uint8_t *plane, const struct vgg__augment *augment,
                          float *to)
{
    const uint32_t height = t->output.dim[1], width = t->output.dim[2];
    const uint8_t *const crop = plane + (size_t)t->top * t->resized.width + t->left;
    for (uint32_t y = 0; y < height; y++, to += width) {
        const int64_t from = (int64_t)y + (augment != NULL ? augment->down : 0);
        if (from < 0 || from >= height) {
            for (uint32_t x = 0; x < width; x++) to[x] = table[0];
            continue;
        }
        const uint8_t *const row = crop + (size_t)from * t->resized.width;
        if (augment == NULL || (augment->right == 0 && !augment->flip))
            look_up_row(table, row, width, to);
        else
            look_up_moved_row(table, row, width, augment, to);
    }
}

/* Set the rectangle of every channel to 0, the mean of normalised pixels. */
static void erase(const vgg_shape *shape, const struct vgg__augment *augment,
                  float *output)
{
    const uint32_t height = shape->dim[1], width = shape->dim[2];
    for (uint32_t c = 0; c < shape->dim[0]; c++)
        for (uint32_t y = 0; y < augment->erase.height; y++) {
            const size_t row = (size_t)c * height + augment->erase.top + y;
            memset(output + row * width + augment->erase.left, 0,
                   augment->erase.width * sizeof *output);
        }
}

void vgg__transformer_apply(struct vgg__transformer *t, const uint8_t *image,
                            const struct vgg__augment *augment, float *output)
{
    const size_t stored = (size_t)t->stored.height * t->stored.width;
    const size_t made = (size_t)t->output.dim[1] * t->output.dim[2];
    for (uint32_t c = 0; c < t->output.dim[0]; c++) {
        const uint8_t *plane = image + c * stored;
        if (t->resize != NULL) {
            vgg__resize_plane(t->resize, plane, t->plane);
            plane = t->plane;
        }
        look_up_plane(t, t->table[c], plane, augment, output + c * made);
    }
    if (augment != NULL && augment->erase.height != 0)
        erase(&t->output, augment, output);
}

/* ---- The public function --------------------------------------------------------- */

static vgg_status check_tensors(const vgg_tensor *input, const vgg_tensor *output)
{
    if (vgg_tensor_dtype(input) != VGG_U8 || vgg_tensor_dtype(output) != VGG_F32)
        return vgg__fail(VGG_EINVAL, "types are %s and %s, expected u8 and f32",
                         vgg_dtype_name(vgg_tensor_dtype(input)),
                         vgg_dtype_name(vgg_tensor_dtype(output)));
    const vgg_shape *const shape = vgg_tensor_shape(input);
    if (shape->rank != 3 || shape->dim[0] == 0 || shape->dim[1] == 0 ||
        shape->dim[2] == 0 || shape->dim[1] > VGG_MAX_SIDE ||
        shape->dim[2] > VGG_MAX_SIDE) {
        char text[96];
        vgg_shape_text(shape, text, sizeof text);
        return vgg__fail(VGG_ESHAPE,
                         "input is %s, expected [c][h][w] of 1 to %d pixels", text,
                         VGG_MAX_SIDE);
    }
    return VGG_OK;
}

static vgg_status check_output(const vgg_shape *expected, const vgg_shape *found)
{
    if (vgg__shape_equal(found, expected)) return VGG_OK;
    char wanted[96], text[96];
    vgg_shape_text(expected, wanted, sizeof wanted);
    vgg_shape_text(found, text, sizeof text);
    return vgg__fail(VGG_ESHAPE, "output is %s, the transform gives %s", text, wanted);
}

vgg_status vgg_transform_apply(const vgg_transform *transform, const vgg_tensor *input,
                               int train, uint64_t seed, uint64_t epoch, uint64_t index,
                               vgg_tensor *output)
{
    VGG_REQUIRE(input != NULL && output != NULL);
    VGG_REQUIRE(epoch < VGG_MAX_EPOCH && index < VGG_MAX_INDEX);
    vgg_transform spec;
    VGG_TRY(vgg__transform_read(transform, &spec));
    VGG_TRY(check_tensors(input, output));
    struct vgg__transformer *t = NULL;
    VGG_TRY(vgg__transformer_create(input->ctx, &spec, &input->shape, &t));
    const vgg_status status = check_output(&t->output, vgg_tensor_shape(output));
    if (status == VGG_OK) {
        const uint64_t mode = vgg__fpmode_enter();
        const struct vgg__sample_place place = {seed, epoch, index};
        struct vgg__augment augment;
        vgg__augment_draw(&spec, t->output.dim[1], t->output.dim[2], &place, &augment);
        vgg__transformer_apply(t, vgg_tensor_data_const(input), train ? &augment : NULL,
                               vgg_tensor_data(output));
        vgg__fpmode_leave(mode);
    }
    vgg__transformer_free(t);
    return status;
}
