/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file train.h
 * @brief Training: schedules, the trainer, evaluation.
 *
 * vgg_trainer_fit() runs whole epochs and calls back after every batch and epoch;
 * vgg_trainer_step() is one batch, for a loop of one's own.
 */
#ifndef VGG_TRAIN_H
#define VGG_TRAIN_H

#include <vgg/data.h>
#include <vgg/metrics.h>
#include <vgg/plan.h>

VGG_BEGIN_DECLS

/** A training in progress. Thread-safety: one thread at a time, but see
 *  vgg_trainer_cancel(). */
typedef struct vgg_trainer vgg_trainer;

/** How the learning rate moves. */
typedef enum vgg_schedule_kind {
    VGG_SCHEDULE_CONSTANT = 0,  /**< stays */
    VGG_SCHEDULE_STEP = 1,      /**< times gamma every `step_epochs` epochs */
    VGG_SCHEDULE_MULTISTEP = 2, /**< times gamma at each milestone */
    VGG_SCHEDULE_COSINE = 3     /**< half a cosine from lr to `min_lr` over all epochs,
                                     moving every step. Loshchilov and Hutter 2017 */
} vgg_schedule_kind;

/** Most milestones of a schedule. */
#define VGG_MAX_MILESTONES 8

/**
 * A schedule. Sized: start from #VGG_SCHEDULE_INIT. During warm-up the rate rises
 * evenly from lr / (warm-up's steps) to lr, moving every step; the rule holds from
 * there on (a cosine spans what is left).
 */
typedef struct vgg_schedule {
    size_t size;                             /**< sizeof(vgg_schedule) */
    uint32_t kind;                           /**< a ::vgg_schedule_kind */
    uint32_t step_epochs;                    /**< of VGG_SCHEDULE_STEP, at least 1 */
    double gamma;                            /**< factor of step and multistep, > 0 */
    double min_lr;                           /**< where a cosine ends, 0 to lr */
    double warmup_epochs;                    /**< length of the warm-up, >= 0 */
    uint32_t milestone_count;                /**< of VGG_SCHEDULE_MULTISTEP */
    uint32_t milestones[VGG_MAX_MILESTONES]; /**< epochs, rising */
    uint32_t reserved;                       /**< must be 0 */
} vgg_schedule;

/** Constant, no warm-up; step of 30 epochs and gamma 0.1 should they be asked for. */
#define VGG_SCHEDULE_INIT                                                              \
    {                                                                                  \
        sizeof(vgg_schedule), VGG_SCHEDULE_CONSTANT, 30, 0.1, 0.0, 0.0, 0, {0}, 0      \
    }

/**
 * Learning rate of a step.
 *
 * @param lr              the base rate.
 * @param step            number of the optimiser step, from 0.
 * @param steps_per_epoch at least 1.
 * @param epochs          of the whole training, at least 1.
 * @param out             the rate.
 * @return VGG_OK, VGG_EINVAL, VGG_ENONFINITE (gamma made it grow out of range).
 */
VGG_API vgg_status vgg_schedule_rate(const vgg_schedule *schedule, double lr,
                                     uint64_t step, uint64_t steps_per_epoch,
                                     uint64_t epochs, double *out);

/** Options of vgg_trainer_create(). Sized: start from #VGG_TRAINER_OPTIONS_INIT. */
typedef struct vgg_trainer_options {
    size_t size;                    /**< sizeof(vgg_trainer_options) */
    const vgg_optimizer *optimizer; /**< copied; NULL: plain SGD */
    const vgg_schedule *schedule;   /**< copied; NULL: constant */
    double lr;                      /**< base learning rate, > 0 */
    double clip_norm;               /**< clip gradients at this norm; 0: never */
    uint64_t seed;                  /**< of dropout */
    uint64_t steps_per_epoch;       /**< optimiser steps, for the schedule; 0: from the
                                         first loader given to vgg_trainer_fit(), and
                                         vgg_trainer_step() before that takes a constant
                                         rate alone */
    uint32_t epochs;                /**< of the whole training, at least 1 */
    uint32_t batch;                 /**< most samples vgg_trainer_step() takes */
    uint32_t accumulate;            /**< batches whose gradients make one step, >= 1 */
    float label_smoothing;          /**< 0 <= smoothing < 1 */
    uint32_t precision;             /**< a ::vgg_precision, of training and of
                                         vgg_trainer_fit()'s evaluation */
    uint32_t deterministic;         /**< as vgg_plan_options.deterministic, for both */
} vgg_trainer_options;

/** Ten epochs of plain SGD at 0.005, batches of 128, in single precision: the chapter's
 *  recipe. */
#define VGG_TRAINER_OPTIONS_INIT                                                       \
    {                                                                                  \
        sizeof(vgg_trainer_options), NULL, NULL, 0.005, 0.0, 0, 0, 10, 128, 1, 0.0f,   \
            VGG_FP32, 0                                                                \
    }

/** Where a training stands, and what it has measured. A checkpoint has all of it, so
 *  best_epoch serves to stop early, also after a resume. Frozen layout. */
typedef struct vgg_progress {
    uint64_t epoch;       /**< epochs completed */
    uint64_t batch;       /**< batches done in the present epoch */
    uint64_t batches;     /**< batches an epoch; 0: not known yet */
    uint64_t step;        /**< optimiser steps done */
    uint64_t seen;        /**< samples of the present epoch so far */
    uint64_t correct;     /**< of them predicted right, as the weights moved */
    double loss_sum;      /**< sum of their losses */
    double batch_loss;    /**< mean loss of the last batch */
    double lr;            /**< learning rate of the last step */
    double gradient_norm; /**< of the last step, when clipping; else 0 */
    double test_loss;     /**< of the last evaluation; NaN before */
    double test_accuracy; /**< of the last evaluation; NaN before */
    double best_accuracy; /**< highest test accuracy so far; NaN before */
    uint64_t best_epoch;  /**< epochs completed when it was reached */
} vgg_progress;

/** Called while fitting. Frozen layout; any function may be NULL. A non-zero return
 *  stops the fit with VGG_ECANCELED, after the call or, where gradients are being
 *  accumulated, after the optimiser step that they are for; the trainer can go on from
 *  there.
 *
 *  A function is called by the thread that called vgg_trainer_fit(). It may look at the
 *  trainer, its model and plan, cancel it, and save a checkpoint of it: on_epoch
 *  always, on_batch, where gradients are accumulated, when progress->step has changed.
 *  VGG_ESTATE are vgg_trainer_fit(), vgg_trainer_step() and vgg_checkpoint_load() on
 *  the trainer, and whatever would take batches of the fit's loaders. */
typedef struct vgg_callbacks {
    void *cookie; /**< handed to the functions */
    /** After every batch. */
    int (*on_batch)(void *cookie, const vgg_progress *progress);
    /** After every epoch and its evaluation; epoch counts it, seen and loss_sum are its
     *  own. `metrics` is NULL without a test loader. */
    int (*on_epoch)(void *cookie, const vgg_progress *progress,
                    const vgg_metrics *metrics);
} vgg_callbacks;

/**
 * Make a trainer for a model on a device. Gradients and optimiser state belong to the
 * model on that device: one trainer for both at a time. Plans of one's own may go back
 * between two optimiser steps, but not within an accumulation.
 *
 * An engine that can (`cudnn`, `cpu`) does plain SGD, without momentum, clipping or
 * accumulation, as part of the backward: no memory is needed for gradients then.
 *
 * @param opts NULL for the defaults.
 * @return VGG_OK, VGG_EINVAL, VGG_ESHAPE (the output is not flat), or as
 *         vgg_plan_create().
 */
VGG_API vgg_status vgg_trainer_create(vgg_model *model, vgg_device *device,
                                      const vgg_trainer_options *opts,
                                      vgg_trainer **out);

/** Give a trainer back. The model keeps what it has learnt. */
VGG_API void vgg_trainer_free(vgg_trainer *trainer);

/**
 * Train on one batch: forward, loss, backward and, after `accumulate` of them, update.
 * With accumulation every batch counts the same; they should have the same size.
 *
 * The batch's epoch and index say where the training stands afterwards: index 0, or
 * another epoch, starts the sums of vgg_progress anew, and vgg_trainer_fit() would go
 * on behind it. A loop of one's own numbers its batches as a loader does; where its
 * epochs end is not known, so an accumulation goes on from one to the next.
 *
 * On a GPU the update may still be at work when this returns. What reads parameters
 * waits for it, and should the device fail meanwhile, the next call says so.
 *
 * @param batch    its images must have the model's input shape; epoch and index are
 *                 below 2^48.
 * @param progress where the training stands afterwards; may be NULL.
 * @return VGG_OK, VGG_EINVAL, VGG_ESHAPE, VGG_ESTATE (called from a callback of
 *         vgg_trainer_fit(); a schedule without `steps_per_epoch`), VGG_EDEVICE,
 *         VGG_ENONFINITE: the loss is not finite, and the batch counts as if it had not
 *         been, but that the forward has moved batch normalisation's running
 *         statistics; or, with `clip_norm`, the gradient's norm is not, and the batches
 *         accumulated for this step are lost with it. Parameters are as before. Without
 *         `clip_norm` nobody looks at gradients.
 */
VGG_API vgg_status vgg_trainer_step(vgg_trainer *trainer, const vgg_batch *batch,
                                    vgg_progress *progress);

/**
 * Train until the options' number of epochs is complete, from where the trainer stands.
 * An incomplete accumulation at an epoch's end makes a step of its own, that of a loop
 * of one's own before it too.
 *
 * An engine with memory of its own (`cudnn`) takes the loaders' data sets there if they
 * fit: every sample is then read once, before the first batch, and the loaders make no
 * images; the batches are the same.
 *
 * @param train     its sample shape must be the model's input.
 * @param test      evaluated after every epoch; may be NULL.
 * @param callbacks may be NULL.
 * @return VGG_OK; VGG_EMISMATCH (it stands in the middle of an epoch of another length
 *         than the loader's, or behind more batches than that has); VGG_ECANCELED (by a
 *         callback or vgg_trainer_cancel(), between two optimiser steps or during the
 *         evaluation); VGG_ESTATE (called from a callback, or another fit or evaluation
 *         is taking a loader's batches); as vgg_trainer_step(); or what the loaders
 *         gave.
 */
VGG_API vgg_status vgg_trainer_fit(vgg_trainer *trainer, vgg_loader *train,
                                   vgg_loader *test, const vgg_callbacks *callbacks);

/**
 * Ask vgg_trainer_fit() to stop after the present optimiser step; asked while none
 * runs, the next one stops before its first batch, or with the step that a loop of
 * one's own has begun. Safe from any thread and a signal
 * handler.
 */
VGG_API void vgg_trainer_cancel(vgg_trainer *trainer);

/** Where a training stands, borrowed. */
VGG_API const vgg_progress *vgg_trainer_progress(const vgg_trainer *trainer);

/** The model being trained, borrowed. */
VGG_API vgg_model *vgg_trainer_model(const vgg_trainer *trainer);

/** The plan that trains, borrowed, to look at: vgg_plan_describe(), vgg_plan_bytes(),
 *  vgg_plan_times(). */
VGG_API const vgg_plan *vgg_trainer_plan(const vgg_trainer *trainer);

/**
 * Run a model over one epoch of a loader and collect metrics.
 *
 * @param metrics of as many classes as the model has outputs; added to. After a failure
 *                in the midst they hold the batches before it.
 * @return VGG_OK, VGG_EINVAL, VGG_ESHAPE, VGG_ENONFINITE (an output is not finite), or
 *         as vgg_plan_create(), vgg_loader_next().
 */
VGG_API vgg_status vgg_evaluate(vgg_model *model, vgg_device *device,
                                vgg_loader *loader, vgg_metrics *metrics);

/**
 * The same with a plan of one's own, and so in its precision.
 *
 * @param plan    not of #VGG_MODE_TRAIN; its batch is at least the loader's.
 * @param metrics of as many classes as the model has outputs; added to. After a failure
 *                in the midst they hold the batches before it.
 * @return VGG_OK, VGG_EINVAL, VGG_ESHAPE, VGG_ESTATE (a training plan), VGG_ENONFINITE
 *         (an output is not finite), VGG_ENOMEM, VGG_EDEVICE, or as vgg_loader_next().
 */
VGG_API vgg_status vgg_plan_evaluate(vgg_plan *plan, vgg_loader *loader,
                                     vgg_metrics *metrics);

VGG_END_DECLS

#endif
