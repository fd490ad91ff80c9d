/* SPDX-License-Identifier: Apache-2.0 */
/* Engines that come as shared objects of their own. */
#ifndef VGG_LIB_PLUGIN_H
#define VGG_LIB_PLUGIN_H

#include <stdbool.h>

#include "backend.h"

/* The engine `name` of the plugin vgg-NAME.so, which is loaded at the first call and
 * stays until the process ends. It is shown `host`, and looked for where its context
 * says. VGG_EDEVICE with the reason when there is none;
 * *installed tells whether a file was found at all. Thread-safe. */
vgg_status vgg__plugin_engine(const vgg_host *host, const char *name, bool *installed,
                              const vgg_engine **out);

#endif
