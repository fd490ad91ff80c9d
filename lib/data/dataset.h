/* SPDX-License-Identifier: Apache-2.0 */
/* A data set's own struct, and how the file formats make one. */
#ifndef VGG_DATA_DATASET_H
#define VGG_DATA_DATASET_H

#include <stdatomic.h>
#include <vgg/data.h>

#define VGG_MAX_SIDE    32768     /* pixels: of an image, stored or resized */
#define VGG_MAX_CLASSES (1 << 20) /* of a data set */

struct vgg_dataset {
    atomic_uint refs;
    vgg_context *ctx;
    vgg_source source;        /* counts; `read` is NULL when the images are in memory */
    vgg_shape shape;          /* [c][h][w] */
    size_t image_bytes;       /* c * h * w */
    vgg_tensor *images;       /* u8 [n][c][h][w], or NULL */
    uint32_t *labels;         /* [n], or NULL */
    const char *const *names; /* static or `own_names`, or NULL */
    void *own_names;          /* pointers and texts in one piece, or NULL */
    char (*numbers)[12];      /* classes as text, where there are no names */
};

/* A data set in memory. Takes over the reference to `images` (u8 [n][c][h][w]) and
 * `labels` (vgg__alloc, all below `classes`); they stay the caller's on failure. */
vgg_status vgg__dataset_create(vgg_context *ctx, vgg_tensor *images, uint32_t *labels,
                               uint32_t classes, vgg_dataset **out);

/* Name the classes; `names` has as many as there are, and stays. */
void vgg__dataset_set_names(vgg_dataset *data, const char *const *names);

vgg_dataset *vgg__dataset_ref(vgg_dataset *data);

/* vgg_dataset_open_cifar() where each file must have `per_file` records; 0: any. */
vgg_status vgg__cifar_open(vgg_context *ctx, const char *const *files, uint32_t count,
                           uint32_t classes, uint64_t per_file, vgg_dataset **out);

#endif
