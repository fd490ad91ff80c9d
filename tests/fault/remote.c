/* SPDX-License-Identifier: Apache-2.0 */
/* Every allocation of the library fails once, on an engine that keeps the data set and
 * steps (tests/remote, whose own memory is not counted). */
#include "remote.h"
#include "device/device.h"
#include "feed.h"

/* Labels that come with the images, so that a list of them is made. */
static int read_sample(void *cookie, uint64_t index, uint8_t *image, uint32_t *label)
{
    for (uint64_t i = 0; i < 64; i++) image[i] = (uint8_t)((index * 64 + i) * 73 % 251);
    *label = (uint32_t)(index * 5 % 3);
    return 0;
}

static vgg_status make_loader(struct world *world, uint32_t rule, vgg_loader **out)
{
    vgg_transform transform = VGG_TRANSFORM_INIT;
    transform.resize_height = transform.resize_width = 10;
    transform.crop_height = transform.crop_width = 8;
    transform.resize_rule = rule;
    transform.flip = 0.5f;
    vgg_loader_options opts = VGG_LOADER_OPTIONS_INIT;
    opts.transform = &transform;
    opts.batch = 4;
    opts.train = 1;
    return vgg_loader_create(world->data, &opts, out);
}

static vgg_status model_and_data(struct world *world)
{
    const vgg_arch arch = tiny_arch();
    const vgg_source source = {.count = FEED_COUNT,
                               .channels = 1,
                               .height = 8,
                               .width = 8,
                               .classes = 3,
                               .read = read_sample};
    remote_begin(&vgg__engine_ref);
    vgg_status status = vgg_model_create(world->ctx, &arch, 1, NULL, &world->model);
    if (status == VGG_OK) status = vgg_device_open(world->ctx, "ref", &world->device);
    if (status == VGG_OK) world->device->engine = &remote_engine;
    if (status == VGG_OK)
        status = vgg_dataset_from_source(world->ctx, &source, &world->data);
    if (status == VGG_OK)
        status = make_loader(world, VGG_RESIZE_OPENCV, &world->loader);
    if (status == VGG_OK) status = make_loader(world, VGG_RESIZE_PILLOW, &world->test);
    return status;
}

static vgg_status create_trainer(struct world *world)
{
    vgg_trainer_options opts = VGG_TRAINER_OPTIONS_INIT;
    opts.epochs = 2;
    opts.batch = 4;
    return vgg_trainer_create(world->model, world->device, &opts, &world->trainer);
}

static vgg_status ready_to_fit(struct world *world)
{
    const vgg_status status = model_and_data(world);
    return status == VGG_OK ? create_trainer(world) : status;
}

static vgg_status fit(struct world *world)
{
    return vgg_trainer_fit(world->trainer, world->loader, world->test, NULL);
}

static vgg_status ready_to_evaluate(struct world *world)
{
    const vgg_status status = model_and_data(world);
    return status == VGG_OK ? vgg_metrics_create(world->ctx, 3, &world->metrics)
                            : status;
}

static vgg_status evaluate(struct world *world)
{
    vgg_metrics_reset(world->metrics);
    return vgg_evaluate(world->model, world->device, world->test, world->metrics);
}

/* Whatever failed before, in the end the data set was there, and is no more. */
static void check_remote(void)
{
    ck_assert_uint_gt(remote.from_samples, 0);
    ck_assert_uint_eq(remote.from_host, 0);
    ck_assert_uint_eq(remote.data_made, remote.data_freed);
}

static uint64_t model_digest(struct world *world)
{
    return digest_model(world->model);
}

static uint64_t training_digest(struct world *world)
{
    const vgg_progress *progress = vgg_trainer_progress(world->trainer);
    check_remote();
    ck_assert_uint_gt(remote.steps, 0);
    return digest_bytes(digest_model(world->model), progress, sizeof *progress);
}

static uint64_t metrics_digest(struct world *world)
{
    const double loss = vgg_metrics_loss(world->metrics);
    check_remote();
    ck_assert_uint_eq(vgg_metrics_count(world->metrics), FEED_COUNT);
    return digest_bytes(0, &loss, sizeof loss);
}

static const struct scenario scenarios[] = {
    {"trainer that steps", model_and_data, create_trainer, model_digest},
    {"fit on its data", ready_to_fit, fit, training_digest, .keeps = true},
    {"evaluate on its data", ready_to_evaluate, evaluate, metrics_digest,
     .keeps = true},
};

int main(void)
{
    return injector_main("fault/remote", scenarios,
                         sizeof scenarios / sizeof *scenarios);
}
