/* SPDX-License-Identifier: Apache-2.0 */
/* Every allocation of data sets, transforms, loaders and metrics fails once. */
#include "feed.h"

#include "files.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- Data sets ------------------------------------------------------------------ */

static vgg_status from_arrays(struct world *world)
{
    return feed_dataset(world);
}

static vgg_status make_images(struct world *world)
{
    return feed_images(world);
}

static int read_sample(void *cookie, uint64_t index, uint8_t *image, uint32_t *label)
{
    (void)cookie;
    for (int i = 0; i < 64; i++) image[i] = (uint8_t)(index * 7 + (uint64_t)i);
    *label = (uint32_t)(index % 3);
    return 0;
}

static void count_close(void *cookie)
{
    ++*(int *)cookie;
}

/* On failure the source stays the caller's. */
static vgg_status from_source(struct world *world)
{
    int closed = 0;
    const vgg_source source = {&closed, 10, 1, 8, 8, 3, read_sample, count_close};
    vgg_dataset *data;
    const vgg_status status = vgg_dataset_from_source(world->ctx, &source, &data);
    vgg_dataset_free(data);
    ck_assert_int_eq(closed, status == VGG_OK ? 1 : 0);
    return status;
}

/* Names that can't be kept leave those that were there. */
static vgg_status name_classes(struct world *world)
{
    const char *const names[] = {"cat", "dog", "owl"};
    const vgg_status status = vgg_dataset_name_classes(world->data, names);
    ck_assert_str_eq(vgg_dataset_class_name(world->data, 1),
                     status == VGG_OK ? "dog" : "1");
    return status;
}

/* Files of a data set: plain and gzip IDX, and CIFAR records. */
static vgg_status write_files(struct world *world)
{
    struct bytes idx = {0}, packed = {0}, cifar = {0};
    char path[256];
    world_mkdtemp(world->dir);
    bytes_be32(&idx, 0x0803); /* u8 [n][h][w] */
    bytes_be32(&idx, 5);
    bytes_be32(&idx, 8);
    bytes_be32(&idx, 8);
    bytes_fill(&idx, 9, 5 * 64);
    bytes_gzip(&packed, idx.at, idx.size);
    file_write(world->dir, "images", packed.at, packed.size, path);
    idx.size = 0;
    bytes_be32(&idx, 0x0801); /* u8 [n] */
    bytes_be32(&idx, 5);
    bytes_fill(&idx, 2, 5);
    file_write(world->dir, "labels", idx.at, idx.size, path);
    bytes_fill(&cifar, 1, 4 * 3073);
    file_write(world->dir, "cifar1", cifar.at, cifar.size, path);
    file_write(world->dir, "cifar2", cifar.at, cifar.size, path);
    bytes_free(&idx);
    bytes_free(&packed);
    bytes_free(&cifar);
    return VGG_OK;
}

static vgg_status open_idx(struct world *world)
{
    char images[128], labels[128];
    snprintf(images, sizeof images, "%s/images", world->dir);
    snprintf(labels, sizeof labels, "%s/labels", world->dir);
    return vgg_dataset_open_idx(world->ctx, images, labels, 3, &world->data);
}

static vgg_status open_cifar(struct world *world)
{
    char first[128], second[128];
    snprintf(first, sizeof first, "%s/cifar1", world->dir);
    snprintf(second, sizeof second, "%s/cifar2", world->dir);
    const char *const files[] = {first, second};
    return vgg_dataset_open_cifar(world->ctx, files, 2, 10, &world->data);
}

static uint64_t data_digest(struct world *world)
{
    uint8_t image[3072];
    uint64_t hash = 0;
    const uint64_t size = vgg_dataset_shape(world->data)->dim[0] == 3 ? 3072 : 64;
    for (uint64_t i = 0; i < vgg_dataset_count(world->data); i++) {
        uint32_t label;
        ck_ok(vgg_dataset_read(world->data, i, image, &label));
        hash = digest_bytes(hash, image, size);
        hash = digest_bytes(hash, &label, sizeof label);
    }
    return hash;
}

/* ---- Transforms ----------------------------------------------------------------- */

static vgg_status image_and_room(struct world *world)
{
    const vgg_shape in = {3, {1, 8, 8}}, out = {3, {1, 12, 12}}; /* [c][h][w] */
    const vgg_status status =
        vgg_tensor_create(world->ctx, VGG_U8, &in, &world->images);
    if (status != VGG_OK) return status;
    for (int i = 0; i < 64; i++)
        ((uint8_t *)vgg_tensor_data(world->images))[i] = (uint8_t)i;
    return vgg_tensor_create(world->ctx, VGG_F32, &out, &world->output);
}

static vgg_status apply(struct world *world, vgg_resize_rule rule)
{
    vgg_transform transform = VGG_TRANSFORM_INIT;
    transform.resize_height = transform.resize_width = 16;
    transform.resize_rule = rule;
    transform.crop_height = transform.crop_width = 12;
    transform.shift = 2;
    transform.flip = transform.erase = 0.5f;
    return vgg_transform_apply(&transform, world->images, 1, 3, 4, 5, world->output);
}

static vgg_status apply_opencv(struct world *world)
{
    return apply(world, VGG_RESIZE_OPENCV);
}

static vgg_status apply_pillow(struct world *world)
{
    return apply(world, VGG_RESIZE_PILLOW);
}

static vgg_status fit_and_room(struct world *world)
{
    const vgg_shape out = {3, {1, 5, 12}}; /* [c][h][w] */
    const vgg_status status = image_and_room(world);
    if (status != VGG_OK) return status;
    vgg_tensor_free(world->output);
    return vgg_tensor_create(world->ctx, VGG_U8, &out, &world->output);
}

static vgg_status fit_picture(struct world *world)
{
    return vgg_image_fit(world->images, VGG_FIT_COVER, VGG_RESIZE_PILLOW,
                         world->output);
}

static uint64_t output_digest(struct world *world)
{
    return digest_bytes(0, vgg_tensor_data(world->output),
                        vgg_tensor_bytes(world->output));
}

/* ---- Loaders -------------------------------------------------------------------- */

static vgg_status create_loader(struct world *world)
{
    return feed_loader(world, 0, &world->loader);
}

static vgg_status create_loader_ahead(struct world *world)
{
    return feed_loader(world, 3, &world->loader);
}

/* All batches of an epoch. */
static uint64_t loader_digest(struct world *world)
{
    uint64_t hash = 0;
    vgg_batch batch;
    for (;;) {
        ck_ok(vgg_loader_next(world->loader, &batch));
        if (batch.count == 0) return hash;
        hash = digest_bytes(hash, vgg_tensor_data_const(batch.images),
                            vgg_tensor_bytes(batch.images));
        hash = digest_bytes(hash, batch.labels, batch.count * sizeof *batch.labels);
    }
}

/* ---- Metrics -------------------------------------------------------------------- */

static vgg_status create_metrics(struct world *world)
{
    return vgg_metrics_create(world->ctx, 3, &world->metrics);
}

static vgg_status metrics_and_logits(struct world *world)
{
    const vgg_shape shape = {2, {100, 3}}; /* [n][classes] */
    vgg_status status = create_metrics(world);
    if (status == VGG_OK)
        status = vgg_tensor_create(world->ctx, VGG_F64, &shape, &world->output);
    if (status != VGG_OK) return status;
    double *logits = vgg_tensor_data(world->output);
    for (int i = 0; i < 300; i++) logits[i] = i * 37 % 50 / 10.0;
    return VGG_OK;
}

static vgg_status add_samples(struct world *world)
{
    static uint32_t labels[100];
    for (uint32_t i = 0; i < 100; i++) labels[i] = i % 3;
    const uint64_t before = vgg_metrics_count(world->metrics);
    const vgg_status status = vgg_metrics_add(world->metrics, world->output, labels);
    ck_assert_uint_eq(vgg_metrics_count(world->metrics),
                      before + (status == VGG_OK ? 100 : 0));
    return status;
}

static vgg_status metrics_with_samples(struct world *world)
{
    const vgg_status status = metrics_and_logits(world);
    return status == VGG_OK ? add_samples(world) : status;
}

static vgg_status area_under_curve(struct world *world)
{
    double area;
    const vgg_status status = vgg_metrics_auc(world->metrics, &area);
    ck_assert(status == VGG_OK ? area > 0.0 && area < 1.0 : area == 0.0);
    return status;
}

static uint64_t metrics_digest(struct world *world)
{
    double figures[3] = {vgg_metrics_loss(world->metrics),
                         vgg_metrics_top_k(world->metrics, 1), 0};
    ck_ok(vgg_metrics_auc(world->metrics, &figures[2]));
    return digest_bytes(0, figures, sizeof figures);
}

static const struct scenario scenarios[] = {
    {"arrays", make_images, from_arrays, data_digest},
    {"source", NULL, from_source},
    {"idx", write_files, open_idx, data_digest},
    {"cifar", write_files, open_cifar, data_digest},
    {"names of classes", from_arrays, name_classes},
    {"picture made to fit", fit_and_room, fit_picture, output_digest},
    {"opencv resize", image_and_room, apply_opencv, output_digest},
    {"pillow resize", image_and_room, apply_pillow, output_digest},
    {"loader", from_arrays, create_loader, loader_digest},
    {"loader ahead", from_arrays, create_loader_ahead, loader_digest},
    {"metrics", NULL, create_metrics},
    {"add samples", metrics_and_logits, add_samples, metrics_digest, .keeps = true},
    {"auc", metrics_with_samples, area_under_curve, metrics_digest},
};

int main(void)
{
    return injector_main("fault/feed", scenarios, sizeof scenarios / sizeof *scenarios);
}
