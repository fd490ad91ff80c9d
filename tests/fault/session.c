/* SPDX-License-Identifier: Apache-2.0 */
/* A whole session with the library; see session.h. */
#include "session.h"

#include <stdio.h>
#include <string.h>

static vgg_status train(struct world *world, const char *device)
{
    const vgg_arch arch = tiny_arch();
    vgg_optimizer optimizer = VGG_OPTIMIZER_INIT;
    optimizer.kind = VGG_ADAM;
    vgg_trainer_options opts = VGG_TRAINER_OPTIONS_INIT;
    opts.optimizer = &optimizer;
    opts.epochs = 2;
    opts.batch = 4;
    vgg_status status = vgg_device_list_create(world->ctx, &world->list);
    if (status == VGG_OK)
        status = vgg_model_create(world->ctx, &arch, 1, NULL, &world->model);
    if (status == VGG_OK) status = vgg_device_open(world->ctx, device, &world->device);
    if (status == VGG_OK) status = feed_dataset(world);
    if (status == VGG_OK) status = feed_loader(world, 0, &world->loader);
    if (status == VGG_OK) status = feed_loader(world, 2, &world->test);
    if (status == VGG_OK)
        status =
            vgg_trainer_create(world->model, world->device, &opts, &world->trainer);
    if (status == VGG_OK)
        status = vgg_trainer_fit(world->trainer, world->loader, world->test, NULL);
    return status;
}

static vgg_status evaluate(struct world *world)
{
    vgg_status status = vgg_metrics_create(world->ctx, 3, &world->metrics);
    if (status == VGG_OK)
        status = vgg_evaluate(world->model, world->device, world->test, world->metrics);
    return status;
}

static vgg_status save_and_load(struct world *world, const char *dir)
{
    snprintf(world->dir, sizeof world->dir, "%s", dir);
    const char *path = world_path(world, "w.safetensors");
    vgg_status status = vgg_weights_save(world->model, path, NULL);
    if (status == VGG_OK)
        status = vgg_model_load(world->ctx, path, &world->metadata, &world->other);
    path = world_path(world, "checkpoint");
    if (status == VGG_OK) status = vgg_checkpoint_save(world->trainer, path, NULL);
    if (status == VGG_OK) status = vgg_checkpoint_load(world->trainer, path, NULL);
    return status;
}

static void give_back(struct world *world)
{
    vgg_metadata_free(world->metadata);
    vgg_trainer_free(world->trainer);
    vgg_metrics_free(world->metrics);
    vgg_loader_free(world->loader);
    vgg_loader_free(world->test);
    vgg_dataset_free(world->data);
    vgg_tensor_free(world->images);
    vgg_device_list_free(world->list);
    vgg_device_free(world->device);
    vgg_model_free(world->model);
    vgg_model_free(world->other);
}

vgg_status session_run(vgg_context *ctx, const char *device, const char *dir,
                       uint64_t *digest)
{
    struct world world = {.ctx = ctx};
    vgg_status status = train(&world, device);
    if (status == VGG_OK) status = evaluate(&world);
    if (status == VGG_OK) status = save_and_load(&world, dir);
    if (status == VGG_OK && digest != NULL) {
        *digest = digest_model(world.other);
        ck_assert(*digest == digest_model(world.model));
    }
    give_back(&world);
    return status;
}
