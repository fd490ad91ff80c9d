/* SPDX-License-Identifier: Apache-2.0 */
/* What scenarios put in their worlds: a tiny network, tiny images, loaders. */
#include "feed.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

vgg_arch tiny_arch(void)
{
    vgg_arch arch = VGG_ARCH_INIT;
    arch.block_count = 2;
    arch.blocks[0] = (vgg_block){1, 4, 0};
    arch.blocks[1] = (vgg_block){2, 6, 1};
    arch.height = arch.width = 8;
    arch.classes = 3;
    arch.hidden = 5;
    arch.batch_norm = 1;
    return arch;
}

vgg_status feed_images(struct world *world)
{
    const vgg_shape shape = {4, {FEED_COUNT, 1, 8, 8}}; /* [n][c][h][w] */
    const vgg_status status =
        vgg_tensor_create(world->ctx, VGG_U8, &shape, &world->images);
    if (status != VGG_OK) return status;
    uint8_t *pixels = vgg_tensor_data(world->images);
    for (int i = 0; i < FEED_COUNT * 64; i++) pixels[i] = (uint8_t)(i * 73 % 251);
    return VGG_OK;
}

vgg_status feed_dataset(struct world *world)
{
    static const uint32_t labels[FEED_COUNT] = {0, 1, 2, 1, 0, 2, 2, 1, 0, 1};
    if (world->images == NULL) {
        const vgg_status status = feed_images(world);
        if (status != VGG_OK) return status;
    }
    return vgg_dataset_from_arrays(world->ctx, world->images, labels, 3, &world->data);
}

vgg_status feed_loader(struct world *world, uint32_t prefetch, vgg_loader **out)
{
    vgg_transform transform = VGG_TRANSFORM_INIT;
    transform.shift = 1;
    transform.flip = transform.erase = 0.5f;
    vgg_loader_options opts = VGG_LOADER_OPTIONS_INIT;
    opts.transform = &transform;
    opts.seed = 3;
    opts.batch = 4;
    opts.train = 1;
    opts.prefetch = prefetch;
    return vgg_loader_create(world->data, &opts, out);
}

uint64_t digest_bytes(uint64_t hash, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    if (hash == 0) hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < size; i++) hash = (hash ^ bytes[i]) * 0x100000001b3;
    return hash;
}

uint64_t digest_model(vgg_model *model)
{
    uint64_t hash = 0;
    for (uint32_t i = 0; i < vgg_model_param_count(model); i++) {
        vgg_param *param = vgg_model_param(model, i);
        vgg_tensor *value;
        ck_ok(vgg_tensor_create(NULL, VGG_F32, vgg_param_shape(param), &value));
        ck_ok(vgg_param_read(param, value));
        hash = digest_bytes(hash, vgg_tensor_data(value), vgg_tensor_bytes(value));
        vgg_tensor_free(value);
    }
    return hash;
}

void world_mkdtemp(char path[64])
{
    strcpy(path, "/dev/shm/vgg-test-XXXXXX");
    if (mkdtemp(path) == NULL) harness_mkdtemp(path);
}

const char *world_path(const struct world *world, const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", world->dir, name);
    return path;
}

int world_entries(const struct world *world)
{
    int count = 0;
    DIR *entries = opendir(world->dir);
    ck_assert_ptr_nonnull(entries);
    for (struct dirent *entry; (entry = readdir(entries)) != NULL;)
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(entries);
    return count;
}
