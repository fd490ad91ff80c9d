/* SPDX-License-Identifier: Apache-2.0 */
/* A model's values, read from a file and checked, waiting to be taken over. */
#ifndef VGG_STORE_STAGED_H
#define VGG_STORE_STAGED_H

#include "store/safetensors.h"

struct vgg__staged {
    vgg_model *model; /* borrowed */
    float **values;   /* [parameter]; NULL: stays as it is */
    bool has_batches;
    uint64_t batches; /* num_batches_tracked */
};

/* Read what the file has for the model. Free also after a failure. */
vgg_status vgg__staged_read(struct vgg__staged *staged, vgg_model *model,
                            const struct vgg__safetensors *st,
                            const vgg_weights_options *opts);

/* Copy the values to the model. Fails, with nothing changed, only if the device that
 * trained the model last can't give its values. */
vgg_status vgg__staged_apply(const struct vgg__staged *staged);

void vgg__staged_free(struct vgg__staged *staged);

/* Write a model's parameters, buffers and counters, refreshed before. */
vgg_status vgg__model_write(vgg_model *model, const vgg_metadata *metadata,
                            struct vgg__out *out);

/* Does a tensor of the file have a parameter's shape? VGG_EMISMATCH with both
 * shapes. */
vgg_status vgg__staged_check_shape(const struct vgg__safetensors *st,
                                   const struct vgg__st_tensor *tensor,
                                   const vgg_param *param);

#endif
