/* SPDX-License-Identifier: Apache-2.0 */
/* One gzip member: header, deflate stream, trailer. See gzip.h. */
#include "io/gzip.h"

#include "core/error.h"
#include "core/memory.h"

#include <limits.h>
#include <string.h>

/* Bits of the header's flag byte. */
enum { FTEXT = 1, FHCRC = 2, FEXTRA = 4, FNAME = 8, FCOMMENT = 16, RESERVED = 0xe0 };

#define LONGEST_TEXT 4096 /* bytes of FNAME or FCOMMENT */

static uint32_t le16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t le32(const uint8_t *p)
{
    return le16(p) | le16(p + 2) << 16;
}

static vgg_status truncated(const struct vgg__file *file, const char *field)
{
    return vgg__fail(VGG_ETRUNCATED, "%s: gzip file ends in its %s, at byte %llu",
                     file->name, field, (unsigned long long)file->taken);
}

/* Header bytes go through the CRC that FHCRC stores. */
static vgg_status header_bytes(struct vgg__gzip *gzip, struct vgg__file *file, void *to,
                               size_t size)
{
    size_t got = 0;
    VGG_TRY(vgg__file_read(file, to, size, &got));
    if (got < size) return truncated(file, "header");
    gzip->crc = (uint32_t)crc32(gzip->crc, to, (uInt)size);
    return VGG_OK;
}

static vgg_status skip_extra(struct vgg__gzip *gzip, struct vgg__file *file)
{
    uint8_t bytes[256];
    VGG_TRY(header_bytes(gzip, file, bytes, 2));
    for (size_t left = le16(bytes); left > 0;) {
        const size_t n = left < sizeof bytes ? left : sizeof bytes;
        VGG_TRY(header_bytes(gzip, file, bytes, n));
        left -= n;
    }
    return VGG_OK;
}

static vgg_status skip_text(struct vgg__gzip *gzip, struct vgg__file *file,
                            const char *field)
{
    for (size_t i = 0; i <= LONGEST_TEXT; i++) {
        uint8_t byte;
        VGG_TRY(header_bytes(gzip, file, &byte, 1));
        if (byte == 0) return VGG_OK;
    }
    return vgg__fail(VGG_ELIMIT, "%s: gzip %s is longer than %d bytes", file->name,
                     field, LONGEST_TEXT);
}

static vgg_status check_header_crc(struct vgg__gzip *gzip, struct vgg__file *file)
{
    const uint32_t computed = gzip->crc & 0xffff;
    uint8_t stored[2];
    VGG_TRY(header_bytes(gzip, file, stored, 2));
    if (le16(stored) != computed)
        return vgg__fail(VGG_ECHECKSUM, "%s: gzip header's CRC is %04x, computed %04x",
                         file->name, le16(stored), computed);
    return VGG_OK;
}

static vgg_status read_header(struct vgg__gzip *gzip, struct vgg__file *file)
{
    uint8_t fixed[10]; /* magic, method, flags, time (4), level, system */
    VGG_TRY(header_bytes(gzip, file, fixed, sizeof fixed));
    const unsigned method = fixed[2], flags = fixed[3];
    if (fixed[0] != 0x1f || fixed[1] != 0x8b)
        return vgg__fail(VGG_EFORMAT, "%s: begins with %02x %02x, gzip with 1f 8b",
                         file->name, fixed[0], fixed[1]);
    if (method != 8)
        return vgg__fail(VGG_EUNSUPPORTED,
                         "%s: gzip method is %u, expected 8 (deflate)", file->name,
                         method);
    if (flags & RESERVED)
        return vgg__fail(VGG_EUNSUPPORTED,
                         "%s: gzip flags are %02x, bits 5 to 7 must be 0", file->name,
                         flags);
    if (flags & FEXTRA) VGG_TRY(skip_extra(gzip, file));
    if (flags & FNAME) VGG_TRY(skip_text(gzip, file, "file name"));
    if (flags & FCOMMENT) VGG_TRY(skip_text(gzip, file, "comment"));
    if (flags & FHCRC) VGG_TRY(check_header_crc(gzip, file));
    return VGG_OK;
}

static voidpf zlib_alloc(voidpf ctx, uInt items, uInt size)
{
    return vgg__alloc(ctx, (size_t)items * size);
}

static void zlib_free(voidpf ctx, voidpf memory)
{
    (void)ctx;
    vgg__free(memory);
}

vgg_status vgg__gzip_open(struct vgg__gzip *gzip, vgg_context *ctx,
                          struct vgg__file *file)
{
    *gzip = (struct vgg__gzip){
        .stream = {.zalloc = zlib_alloc, .zfree = zlib_free, .opaque = ctx}};
    VGG_TRY(read_header(gzip, file));
    gzip->crc = 0;
    const int result = inflateInit2(&gzip->stream, -MAX_WBITS); /* raw: no wrapper */
    if (result == Z_MEM_ERROR) return VGG_ENOMEM; /* zlib_alloc() has set the text */
    if (result != Z_OK)
        return vgg__fail(VGG_EUNSUPPORTED, "zlib %s found, made for %s", zlibVersion(),
                         ZLIB_VERSION);
    gzip->open = true;
    return VGG_OK;
}

void vgg__gzip_close(struct vgg__gzip *gzip)
{
    if (gzip->open) inflateEnd(&gzip->stream);
    gzip->open = false;
}

/* One call of inflate() on what is in the file's buffer. */
static vgg_status inflate_some(struct vgg__gzip *gzip, struct vgg__file *file,
                               uint8_t *to, size_t size, size_t *got)
{
    VGG_TRY(vgg__file_fill(file));
    if (file->begin == file->end) return truncated(file, "data");
    z_stream *const z = &gzip->stream;
    const uInt room = size < UINT_MAX ? (uInt)size : UINT_MAX;
    z->next_in = file->buffer + file->begin;
    z->avail_in = (uInt)(file->end - file->begin);
    z->next_out = to;
    z->avail_out = room;
    const int result = inflate(z, Z_NO_FLUSH);
    const size_t used = file->end - file->begin - z->avail_in;
    file->begin += used;
    file->taken += used;
    *got = room - z->avail_out;
    gzip->crc = (uint32_t)crc32(gzip->crc, to, (uInt)*got);
    gzip->produced += *got;
    if (result == Z_STREAM_END) gzip->ended = true;
    if (result == Z_OK || result == Z_STREAM_END) return VGG_OK;
    if (result == Z_MEM_ERROR) return VGG_ENOMEM;
    return vgg__fail(VGG_EFORMAT, "%s: gzip data is damaged near byte %llu: %s",
                     file->name, (unsigned long long)file->taken,
                     z->msg != NULL ? z->msg : "no progress");
}

vgg_status vgg__gzip_read(struct vgg__gzip *gzip, struct vgg__file *file, void *to,
                          size_t size, size_t *got)
{
    *got = 0;
    while (*got < size && !gzip->ended) {
        size_t n = 0;
        VGG_TRY(inflate_some(gzip, file, (uint8_t *)to + *got, size - *got, &n));
        *got += n;
    }
    return VGG_OK;
}

/* Bytes after the member: name what they seem to be. */
static vgg_status check_nothing_follows(struct vgg__file *file)
{
    const unsigned long long at = file->taken;
    uint8_t next[2];
    size_t got = 0;
    VGG_TRY(vgg__file_read(file, next, sizeof next, &got));
    if (got == 0) return VGG_OK;
    if (got == 2 && next[0] == 0x1f && next[1] == 0x8b)
        return vgg__fail(VGG_EUNSUPPORTED,
                         "%s: a second gzip member begins at byte %llu, expected one",
                         file->name, at);
    return vgg__fail(VGG_EFORMAT, "%s: gzip member ends at byte %llu, file has %llu",
                     file->name, at, (unsigned long long)file->size);
}

vgg_status vgg__gzip_finish(struct vgg__gzip *gzip, struct vgg__file *file)
{
    uint8_t trailer[8]; /* CRC32, length mod 2^32 */
    size_t got = 0;
    VGG_TRY(vgg__file_read(file, trailer, sizeof trailer, &got));
    if (got < sizeof trailer) return truncated(file, "trailer");
    if (le32(trailer) != gzip->crc)
        return vgg__fail(VGG_ECHECKSUM, "%s: gzip CRC is %08x, computed %08x",
                         file->name, le32(trailer), gzip->crc);
    if (le32(trailer + 4) != (uint32_t)gzip->produced)
        return vgg__fail(VGG_EFORMAT, "%s: gzip length is %u, data has %llu bytes",
                         file->name, le32(trailer + 4),
                         (unsigned long long)gzip->produced);
    return check_nothing_follows(file);
}
