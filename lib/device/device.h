/* SPDX-License-Identifier: Apache-2.0 */
/* An open device, and the engines that are built in. */
#ifndef VGG_LIB_DEVICE_H
#define VGG_LIB_DEVICE_H

#include <stdatomic.h>
#include <vgg/device.h>

#include "backend.h"

/* Most devices that one engine can list. */
#define VGG_MAX_DEVICES 16

struct vgg_device {
    atomic_uint refs;
    vgg_context *ctx;
    vgg_host host; /* the engine keeps a pointer to it */
    const vgg_engine *engine;
    void *state; /* the engine's own */
    vgg_device_desc desc;
};

/* Built-in engines in order of preference; NULL when `index` is past the last. */
const vgg_engine *vgg__engine_at(uint32_t index);

/* The host table for engines that work in `ctx`. */
void vgg__host_fill(vgg_context *ctx, vgg_host *host);

vgg_device *vgg__device_ref(vgg_device *device);

#endif
