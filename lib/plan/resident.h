/* SPDX-License-Identifier: Apache-2.0 */
/* Data sets that stay on a device: one copy for each device, data set and way to bring
 * its images to the network's input, shared by all who use it at the time. */
#ifndef VGG_LIB_RESIDENT_H
#define VGG_LIB_RESIDENT_H

#include "data/loader.h"
#include "device/device.h"

struct vgg__resident {
    struct vgg__resident *next; /* of the device's list */
    uint32_t users;
    vgg_device *device; /* counted */
    vgg_dataset *data;  /* counted */
    vgg_transform spec; /* without what is drawn */
    void *handle;       /* the engine's */
    const uint32_t *labels;
    uint32_t *own_labels; /* of a data set that has no list of them; or NULL */
};

/* The copy for a loader's data set, made by reading it once if there is none. *out is
 * NULL where the device computes on the host's batches: the engine keeps no data, or
 * has no room (which is told to the log). Fails as reading a sample does; VGG_ENOMEM,
 * VGG_EDEVICE. */
vgg_status vgg__resident_attach(vgg_device *device, vgg_loader *loader,
                                struct vgg__resident **out);

/* One user less; NULL is fine. */
void vgg__resident_detach(struct vgg__resident *resident);

#endif
