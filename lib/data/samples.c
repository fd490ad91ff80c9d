/* SPDX-License-Identifier: Apache-2.0 */
/* Naming samples instead of making images; see loader.h. The thread that makes batches
 * ahead is parked for as long, so that `maker` is the caller's. */
#include "core/fpmode.h"
#include "core/memory.h"
#include "data/dataset.h"
#include "data/loader.h"

vgg_status vgg__loader_describe(const vgg_loader *loader, vgg_data_desc *out)
{
    const vgg_status status =
        vgg__transformer_describe(loader->ctx, loader->maker.transformer, out);
    out->count = vgg_dataset_count(loader->data);
    return status;
}

vgg_status vgg__loader_prepare_names(vgg_loader *loader)
{
    const uint32_t batch = loader->opts.batch;
    if (loader->named == NULL)
        loader->named = vgg__calloc(loader->ctx, batch, sizeof *loader->named);
    if (loader->named_labels == NULL)
        loader->named_labels =
            vgg__calloc(loader->ctx, batch, sizeof *loader->named_labels);
    return loader->named != NULL && loader->named_labels != NULL ? VGG_OK : VGG_ENOMEM;
}

/* No more batches ahead; what has been made or begun is thrown away. */
static void park_maker(vgg_loader *loader)
{
    if (!loader->has_thread || loader->naming) return;
    pthread_mutex_lock(&loader->lock);
    loader->naming = true;
    atomic_fetch_add(&loader->version, 1);
    loader->made = loader->taken;
    while (loader->busy) pthread_cond_wait(&loader->ready, &loader->lock);
    pthread_mutex_unlock(&loader->lock);
}

static vgg_sample name_sample(const vgg_loader *loader, uint64_t epoch, uint64_t index)
{
    struct vgg__augment drawn;
    vgg__loader_draw(loader, epoch, index, &drawn);
    return (vgg_sample){.index = index,
                        .down = drawn.down,
                        .right = drawn.right,
                        .flip = drawn.flip,
                        .erase_top = drawn.erase.top,
                        .erase_left = drawn.erase.left,
                        .erase_height = drawn.erase.height,
                        .erase_width = drawn.erase.width};
}

vgg_status vgg__loader_name(vgg_loader *loader, const uint32_t *labels,
                            struct vgg__named_batch *out)
{
    const struct vgg__cursor at = loader->next;
    *out = (struct vgg__named_batch){.epoch = at.epoch, .index = at.index};
    VGG_TRY(vgg__loader_check(loader));
    if (at.index == loader->batches) {
        loader->next = (struct vgg__cursor){at.epoch + 1, 0};
        return VGG_OK;
    }
    park_maker(loader);
    const uint64_t mode = vgg__fpmode_enter();
    vgg__loader_order(loader, at.epoch);
    const uint32_t *const order = loader->maker.order;
    const uint64_t first = at.index * loader->opts.batch;
    out->count = vgg__loader_samples_at(loader, at.index);
    for (uint32_t i = 0; i < out->count; i++) {
        const uint64_t index = order != NULL ? order[first + i] : first + i;
        loader->named[i] = name_sample(loader, at.epoch, index);
        loader->named_labels[i] = labels[index];
    }
    vgg__fpmode_leave(mode);
    out->samples = loader->named;
    out->labels = loader->named_labels;
    loader->next.index++;
    return VGG_OK;
}
