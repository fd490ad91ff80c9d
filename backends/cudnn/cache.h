/* SPDX-License-Identifier: Apache-2.0 */
/* Choices that were made by timing, kept on disk: the next program takes the same ones
 * at once, and computes the same bits.
 *
 * A file a choice, below VGG_CACHE_DIR, or libvgg/ in XDG_CACHE_HOME or ~/.cache; an
 * empty VGG_CACHE_DIR turns the cache off. A file holds the question (library versions,
 * GPU, problem: all that the choice depends on) and the answer, and its name is a hash
 * of the question. Files appear whole or not at all; one that is cut, changed, of
 * another version or of another question counts as absent. Nothing here fails: what
 * can't be kept is chosen anew. */
#ifndef VGG_CUDNN_CACHE_H
#define VGG_CUDNN_CACHE_H

#include "cudnn/cudnn.h"

/* What is kept: numbers, a name without a line's end, and a text of any bytes. */
struct vgg__cached {
    uint32_t way, flag, ns, refused;
    char name[VGG__ALGORITHM];
    char *text; /* host memory of the device's context; to be released */
    size_t length;
};

/* `question`: all that the answer depends on, in words, but for versions and GPU. */
bool vgg__cache_load(struct vgg__cudnn *device, const char *question,
                     struct vgg__cached *out);
void vgg__cache_save(struct vgg__cudnn *device, const char *question,
                     const struct vgg__cached *answer);

#endif
