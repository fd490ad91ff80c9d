/* SPDX-License-Identifier: Apache-2.0 */
/* The trainer: batches to optimiser steps. Steps become epochs in fit.c.
 *
 * Its whole state is in struct vgg_trainer, the parameters and the optimiser's slots;
 * what happens next is a function of these, so a checkpoint that carries them continues
 * the very same training. */
#include "train/trainer.h"

#include <float.h>
#include <math.h>

#include "core/context.h"
#include "core/error.h"
#include "core/fpmode.h"
#include "core/memory.h"
#include "core/options.h"
#include "model/model.h"
#include "train/schedule.h"

#define MOST (UINT64_C(1) << 48) /* epochs, and batches of one */

/* Conditions are written so that NaN fails them. */
static vgg_status check_options(const vgg_trainer_options *opts)
{
    if (!(opts->lr > 0.0 && opts->lr <= (double)FLT_MAX))
        return vgg__fail(VGG_EINVAL,
                         "lr is %g; expected a number > 0 that a float can hold",
                         opts->lr);
    if (!(opts->clip_norm >= 0.0 && isfinite(opts->clip_norm)))
        return vgg__fail(VGG_EINVAL, "clip_norm is %g; expected a number >= 0",
                         opts->clip_norm);
    if (opts->epochs < 1)
        return vgg__fail(VGG_EINVAL, "epochs is 0; expected at least 1");
    if (opts->accumulate < 1)
        return vgg__fail(VGG_EINVAL, "accumulate is 0; expected at least 1");
    if (!(opts->label_smoothing >= 0.0f && opts->label_smoothing < 1.0f))
        return vgg__fail(VGG_EINVAL,
                         "label_smoothing is %g; expected 0 <= smoothing < 1",
                         (double)opts->label_smoothing);
    return VGG_OK;
}

static vgg_status read_options(vgg_trainer *trainer, const vgg_trainer_options *given)
{
    trainer->opts = (vgg_trainer_options)VGG_TRAINER_OPTIONS_INIT;
    VGG_TRY(vgg__options_read("vgg_trainer_options", given,
                              VGG_SIZE_UP_TO(vgg_trainer_options, label_smoothing),
                              &trainer->opts, sizeof trainer->opts));
    VGG_TRY(check_options(&trainer->opts));
    VGG_TRY(vgg__optimizer_read(trainer->opts.optimizer, &trainer->optimizer));
    VGG_TRY(vgg__schedule_read(trainer->opts.schedule, &trainer->schedule));
    VGG_TRY(vgg__schedule_fits(&trainer->schedule, trainer->opts.lr));
    trainer->opts.optimizer = &trainer->optimizer;
    trainer->opts.schedule = &trainer->schedule;
    return VGG_OK;
}

vgg_plan_options vgg__trainer_plan_options(const vgg_trainer *trainer)
{
    vgg_plan_options opts = VGG_PLAN_OPTIONS_INIT;
    opts.precision = trainer->opts.precision;
    opts.deterministic = trainer->opts.deterministic;
    return opts;
}

/* Nobody wants to see the gradients or to change them: the engine, if it can, uses each
 * for the update as soon as it has it. */
static bool can_step(const vgg_trainer *trainer)
{
    return (trainer->device->engine->abilities & VGG_CAN_STEP) &&
           trainer->optimizer.kind == VGG_SGD && trainer->optimizer.momentum == 0.0 &&
           trainer->opts.clip_norm == 0.0 && trainer->opts.accumulate == 1;
}

/* Make the optimiser's state, all zero, by a first update that changes nothing: no step
 * needs memory then, so none can fail for want of it. */
static vgg_status make_state(vgg_trainer *trainer)
{
    if (trainer->plan->step) return VGG_OK; /* it has none */
    vgg_optimizer idle = trainer->optimizer;
    idle.weight_decay = 0.0;
    VGG_TRY(vgg_plan_zero_gradients(trainer->plan));
    return vgg_plan_update(trainer->plan, &idle, 0.0, 1);
}

static vgg_status start(vgg_trainer *trainer, const vgg_trainer_options *given)
{
    VGG_TRY(read_options(trainer, given));
    const vgg_shape *out = vgg_model_output_shape(trainer->model);
    if (out->rank != 1)
        return vgg__fail(VGG_ESHAPE,
                         "training needs a flat output; this model's has %u "
                         "axes",
                         out->rank);
    vgg_plan_options opts = vgg__trainer_plan_options(trainer);
    opts.batch = trainer->opts.batch;
    opts.mode = VGG_MODE_TRAIN;
    if (can_step(trainer))
        VGG_TRY(vgg__plan_create_step(trainer->model, trainer->device, &opts,
                                      &trainer->plan));
    else
        VGG_TRY(
            vgg_plan_create(trainer->model, trainer->device, &opts, &trainer->plan));
    trainer->steps_per_epoch = trainer->opts.steps_per_epoch;
    trainer->progress =
        (vgg_progress){.test_loss = NAN, .test_accuracy = NAN, .best_accuracy = NAN};
    return make_state(trainer);
}

vgg_status vgg_trainer_create(vgg_model *model, vgg_device *device,
                              const vgg_trainer_options *opts, vgg_trainer **out)
{
    VGG_REQUIRE(out != NULL);
    *out = NULL;
    VGG_REQUIRE(model != NULL);
    VGG_REQUIRE(device != NULL);
    vgg_trainer *trainer = vgg__calloc(model->ctx, 1, sizeof *trainer);
    if (trainer == NULL) return VGG_ENOMEM;
    trainer->ctx = vgg__context_ref(model->ctx);
    trainer->model = vgg__model_ref(model);
    trainer->device = vgg__device_ref(device);
    const vgg_status status = start(trainer, opts);
    if (status != VGG_OK) {
        vgg_trainer_free(trainer);
        return status;
    }
    *out = trainer;
    return VGG_OK;
}

void vgg_trainer_free(vgg_trainer *trainer)
{
    if (trainer == NULL) return;
    vgg_plan_free(trainer->eval_plan);
    vgg_plan_free(trainer->plan);
    vgg_device_free(trainer->device);
    vgg_model_free(trainer->model);
    vgg_context *ctx = trainer->ctx;
    vgg__free(trainer);
    vgg__context_unref(ctx);
}

/* ---- One step -------------------------------------------------------------------- */

/* Give up what has been accumulated; the parameters are as before, and the next batch
 * begins an accumulation. */
static vgg_status abandon(vgg_trainer *trainer, vgg_status status)
{
    trainer->pending = trainer->pending_samples = 0;
    return status;
}

static vgg_status clip(vgg_trainer *trainer)
{
    trainer->progress.gradient_norm = 0.0;
    if (trainer->opts.clip_norm == 0.0) return VGG_OK;
    double norm = 0.0;
    VGG_TRY(vgg_plan_gradient_norm(trainer->plan, &norm));
    if (!isfinite(norm))
        return vgg__fail(VGG_ENONFINITE,
                         "the gradient's norm is not finite at step %llu",
                         (unsigned long long)trainer->progress.step);
    trainer->progress.gradient_norm = norm;
    if (norm <= trainer->opts.clip_norm) return VGG_OK;
    return vgg_plan_scale_gradients(trainer->plan, trainer->opts.clip_norm / norm);
}

/* Does the rate move, and nobody knows how fast? */
static vgg_status check_schedule(const vgg_trainer *trainer)
{
    const vgg_schedule *schedule = &trainer->schedule;
    if (trainer->steps_per_epoch > 0 ||
        (schedule->kind == VGG_SCHEDULE_CONSTANT && schedule->warmup_epochs == 0.0))
        return VGG_OK;
    return vgg__fail(VGG_ESTATE, "a schedule needs the steps of an epoch: set "
                                 "steps_per_epoch when the trainer is made; only "
                                 "vgg_trainer_fit() takes it from its loader");
}

static vgg_status rate_now(const vgg_trainer *trainer, double *lr)
{
    *lr = trainer->opts.lr;
    if (trainer->steps_per_epoch == 0) return VGG_OK; /* constant */
    return vgg_schedule_rate(&trainer->schedule, trainer->opts.lr,
                             trainer->progress.step, trainer->steps_per_epoch,
                             trainer->opts.epochs, lr);
}

static void count_step(vgg_trainer *trainer, double lr)
{
    trainer->progress.step++;
    trainer->progress.lr = lr;
    trainer->pending = trainer->pending_samples = 0;
}

/* Make an optimiser step of what has been accumulated. */
static vgg_status update(vgg_trainer *trainer, double lr)
{
    const uint32_t accumulate = trainer->opts.accumulate;
    /* Each batch's gradient was scaled by 1 / accumulate; fewer came at an epoch's
     * end. */
    if (trainer->pending < accumulate)
        VGG_TRY(vgg_plan_scale_gradients(trainer->plan,
                                         (double)accumulate / trainer->pending));
    const vgg_status status = clip(trainer);
    if (status != VGG_OK) return abandon(trainer, status);
    VGG_TRY(vgg_plan_update(trainer->plan, &trainer->optimizer, lr,
                            trainer->progress.step + 1));
    count_step(trainer, lr);
    return VGG_OK;
}

static vgg_status forward(vgg_trainer *trainer, const struct vgg__fed *fed)
{
    VGG_TRY(vgg_plan_set_step(trainer->plan, trainer->opts.seed, trainer->progress.step,
                              trainer->pending_samples));
    return vgg__fed_forward(fed, trainer->plan, NULL);
}

/* A batch that is an optimiser step of its own, by an engine that makes it in one. */
static vgg_status step_at_once(vgg_trainer *trainer, const struct vgg__fed *fed,
                               double *loss, uint32_t *correct)
{
    double lr;
    VGG_TRY(rate_now(trainer, &lr));
    const vgg_update update =
        vgg__optimizer_update(&trainer->optimizer, lr, trainer->progress.step + 1);
    VGG_TRY(forward(trainer, fed));
    VGG_TRY(vgg__plan_step(trainer->plan, fed->batch.labels,
                           trainer->opts.label_smoothing, &update, loss, correct));
    count_step(trainer, lr);
    return VGG_OK;
}

/* Forward, loss and backward of one batch. A loss that is not finite adds nothing to
 * what is pending. Gradients begin at zero here, and not behind the step before, so
 * that it does not matter what other plans of the model have left in them. */
static vgg_status accumulate(vgg_trainer *trainer, const struct vgg__fed *fed,
                             double *loss, uint32_t *correct)
{
    vgg_plan *plan = trainer->plan;
    const float scale = 1.0f / (float)trainer->opts.accumulate;
    VGG_TRY(forward(trainer, fed));
    VGG_TRY(vgg_plan_loss(plan, fed->batch.labels, trainer->opts.label_smoothing, scale,
                          loss, correct));
    if (trainer->pending == 0) VGG_TRY(vgg_plan_zero_gradients(plan));
    const vgg_status status = vgg_plan_backward(plan);
    if (status != VGG_OK) return abandon(trainer, status);
    trainer->pending++;
    trainer->pending_samples += fed->batch.count;
    return VGG_OK;
}

/* One batch phase by phase, and an optimiser step when enough are accumulated. In a fit
 * an epoch's last batch ends an accumulation that is not complete. */
static vgg_status step_by_phases(vgg_trainer *trainer, const struct vgg__fed *fed,
                                 double *loss, uint32_t *correct)
{
    const bool last =
        trainer->fitting && fed->batch.index + 1 == trainer->progress.batches;
    double lr;
    VGG_TRY(rate_now(trainer, &lr));
    VGG_TRY(accumulate(trainer, fed, loss, correct));
    if (trainer->pending < trainer->opts.accumulate && !last) return VGG_OK;
    return update(trainer, lr);
}

vgg_status vgg__trainer_finish(vgg_trainer *trainer)
{
    double lr;
    if (trainer->pending == 0) return VGG_OK;
    const uint64_t mode = vgg__fpmode_enter();
    vgg_status status = rate_now(trainer, &lr);
    if (status == VGG_OK) status = update(trainer, lr);
    vgg__fpmode_leave(mode);
    return status;
}

/* What a batch adds to the epoch's sums; its first one starts them anew. How long an
 * epoch of the caller's own is, nobody knows. */
static void count_batch(vgg_trainer *trainer, const vgg_batch *batch, double loss,
                        uint32_t correct)
{
    vgg_progress *progress = &trainer->progress;
    if (batch->index == 0 || batch->epoch != progress->epoch) {
        progress->seen = progress->correct = 0;
        progress->loss_sum = 0.0;
        if (!trainer->fitting) progress->batches = 0;
    }
    progress->epoch = batch->epoch;
    progress->batch = batch->index + 1;
    if (progress->batch > progress->batches) progress->batches = 0; /* not fit()'s */
    progress->seen += batch->count;
    progress->correct += correct;
    progress->loss_sum += loss * batch->count;
    progress->batch_loss = loss;
}

/* Before the forward, which moves running statistics. */
static vgg_status check_labels(const vgg_trainer *trainer, const vgg_batch *batch)
{
    const uint32_t classes = vgg_model_output_shape(trainer->model)->dim[0];
    for (uint32_t i = 0; i < batch->count; i++)
        if (batch->labels[i] >= classes)
            return vgg__fail(VGG_EINVAL, "label %u is %u; expected below %u", i,
                             batch->labels[i], classes);
    return VGG_OK;
}

/* A batch is counted once all that it leads to is done, or queued where an engine makes
 * a step at once. */
static vgg_status step(vgg_trainer *trainer, const struct vgg__fed *fed)
{
    double loss = 0.0;
    uint32_t correct = 0;
    VGG_TRY(check_labels(trainer, &fed->batch));
    VGG_TRY(trainer->plan->step ? step_at_once(trainer, fed, &loss, &correct)
                                : step_by_phases(trainer, fed, &loss, &correct));
    count_batch(trainer, &fed->batch, loss, correct);
    return VGG_OK;
}

vgg_status vgg__trainer_step(vgg_trainer *trainer, const struct vgg__fed *fed)
{
    const uint64_t mode = vgg__fpmode_enter();
    const vgg_status status = step(trainer, fed);
    vgg__fpmode_leave(mode);
    return status;
}

vgg_status vgg__trainer_check_free(const vgg_trainer *trainer)
{
    if (!trainer->fitting) return VGG_OK;
    return vgg__fail(VGG_ESTATE, "vgg_trainer_fit() is at work on this trainer: a "
                                 "callback may look, save and cancel");
}

vgg_status vgg_trainer_step(vgg_trainer *trainer, const vgg_batch *batch,
                            vgg_progress *out)
{
    if (out != NULL) *out = (vgg_progress){0};
    VGG_REQUIRE(trainer != NULL);
    VGG_TRY(vgg__trainer_check_free(trainer));
    VGG_REQUIRE(batch != NULL);
    VGG_REQUIRE(batch->images != NULL && batch->labels != NULL && batch->count >= 1);
    const vgg_shape *shape = vgg_tensor_shape(batch->images);
    if (shape->rank < 1 || shape->dim[0] != batch->count)
        return vgg__fail(VGG_ESHAPE, "the batch counts %u samples; its images have %u",
                         batch->count, shape->rank > 0 ? shape->dim[0] : 0);
    if (batch->epoch >= MOST || batch->index >= MOST)
        return vgg__fail(VGG_EINVAL,
                         "the batch is number %llu of epoch %llu; expected "
                         "numbers below 2^48",
                         (unsigned long long)batch->index,
                         (unsigned long long)batch->epoch);
    VGG_TRY(check_schedule(trainer));
    const struct vgg__fed fed = {.batch = *batch};
    VGG_TRY(vgg__trainer_step(trainer, &fed));
    if (out != NULL) *out = trainer->progress;
    return VGG_OK;
}

void vgg__trainer_restore(vgg_trainer *trainer, const vgg_progress *progress,
                          uint64_t steps_per_epoch)
{
    trainer->progress = *progress;
    trainer->steps_per_epoch = steps_per_epoch;
    trainer->pending = trainer->pending_samples = 0;
}

/* ---- Looking at it --------------------------------------------------------------- */

void vgg_trainer_cancel(vgg_trainer *trainer)
{
    if (trainer != NULL)
        atomic_store_explicit(&trainer->cancel, 1, memory_order_relaxed);
}

const vgg_progress *vgg_trainer_progress(const vgg_trainer *trainer)
{
    return trainer != NULL ? &trainer->progress : NULL;
}

vgg_model *vgg_trainer_model(const vgg_trainer *trainer)
{
    return trainer != NULL ? trainer->model : NULL;
}

const vgg_plan *vgg_trainer_plan(const vgg_trainer *trainer)
{
    return trainer != NULL ? trainer->plan : NULL;
}
