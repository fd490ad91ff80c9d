/* SPDX-License-Identifier: Apache-2.0 */
/* Every allocation of training and evaluation fails once; afterwards the training goes
 * on to the very weights that it would have reached without. */
#include "feed.h"

static vgg_status model_and_device(struct world *world, const char *device)
{
    const vgg_arch arch = tiny_arch();
    vgg_status status = vgg_model_create(world->ctx, &arch, 1, NULL, &world->model);
    if (status == VGG_OK) status = vgg_device_open(world->ctx, device, &world->device);
    if (status == VGG_OK) status = feed_dataset(world);
    if (status == VGG_OK) status = feed_loader(world, 0, &world->loader);
    if (status == VGG_OK) status = feed_loader(world, 2, &world->test);
    return status;
}

static vgg_status on_ref(struct world *world)
{
    return model_and_device(world, "ref");
}

static vgg_status on_cpu(struct world *world)
{
    return model_and_device(world, "cpu");
}

static vgg_status create_trainer(struct world *world, double momentum,
                                 uint32_t accumulate)
{
    vgg_optimizer optimizer = VGG_OPTIMIZER_INIT;
    optimizer.momentum = momentum;
    vgg_trainer_options opts = VGG_TRAINER_OPTIONS_INIT;
    opts.optimizer = &optimizer;
    opts.clip_norm = 1.0;
    opts.epochs = 2;
    opts.batch = 4;
    opts.accumulate = accumulate;
    return vgg_trainer_create(world->model, world->device, &opts, &world->trainer);
}

static vgg_status plain_trainer(struct world *world)
{
    return create_trainer(world, 0.0, 1);
}

static vgg_status momentum_on_ref(struct world *world)
{
    const vgg_status status = on_ref(world);
    return status == VGG_OK ? create_trainer(world, 0.9, 1) : status;
}

/* Two batches a step, and one left over at the epoch's end. */
static vgg_status accumulating_on_ref(struct world *world)
{
    const vgg_status status = on_ref(world);
    return status == VGG_OK ? create_trainer(world, 0.9, 2) : status;
}

/* All of an epoch in one step, which is an incomplete one. */
static vgg_status one_step_an_epoch(struct world *world)
{
    const vgg_status status = on_ref(world);
    return status == VGG_OK ? create_trainer(world, 0.9, 8) : status;
}

static vgg_status momentum_on_cpu(struct world *world)
{
    const vgg_status status = on_cpu(world);
    return status == VGG_OK ? create_trainer(world, 0.9, 1) : status;
}

static vgg_status fit(struct world *world)
{
    return vgg_trainer_fit(world->trainer, world->loader, world->test, NULL);
}

/* Nothing but steps: they allocate nothing. */
static vgg_status fit_alone(struct world *world)
{
    return vgg_trainer_fit(world->trainer, world->loader, NULL, NULL);
}

/* Weights, and where the training stands with all its sums. */
static uint64_t training_digest(struct world *world)
{
    const vgg_progress *progress = vgg_trainer_progress(world->trainer);
    return digest_bytes(digest_model(world->model), progress, sizeof *progress);
}

static uint64_t model_digest(struct world *world)
{
    return digest_model(world->model);
}

static vgg_status loader_and_metrics(struct world *world)
{
    const vgg_status status = on_ref(world);
    return status == VGG_OK ? vgg_metrics_create(world->ctx, 3, &world->metrics)
                            : status;
}

static vgg_status evaluate(struct world *world)
{
    vgg_metrics_reset(world->metrics);
    return vgg_evaluate(world->model, world->device, world->loader, world->metrics);
}

static uint64_t metrics_digest(struct world *world)
{
    const double loss = vgg_metrics_loss(world->metrics);
    ck_assert_uint_eq(vgg_metrics_count(world->metrics), FEED_COUNT);
    return digest_bytes(0, &loss, sizeof loss);
}

static const struct scenario scenarios[] = {
    {"trainer on ref", on_ref, plain_trainer, model_digest},
    {"trainer on cpu", on_cpu, plain_trainer, model_digest, .threads = 2},
    {"fit on ref", momentum_on_ref, fit, training_digest, .keeps = true},
    {"fit on cpu", momentum_on_cpu, fit, training_digest, .threads = 2, .keeps = true},
    {"steps on ref", momentum_on_ref, fit_alone, .needs_none = true},
    {"steps on cpu", momentum_on_cpu, fit_alone, .threads = 2, .needs_none = true},
    {"fit, accumulating", accumulating_on_ref, fit, training_digest, .keeps = true},
    {"fit, a step an epoch", one_step_an_epoch, fit, training_digest, .keeps = true},
    {"evaluate", loader_and_metrics, evaluate, metrics_digest, .keeps = true},
};

int main(void)
{
    return injector_main("fault/train", scenarios,
                         sizeof scenarios / sizeof *scenarios);
}
