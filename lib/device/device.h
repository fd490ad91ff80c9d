/* SPDX-License-Identifier: Apache-2.0 */
/* An open device, and the engines there are. */
#ifndef VGG_LIB_DEVICE_H
#define VGG_LIB_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
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
    pthread_mutex_t lock;            /* guards what follows */
    struct vgg__resident *residents; /* data sets that it has: plan/resident.h */
};

/* Engines that this library knows, in order of preference; a plugin may be missing. */
#define VGG_ENGINES 3

/* `index` is 0 to VGG_ENGINES - 1. */
const char *vgg__engine_name(uint32_t index);

/* A plugin is loaded by that. VGG_EDEVICE with the reason; *installed is false where it
 * is no more than that there is no such plugin. */
vgg_status vgg__engine_get(vgg_context *ctx, uint32_t index, bool *installed,
                           const vgg_engine **out);

/* VGG_EDEVICE with the reason where there is no device, so *count is 1 or more. */
vgg_status vgg__engine_probe(vgg_context *ctx, const vgg_engine *engine,
                             vgg_device_desc list[VGG_MAX_DEVICES], uint32_t *count);

/* The host table for engines that work in `ctx`. */
void vgg__host_fill(vgg_context *ctx, vgg_host *host);

vgg_device *vgg__device_ref(vgg_device *device);

#endif
