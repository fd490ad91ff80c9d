/* SPDX-License-Identifier: Apache-2.0 */
/* IDX, the format of MNIST: two zero bytes, a type, the number of axes, the extents (32
 * bits, big-endian, slowest axis first), then the elements.
 *
 * Both headers are checked, against each other and against what the files can hold,
 * before anything is allocated. */
#include "core/error.h"
#include "core/memory.h"
#include "data/dataset.h"
#include "io/reader.h"

#include <inttypes.h>
#include <string.h>

#define MOST_AXES    4
#define MOST_SAMPLES INT32_MAX

/* Element types of the format; the library reads the first. */
static const struct {
    uint8_t code;
    const char *name;
} types[] = {
    {0x08, "u8"},  {0x09, "i8"},  {0x0b, "i16"},
    {0x0c, "i32"}, {0x0d, "f32"}, {0x0e, "f64"},
};

/* What a file is wanted for. */
struct role {
    const char *axes; /* for error texts */
    uint32_t least_axes, most_axes;
};

static const struct role image_role = {"3 or 4 ([n][h][w] or [n][c][h][w])", 3, 4};
static const struct role label_role = {"1 ([n])", 1, 1};

/* A file whose header is read and checked. */
struct idx {
    struct vgg__reader *reader;
    uint32_t rank, dim[MOST_AXES];
    size_t bytes; /* of the elements */
};

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static vgg_status check_type(const struct idx *idx, uint8_t code)
{
    const char *const name = vgg__reader_name(idx->reader);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (types[i].code != code) continue;
        if (i == 0) return VGG_OK;
        return vgg__fail(VGG_EUNSUPPORTED, "%s: IDX elements are %s, expected u8", name,
                         types[i].name);
    }
    return vgg__fail(VGG_EFORMAT, "%s: IDX type is %02x, expected 08 (u8)", name, code);
}

static vgg_status check_magic(const struct idx *idx, const uint8_t magic[4])
{
    const char *const name = vgg__reader_name(idx->reader);
    if (magic[0] == 0 && magic[1] == 0) return check_type(idx, magic[2]);
    if (magic[3] == 0 && magic[2] == 0 && magic[1] == 0x08)
        return vgg__fail(VGG_EFORMAT,
                         "%s: IDX header is little-endian, the format is big-endian",
                         name);
    return vgg__reader_refuse(idx->reader, "an IDX file");
}

static vgg_status check_rank(const struct idx *idx, const struct role *role,
                             uint32_t rank)
{
    const char *const name = vgg__reader_name(idx->reader);
    if (rank == 0)
        return vgg__fail(VGG_EFORMAT, "%s: IDX header has 0 axes, expected %s", name,
                         role->axes);
    if (rank < role->least_axes || rank > role->most_axes)
        return vgg__fail(VGG_EMISMATCH, "%s: has %" PRIu32 " axes, expected %s%s", name,
                         rank, role->axes,
                         role == &image_role && rank == 1  ? "; these seem to be labels"
                         : role == &label_role && rank > 2 ? "; these seem to be images"
                                                           : "");
    return VGG_OK;
}

/* Extents are at least 1 and within limits, so that no product below can overflow 64
 * bits unseen; idx->bytes becomes their product. */
static vgg_status check_extents(struct idx *idx)
{
    const char *const name = vgg__reader_name(idx->reader);
    idx->bytes = 1;
    for (uint32_t i = 0; i < idx->rank; i++) {
        const uint32_t most = i == 0 ? MOST_SAMPLES : VGG_MAX_SIDE;
        if (idx->dim[i] == 0)
            return vgg__fail(VGG_EFORMAT, "%s: extent of axis %" PRIu32 " is 0", name,
                             i);
        if (idx->dim[i] > most)
            return vgg__fail(VGG_ELIMIT,
                             "%s: extent of axis %" PRIu32 " is %" PRIu32
                             ", at most %" PRIu32,
                             name, i, idx->dim[i], most);
        if (!vgg__mul(idx->bytes, idx->dim[i], &idx->bytes))
            return vgg__fail(VGG_ELIMIT, "%s: extents are too large to multiply", name);
    }
    return VGG_OK;
}

/* The elements that the header promises must be what the file has, or for gzip what it
 * can have. */
static vgg_status check_size(const struct idx *idx)
{
    const uint64_t most = vgg__reader_most(idx->reader);
    const bool is_gzip = vgg__reader_is_gzip(idx->reader);
    if (is_gzip ? idx->bytes <= most : idx->bytes == most) return VGG_OK;
    vgg_shape shape = {.rank = idx->rank};
    memcpy(shape.dim, idx->dim, sizeof idx->dim);
    char text[64];
    vgg_shape_text(&shape, text, sizeof text);
    return vgg__fail(idx->bytes > most ? VGG_ETRUNCATED : VGG_EFORMAT,
                     "%s: header says %s = %zu bytes, file has %s%" PRIu64,
                     vgg__reader_name(idx->reader), text, idx->bytes,
                     is_gzip ? "at most " : "", most);
}

static vgg_status open_idx(vgg_context *ctx, const char *path, const struct role *role,
                           struct idx *out)
{
    uint8_t bytes[4 * MOST_AXES];
    VGG_TRY(vgg__reader_open(ctx, path, &out->reader));
    VGG_TRY(vgg__reader_read(out->reader, bytes, 4, "IDX magic number"));
    VGG_TRY(check_magic(out, bytes));
    out->rank = bytes[3];
    VGG_TRY(check_rank(out, role, out->rank));
    VGG_TRY(vgg__reader_read(out->reader, bytes, 4 * (size_t)out->rank, "IDX extents"));
    for (uint32_t i = 0; i < out->rank; i++) out->dim[i] = be32(bytes + 4 * i);
    VGG_TRY(check_extents(out));
    return check_size(out);
}

/* Labels are bytes in the file and 32 bits in a data set. */
static vgg_status read_labels(const struct idx *idx, uint32_t classes, uint32_t *labels)
{
    uint8_t bytes[4096];
    for (uint32_t done = 0; done < idx->dim[0];) {
        uint32_t n = idx->dim[0] - done;
        if (n > sizeof bytes) n = sizeof bytes;
        VGG_TRY(vgg__reader_read(idx->reader, bytes, n, "labels"));
        for (uint32_t i = 0; i < n; i++) {
            if (bytes[i] >= classes)
                return vgg__fail(
                    VGG_EMISMATCH,
                    "%s: label of sample %" PRIu32 " is %u, expected below "
                    "%" PRIu32,
                    vgg__reader_name(idx->reader), done + i, bytes[i], classes);
            labels[done + i] = bytes[i];
        }
        done += n;
    }
    return vgg__reader_finish(idx->reader);
}

static vgg_status read_pair(vgg_context *ctx, const struct idx *images,
                            const struct idx *labels, uint32_t classes,
                            vgg_dataset **out)
{
    const uint32_t channels = images->rank == 4 ? images->dim[1] : 1;
    const uint32_t *const size = images->dim + images->rank - 2; /* [h][w] */
    const vgg_shape shape = {4, {images->dim[0], channels, size[0], size[1]}};
    vgg_tensor *pixels = NULL;
    VGG_TRY(vgg_tensor_create(ctx, VGG_U8, &shape, &pixels));
    vgg_status status = VGG_ENOMEM;
    uint32_t *const classes_of = vgg__calloc(ctx, labels->dim[0], sizeof *classes_of);
    if (classes_of == NULL) goto fail;
    status = read_labels(labels, classes, classes_of);
    if (status != VGG_OK) goto fail;
    status = vgg__reader_read(images->reader, vgg_tensor_data(pixels), images->bytes,
                              "pixels");
    if (status != VGG_OK) goto fail;
    status = vgg__reader_finish(images->reader);
    if (status != VGG_OK) goto fail;
    status = vgg__dataset_create(ctx, pixels, classes_of, classes, out);
    if (status == VGG_OK) return VGG_OK;
fail:
    vgg__free(classes_of);
    vgg_tensor_free(pixels);
    return status;
}

static vgg_status open_pair(vgg_context *ctx, const char *const paths[2],
                            struct idx idx[2], uint32_t classes, vgg_dataset **out)
{
    VGG_TRY(open_idx(ctx, paths[0], &image_role, &idx[0]));
    VGG_TRY(open_idx(ctx, paths[1], &label_role, &idx[1]));
    if (idx[0].dim[0] != idx[1].dim[0])
        return vgg__fail(VGG_EMISMATCH,
                         "%s has %" PRIu32 " images, %s has %" PRIu32 " labels",
                         vgg__reader_name(idx[0].reader), idx[0].dim[0],
                         vgg__reader_name(idx[1].reader), idx[1].dim[0]);
    return read_pair(ctx, &idx[0], &idx[1], classes, out);
}

vgg_status vgg_dataset_open_idx(vgg_context *ctx, const char *images,
                                const char *labels, uint32_t classes, vgg_dataset **out)
{
    VGG_REQUIRE(out != NULL);
    *out = NULL;
    VGG_REQUIRE(images != NULL && labels != NULL);
    if (classes < 1 || classes > VGG_MAX_CLASSES)
        return vgg__fail(VGG_EINVAL, "classes is %u; expected 1 to %d", classes,
                         VGG_MAX_CLASSES);
    struct idx idx[2] = {{0}, {0}};
    const vgg_status status =
        open_pair(ctx, (const char *const[2]){images, labels}, idx, classes, out);
    vgg__reader_close(idx[0].reader);
    vgg__reader_close(idx[1].reader);
    return status;
}
