/* SPDX-License-Identifier: Apache-2.0 */
/* One gzip member (RFC 1952), inflated from front to back and checked to its last byte.
 *
 * zlib's own gzread() takes a file whose trailer is cut off, joins members and ignores
 * what follows them; here a member must be whole, and be the whole file. */
#ifndef VGG_IO_GZIP_H
#define VGG_IO_GZIP_H

#include "io/file.h"

#include <zlib.h>

/* Deflate's densest code is 2 bits for 258 bytes. */
#define VGG_DEFLATE_RATIO 1032

struct vgg__gzip {
    z_stream stream;
    bool open, ended; /* ended: the deflate stream's end code was seen */
    uint32_t crc;     /* of what came out */
    uint64_t produced;
};

/* `file` stands at the member's first byte. Reads the header. VGG_EFORMAT,
 * VGG_EUNSUPPORTED (a method or flag that RFC 1952 keeps for the future),
 * VGG_ETRUNCATED, VGG_ELIMIT (a name over 4096 bytes), VGG_ECHECKSUM (header), VGG_EIO,
 * VGG_ENOMEM. */
vgg_status vgg__gzip_open(struct vgg__gzip *gzip, vgg_context *ctx,
                          struct vgg__file *file);

void vgg__gzip_close(struct vgg__gzip *gzip);

/* Inflate up to `size` bytes; *got is smaller at the end of the data only. */
vgg_status vgg__gzip_read(struct vgg__gzip *gzip, struct vgg__file *file, void *to,
                          size_t size, size_t *got);

/* After the end of the data: check CRC, length, and that nothing follows. */
vgg_status vgg__gzip_finish(struct vgg__gzip *gzip, struct vgg__file *file);

#endif
