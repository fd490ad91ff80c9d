/* SPDX-License-Identifier: Apache-2.0 */
/* Opening devices. "auto" takes the first engine, in order of preference, that has a
 * device that opens; an engine asked for by name, the first of its devices that opens;
 * what is passed over is told to the log. A device named by its number opens, or is an
 * error with the engine's reason. */
#include "device/device.h"

#include "device/plugin.h"

#include <stdio.h>
#include <string.h>

#include "core/context.h"
#include "core/error.h"
#include "core/fpmode.h"
#include "core/memory.h"

/* In order of preference. A device's name is its family, or family:number. */
static const struct {
    const char *name, *family;
    const vgg_engine *built_in; /* NULL: a plugin */
} engines[VGG_ENGINES] = {
    {"cudnn", "cuda", NULL},
    {"cpu", "cpu", &vgg__engine_cpu},
    {"ref", "ref", &vgg__engine_ref},
};

const char *vgg__engine_name(uint32_t index)
{
    return engines[index].name;
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

vgg_status vgg__engine_get(vgg_context *ctx, uint32_t index, bool *installed,
                           const vgg_engine **out)
{
    *installed = true;
    *out = engines[index].built_in;
    if (*out != NULL) return VGG_OK;
    vgg_host host;
    vgg__host_fill(ctx, &host);
    return vgg__plugin_engine(&host, engines[index].name, installed, out);
}

vgg_status vgg__engine_probe(vgg_context *ctx, const vgg_engine *engine,
                             vgg_device_desc list[VGG_MAX_DEVICES], uint32_t *count)
{
    vgg_host host;
    vgg__host_fill(ctx, &host);
    *count = 0;
    const uint64_t mode = vgg__fpmode_enter();
    const vgg_status status = engine->probe(&host, list, VGG_MAX_DEVICES, count);
    vgg__fpmode_leave(mode);
    if (status == VGG_OK && *count == 0)
        return vgg__fail(VGG_EDEVICE, "engine %s found no device", engine->name);
    return status;
}

/* What is left of a device that is closed. */
static void release(vgg_device *device)
{
    vgg_context *ctx = device->ctx;
    pthread_mutex_destroy(&device->lock);
    vgg__free(device);
    vgg__context_unref(ctx);
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
    pthread_mutex_init(&device->lock, NULL);
    vgg__host_fill(device->ctx, &device->host);

    const uint64_t mode = vgg__fpmode_enter();
    const vgg_status status = engine->open(&device->host, index, &device->state);
    if (status == VGG_OK)
        engine->device_text(device->state, device->desc.text, sizeof device->desc.text);
    vgg__fpmode_leave(mode);

    if (status != VGG_OK) {
        release(device);
        return status;
    }
    *out = device;
    return VGG_OK;
}

/* Is it this engine's to open a device called so? NULL is anything. */
static bool answers_to(uint32_t index, const char *name)
{
    if (name == NULL || strcmp(name, engines[index].name) == 0) return true;
    const size_t length = strlen(engines[index].family);
    return strncmp(name, engines[index].family, length) == 0 &&
           (name[length] == '\0' || name[length] == ':');
}

/* The names of all that was found, for an error text. */
static const char *names_of(const vgg_device_desc *list, uint32_t count, char *text,
                            size_t size)
{
    size_t length = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < count && length < size; i++)
        length += (size_t)snprintf(text + length, size - length, "%s%s",
                                   i > 0 ? ", " : "", list[i].name);
    return text;
}

/* Open the first of an engine's devices that opens. An end of the host's memory is none
 * of their faults, and ends the search. */
static vgg_status open_first(vgg_context *ctx, const vgg_engine *engine,
                             const char *asked, const vgg_device_desc *list,
                             uint32_t count, vgg_device **out)
{
    for (uint32_t i = 0;; i++) {
        const vgg_status status = open_at(ctx, engine, i, &list[i], out);
        if (status == VGG_OK || status == VGG_ENOMEM || count == 1) return status;
        if (i + 1 == count)
            return vgg__fail(status, "none of %u devices opens; the last: %s", count,
                             vgg_last_error());
        vgg__log(ctx, VGG_LOG_INFO, "device %s: not %s: %s", asked, list[i].name,
                 vgg_last_error());
    }
}

/* Open an engine's device by its name, or the first that opens if the name is NULL or
 * the engine's or the family's. */
static vgg_status open_engine(vgg_context *ctx, uint32_t index, const char *name,
                              bool *installed, vgg_device **out)
{
    const vgg_engine *engine;
    vgg_device_desc list[VGG_MAX_DEVICES];
    uint32_t count = 0;
    const vgg_status status = vgg__engine_get(ctx, index, installed, &engine);
    if (status != VGG_OK)
        return vgg__fail(status, "engine %s: %s", engines[index].name,
                         vgg_last_error());
    VGG_TRY(vgg__engine_probe(ctx, engine, list, &count));
    if (name == NULL || strchr(name, ':') == NULL)
        return open_first(ctx, engine, name != NULL ? name : "auto", list, count, out);
    for (uint32_t i = 0; i < count; i++)
        if (strcmp(name, list[i].name) == 0)
            return open_at(ctx, engine, i, &list[i], out);
    char names[VGG_ERROR_SIZE / 2];
    return vgg__fail(VGG_EDEVICE, "no device %.40s; engine %s has %s", name,
                     engine->name, names_of(list, count, names, sizeof names));
}

/* The first that opens. What is passed over is told to the log: quietly where it is
 * nothing but a plugin that is not there, loudly where every processor should have it
 * and what is left is a hundred times slower. A device that is out of memory is passed
 * over like any other that can't be had; the host without memory has none to go on
 * with. */
static vgg_status open_best(vgg_context *ctx, vgg_device **out)
{
    vgg_status status = VGG_EDEVICE;
    for (uint32_t i = 0; i < VGG_ENGINES; i++) {
        bool installed = true;
        status = open_engine(ctx, i, NULL, &installed, out);
        if (status == VGG_OK || status == VGG_ENOMEM) break;
        const vgg_log_level level = engines[i].built_in != NULL ? VGG_LOG_WARNING
                                    : installed                 ? VGG_LOG_INFO
                                                                : VGG_LOG_DEBUG;
        vgg__log(ctx, level, "device auto: not %s: %s", engines[i].name,
                 vgg_last_error());
    }
    return status;
}

vgg_status vgg_device_open(vgg_context *ctx, const char *name, vgg_device **out)
{
    VGG_REQUIRE(out != NULL);
    *out = NULL;
    if (name != NULL && strcmp(name, "auto") == 0) name = NULL;
    uint32_t index = 0;
    while (index < VGG_ENGINES && !answers_to(index, name)) index++;
    if (index == VGG_ENGINES)
        return vgg__fail(VGG_EINVAL,
                         "device \"%s\" is unknown; expected auto, cuda, cuda:0 (or "
                         "another number), cpu or ref",
                         name);
    ctx = vgg__context_ref(ctx);
    bool installed;
    struct vgg__error kept;
    vgg__error_keep(&kept);
    const vgg_status status = name == NULL
                                  ? open_best(ctx, out)
                                  : open_engine(ctx, index, name, &installed, out);
    if (status == VGG_OK) vgg__error_restore(&kept); /* what was passed over */
    vgg__context_unref(ctx);
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
    release(device);
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
