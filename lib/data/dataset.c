/* SPDX-License-Identifier: Apache-2.0 */
/* The data set: images in memory, or a caller's source, behind one way to read a
 * sample. */
#include "data/dataset.h"

#include "core/context.h"
#include "core/error.h"
#include "core/memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* What every kind has: counts, shape, and numbers as names of its classes. */
static vgg_status create(vgg_context *ctx, const vgg_source *source, vgg_dataset **out)
{
    vgg_dataset *const data = vgg__calloc(ctx, 1, sizeof *data);
    if (data == NULL) return VGG_ENOMEM;
    data->numbers = vgg__calloc(ctx, source->classes, sizeof *data->numbers);
    if (data->numbers == NULL) {
        vgg__free(data);
        return VGG_ENOMEM;
    }
    for (uint32_t i = 0; i < source->classes; i++)
        snprintf(data->numbers[i], sizeof data->numbers[i], "%" PRIu32, i);
    atomic_init(&data->refs, 1);
    data->ctx = vgg__context_ref(ctx);
    data->source = *source;
    data->shape = (vgg_shape){
        3, {source->channels, source->height, source->width}}; /* [c][h][w] */
    data->image_bytes = (size_t)source->channels * source->height * source->width;
    *out = data;
    return VGG_OK;
}

/* Sizes that the rest of the library can count on. `what` begins the text. */
static vgg_status check_sizes(const char *what, const vgg_source *source)
{
    if (source->count == 0 || source->channels == 0 || source->height == 0 ||
        source->width == 0)
        return vgg__fail(VGG_EINVAL,
                         "%s: %" PRIu64 " images of %" PRIu32 "x%" PRIu32 "x%" PRIu32
                         ", expected at least 1 of each",
                         what, source->count, source->channels, source->height,
                         source->width);
    if (source->height > VGG_MAX_SIDE || source->width > VGG_MAX_SIDE ||
        source->channels > VGG_MAX_SIDE)
        return vgg__fail(
            VGG_ELIMIT,
            "%s: images of %" PRIu32 "x%" PRIu32 "x%" PRIu32 ", at most %d each", what,
            source->channels, source->height, source->width, VGG_MAX_SIDE);
    if (source->classes == 0)
        return vgg__fail(VGG_EINVAL, "%s: 0 classes, expected at least 1", what);
    if (source->classes > VGG_MAX_CLASSES)
        return vgg__fail(VGG_ELIMIT, "%s: %" PRIu32 " classes, at most %d", what,
                         source->classes, VGG_MAX_CLASSES);
    return VGG_OK;
}

/* A data set of one class is legal, and nearly always a mistake. */
static void warn_if_one_class(const vgg_dataset *data)
{
    const uint64_t count = data->source.count;
    for (uint64_t i = 1; i < count; i++)
        if (data->labels[i] != data->labels[0]) return;
    if (count > 1 && data->source.classes > 1)
        vgg__log(data->ctx, VGG_LOG_WARNING,
                 "data set: all %" PRIu64 " samples are of class %" PRIu32, count,
                 data->labels[0]);
}

vgg_status vgg__dataset_create(vgg_context *ctx, vgg_tensor *images, uint32_t *labels,
                               uint32_t classes, vgg_dataset **out)
{
    *out = NULL;
    const uint32_t *const dim = vgg_tensor_shape(images)->dim; /* [n][c][h][w] */
    const vgg_source source = {.count = dim[0],
                               .channels = dim[1],
                               .height = dim[2],
                               .width = dim[3],
                               .classes = classes};
    VGG_TRY(check_sizes("data set", &source));
    VGG_TRY(create(ctx, &source, out));
    (*out)->images = images;
    (*out)->labels = labels;
    warn_if_one_class(*out);
    return VGG_OK;
}

static vgg_status check_labels(const uint32_t *labels, uint64_t count, uint32_t classes)
{
    for (uint64_t i = 0; i < count; i++)
        if (labels[i] >= classes)
            return vgg__fail(VGG_EINVAL,
                             "label of sample %" PRIu64 " is %" PRIu32
                             ", expected below %" PRIu32,
                             i, labels[i], classes);
    return VGG_OK;
}

vgg_status vgg_dataset_from_arrays(vgg_context *ctx, vgg_tensor *images,
                                   const uint32_t *labels, uint32_t classes,
                                   vgg_dataset **out)
{
    VGG_REQUIRE(out != NULL);
    *out = NULL;
    VGG_REQUIRE(images != NULL && labels != NULL);
    const vgg_shape *const shape = vgg_tensor_shape(images);
    if (vgg_tensor_dtype(images) != VGG_U8)
        return vgg__fail(VGG_EINVAL, "images: type is %s, expected u8",
                         vgg_dtype_name(vgg_tensor_dtype(images)));
    if (shape->rank != 4)
        return vgg__fail(VGG_ESHAPE,
                         "images: %" PRIu32 " axes, expected 4 ([n][c][h][w])",
                         shape->rank);
    const size_t count = shape->dim[0];
    VGG_TRY(check_labels(labels, count, classes));
    uint32_t *const copy = vgg__calloc(ctx, count, sizeof *copy);
    if (copy == NULL) return VGG_ENOMEM;
    memcpy(copy, labels, count * sizeof *copy);
    const vgg_status status = vgg__dataset_create(ctx, images, copy, classes, out);
    if (status == VGG_OK)
        vgg_tensor_ref(images);
    else
        vgg__free(copy);
    return status;
}

vgg_status vgg_dataset_from_source(vgg_context *ctx, const vgg_source *source,
                                   vgg_dataset **out)
{
    VGG_REQUIRE(out != NULL);
    *out = NULL;
    VGG_REQUIRE(source != NULL && source->read != NULL);
    VGG_TRY(check_sizes("source", source));
    return create(ctx, source, out);
}

vgg_dataset *vgg__dataset_ref(vgg_dataset *data)
{
    atomic_fetch_add_explicit(&data->refs, 1, memory_order_relaxed);
    return data;
}

void vgg_dataset_free(vgg_dataset *data)
{
    if (data == NULL) return;
    if (atomic_fetch_sub_explicit(&data->refs, 1, memory_order_acq_rel) != 1) return;
    if (data->source.close != NULL) data->source.close(data->source.cookie);
    vgg_context *const ctx = data->ctx;
    vgg_tensor_free(data->images);
    vgg__free(data->labels);
    vgg__free(data->numbers);
    vgg__free(data->own_names);
    vgg__free(data);
    vgg__context_unref(ctx);
}

uint64_t vgg_dataset_count(const vgg_dataset *data)
{
    return data != NULL ? data->source.count : 0;
}

const vgg_shape *vgg_dataset_shape(const vgg_dataset *data)
{
    return data != NULL ? &data->shape : NULL;
}

uint32_t vgg_dataset_classes(const vgg_dataset *data)
{
    return data != NULL ? data->source.classes : 0;
}

void vgg__dataset_set_names(vgg_dataset *data, const char *const *names)
{
    data->names = names;
}

vgg_status vgg_dataset_name_classes(vgg_dataset *data, const char *const *names)
{
    VGG_REQUIRE(data != NULL && names != NULL);
    const uint32_t classes = data->source.classes;
    size_t bytes = classes * sizeof(char *);
    for (uint32_t i = 0; i < classes; i++) {
        if (names[i] == NULL)
            return vgg__fail(VGG_EINVAL,
                             "name of class %" PRIu32 " is NULL, expected %" PRIu32
                             " names",
                             i, classes);
        bytes += strlen(names[i]) + 1;
    }
    const char **const own = vgg__alloc(data->ctx, bytes);
    if (own == NULL) return VGG_ENOMEM;
    char *text = (char *)(own + classes);
    for (uint32_t i = 0; i < classes; i++) {
        const size_t size = strlen(names[i]) + 1;
        own[i] = memcpy(text, names[i], size);
        text += size;
    }
    vgg__free(data->own_names);
    data->names = own;
    data->own_names = own;
    return VGG_OK;
}

const char *vgg_dataset_class_name(const vgg_dataset *data, uint32_t index)
{
    if (data == NULL || index >= data->source.classes) return NULL;
    return data->names != NULL ? data->names[index] : data->numbers[index];
}

/* A reason is what `read` leaves as the last error: its own, or that of a function of
 * the library whose failure it passes on. */
int vgg_source_fail(const char *reason)
{
    vgg__fail(VGG_EIO, "%s", reason != NULL ? reason : "");
    return -1;
}

static vgg_status read_source(const vgg_dataset *data, uint64_t index, uint8_t *image,
                              uint32_t *label)
{
    static const struct vgg__error none = {""};
    const vgg_source *const source = &data->source;
    uint32_t found = source->classes;
    struct vgg__error before;
    vgg__error_keep(&before);
    vgg__error_restore(&none);
    const int result = source->read(source->cookie, index, image, &found);
    if (result != 0 && vgg_last_error()[0] != '\0')
        return vgg__fail(VGG_EIO, "sample %" PRIu64 ": %s", index, vgg_last_error());
    vgg__error_restore(&before);
    if (result != 0)
        return vgg__fail(VGG_EIO, "sample %" PRIu64 ": the source's read returned %d",
                         index, result);
    if (found >= source->classes)
        return vgg__fail(VGG_EMISMATCH,
                         "sample %" PRIu64 ": the source gave class %" PRIu32
                         ", expected below %" PRIu32,
                         index, found, source->classes);
    *label = found;
    return VGG_OK;
}

vgg_status vgg_dataset_read(const vgg_dataset *data, uint64_t index, uint8_t *image,
                            uint32_t *label)
{
    VGG_REQUIRE(label != NULL);
    *label = 0;
    VGG_REQUIRE(data != NULL && image != NULL);
    if (index >= data->source.count)
        return vgg__fail(VGG_EINVAL, "sample %" PRIu64 ", expected below %" PRIu64,
                         index, data->source.count);
    if (data->images == NULL) return read_source(data, index, image, label);
    const uint8_t *const all = vgg_tensor_data_const(data->images);
    memcpy(image, all + index * data->image_bytes, data->image_bytes);
    *label = data->labels[index];
    return VGG_OK;
}
