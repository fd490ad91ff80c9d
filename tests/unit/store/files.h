/* SPDX-License-Identifier: Apache-2.0 */
/* Small files, read and written whole. */
#ifndef VGG_TEST_FILES_H
#define VGG_TEST_FILES_H

#include <stddef.h>

/* At most 64 KiB, with a zero byte behind; to be freed. */
char *read_file(const char *path, size_t *size);

void write_file(const char *path, const char *text, size_t size);

#endif
