/* SPDX-License-Identifier: Apache-2.0 */
/* Every allocation of metadata and weights' files fails once. What was on disk before
 * is there afterwards, whole, and nothing else is beside it. */
#include "feed.h"

#include <stdio.h>

/* ---- Metadata ------------------------------------------------------------------- */

static vgg_status create_metadata(struct world *world)
{
    return vgg_metadata_create(world->ctx, &world->metadata);
}

static vgg_status metadata_with_one(struct world *world)
{
    const vgg_status status = create_metadata(world);
    return status == VGG_OK ? vgg_metadata_set(world->metadata, "a", "old") : status;
}

/* A failed replacement leaves the old value. */
static vgg_status replace_value(struct world *world)
{
    const vgg_status status =
        vgg_metadata_set(world->metadata, "a", "a longer new value");
    ck_assert_str_eq(vgg_metadata_get(world->metadata, "a"),
                     status == VGG_OK ? "a longer new value" : "old");
    return status;
}

static vgg_status add_value(struct world *world)
{
    const vgg_status status = vgg_metadata_set(world->metadata, "b", "new");
    ck_assert_str_eq(vgg_metadata_get(world->metadata, "a"), "old");
    ck_assert((vgg_metadata_get(world->metadata, "b") != NULL) == (status == VGG_OK));
    return status;
}

/* ---- Weights -------------------------------------------------------------------- */

static vgg_status create_model(struct world *world, uint64_t seed, vgg_model **out)
{
    const vgg_arch arch = tiny_arch();
    vgg_model_options opts = VGG_MODEL_OPTIONS_INIT;
    opts.seed = seed;
    return vgg_model_create(world->ctx, &arch, 1, &opts, out);
}

static vgg_status model_and_metadata(struct world *world)
{
    world_mkdtemp(world->dir);
    vgg_status status = create_model(world, 1, &world->model);
    if (status == VGG_OK) status = metadata_with_one(world);
    return status;
}

static vgg_status save_weights(struct world *world)
{
    const vgg_status status = vgg_weights_save(
        world->model, world_path(world, "w.safetensors"), world->metadata);
    ck_assert_int_eq(world_entries(world), status == VGG_OK ? 1 : 0);
    return status;
}

static uint64_t file_digest(struct world *world)
{
    char bytes[65536];
    FILE *file = fopen(world_path(world, "w.safetensors"), "rb");
    ck_assert_ptr_nonnull(file);
    const size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    ck_assert_uint_gt(size, 1000);
    return digest_bytes(0, bytes, size);
}

/* A file, and another model to load it into. */
static vgg_status saved_and_other(struct world *world)
{
    vgg_status status = model_and_metadata(world);
    if (status == VGG_OK) status = save_weights(world);
    if (status == VGG_OK) status = create_model(world, 2, &world->other);
    vgg_metadata_free(world->metadata);
    world->metadata = NULL;
    return status;
}

/* On failure the model is unchanged, and no metadata comes out. */
static vgg_status load_weights(struct world *world)
{
    const uint64_t before = digest_model(world->other);
    const vgg_status status = vgg_weights_load(
        world->other, world_path(world, "w.safetensors"), NULL, &world->metadata);
    if (status == VGG_OK) {
        ck_assert_str_eq(vgg_metadata_get(world->metadata, "a"), "old");
    } else {
        ck_assert_ptr_null(world->metadata);
        ck_assert(digest_model(world->other) == before);
    }
    return status;
}

static uint64_t other_digest(struct world *world)
{
    ck_assert(digest_model(world->other) == digest_model(world->model));
    return digest_model(world->other);
}

static vgg_status saved(struct world *world)
{
    const vgg_status status = saved_and_other(world);
    vgg_model_free(world->other);
    world->other = NULL;
    return status;
}

static vgg_status load_model(struct world *world)
{
    const vgg_status status =
        vgg_model_load(world->ctx, world_path(world, "w.safetensors"), &world->metadata,
                       &world->other);
    if (status != VGG_OK) ck_assert(world->metadata == NULL && world->other == NULL);
    return status;
}

static const struct scenario scenarios[] = {
    {"metadata", NULL, create_metadata},
    {"replace a value", metadata_with_one, replace_value, NULL, .keeps = true},
    {"add a value", metadata_with_one, add_value, NULL, .keeps = true},
    {"save weights", model_and_metadata, save_weights, file_digest},
    {"load weights", saved_and_other, load_weights, other_digest},
    {"load model", saved, load_model, other_digest},
};

int main(void)
{
    return injector_main("fault/weights", scenarios,
                         sizeof scenarios / sizeof *scenarios);
}
