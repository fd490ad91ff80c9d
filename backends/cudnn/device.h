/* SPDX-License-Identifier: Apache-2.0 */
/* The engine's entries about devices; see backend.h for what they promise. */
#ifndef VGG_CUDNN_DEVICE_H
#define VGG_CUDNN_DEVICE_H

#include "cudnn/cudnn.h"

extern const vgg_engine vgg__engine_cudnn;
const vgg_engine *vgg_engine_entry(const vgg_host *host);

vgg_status vgg__cudnn_probe(const vgg_host *host, vgg_device_desc *list,
                            uint32_t capacity, uint32_t *count);
vgg_status vgg__cudnn_open(const vgg_host *host, uint32_t index, void **device);
void vgg__cudnn_close(void *device);

/* One line about a device, as far as CUDA tells. */
void vgg__cudnn_text(const struct cudaDeviceProp *prop, char *text, size_t size);

/* What the environment's VGG_CUDA_WARP_GROUPS says of the engine's products of warp
 * groups, "on" without it; "off" where they are not to be used, nor tried. */
const char *vgg__cudnn_groups(void);

#endif
