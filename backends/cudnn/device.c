/* SPDX-License-Identifier: Apache-2.0 */
/* Listing GPUs, and opening one: streams, library handles, work space, staging. */
#include "cudnn/device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cudnn/stages.h"

/* ---- Opening and closing --------------------------------------------------------- */

static vgg_status make_handles(struct vgg__cudnn *device)
{
    const struct vgg__api *api = device->api;
    const cudnnStatus_t dnn = api->dnnCreate(&device->dnn);
    if (dnn != CUDNN_STATUS_SUCCESS)
        return vgg__cudnn_dnn_failed(device, "a handle", dnn, VGG__UPDATE);
    const cublasStatus_t lt = api->ltCreate(&device->lt);
    if (lt == CUBLAS_STATUS_SUCCESS) return VGG_OK;
    vgg__cudnn_lt_failed(device, "a handle", lt, VGG__UPDATE);
    return VGG_EDEVICE; /* whatever it is short of, it is not room for a batch */
}

static vgg_status make_queue(struct vgg__cudnn *device)
{
    const struct vgg__api *api = device->api;
    cudaError_t error =
        api->streamCreateWithFlags(&device->stream, cudaStreamNonBlocking);
    if (error == cudaSuccess)
        error = api->streamCreateWithFlags(&device->capture, cudaStreamNonBlocking);
    if (error == cudaSuccess)
        error = api->streamCreateWithFlags(&device->side, cudaStreamNonBlocking);
    if (error == cudaSuccess)
        error = api->eventCreateWithFlags(&device->fork, cudaEventDisableTiming);
    if (error == cudaSuccess)
        error = api->eventCreateWithFlags(&device->join, cudaEventDisableTiming);
    for (int i = 0; error == cudaSuccess && i < VGG__PIECES; i++)
        error =
            api->eventCreateWithFlags(&device->piece_free[i], cudaEventDisableTiming);
    if (error == cudaSuccess) error = api->eventCreateWithFlags(&device->begin, 0);
    if (error == cudaSuccess) error = api->eventCreateWithFlags(&device->end, 0);
    return vgg__cudnn_check(device, error, "make a stream");
}

/* The first context of a process on a GPU is made here, which takes a while. */
static vgg_status start(struct vgg__cudnn *device)
{
    vgg_status status = make_queue(device);
    if (status == VGG_OK) status = make_handles(device);
    if (status == VGG_OK)
        status = vgg__cudnn_malloc(device, VGG__WORKSPACE, &device->workspace);
    if (status == VGG_OK)
        status = vgg__cudnn_malloc(device, VGG__WORKSPACE, &device->side_workspace);
    if (status == VGG_OK) status = vgg__cudnn_grow_pieces(device, VGG__PIECE);
    if (status == VGG_OK) status = vgg__cudnn_try(device);
    return status;
}

static void stop(struct vgg__cudnn *device)
{
    const struct vgg__api *api = device->api;
    vgg__cudnn_finish(device);
    vgg__cudnn_free_pieces(device);
    vgg__cudnn_free(device, device->workspace);
    vgg__cudnn_free(device, device->side_workspace);
    if (device->fork != NULL) api->eventDestroy(device->fork);
    if (device->join != NULL) api->eventDestroy(device->join);
    if (device->side != NULL) api->streamDestroy(device->side);
    if (device->dnn != NULL) api->dnnDestroy(device->dnn);
    if (device->lt != NULL) api->ltDestroy(device->lt);
    for (int i = 0; i < VGG__PIECES; i++)
        if (device->piece_free[i] != NULL) api->eventDestroy(device->piece_free[i]);
    if (device->begin != NULL) api->eventDestroy(device->begin);
    if (device->end != NULL) api->eventDestroy(device->end);
    if (device->stream != NULL) api->streamDestroy(device->stream);
    if (device->capture != NULL) api->streamDestroy(device->capture);
}

void vgg__cudnn_text(const struct cudaDeviceProp *prop, char *text, size_t size)
{
    snprintf(text, size,
             "%.100s, compute capability %d.%d, %d multiprocessors, %zu MiB",
             prop->name, prop->major, prop->minor, prop->multiProcessorCount,
             prop->totalGlobalMem >> 20);
}

const char *vgg__cudnn_groups(void)
{
    const char *const said = secure_getenv("VGG_CUDA_WARP_GROUPS");
    return said != NULL && said[0] != '\0' ? said : "on";
}

/* Products of warp groups are what Hopper has, if nobody turns them off. */
static vgg_status choose_groups(struct vgg__cudnn *device)
{
    const vgg_host *host = &device->machine.host;
    const char *const said = vgg__cudnn_groups();
    const bool off = strcmp(said, "off") == 0;
    if (!off && strcmp(said, "on") != 0)
        return host->fail(VGG_EDEVICE,
                          "VGG_CUDA_WARP_GROUPS: expected on or off, found '%.40s'",
                          said);
    device->mma.wide = device->capability == 90 && !off;
    if (device->capability == 90 && off)
        host->log(host->ctx, VGG_LOG_INFO,
                  "cuda:%d: no products of warp groups, as VGG_CUDA_WARP_GROUPS says",
                  device->ordinal);
    return VGG_OK;
}

static vgg_status read_properties(struct vgg__cudnn *device)
{
    struct cudaDeviceProp prop;
    const vgg_status status = vgg__cudnn_check(
        device, device->api->getDeviceProperties(&prop, device->ordinal), "look at it");
    if (status != VGG_OK) return status;
    device->capability = 10 * prop.major + prop.minor;
    device->mma = (struct vgg__conv_mma_device){
        .capability = (uint32_t)device->capability,
        .multiprocessors = (uint32_t)prop.multiProcessorCount,
        .shared_block = (uint32_t)prop.sharedMemPerBlockOptin,
        .shared_multiprocessor = (uint32_t)prop.sharedMemPerMultiprocessor};
    vgg__cudnn_text(&prop, device->text, sizeof device->text);
    const size_t at = strlen(device->text), dnn = device->api->dnnGetVersion();
    const size_t lt = device->api->ltGetVersion();
    snprintf(device->text + at, sizeof device->text - at,
             "; cuDNN %zu.%zu.%zu, cuBLASLt %zu.%zu.%zu", dnn / 10000, dnn / 100 % 100,
             dnn % 100, lt / 10000, lt / 100 % 100, lt % 100);
    if (device->capability < 75)
        return device->machine.host.fail(
            VGG_EDEVICE, "cuda:%d: %s; expected compute capability 7.5 or better",
            device->ordinal, device->text);
    return choose_groups(device);
}

vgg_status vgg__cudnn_open(const vgg_host *host, uint32_t index, void **out)
{
    *out = NULL;
    char reason[VGG__REASON];
    const struct vgg__api *api = vgg__api_open(reason, sizeof reason);
    if (api == NULL) return host->fail(VGG_EDEVICE, "%s", reason);
    struct vgg__cudnn *device = host->alloc(host->ctx, sizeof *device);
    if (device == NULL) return VGG_ENOMEM;
    *device = (struct vgg__cudnn){
        .machine = {.host = *host,
                    .stages = {[VGG_FP32] = vgg__cudnn_stages,
                               [VGG_TF32] = vgg__cudnn_stages,
                               [VGG_BF16] = vgg__cudnn_stages},
                    .channels_last = true,
                    .apart = true,
                    .overlaps = true},
        .api = api,
        .ordinal = (int)index,
    };
    pthread_mutex_init(&device->lock, NULL);
    vgg_status status = vgg__cudnn_enter(device);
    if (status == VGG_OK) {
        status = read_properties(device);
        if (status == VGG_OK) {
            status = start(device);
            if (status != VGG_OK) stop(device);
        }
        vgg__cudnn_leave(device);
    }
    if (status != VGG_OK) {
        pthread_mutex_destroy(&device->lock);
        host->release(device);
        return status;
    }
    device->opened = true;
    if (api->warning != NULL)
        host->log(host->ctx, VGG_LOG_WARNING, "cuda:%d: %s", device->ordinal,
                  api->warning);
    *out = device;
    return VGG_OK;
}

/* A lost device's objects are given back all the same: CUDA answers with errors. */
void vgg__cudnn_close(void *opaque)
{
    struct vgg__cudnn *device = opaque;
    vgg__cudnn_enter_anyway(device);
    stop(device);
    vgg__cudnn_leave(device);
    pthread_mutex_destroy(&device->lock);
    device->machine.host.release(device);
}

/* ---- Probing --------------------------------------------------------------------- */

vgg_status vgg__cudnn_probe(const vgg_host *host, vgg_device_desc *list,
                            uint32_t capacity, uint32_t *count)
{
    *count = 0;
    char reason[VGG__REASON];
    const struct vgg__api *api = vgg__api_open(reason, sizeof reason);
    if (api == NULL) return host->fail(VGG_EDEVICE, "%s", reason);
    int found = 0;
    const cudaError_t error = api->getDeviceCount(&found);
    if (error != cudaSuccess) {
        api->getLastError();
        return host->fail(VGG_EDEVICE, "no NVIDIA GPU can be used: %s (%s)",
                          api->getErrorString(error), api->getErrorName(error));
    }
    if (found == 0) return host->fail(VGG_EDEVICE, "no NVIDIA GPU was found");
    for (int i = 0; i < found && *count < capacity; i++) {
        struct cudaDeviceProp prop = {0};
        if (api->getDeviceProperties(&prop, i) != cudaSuccess) {
            api->getLastError();
            snprintf(prop.name, sizeof prop.name, "a GPU that can't be looked at");
        }
        vgg_device_desc *desc = &list[(*count)++];
        snprintf(desc->name, sizeof desc->name, "cuda:%d", i);
        vgg__cudnn_text(&prop, desc->text, sizeof desc->text);
    }
    return VGG_OK;
}
