/* SPDX-License-Identifier: Apache-2.0 */
/* A loader's batches on their way to a plan: images of the host, or the names of
 * samples whose images the plan's device has. Both are the same batches. */
#ifndef VGG_LIB_FEED_H
#define VGG_LIB_FEED_H

#include "plan/plan.h"
#include "plan/resident.h"

struct vgg__feed {
    vgg_loader *loader;
    struct vgg__resident *resident; /* NULL: images of the host */
};

struct vgg__fed {
    vgg_batch batch; /* `images` is NULL where there are samples */
    const struct vgg__resident *resident;
    const vgg_sample *samples;
};

/* Attach the loader's data set to the device, if it takes it. As
 * vgg__resident_attach(). The loader is lent until vgg__feed_close(), which is called
 * after a failure too. */
vgg_status vgg__feed_open(struct vgg__feed *feed, vgg_device *device,
                          vgg_loader *loader);

/* All zero is fine. */
void vgg__feed_close(struct vgg__feed *feed);

/* As vgg_loader_next(). */
vgg_status vgg__feed_next(struct vgg__feed *feed, struct vgg__fed *out);

/* As vgg_plan_forward(). */
vgg_status vgg__fed_forward(const struct vgg__fed *fed, vgg_plan *plan,
                            vgg_tensor *output);

#endif
