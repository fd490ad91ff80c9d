/* SPDX-License-Identifier: Apache-2.0 */
/* Test files: see files.h. */
#include "files.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

static uint8_t *grow(struct bytes *bytes, size_t size)
{
    if (bytes->size + size > bytes->room) {
        bytes->room = 2 * (bytes->size + size);
        bytes->at = realloc(bytes->at, bytes->room);
        ck_assert_ptr_nonnull(bytes->at);
    }
    uint8_t *const place = bytes->at + bytes->size;
    bytes->size += size;
    return place;
}

void bytes_add(struct bytes *bytes, const void *data, size_t size)
{
    if (size > 0) memcpy(grow(bytes, size), data, size);
}

void bytes_fill(struct bytes *bytes, uint8_t value, size_t count)
{
    if (count > 0) memset(grow(bytes, count), value, count);
}

void bytes_be32(struct bytes *bytes, uint32_t value)
{
    const uint8_t be[4] = {(uint8_t)(value >> 24), (uint8_t)(value >> 16),
                           (uint8_t)(value >> 8), (uint8_t)value};
    bytes_add(bytes, be, sizeof be);
}

void bytes_free(struct bytes *bytes)
{
    free(bytes->at);
    *bytes = (struct bytes){0};
}

static void add_le32(struct bytes *bytes, uint32_t value)
{
    const uint8_t le[4] = {(uint8_t)value, (uint8_t)(value >> 8),
                           (uint8_t)(value >> 16), (uint8_t)(value >> 24)};
    bytes_add(bytes, le, sizeof le);
}

void bytes_gzip(struct bytes *out, const void *data, size_t size)
{
    bytes_add(out, "\x1f\x8b\x08\0\0\0\0\0\0\x03", 10);
    z_stream z = {.next_in = (Bytef *)data, .avail_in = (uInt)size};
    ck_assert_int_eq(deflateInit2(&z, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY),
                     Z_OK);
    const size_t bound = deflateBound(&z, size);
    z.next_out = grow(out, bound);
    z.avail_out = (uInt)bound;
    ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
    out->size -= z.avail_out;
    deflateEnd(&z);
    add_le32(out, (uint32_t)crc32(0, data, (uInt)size));
    add_le32(out, (uint32_t)size);
}

void file_write(const char *dir, const char *name, const void *data, size_t size,
                char path[256])
{
    ck_assert_int_lt(snprintf(path, 256, "%s/%s", dir, name), 256);
    FILE *const file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    if (size > 0) ck_assert_uint_eq(fwrite(data, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

void file_poke(const char *path, size_t offset, uint8_t value)
{
    const int fd = open(path, O_WRONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, &value, 1, (off_t)offset), 1);
    ck_assert_int_eq(close(fd), 0);
}
