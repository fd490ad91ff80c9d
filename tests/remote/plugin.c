/* SPDX-License-Identifier: Apache-2.0 */
/* The engine of remote.h as a plugin, around the plugin's own copy of `ref`. In the
 * environment, REMOTE_DEVICES says how many devices it lists, REMOTE_WANTS_DATA that it
 * refuses to train on images of the host, REMOTE_BROKEN that no device opens. */
#include <stdlib.h>

#include "remote.h"

__attribute__((visibility("default"))) const vgg_engine *
vgg_engine_entry(const vgg_host *host);

const vgg_engine *vgg_engine_entry(const vgg_host *host)
{
    if (host->abi != VGG_ENGINE_ABI || host->size != sizeof *host) return NULL;
    if (remote.inner != NULL) return &remote_engine;
    const char *devices = getenv("REMOTE_DEVICES");
    remote_begin(&vgg__engine_ref);
    remote.wants_data = getenv("REMOTE_WANTS_DATA") != NULL;
    remote.broken = getenv("REMOTE_BROKEN") != NULL;
    if (devices != NULL) remote.devices = (uint32_t)atoi(devices);
    return &remote_engine;
}
