/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes to be read at any place: of a regular file, or of memory.
 *
 * A file is read with pread() and never mapped: a mapped file that shrinks kills the
 * process. */
#ifndef VGG_IO_INPUT_H
#define VGG_IO_INPUT_H

#include "io/sha256.h"

#include <vgg/context.h>

struct vgg__input {
    int fd; /* -1: memory */
    const uint8_t *memory;
    uint64_t size;     /* bytes */
    const char *shown; /* for error texts, borrowed */
};

/* Open a file of a folder (AT_FDCWD: of the present one), following links to it if
 * `follow`. It must be regular; opening a pipe doesn't block. VGG_EIO. */
vgg_status vgg__input_open(struct vgg__input *input, int folder, const char *name,
                           int follow, const char *shown);

/* Memory is borrowed until the close. */
void vgg__input_memory(struct vgg__input *input, const void *data, size_t size,
                       const char *shown);

void vgg__input_close(struct vgg__input *input);

/* All `size` bytes from `offset` on. VGG_EIO, VGG_ETRUNCATED. */
vgg_status vgg__input_read(const struct vgg__input *input, uint64_t offset, void *out,
                           size_t size);

/* All of it as text with a zero byte at its end; at most `max` bytes. Free with
 * vgg__free(). VGG_EIO, VGG_ETRUNCATED, VGG_ELIMIT, VGG_ENOMEM. */
vgg_status vgg__input_text(const struct vgg__input *input, vgg_context *ctx,
                           uint64_t max, char **out);

/* SHA-256 of all of it. */
vgg_status vgg__input_hash(const struct vgg__input *input, vgg_context *ctx,
                           char text[VGG_SHA256_TEXT]);

#endif
