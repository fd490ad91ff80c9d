/* SPDX-License-Identifier: Apache-2.0 */
/* The few calls that everything else makes of CUDA. */
#include <math.h>
#include <string.h>

#include "cudnn/cudnn.h"

/* Runs to time something. */
#define WARM_UP 2
#define TIMED   5

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
        device, vgg__launch(device->api, kernel, grid, shared, args, stream),
        kernel->name);
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
    struct pieces grown;
    vgg_status status = make_pieces(device, size, &grown);
    if (status != VGG_OK) return status;
    status = vgg__cudnn_wait(device);
    if (status != VGG_OK) {
        free_pieces(device, &grown);
        return status;
    }
    vgg__cudnn_free_pieces(device);
    memcpy(device->host_piece, grown.host, sizeof grown.host);
    memcpy(device->device_piece, grown.device, sizeof grown.device);
    device->piece = size;
    return VGG_OK;
}

void vgg__cudnn_free_pieces(struct vgg__cudnn *device)
{
    struct pieces pieces;
    memcpy(pieces.host, device->host_piece, sizeof pieces.host);
    memcpy(pieces.device, device->device_piece, sizeof pieces.device);
    free_pieces(device, &pieces);
}
