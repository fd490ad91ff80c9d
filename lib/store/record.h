/* SPDX-License-Identifier: Apache-2.0 */
/* What a checkpoint says of a trainer beside tensors: its recipe and where it stands,
 * as trainer.json. Numbers that are not integers are strings in C's hexadecimal
 * notation, so that every bit comes back. */
#ifndef VGG_STORE_RECORD_H
#define VGG_STORE_RECORD_H

#include "io/input.h"
#include "train/trainer.h"

struct vgg__record {
    vgg_trainer_options opts;
    vgg_optimizer optimizer;
    vgg_schedule schedule;
    vgg_progress progress;
    uint64_t steps_per_epoch; /* of the schedule, as the trainer found it */
    uint64_t batches_tracked; /* of the model */
    uint64_t trainable;       /* elements of all parameters that are not frozen */
};

/* Take down a trainer's state. */
void vgg__record_take(const vgg_trainer *trainer, struct vgg__record *record);

/* *text is to be freed with vgg__free(). VGG_ENOMEM. */
vgg_status vgg__record_write(vgg_context *ctx, const struct vgg__record *record,
                             char **text, size_t *size);

/* What was measured is of a kind that vgg__record_read() takes. */
vgg_status vgg__record_check(const struct vgg__record *record, const char *shown);

/* Read and check that the values make sense. VGG_EIO, VGG_ETRUNCATED, VGG_EFORMAT,
 * VGG_ELIMIT, VGG_ENOMEM. */
vgg_status vgg__record_read(vgg_context *ctx, const struct vgg__input *input,
                            struct vgg__record *record);

/* Was it made by the same recipe? VGG_EMISMATCH names the field and both values. */
vgg_status vgg__record_match(const struct vgg__record *saved,
                             const struct vgg__record *own, const char *shown);

#endif
