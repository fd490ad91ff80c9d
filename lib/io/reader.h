/* SPDX-License-Identifier: Apache-2.0 */
/* Sequential, bounded reading of a file, plain or gzip (told by its first two bytes).
 *
 * A reader knows how many bytes its file can give at most, so that sizes found in a
 * header are checked before anything is allocated. Its user reads exactly what the
 * header promises and then asks for the end, where a gzip file's checksum is compared:
 * data is good only after vgg__reader_finish() has returned VGG_OK. */
#ifndef VGG_IO_READER_H
#define VGG_IO_READER_H

#include <stdbool.h>
#include <vgg/context.h>

struct vgg__reader;

/* VGG_EIO, VGG_ENOMEM, and what inflating the first bytes of a gzip file can give:
 * VGG_EFORMAT, VGG_EUNSUPPORTED, VGG_ETRUNCATED, VGG_ELIMIT, VGG_ECHECKSUM. */
vgg_status vgg__reader_open(vgg_context *ctx, const char *path,
                            struct vgg__reader **out);

/* NULL is fine. */
void vgg__reader_close(struct vgg__reader *reader);

/* The last part of the path, for error texts. Borrowed. */
const char *vgg__reader_name(const struct vgg__reader *reader);

/* Whether its bytes are inflated; vgg__reader_most() is exact for those that are
 * not. */
bool vgg__reader_is_gzip(const struct vgg__reader *reader);

/* Most bytes that can still come: what a plain file has left, or what deflate can at
 * most make of a gzip file's size. */
uint64_t vgg__reader_most(const struct vgg__reader *reader);

/* Exactly `size` bytes, or VGG_ETRUNCATED: "NAME: ends in FIELD: 12 of 16 bytes are
 * there". VGG_EIO, VGG_EFORMAT, VGG_ENOMEM. */
vgg_status vgg__reader_read(struct vgg__reader *reader, void *to, size_t size,
                            const char *field);

/* Read to the end and tell how many bytes there were; then as vgg__reader_finish(). */
vgg_status vgg__reader_count(struct vgg__reader *reader, uint64_t *count);

/* VGG_EFORMAT if bytes are left; for gzip also VGG_ETRUNCATED (no trailer),
 * VGG_ECHECKSUM, VGG_EUNSUPPORTED (a second member). */
vgg_status vgg__reader_finish(struct vgg__reader *reader);

/* The file isn't what it should be, for instance "an IDX file": VGG_EUNSUPPORTED with
 * the name of the format that it has, or VGG_EFORMAT with its first bytes. */
vgg_status vgg__reader_refuse(const struct vgg__reader *reader, const char *expected);

/* What the file seems to be by its first bytes, or NULL. */
const char *vgg__reader_guess(const struct vgg__reader *reader);

#endif
