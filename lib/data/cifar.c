/* SPDX-License-Identifier: Apache-2.0 */
/* CIFAR, the binary version: records without any header, each of one label byte
 * (CIFAR-10) or two (CIFAR-100: coarse, fine), then 3 x 32 x 32 pixels, [c][h][w].
 *
 * A file's number of records follows from its size. A gzip file doesn't tell its size
 * reliably, so it's inflated once to count and once to read: nothing is allocated for
 * records that aren't there. */
#include "core/context.h"
#include "core/error.h"
#include "core/memory.h"
#include "data/dataset.h"
#include "io/reader.h"

#include <inttypes.h>
#include <string.h>
#include <zlib.h>

#define PIXELS       (3 * 32 * 32)
#define MOST_LABELS  2
#define MOST_FILES   1024
#define MOST_RECORDS INT32_MAX

static const struct format {
    const char *name;
    uint32_t classes;
    uint32_t labels;             /* bytes */
    uint8_t below[MOST_LABELS];  /* each label is below this; the last is the class */
    const char *is[MOST_LABELS]; /* what it's called */
} formats[] = {
    {"CIFAR-10", 10, 1, {10, 0}, {"label", NULL}},
    {"CIFAR-100", 100, 2, {20, 100}, {"coarse label", "fine label"}},
};

/* A file on its way into the data set. */
struct part {
    const char *path;
    uint64_t records;
    uint32_t crc; /* of its pixels: the same file twice is noticed */
};

static uint64_t record_bytes(const struct format *format)
{
    return format->labels + PIXELS;
}

/* A size that is no whole number of records: say what the file may be instead. */
static vgg_status refuse_size(const struct vgg__reader *reader, uint64_t size,
                              const struct format *format)
{
    const char *const name = vgg__reader_name(reader);
    if (size == 0) return vgg__fail(VGG_ETRUNCATED, "%s: is empty", name);
    if (vgg__reader_guess(reader) != NULL)
        return vgg__reader_refuse(reader, "the binary version of CIFAR");
    const struct format *const other = &formats[format == &formats[0]];
    if (size % record_bytes(other) == 0)
        return vgg__fail(VGG_EMISMATCH, "%s: has the size of a %s file, expected %s",
                         name, other->name, format->name);
    return vgg__fail(VGG_ETRUNCATED,
                     "%s: ends within record %" PRIu64 ": %" PRIu64 " of %" PRIu64
                     " bytes are there",
                     name, size / record_bytes(format), size % record_bytes(format),
                     record_bytes(format));
}

static vgg_status count_opened(struct vgg__reader *reader, const struct format *format,
                               uint64_t per_file, uint64_t *records)
{
    uint64_t size = vgg__reader_most(reader);
    if (vgg__reader_is_gzip(reader)) VGG_TRY(vgg__reader_count(reader, &size));
    if (size == 0 || size % record_bytes(format) != 0)
        return refuse_size(reader, size, format);
    *records = size / record_bytes(format);
    if (per_file != 0 && *records != per_file)
        return vgg__fail(VGG_EMISMATCH,
                         "%s: has %" PRIu64 " records, expected %" PRIu64,
                         vgg__reader_name(reader), *records, per_file);
    if (*records > MOST_RECORDS)
        return vgg__fail(VGG_ELIMIT, "%s: has %" PRIu64 " records, at most %d",
                         vgg__reader_name(reader), *records, MOST_RECORDS);
    return VGG_OK;
}

static vgg_status count_records(vgg_context *ctx, struct part *part,
                                const struct format *format, uint64_t per_file)
{
    struct vgg__reader *reader = NULL;
    VGG_TRY(vgg__reader_open(ctx, part->path, &reader));
    const vgg_status status = count_opened(reader, format, per_file, &part->records);
    vgg__reader_close(reader);
    return status;
}

static vgg_status read_record(struct vgg__reader *reader, const struct format *format,
                              uint64_t record, uint8_t *pixels, uint32_t *label)
{
    uint8_t bytes[MOST_LABELS];
    VGG_TRY(vgg__reader_read(reader, bytes, format->labels, "a label"));
    for (uint32_t i = 0; i < format->labels; i++) {
        if (bytes[i] < format->below[i]) continue;
        if (record == 0 && vgg__reader_guess(reader) != NULL)
            return vgg__reader_refuse(reader, "the binary version of CIFAR");
        return vgg__fail(VGG_EMISMATCH,
                         "%s: %s of record %" PRIu64 " is %u, expected below %u",
                         vgg__reader_name(reader), format->is[i], record, bytes[i],
                         format->below[i]);
    }
    *label = bytes[format->labels - 1];
    return vgg__reader_read(reader, pixels, PIXELS, "pixels");
}

static vgg_status read_part(vgg_context *ctx, struct part *part,
                            const struct format *format, uint8_t *pixels,
                            uint32_t *labels)
{
    struct vgg__reader *reader = NULL;
    VGG_TRY(vgg__reader_open(ctx, part->path, &reader));
    vgg_status status = VGG_OK;
    for (uint64_t i = 0; i < part->records && status == VGG_OK; i++) {
        uint8_t *const image = pixels + i * PIXELS;
        status = read_record(reader, format, i, image, &labels[i]);
        part->crc = (uint32_t)crc32(part->crc, image, PIXELS);
    }
    if (status == VGG_OK) status = vgg__reader_finish(reader);
    vgg__reader_close(reader);
    return status;
}

/* Two copies of a batch under different names train without any error, only worse. */
static void warn_if_seen_before(vgg_context *ctx, const struct part *parts,
                                uint32_t index)
{
    for (uint32_t i = 0; i < index; i++)
        if (parts[i].crc == parts[index].crc &&
            parts[i].records == parts[index].records)
            vgg__log(ctx, VGG_LOG_WARNING, "%s has the same images as %s",
                     parts[index].path, parts[i].path);
}

static vgg_status read_parts(vgg_context *ctx, struct part *parts, uint32_t count,
                             const struct format *format, vgg_dataset **out)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < count; i++) total += parts[i].records;
    if (total > MOST_RECORDS)
        return vgg__fail(VGG_ELIMIT,
                         "%s: %" PRIu64 " records in %" PRIu32 " files, at most %d",
                         format->name, total, count, MOST_RECORDS);
    const vgg_shape shape = {4, {(uint32_t)total, 3, 32, 32}};
    vgg_tensor *images = NULL;
    VGG_TRY(vgg_tensor_create(ctx, VGG_U8, &shape, &images));
    vgg_status status = VGG_ENOMEM;
    uint32_t *const labels = vgg__calloc(ctx, total, sizeof *labels);
    if (labels == NULL) goto fail;
    uint8_t *const pixels = vgg_tensor_data(images);
    for (uint64_t i = 0, done = 0; i < count; done += parts[i++].records) {
        status =
            read_part(ctx, &parts[i], format, pixels + done * PIXELS, labels + done);
        if (status != VGG_OK) goto fail;
        warn_if_seen_before(ctx, parts, (uint32_t)i);
    }
    status = vgg__dataset_create(ctx, images, labels, format->classes, out);
    if (status == VGG_OK) return VGG_OK;
fail:
    vgg__free(labels);
    vgg_tensor_free(images);
    return status;
}

static vgg_status check_paths(const char *const *files, uint32_t count)
{
    if (count == 0 || count > MOST_FILES)
        return vgg__fail(VGG_EINVAL, "CIFAR: %" PRIu32 " files, expected 1 to %d",
                         count, MOST_FILES);
    for (uint32_t i = 0; i < count; i++) {
        if (files[i] == NULL)
            return vgg__fail(VGG_EINVAL, "CIFAR: path %" PRIu32 " is NULL", i);
        for (uint32_t k = 0; k < i; k++)
            if (strcmp(files[i], files[k]) == 0)
                return vgg__fail(VGG_EINVAL, "CIFAR: %s is given twice", files[i]);
    }
    return VGG_OK;
}

vgg_status vgg__cifar_open(vgg_context *ctx, const char *const *files, uint32_t count,
                           uint32_t classes, uint64_t per_file, vgg_dataset **out)
{
    VGG_TRY(check_paths(files, count));
    const struct format *const format = &formats[classes == 100];
    struct part *const parts = vgg__calloc(ctx, count, sizeof *parts);
    if (parts == NULL) return VGG_ENOMEM;
    vgg_status status = VGG_OK;
    for (uint32_t i = 0; i < count && status == VGG_OK; i++) {
        parts[i].path = files[i];
        status = count_records(ctx, &parts[i], format, per_file);
    }
    if (status == VGG_OK) status = read_parts(ctx, parts, count, format, out);
    vgg__free(parts);
    return status;
}

vgg_status vgg_dataset_open_cifar(vgg_context *ctx, const char *const *files,
                                  uint32_t count, uint32_t classes, vgg_dataset **out)
{
    VGG_REQUIRE(out != NULL);
    *out = NULL;
    VGG_REQUIRE(files != NULL);
    VGG_REQUIRE(classes == 10 || classes == 100);
    return vgg__cifar_open(ctx, files, count, classes, 0, out);
}
