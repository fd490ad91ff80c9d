/* SPDX-License-Identifier: Apache-2.0 */
/* A checkpoint's manifest: format version, and size and SHA-256 of the other files. */
#ifndef VGG_STORE_MANIFEST_H
#define VGG_STORE_MANIFEST_H

#include "io/input.h"

#include <stdbool.h>
#include <vgg/context.h>

#define VGG_CHECKPOINT_VERSION 1

/* The files of a checkpoint. The optimiser's is there if it has state. */
enum { VGG_FILE_WEIGHTS, VGG_FILE_TRAINER, VGG_FILE_OPTIMIZER, VGG_FILES };

/* Name of the manifest, then the names of the files. */
extern const char *const vgg__checkpoint_names[1 + VGG_FILES];

struct vgg__manifest {
    struct {
        bool present;
        uint64_t size;
        char sha256[VGG_SHA256_TEXT];
    } files[VGG_FILES];
};

/* *text is to be freed with vgg__free(). VGG_ENOMEM. */
vgg_status vgg__manifest_write(vgg_context *ctx, const struct vgg__manifest *manifest,
                               char **text, size_t *size);

/* VGG_EIO, VGG_ETRUNCATED, VGG_EFORMAT, VGG_ELIMIT, VGG_EUNSUPPORTED (a newer format),
 * VGG_ENOMEM. */
vgg_status vgg__manifest_read(vgg_context *ctx, const struct vgg__input *input,
                              struct vgg__manifest *manifest);

#endif
