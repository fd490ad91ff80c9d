/* SPDX-License-Identifier: Apache-2.0 */
/* Sequential, bounded reading of a plain or gzip file: see reader.h.
 *
 * The first bytes of the content are read at open and kept in `head`: reads are served
 * from there first, and a wrong format is named by them. */
#include "io/reader.h"

#include "core/error.h"
#include "core/memory.h"
#include "io/file.h"
#include "io/gzip.h"
#include "io/sniff.h"

#include <string.h>

struct vgg__reader {
    struct vgg__file file;
    struct vgg__gzip gzip;
    bool is_gzip;
    uint8_t head[VGG_SNIFF_SIZE];
    size_t head_size, head_taken;
};

/* Content behind the head: up to `size` bytes, fewer at its end only. */
static vgg_status read_content(struct vgg__reader *reader, void *to, size_t size,
                               size_t *got)
{
    if (reader->is_gzip)
        return vgg__gzip_read(&reader->gzip, &reader->file, to, size, got);
    return vgg__file_read(&reader->file, to, size, got);
}

static vgg_status start(struct vgg__reader *reader, vgg_context *ctx, const char *path)
{
    struct vgg__file *const file = &reader->file;
    VGG_TRY(vgg__file_open(file, ctx, path));
    VGG_TRY(vgg__file_fill(file));
    const uint8_t *const magic = file->buffer + file->begin;
    reader->is_gzip =
        file->end - file->begin >= 2 && magic[0] == 0x1f && magic[1] == 0x8b;
    if (reader->is_gzip) VGG_TRY(vgg__gzip_open(&reader->gzip, ctx, file));
    return read_content(reader, reader->head, sizeof reader->head, &reader->head_size);
}

vgg_status vgg__reader_open(vgg_context *ctx, const char *path,
                            struct vgg__reader **out)
{
    *out = NULL;
    struct vgg__reader *const reader = vgg__calloc(ctx, 1, sizeof *reader);
    if (reader == NULL) return VGG_ENOMEM;
    reader->file.fd = -1;
    const vgg_status status = start(reader, ctx, path);
    if (status != VGG_OK) {
        vgg__reader_close(reader);
        return status;
    }
    *out = reader;
    return VGG_OK;
}

void vgg__reader_close(struct vgg__reader *reader)
{
    if (reader == NULL) return;
    vgg__gzip_close(&reader->gzip);
    vgg__file_close(&reader->file);
    vgg__free(reader);
}

const char *vgg__reader_name(const struct vgg__reader *reader)
{
    return reader->file.name;
}

bool vgg__reader_is_gzip(const struct vgg__reader *reader)
{
    return reader->is_gzip;
}

uint64_t vgg__reader_most(const struct vgg__reader *reader)
{
    const struct vgg__file *const file = &reader->file;
    const uint64_t in_head = reader->head_size - reader->head_taken;
    uint64_t total = file->size, gone = file->taken;
    if (reader->is_gzip) {
        if (__builtin_mul_overflow(total, VGG_DEFLATE_RATIO, &total))
            total = UINT64_MAX / 2;
        gone = reader->gzip.produced;
    }
    return (total > gone ? total - gone : 0) + in_head;
}

static vgg_status read_up_to(struct vgg__reader *reader, void *to, size_t size,
                             size_t *got)
{
    size_t from_head = reader->head_size - reader->head_taken;
    if (from_head > size) from_head = size;
    memcpy(to, reader->head + reader->head_taken, from_head);
    reader->head_taken += from_head;
    const vgg_status status =
        read_content(reader, (uint8_t *)to + from_head, size - from_head, got);
    *got += from_head;
    return status;
}

vgg_status vgg__reader_read(struct vgg__reader *reader, void *to, size_t size,
                            const char *field)
{
    size_t got = 0;
    VGG_TRY(read_up_to(reader, to, size, &got));
    if (got == size) return VGG_OK;
    /* A gzip member that ends well but early: what is behind it may be the reason. */
    if (reader->is_gzip) VGG_TRY(vgg__gzip_finish(&reader->gzip, &reader->file));
    return vgg__fail(VGG_ETRUNCATED, "%s: ends in %s: %zu of %zu bytes are there",
                     reader->file.name, field, got, size);
}

vgg_status vgg__reader_count(struct vgg__reader *reader, uint64_t *count)
{
    *count = 0;
    for (size_t got = 1; got > 0;) {
        uint8_t bytes[4096];
        VGG_TRY(read_up_to(reader, bytes, sizeof bytes, &got));
        *count += got;
    }
    return vgg__reader_finish(reader);
}

vgg_status vgg__reader_finish(struct vgg__reader *reader)
{
    uint8_t byte;
    size_t got = 0;
    VGG_TRY(read_up_to(reader, &byte, 1, &got));
    if (got > 0)
        return vgg__fail(VGG_EFORMAT, "%s: has more bytes than its header says",
                         reader->file.name);
    return reader->is_gzip ? vgg__gzip_finish(&reader->gzip, &reader->file) : VGG_OK;
}

const char *vgg__reader_guess(const struct vgg__reader *reader)
{
    return vgg__sniff(reader->head, reader->head_size);
}

vgg_status vgg__reader_refuse(const struct vgg__reader *reader, const char *expected)
{
    const char *const guess = vgg__reader_guess(reader);
    if (guess != NULL)
        return vgg__fail(VGG_EUNSUPPORTED, "%s: is %s%s, expected %s",
                         reader->file.name, guess,
                         reader->is_gzip ? " within gzip" : "", expected);
    uint8_t first[4] = {0};
    memcpy(first, reader->head, reader->head_size < 4 ? reader->head_size : 4);
    return vgg__fail(VGG_EFORMAT, "%s: begins with %02x %02x %02x %02x, expected %s",
                     reader->file.name, first[0], first[1], first[2], first[3],
                     expected);
}
