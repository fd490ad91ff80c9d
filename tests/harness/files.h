/* SPDX-License-Identifier: Apache-2.0 */
/* Test files: bytes put together in memory, and written to a folder of the test's own.
 *
 * A file that can't be written fails the test. Paths are kept in the struct, so that a
 * table of cases can write one after the other. */
#ifndef VGG_TEST_FILES_H
#define VGG_TEST_FILES_H

#include <stddef.h>
#include <stdint.h>

/* A growing run of bytes; start from {0}, end with bytes_free(). */
struct bytes {
    uint8_t *at;
    size_t size, room;
};

void bytes_add(struct bytes *bytes, const void *data, size_t size);
void bytes_fill(struct bytes *bytes, uint8_t value, size_t count);
void bytes_be32(struct bytes *bytes, uint32_t value);
void bytes_free(struct bytes *bytes);

/* A gzip member without name and time: 10 bytes of header, deflate, 8 of trailer. */
void bytes_gzip(struct bytes *out, const void *data, size_t size);

/* Write DIR/NAME, and give its path. */
void file_write(const char *dir, const char *name, const void *data, size_t size,
                char path[256]);

/* Change one byte of a file that is there. */
void file_poke(const char *path, size_t offset, uint8_t value);

#endif
