/* SPDX-License-Identifier: Apache-2.0 */
/* A regular file read from front to back through one buffer.
 *
 * The buffer is open to view (`buffer[begin]` to `buffer[end - 1]` is read but not yet
 * taken), so that inflate and header parsers work on it in place. Folders, FIFOs and
 * devices are refused; interrupted and short reads are retried. */
#ifndef VGG_IO_FILE_H
#define VGG_IO_FILE_H

#include <stdbool.h>
#include <vgg/context.h>

#define VGG_FILE_BUFFER 65536 /* bytes */

struct vgg__file {
    int fd;
    char *name;      /* last part of the path, for error texts */
    uint64_t size;   /* bytes, as told when it was opened */
    uint8_t *buffer; /* VGG_FILE_BUFFER bytes */
    size_t begin, end;
    uint64_t taken; /* bytes that have left the buffer, or bypassed it */
};

/* VGG_EIO: can't be opened, or is no regular file; VGG_ENOMEM. Symbolic links are
 * followed. */
vgg_status vgg__file_open(struct vgg__file *file, vgg_context *ctx, const char *path);

void vgg__file_close(struct vgg__file *file);

/* See to it that a byte is in the buffer. An empty buffer afterwards means end of
 * file. */
vgg_status vgg__file_fill(struct vgg__file *file);

/* Take up to `size` bytes; *got is smaller at the end of the file only. */
vgg_status vgg__file_read(struct vgg__file *file, void *to, size_t size, size_t *got);

#endif
