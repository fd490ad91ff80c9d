/* SPDX-License-Identifier: Apache-2.0 */
/* Whole epochs: batches of a loader to optimiser steps, and an evaluation behind them.
 */
#include "core/error.h"
#include "data/loader.h"
#include "model/model.h"
#include "train/evaluate.h"
#include "train/trainer.h"

static vgg_status canceled(void)
{
    return vgg__fail(VGG_ECANCELED, "training was canceled");
}

static bool wants_stop(const vgg_trainer *trainer)
{
    return atomic_load_explicit(&trainer->cancel, memory_order_relaxed) != 0;
}

/* What a fit works with. */
struct fit {
    vgg_trainer *trainer;
    const vgg_callbacks *callbacks; /* may be NULL */
    struct vgg__feed train, test;   /* the test loader may be NULL */
    vgg_metrics *metrics;           /* with a test loader */
};

/* Train what is left of the present epoch; of a loop of the caller's own that may be no
 * more than to end its accumulation. Stops only between two optimiser steps, where a
 * checkpoint can be made. */
static vgg_status train_epoch(struct fit *fit)
{
    vgg_trainer *trainer = fit->trainer;
    vgg_progress *progress = &trainer->progress;
    const vgg_callbacks *callbacks = fit->callbacks;
    if (progress->batch >= progress->batches) return vgg__trainer_finish(trainer);
    VGG_TRY(vgg__loader_seek(fit->train.loader, progress->epoch, progress->batch));
    bool stop = false;
    for (;;) {
        if (trainer->pending == 0 && (stop || wants_stop(trainer))) return canceled();
        struct vgg__fed fed;
        VGG_TRY(vgg__feed_next(&fit->train, &fed));
        if (fed.batch.count == 0) break;
        VGG_TRY(vgg__trainer_step(trainer, &fed));
        if (callbacks != NULL && callbacks->on_batch != NULL)
            stop = callbacks->on_batch(callbacks->cookie, progress) != 0 || stop;
    }
    return stop ? canceled() : VGG_OK;
}

/* Measure after an epoch's training. */
static vgg_status test_epoch(struct fit *fit)
{
    vgg_trainer *trainer = fit->trainer;
    if (fit->test.loader == NULL) return VGG_OK;
    vgg_metrics_reset(fit->metrics);
    VGG_TRY(
        vgg__evaluate(trainer->eval_plan, &fit->test, fit->metrics, &trainer->cancel));
    vgg_progress *progress = &trainer->progress;
    progress->test_loss = vgg_metrics_loss(fit->metrics);
    progress->test_accuracy = vgg_metrics_top_k(fit->metrics, 1);
    if (!(progress->best_accuracy >= progress->test_accuracy)) {
        progress->best_accuracy = progress->test_accuracy;
        progress->best_epoch = progress->epoch + 1;
    }
    return VGG_OK;
}

static vgg_status run_epochs(struct fit *fit)
{
    vgg_trainer *trainer = fit->trainer;
    vgg_progress *progress = &trainer->progress;
    const vgg_callbacks *callbacks = fit->callbacks;
    while (progress->epoch < trainer->opts.epochs) {
        VGG_TRY(train_epoch(fit));
        VGG_TRY(test_epoch(fit));
        progress->epoch++;
        progress->batch = 0;
        if (callbacks != NULL && callbacks->on_epoch != NULL &&
            callbacks->on_epoch(callbacks->cookie, progress, fit->metrics) != 0)
            return canceled();
    }
    return VGG_OK;
}

static vgg_status check_loaders(vgg_trainer *trainer, const vgg_loader *train,
                                const vgg_loader *test)
{
    VGG_TRY(vgg__check_loader(trainer->model, "the training loader", train));
    if (vgg_loader_batch_size(train) > trainer->opts.batch)
        return vgg__fail(
            VGG_ESHAPE, "the training loader gives batches of %u; the trainer takes %u",
            vgg_loader_batch_size(train), trainer->opts.batch);
    if (test == NULL) return VGG_OK;
    return vgg__check_loader(trainer->model, "the test loader", test);
}

/* Before the first batch, so that no epoch is trained and then can't be tested. The
 * plan is made anew each time, since another test loader's batches may be larger. */
static vgg_status open_fit(struct fit *fit, vgg_loader *train, vgg_loader *test)
{
    vgg_trainer *trainer = fit->trainer;
    const vgg_shape *out = vgg_model_output_shape(trainer->model);
    if (test != NULL) {
        vgg_plan_options opts = vgg__trainer_plan_options(trainer);
        opts.batch = vgg_loader_batch_size(test);
        VGG_TRY(vgg_plan_create(trainer->model, trainer->device, &opts,
                                &trainer->eval_plan));
        VGG_TRY(vgg_metrics_create(trainer->ctx, out->dim[0], &fit->metrics));
    }
    if (trainer->progress.epoch >= trainer->opts.epochs) return VGG_OK;
    VGG_TRY(vgg__feed_open(&fit->train, trainer->device, train));
    return test != NULL ? vgg__feed_open(&fit->test, trainer->device, test) : VGG_OK;
}

static void close_fit(struct fit *fit)
{
    vgg__feed_close(&fit->train);
    vgg__feed_close(&fit->test);
    vgg_metrics_free(fit->metrics);
}

/* In the middle of an epoch the loader must be one of such an epoch. */
static vgg_status check_position(const vgg_progress *progress, uint64_t batches)
{
    if (progress->batch > 0 && progress->batches > 0 && progress->batches != batches)
        return vgg__fail(VGG_EMISMATCH,
                         "the training stands in the middle of an epoch of %llu "
                         "batches; the loader's epochs have %llu",
                         (unsigned long long)progress->batches,
                         (unsigned long long)batches);
    if (progress->batch > batches)
        return vgg__fail(VGG_EMISMATCH,
                         "the training stands behind %llu batches of an epoch; the "
                         "loader's epochs have %llu",
                         (unsigned long long)progress->batch,
                         (unsigned long long)batches);
    return VGG_OK;
}

vgg_status vgg_trainer_fit(vgg_trainer *trainer, vgg_loader *train, vgg_loader *test,
                           const vgg_callbacks *callbacks)
{
    VGG_REQUIRE(trainer != NULL);
    VGG_REQUIRE(train != NULL);
    VGG_TRY(vgg__trainer_check_free(trainer));
    VGG_TRY(check_loaders(trainer, train, test));
    const uint64_t batches = vgg_loader_batches(train);
    if (batches == 0)
        return vgg__fail(VGG_EINVAL, "the training loader has no full batch");
    VGG_TRY(check_position(&trainer->progress, batches));
    const uint64_t group = trainer->opts.accumulate;
    trainer->progress.batches = batches;
    if (trainer->steps_per_epoch == 0)
        trainer->steps_per_epoch = (batches + group - 1) / group;

    vgg_plan_free(trainer->eval_plan);
    trainer->eval_plan = NULL;
    struct fit fit = {.trainer = trainer, .callbacks = callbacks};
    vgg_status status = open_fit(&fit, train, test);
    if (status == VGG_OK) {
        trainer->fitting = true;
        status = run_epochs(&fit);
        trainer->fitting = false;
        atomic_store_explicit(&trainer->cancel, 0, memory_order_relaxed);
    }
    close_fit(&fit);
    return status;
}
