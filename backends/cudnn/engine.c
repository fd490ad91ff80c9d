/* SPDX-License-Identifier: Apache-2.0 */
/* The engine `cudnn`: GPUs by way of CUDA, cuDNN and cuBLASLt, and what makes it a
 * plugin. */
#include <stdio.h>

#include "cudnn/device.h"

static void device_text(void *opaque, char *text, size_t size)
{
    const struct vgg__cudnn *device = opaque;
    snprintf(text, size, "%s", device->text);
}

const vgg_engine vgg__engine_cudnn = {
    .abi = VGG_ENGINE_ABI,
    .size = sizeof(vgg_engine),
    .name = "cudnn",
    .fusions = VGG_FUSE_RELU | VGG_FUSE_POOL | VGG_FUSE_DROPOUT,
    .abilities = VGG_CAN_STEP,
    .probe = vgg__cudnn_probe,
    .open = vgg__cudnn_open,
    .close = vgg__cudnn_close,
    .device_text = device_text,
    .store_create = vgg__cudnn_store_create,
    .store_free = vgg__cudnn_store_free,
    .store_gradients = vgg__cudnn_store_gradients,
    .store_read = vgg__cudnn_store_read,
    .store_write = vgg__cudnn_store_write,
    .store_zero_gradients = vgg__cudnn_store_zero_gradients,
    .store_gradient_norm2 = vgg__cudnn_store_gradient_norm2,
    .store_scale_gradients = vgg__cudnn_store_scale_gradients,
    .store_update = vgg__cudnn_store_update,
    .data_create = vgg__cudnn_data_create,
    .data_free = vgg__cudnn_data_free,
    .supports = vgg__cudnn_supports,
    .measure = vgg__cudnn_measure,
    .compile = vgg__cudnn_compile,
    .program_free = vgg__cudnn_program_free,
    .run = vgg__cudnn_run,
    .read = vgg__cudnn_read,
    .describe = vgg__cudnn_describe,
    .report = NULL, /* work goes on when a call has returned */
};

/* The plugin's one export. */
__attribute__((visibility("default"))) const vgg_engine *
vgg_engine_entry(const vgg_host *host)
{
    if (host == NULL || host->abi != VGG_ENGINE_ABI || host->size != sizeof(vgg_host))
        return NULL;
    return &vgg__engine_cudnn;
}
