/* SPDX-License-Identifier: Apache-2.0 */
/* What a run is told, and samples between host memory in the boundary's layout and
 * device memory in the engine's, a piece at a time: while one piece is copied and
 * converted by the GPU, the next is filled by the host. */
#include <string.h>

#include "cudnn/program.h"

vgg_status vgg__cudnn_send_step(struct vgg__cudnn_program *p)
{
    const struct vgg__set_step_args args = {p->step, p->small.step};
    if (p->told && memcmp(&p->sent, &p->step, sizeof p->step) == 0) return VGG_OK;
    const vgg_status status =
        vgg__cudnn_launch(p->device, p->device->stream, &vgg__kernel_set_step,
                          vgg__grid_blocks(1), 0, &args);
    p->sent = p->step;
    p->told = status == VGG_OK;
    return status;
}

/* Samples that fit in a piece; at least one does. */
static uint32_t samples_of_piece(const struct vgg__cudnn *device, size_t sample)
{
    const size_t most = device->piece / (sample * sizeof(float));
    return most < 1 ? 1 : most > UINT32_MAX ? UINT32_MAX : (uint32_t)most;
}

static vgg_status send_piece(struct vgg__cudnn_program *p, int which, const float *from,
                             uint32_t count, const struct vgg__take_in_args *args,
                             enum vgg__type type)
{
    struct vgg__cudnn *device = p->device;
    const struct vgg__api *api = device->api;
    const uint64_t elements = (uint64_t)count * args->c * args->h * args->w;
    vgg_status status = vgg__cudnn_check(
        device, api->eventSynchronize(device->piece_free[which]), "wait for a piece");
    if (status != VGG_OK) return status;
    memcpy(device->host_piece[which], from, elements * sizeof(float));
    status = vgg__cudnn_check(device,
                              api->memcpyAsync(device->device_piece[which],
                                               device->host_piece[which],
                                               elements * sizeof(float),
                                               cudaMemcpyHostToDevice, device->stream),
                              "copy samples to the device");
    if (status == VGG_OK)
        status = vgg__cudnn_launch(device, device->stream, &vgg__kernel_take_in[type],
                                   vgg__grid_elements(elements), 0, args);
    if (status == VGG_OK)
        status = vgg__cudnn_check(
            device, api->eventRecord(device->piece_free[which], device->stream),
            "mark a piece");
    return status;
}

vgg_status vgg__cudnn_take_in(struct vgg__cudnn_program *p, const float *from,
                              vgg_extent extent, enum vgg__type type, void *to)
{
    struct vgg__cudnn *device = p->device;
    const size_t sample = vgg__extent_count(extent),
                 bytes = sample * vgg__type_bytes(type);
    const uint32_t most = samples_of_piece(device, sample);
    unsigned char *at = to;
    vgg_status status = VGG_OK;
    for (uint32_t i = 0, piece = 0; status == VGG_OK && i < p->count;
         i += most, piece++) {
        const uint32_t count = p->count - i < most ? p->count - i : most;
        const int which = (int)(piece % VGG__PIECES);
        const struct vgg__take_in_args args = {.in = device->device_piece[which],
                                               .out = at + i * bytes,
                                               .n = count,
                                               .c = extent.c,
                                               .h = extent.h,
                                               .w = extent.w,
                                               .step = p->small.step};
        status = send_piece(p, which, from + i * sample, count, &args, type);
    }
    const uint32_t padding = p->layout.batch - p->count;
    if (status == VGG_OK && padding > 0)
        status =
            vgg__cudnn_check(device,
                             device->api->memsetAsync(at + p->count * bytes, 0,
                                                      padding * bytes, device->stream),
                             "clear padding");
    return status;
}

vgg_status vgg__cudnn_give_out(struct vgg__cudnn_program *p, const void *from,
                               vgg_extent extent, enum vgg__type type, void *out,
                               vgg_dtype dtype)
{
    struct vgg__cudnn *device = p->device;
    const size_t sample = vgg__extent_count(extent);
    const uint32_t most = samples_of_piece(device, sample);
    const size_t element = dtype == VGG_F64 ? sizeof(double) : sizeof(float);
    vgg_status status = vgg__cudnn_wait(device); /* the piece may be in use */
    for (uint32_t i = 0; status == VGG_OK && i < p->count; i += most) {
        const uint32_t count = p->count - i < most ? p->count - i : most;
        const struct vgg__give_out_args args = {
            .in = (const unsigned char *)from + i * sample * vgg__type_bytes(type),
            .out = device->device_piece[0],
            .n = count,
            .c = extent.c,
            .h = extent.h,
            .w = extent.w};
        status = vgg__cudnn_launch(device, device->stream, &vgg__kernel_give_out[type],
                                   vgg__grid_elements(count * sample), 0, &args);
        if (status == VGG_OK)
            status = vgg__cudnn_check(
                device,
                device->api->memcpyAsync(device->host_piece[0], device->device_piece[0],
                                         count * sample * sizeof(float),
                                         cudaMemcpyDeviceToHost, device->stream),
                "copy samples from the device");
        if (status == VGG_OK) status = vgg__cudnn_wait(device);
        if (status == VGG_OK)
            vgg__convert((unsigned char *)out + i * sample * element, dtype,
                         device->host_piece[0], VGG_F32, count * sample);
    }
    return status;
}
