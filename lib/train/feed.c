/* SPDX-License-Identifier: Apache-2.0 */
/* From loaders to plans; see feed.h. */
#include "train/feed.h"

#include "data/loader.h"

vgg_status vgg__feed_open(struct vgg__feed *feed, vgg_device *device,
                          vgg_loader *loader)
{
    *feed = (struct vgg__feed){.loader = loader};
    loader->lent++;
    return vgg__resident_attach(device, loader, &feed->resident);
}

void vgg__feed_close(struct vgg__feed *feed)
{
    vgg__resident_detach(feed->resident);
    if (feed->loader != NULL) feed->loader->lent--;
    *feed = (struct vgg__feed){.loader = NULL};
}

vgg_status vgg__feed_next(struct vgg__feed *feed, struct vgg__fed *out)
{
    *out = (struct vgg__fed){.resident = feed->resident};
    if (feed->resident == NULL) return vgg__loader_next(feed->loader, &out->batch);
    struct vgg__named_batch named;
    VGG_TRY(vgg__loader_name(feed->loader, feed->resident->labels, &named));
    out->samples = named.samples;
    out->batch = (vgg_batch){.labels = named.labels,
                             .count = named.count,
                             .epoch = named.epoch,
                             .index = named.index};
    return VGG_OK;
}

vgg_status vgg__fed_forward(const struct vgg__fed *fed, vgg_plan *plan,
                            vgg_tensor *output)
{
    if (fed->samples == NULL) return vgg_plan_forward(plan, fed->batch.images, output);
    return vgg__plan_forward_samples(plan, fed->resident, fed->samples,
                                     fed->batch.count, output);
}
