/* SPDX-License-Identifier: Apache-2.0 */
/* Shared objects that were cut off. */
#ifndef VGG_LIB_ELF_H
#define VGG_LIB_ELF_H

#include <vgg/common.h>

/* VGG_EDEVICE if the file at `path` can't be read, is not a regular one, or ends before
 * what its program headers say is to be mapped: dlopen() of such a file ends the
 * process by SIGBUS. Whatever else is wrong passes; the loader has words for it.
 * Thread-safe. */
vgg_status vgg__elf_check(const char *path);

#endif
