/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4) of a stream of bytes. Nothing to free. */
#ifndef VGG_IO_SHA256_H
#define VGG_IO_SHA256_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of a hash as hexadecimal text, with its final zero. */
#define VGG_SHA256_TEXT 65

struct vgg__sha256 {
    uint32_t state[8];
    uint64_t bytes;    /* seen so far */
    uint8_t block[64]; /* its first bytes % 64 are waiting */
};

void vgg__sha256_begin(struct vgg__sha256 *sha);

void vgg__sha256_add(struct vgg__sha256 *sha, const void *data, size_t size);

/* The hash in lower-case hexadecimal; `sha` must begin again before it is used
 * again. */
void vgg__sha256_end(struct vgg__sha256 *sha, char text[VGG_SHA256_TEXT]);

#endif
