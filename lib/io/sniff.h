/* SPDX-License-Identifier: Apache-2.0 */
/* Naming a file that isn't what it was taken for, by its first bytes. */
#ifndef VGG_IO_SNIFF_H
#define VGG_IO_SNIFF_H

#include <stddef.h>
#include <stdint.h>

/* First bytes of a file that are enough for every format. */
#define VGG_SNIFF_SIZE 512

/* What a file with this beginning is, for an error text: "a zip archive (...)"; NULL if
 * it's none of the formats that people confuse with the ones that the library reads. */
const char *vgg__sniff(const uint8_t *head, size_t size);

#endif
