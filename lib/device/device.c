/* SPDX-License-Identifier: Apache-2.0 */
/* Opening devices. An engine is asked by name; "auto" takes the first, in order of
 * preference, that opens. A named device that fails is an error with the engine's
 * reason. */
#include "device/device.h"

#include <stdio.h>
#include <string.h>

#include "core/context.h"
#include "core/error.h"
#include "core/fpmode.h"
#include "core/memory.h"

static const vgg_engine *const engines[] = {&vgg__engine_cpu, &vgg__engine_ref};

const vgg_engine *vgg__engine_at(uint32_t index)
{
    return index < sizeof engines / sizeof *engines ? engines[index] : NULL;
}

void vgg__host_fill(vgg_context *ctx, vgg_host *host)
{
    *host = (vgg_host){.abi = VGG_ENGINE_ABI,
                       .size = sizeof(vgg_host),
                       .ctx = ctx,
                       .alloc = vgg__alloc,
                       .release = vgg__free,
                       .fail = vgg__fail,
                       .log = vgg__log};
}

/* Open device `index` of an engine. */
static vgg_status open_at(vgg_context *ctx, const vgg_engine *engine, uint32_t index,
                          const vgg_device_desc *desc, vgg_device **out)
{
    vgg_device *device = vgg__calloc(ctx, 1, sizeof *device);
    if (device == NULL) return VGG_ENOMEM;
    atomic_init(&device->refs, 1);
    device->ctx = vgg__context_ref(ctx);
    device->engine = engine;
    device->desc = *desc;
    vgg__host_fill(device->ctx, &device->host);

    const uint64_t mode = vgg__fpmode_enter();
    const vgg_status status = engine->open(&device->host, index, &device->state);
    if (status == VGG_OK)
        engine->device_text(device->state, device->desc.text, sizeof device->desc.text);
    vgg__fpmode_leave(mode);

    if (status != VGG_OK) {
        vgg__context_unref(device->ctx);
        vgg__free(device);
        return status;
    }
    *out = device;
    return VGG_OK;
}

/* Open the device of `engine` that is called `name`, or its first if `name` is NULL.
 * *known tells whether there is one of that name. */
static vgg_status open_named(vgg_context *ctx, const vgg_engine *engine,
                             const char *name, bool *known, vgg_device **out)
{
    vgg_device_desc list[VGG_MAX_DEVICES];
    vgg_host host;
    vgg__host_fill(ctx, &host);
    uint32_t count = 0;
    const vgg_status status = engine->probe(&host, list, VGG_MAX_DEVICES, &count);
    if (status != VGG_OK) {
        *known = name == NULL || strcmp(name, engine->name) == 0;
        return status;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (name != NULL && strcmp(name, list[i].name) != 0) continue;
        *known = true;
        return open_at(ctx, engine, i, &list[i], out);
    }
    *known = false;
    return vgg__fail(VGG_EDEVICE, "engine %s found no device", engine->name);
}

vgg_status vgg_device_open(vgg_context *ctx, const char *name, vgg_device **out)
{
    VGG_REQUIRE(out != NULL);
    *out = NULL;
    if (name != NULL && strcmp(name, "auto") == 0) name = NULL;

    ctx = vgg__context_ref(ctx);
    vgg_status status = VGG_OK;
    bool known = false;
    for (uint32_t i = 0; *out == NULL && vgg__engine_at(i) != NULL; i++) {
        status = open_named(ctx, vgg__engine_at(i), name, &known, out);
        if (status == VGG_OK || status == VGG_ENOMEM) break;
        if (name != NULL && known) break;
    }
    vgg__context_unref(ctx);
    if (name != NULL && !known && *out == NULL && status != VGG_ENOMEM)
        return vgg__fail(VGG_EINVAL,
                         "device \"%s\" is unknown; expected auto, cpu or ref", name);
    return status;
}

vgg_device *vgg__device_ref(vgg_device *device)
{
    atomic_fetch_add_explicit(&device->refs, 1, memory_order_relaxed);
    return device;
}

void vgg_device_free(vgg_device *device)
{
    if (device == NULL) return;
    if (atomic_fetch_sub_explicit(&device->refs, 1, memory_order_acq_rel) != 1) return;
    device->engine->close(device->state);
    vgg_context *ctx = device->ctx;
    vgg__free(device);
    vgg__context_unref(ctx);
}

const char *vgg_device_name(const vgg_device *device)
{
    return device != NULL ? device->desc.name : NULL;
}

const char *vgg_device_engine(const vgg_device *device)
{
    return device != NULL ? device->engine->name : NULL;
}

const char *vgg_device_text(const vgg_device *device)
{
    return device != NULL ? device->desc.text : NULL;
}
