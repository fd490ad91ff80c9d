/* SPDX-License-Identifier: Apache-2.0 */
/* Opening a GPU: stream, library handles, work space, staging; and the few calls that
 * everything else makes of CUDA. */
#include "cudnn/device.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cudnn/matmul.h"
#include "cudnn/stages.h"

/* Runs to time something. */
#define WARM_UP 2
#define TIMED   5

/* ---- Calls ----------------------------------------------------------------------- */

/* Make the GPU the thread's current one; `before` is what was. */
static cudaError_t make_current(struct vgg__cudnn *device)
{
    const struct vgg__api *api = device->api;
    device->before = device->ordinal;
    const cudaError_t error = api->getDevice(&device->before);
    if (error != cudaSuccess || device->before == device->ordinal) return error;
    return api->setDevice(device->ordinal);
}

vgg_status vgg__cudnn_enter(struct vgg__cudnn *device)
{
    pthread_mutex_lock(&device->lock);
    vgg_status status = VGG_OK;
    if (device->lost)
        status = vgg__cudnn_lost(device);
    else
        status = vgg__cudnn_check(device, make_current(device), "make it current");
    if (status != VGG_OK) pthread_mutex_unlock(&device->lock);
    return status;
}

void vgg__cudnn_enter_anyway(struct vgg__cudnn *device)
{
    pthread_mutex_lock(&device->lock);
    if (make_current(device) != cudaSuccess) device->api->getLastError();
}

void vgg__cudnn_leave(struct vgg__cudnn *device)
{
    if (device->before != device->ordinal) device->api->setDevice(device->before);
    pthread_mutex_unlock(&device->lock);
}

vgg_status vgg__cudnn_malloc(struct vgg__cudnn *device, size_t size, void **out)
{
    const struct vgg__api *api = device->api;
    *out = NULL;
    const cudaError_t error = api->malloc(out, size > 0 ? size : 1);
    if (error == cudaSuccess) return VGG_OK;
    if (error != cudaErrorMemoryAllocation)
        return vgg__cudnn_check(device, error, "allocate");
    api->getLastError();
    size_t available = 0, total = 0;
    api->memGetInfo(&available, &total);
    const char *remedy;
    const vgg_status status = vgg__cudnn_full(device, &remedy);
    return device->machine.host.fail(
        status, "cuda:%d: %zu MiB asked, %zu of %zu MiB are free: %s", device->ordinal,
        size >> 20, available >> 20, total >> 20, remedy);
}

void vgg__cudnn_free(struct vgg__cudnn *device, void *memory)
{
    if (memory != NULL) device->api->free(memory);
}

vgg_status vgg__cudnn_pin(struct vgg__cudnn *device, size_t size, void **out)
{
    const cudaError_t error = device->api->mallocHost(out, size);
    if (error == cudaSuccess) return VGG_OK;
    *out = NULL;
    if (error != cudaErrorMemoryAllocation)
        return vgg__cudnn_check(device, error, "allocate pinned memory");
    device->api->getLastError();
    return device->machine.host.fail(
        device->opened ? VGG_ENOMEM : VGG_EDEVICE,
        "cuda:%d: %zu KiB of the host's memory can't be pinned: free some there%s",
        device->ordinal, size / 1024 + 1,
        device->opened ? ", or use a smaller batch" : "");
}

vgg_status vgg__cudnn_wait(struct vgg__cudnn *device)
{
    return vgg__cudnn_check(device, device->api->streamSynchronize(device->stream),
                            "wait");
}

void vgg__cudnn_finish(struct vgg__cudnn *device)
{
    if (device->stream != NULL) device->api->streamSynchronize(device->stream);
    if (device->side != NULL) device->api->streamSynchronize(device->side);
}

/* One stream waits for what another has queued so far. */
static vgg_status follow(struct vgg__cudnn *device, cudaStream_t stream,
                         cudaStream_t other, cudaEvent_t event)
{
    cudaError_t error = device->api->eventRecord(event, other);
    if (error == cudaSuccess) error = device->api->streamWaitEvent(stream, event, 0);
    return vgg__cudnn_check(device, error, "order two streams");
}

vgg_status vgg__cudnn_fork(struct vgg__cudnn *device, cudaStream_t stream)
{
    return follow(device, device->side, stream, device->fork);
}

vgg_status vgg__cudnn_join(struct vgg__cudnn *device, cudaStream_t stream)
{
    return follow(device, stream, device->side, device->join);
}

float vgg__cudnn_time(struct vgg__cudnn *device,
                      vgg_status (*queue)(const void *cookie), const void *cookie)
{
    const struct vgg__api *api = device->api;
    vgg_status status = VGG_OK;
    float ms = -1;
    for (int i = 0; status == VGG_OK && i < WARM_UP + TIMED; i++) {
        if (i == WARM_UP) api->eventRecord(device->begin, device->stream);
        status = queue(cookie);
    }
    api->eventRecord(device->end, device->stream);
    const vgg_status waited =
        vgg__cudnn_check(device, api->eventSynchronize(device->end), "time a choice");
    if (status != VGG_OK || waited != VGG_OK ||
        api->eventElapsedTime(&ms, device->begin, device->end) != cudaSuccess)
        return -1;
    return roundf(ms * 1e6f / TIMED) / 1000;
}

vgg_status vgg__cudnn_upload(struct vgg__cudnn *device, void *to, const void *from,
                             size_t size)
{
    vgg_status status = vgg__cudnn_wait(device); /* the piece may be in use */
    for (size_t at = 0; status == VGG_OK && at < size; at += device->piece) {
        const size_t part = size - at < device->piece ? size - at : device->piece;
        memcpy(device->host_piece[0], (const unsigned char *)from + at, part);
        status = vgg__cudnn_check(
            device,
            device->api->memcpyAsync((unsigned char *)to + at, device->host_piece[0],
                                     part, cudaMemcpyHostToDevice, device->stream),
            "copy to the device");
        if (status == VGG_OK) status = vgg__cudnn_wait(device);
    }
    return status;
}

vgg_status vgg__cudnn_launch(struct vgg__cudnn *device, cudaStream_t stream,
                             const struct vgg__kernel *kernel, struct vgg__grid grid,
                             size_t shared, const void *args)
{
    return vgg__cudnn_check_launch(
        device, device->api->launch(kernel, grid, shared, args, stream), kernel->name);
}

/* ---- Pieces ---------------------------------------------------------------------- */

/* Places for pieces, on both sides. */
struct pieces {
    void *host[VGG__PIECES], *device[VGG__PIECES];
};

static void free_pieces(struct vgg__cudnn *device, struct pieces *pieces)
{
    for (int i = 0; i < VGG__PIECES; i++) {
        if (pieces->host[i] != NULL) device->api->freeHost(pieces->host[i]);
        vgg__cudnn_free(device, pieces->device[i]);
    }
}

static vgg_status make_pieces(struct vgg__cudnn *device, size_t size,
                              struct pieces *out)
{
    vgg_status status = VGG_OK;
    *out = (struct pieces){0};
    for (int i = 0; status == VGG_OK && i < VGG__PIECES; i++) {
        status = vgg__cudnn_pin(device, size, &out->host[i]);
        if (status == VGG_OK) status = vgg__cudnn_malloc(device, size, &out->device[i]);
    }
    if (status != VGG_OK) free_pieces(device, out);
    return status;
}

/* The pieces that are there stay if there is no room for larger ones: plans use them.
 */
vgg_status vgg__cudnn_grow_pieces(struct vgg__cudnn *device, size_t size)
{
    if (size < VGG__PIECE) size = VGG__PIECE;
    if (size <= device->piece) return VGG_OK;
    struct pieces grown, old;
    vgg_status status = make_pieces(device, size, &grown);
    if (status != VGG_OK) return status;
    status = vgg__cudnn_wait(device);
    if (status != VGG_OK) {
        free_pieces(device, &grown);
        return status;
    }
    memcpy(old.host, device->host_piece, sizeof old.host);
    memcpy(old.device, device->device_piece, sizeof old.device);
    memcpy(device->host_piece, grown.host, sizeof grown.host);
    memcpy(device->device_piece, grown.device, sizeof grown.device);
    device->piece = size;
    free_pieces(device, &old);
    return VGG_OK;
}

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
    struct pieces pieces;
    memcpy(pieces.host, device->host_piece, sizeof pieces.host);
    memcpy(pieces.device, device->device_piece, sizeof pieces.device);
    vgg__cudnn_finish(device);
    free_pieces(device, &pieces);
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
        .shared_multiprocessor = (uint32_t)prop.sharedMemPerMultiprocessor,
        .wide = device->capability == 90};
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
    return VGG_OK;
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
