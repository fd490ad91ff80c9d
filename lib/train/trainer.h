/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer's own struct, for train/ and store/ (checkpoints).
 *
 * What a checkpoint must carry: `opts` with `optimizer` and `schedule` (the recipe),
 * `progress` (position and sums), the parameters, the optimiser's slots, and the
 * model's `batches_tracked`. The number of updates done is progress.step. Nothing else
 * has state: order, augmentation and dropout follow from seeds and positions. */
#ifndef VGG_LIB_TRAINER_H
#define VGG_LIB_TRAINER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <vgg/train.h>

#include "train/feed.h"

struct vgg_trainer {
    vgg_context *ctx;
    vgg_model *model;
    vgg_device *device;
    vgg_plan *plan;           /* training */
    vgg_plan *eval_plan;      /* inference, made by each fit that evaluates */
    vgg_trainer_options opts; /* its pointers lead to the two copies below */
    vgg_optimizer optimizer;
    vgg_schedule schedule;
    vgg_progress progress;
    uint64_t steps_per_epoch; /* of the schedule; 0: not known yet */
    uint32_t
        pending; /* batches whose gradients wait for an update; 0 in a checkpoint */
    uint32_t pending_samples;
    atomic_int cancel;
    bool fitting; /* callbacks may be called */
};

/* VGG_ESTATE from a callback of vgg_trainer_fit(). */
vgg_status vgg__trainer_check_free(const vgg_trainer *trainer);

/* The trainer stands there, between two optimiser steps. Parameters and the optimiser's
 * slots are the caller's to bring. */
void vgg__trainer_restore(vgg_trainer *trainer, const vgg_progress *progress,
                          uint64_t steps_per_epoch);

/* What its plans for training and for evaluation have in common. */
vgg_plan_options vgg__trainer_plan_options(const vgg_trainer *trainer);

/* Train on one batch, wherever its images are. */
vgg_status vgg__trainer_step(vgg_trainer *trainer, const struct vgg__fed *fed);

/* Make an optimiser step of what is pending, if there is something. */
vgg_status vgg__trainer_finish(vgg_trainer *trainer);

#endif
