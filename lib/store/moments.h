/* SPDX-License-Identifier: Apache-2.0 */
/* An optimiser's state: SGD's momentum, Adam's two moments, in the parameters'
 * canonical layout. In a file the tensors are "<torchvision's name>.state0" and
 * ".state1". */
#ifndef VGG_STORE_MOMENTS_H
#define VGG_STORE_MOMENTS_H

#include "io/atomic.h"
#include "store/safetensors.h"
#include "train/trainer.h"

#define VGG_MOMENTS 2 /* slots a parameter can have */

/* Copies of a trainer's state. */
struct vgg__moments {
    vgg_trainer *trainer; /* borrowed */
    uint32_t slots;       /* that the optimiser uses: 0, 1 or 2 */
    bool present;         /* something has been there; without, all is zero */
    float **values; /* [parameter][VGG_MOMENTS]; NULL: a frozen one, or a buffer */
};

/* Copy from the trainer's device. Free also after a failure. */
vgg_status vgg__moments_take(struct vgg__moments *moments, vgg_trainer *trainer);

/* Read from a file that has all of them and nothing else. `st` NULL: all zero. Free
 * also after a failure. */
vgg_status vgg__moments_read(struct vgg__moments *moments, vgg_trainer *trainer,
                             const struct vgg__safetensors *st);

/* Copy to the trainer's device. */
vgg_status vgg__moments_apply(const struct vgg__moments *moments);

vgg_status vgg__moments_write(const struct vgg__moments *moments, struct vgg__out *out);

void vgg__moments_free(struct vgg__moments *moments);

#endif
