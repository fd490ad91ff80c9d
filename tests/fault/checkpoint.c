/* SPDX-License-Identifier: Apache-2.0 */
/* Every allocation of checkpoints fails once. What was on disk before is there
 * afterwards, whole, and nothing else is beside it; a trainer that could not be
 * loaded is as before. */
#include "feed.h"

static vgg_status create_model(struct world *world, uint64_t seed)
{
    const vgg_arch arch = tiny_arch();
    vgg_model_options opts = VGG_MODEL_OPTIONS_INIT;
    opts.seed = seed;
    return vgg_model_create(world->ctx, &arch, 1, &opts, &world->model);
}

static vgg_status create_trainer(struct world *world)
{
    vgg_optimizer optimizer = VGG_OPTIMIZER_INIT;
    optimizer.momentum = 0.9;
    vgg_trainer_options opts = VGG_TRAINER_OPTIONS_INIT;
    opts.optimizer = &optimizer;
    opts.epochs = 1;
    opts.batch = 4;
    return vgg_trainer_create(world->model, world->device, &opts, &world->trainer);
}

/* A training of one epoch, done. */
static vgg_status trained(struct world *world)
{
    world_mkdtemp(world->dir);
    vgg_status status = create_model(world, 1);
    if (status == VGG_OK) status = vgg_device_open(world->ctx, "ref", &world->device);
    if (status == VGG_OK) status = feed_dataset(world);
    if (status == VGG_OK) status = feed_loader(world, 0, &world->loader);
    if (status == VGG_OK) status = create_trainer(world);
    if (status == VGG_OK)
        status = vgg_trainer_fit(world->trainer, world->loader, NULL, NULL);
    return status;
}

static vgg_status save_checkpoint(struct world *world)
{
    const vgg_status status =
        vgg_checkpoint_save(world->trainer, world_path(world, "c"), NULL);
    ck_assert_int_eq(world_entries(world), status == VGG_OK ? 1 : 0);
    return status;
}

static uint64_t training_digest(struct world *world)
{
    const vgg_progress *progress = vgg_trainer_progress(world->trainer);
    return digest_bytes(digest_model(vgg_trainer_model(world->trainer)), progress,
                        sizeof *progress);
}

/* A checkpoint, and a fresh trainer to load it into. */
static vgg_status checkpointed(struct world *world)
{
    vgg_status status = trained(world);
    if (status == VGG_OK) status = save_checkpoint(world);
    vgg_trainer_free(world->trainer);
    vgg_model_free(world->model);
    world->trainer = NULL;
    world->model = NULL;
    if (status == VGG_OK) status = create_model(world, 2);
    if (status == VGG_OK) status = create_trainer(world);
    return status;
}

/* On failure nothing of the trainer has changed. */
static vgg_status load_checkpoint(struct world *world)
{
    const uint64_t before = training_digest(world);
    const vgg_status status =
        vgg_checkpoint_load(world->trainer, world_path(world, "c"), NULL);
    ck_assert((training_digest(world) == before) == (status != VGG_OK));
    return status;
}

static vgg_status replace_checkpoint(struct world *world)
{
    const vgg_status status =
        vgg_checkpoint_save(world->trainer, world_path(world, "c"), NULL);
    ck_assert_int_eq(world_entries(world), 1); /* the older one or the newer */
    return status;
}

static const struct scenario scenarios[] = {
    {"save checkpoint", trained, save_checkpoint, training_digest},
    {"replace checkpoint", checkpointed, replace_checkpoint, training_digest},
    {"load checkpoint", checkpointed, load_checkpoint, training_digest, .keeps = true},
};

int main(void)
{
    return injector_main("fault/checkpoint", scenarios,
                         sizeof scenarios / sizeof *scenarios);
}
