/* SPDX-License-Identifier: Apache-2.0 */
/* The engine of remote.h as a plugin, around the plugin's own copy of `ref`. In the
 * environment, REMOTE_DEVICES says how many devices it lists, REMOTE_BROKEN how many of
 * them, from the first on, do not open, REMOTE_WANTS_DATA that it refuses to train on
 * images of the host, REMOTE_ROOM how many bytes of data sets fit. */
#include <stdlib.h>

#include "remote.h"

__attribute__((visibility("default"))) const vgg_engine *
vgg_engine_entry(const vgg_host *host);

/* A variable's number; `fallback` where it is not set. */
static uint64_t number(const char *variable, uint64_t fallback)
{
    const char *text = getenv(variable);
    return text != NULL ? strtoull(text, NULL, 10) : fallback;
}

const vgg_engine *vgg_engine_entry(const vgg_host *host)
{
    if (host->abi != VGG_ENGINE_ABI || host->size != sizeof *host) return NULL;
    if (remote.inner != NULL) return &remote_engine;
    remote_begin(&vgg__engine_ref);
    remote.wants_data = getenv("REMOTE_WANTS_DATA") != NULL;
    remote.devices = (uint32_t)number("REMOTE_DEVICES", remote.devices);
    remote.broken = (uint32_t)number("REMOTE_BROKEN", 0);
    remote.room = number("REMOTE_ROOM", remote.room);
    return &remote_engine;
}
