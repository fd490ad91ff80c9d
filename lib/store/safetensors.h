/* SPDX-License-Identifier: Apache-2.0 */
/* The safetensors format (github.com/huggingface/safetensors), read and written.
 *
 *     u64 N, little-endian | N bytes of JSON, padded with spaces | data
 *
 * The reader is stricter than the reference: no white space before the header, no key
 * that is not known or occurs twice, no name with control characters. It checks
 * everything that the header says against the file before anything is read: the tensors
 * must cover the data without holes or overlap. Elements are little-endian, as is every
 * machine that the library runs on. */
#ifndef VGG_STORE_SAFETENSORS_H
#define VGG_STORE_SAFETENSORS_H

#include "io/atomic.h"
#include "io/input.h"
#include "store/metadata.h"

#include <vgg/tensor.h>

#define VGG_ST_HEADER  ((uint64_t)16 << 20) /* most bytes of a header */
#define VGG_ST_TENSORS 100000               /* most tensors */
#define VGG_ST_NAME    257                  /* bytes of a name, with its final zero */

/* A tensor in a file. */
struct vgg__st_tensor {
    const char *name;
    const char *dtype; /* the format's name of it: "F32" */
    vgg_shape shape;
    uint64_t count;      /* elements */
    uint64_t begin, end; /* bytes of the data */
};

/* A file's table. */
struct vgg__safetensors {
    vgg_context *ctx;               /* borrowed */
    const struct vgg__input *input; /* borrowed */
    bool strings;                   /* the metadata is wanted */
    uint64_t data;                  /* byte of the input where the data begins */
    uint32_t count;
    struct vgg__st_tensor *tensors; /* sorted by name */
    char *names;
    vgg_metadata *metadata; /* may be taken: set to NULL */
};

/* Read and check the header. The format has no limits for strings; those beyond the
 * library's own are VGG_ELIMIT if the caller wants `strings`. If not, all but the
 * architecture are passed over.
 * VGG_EIO, VGG_ETRUNCATED, VGG_EFORMAT, VGG_ELIMIT, VGG_ENOMEM. */
vgg_status vgg__safetensors_open(struct vgg__safetensors *st, vgg_context *ctx,
                                 const struct vgg__input *input, bool strings);
void vgg__safetensors_close(struct vgg__safetensors *st);

/* A tensor by its name; NULL: there is none. */
const struct vgg__st_tensor *vgg__safetensors_find(const struct vgg__safetensors *st,
                                                   const char *name);

/* Read a F32, F64, F16 or BF16 tensor as f32. VGG_EMISMATCH (another type),
 * VGG_ENONFINITE (unless `allow_infinite`), VGG_EIO, VGG_ETRUNCATED, VGG_ENOMEM. */
vgg_status vgg__safetensors_read_f32(const struct vgg__safetensors *st,
                                     const struct vgg__st_tensor *tensor,
                                     bool allow_infinite, float *out);

/* Read an I64 scalar. VGG_EMISMATCH, VGG_EIO, VGG_ETRUNCATED. */
vgg_status vgg__safetensors_read_i64(const struct vgg__safetensors *st,
                                     const struct vgg__st_tensor *tensor, int64_t *out);

/* A tensor to be written: F32, or an I64 scalar. */
struct vgg__st_item {
    const char *name;
    const vgg_shape *shape; /* NULL: I64 scalar */
    uint64_t count;
    const void *data;
};

/* Write a whole file: keys in the order of the items, data so that every tensor is
 * aligned to its element and the first one to 64 bytes. VGG_EIO, VGG_ENOMEM. */
vgg_status vgg__safetensors_write(struct vgg__out *out, vgg_context *ctx,
                                  const struct vgg__st_item *items, uint32_t count,
                                  const vgg_metadata *metadata);

#endif
