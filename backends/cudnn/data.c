/* SPDX-License-Identifier: Apache-2.0 */
/* Data sets that stay on the device: u8 images as they are stored, and the tables of
 * their resize. A batch is a list of samples; one kernel resizes, moves and looks up.
 */
#include <string.h>

#include "cudnn/program.h"

_Static_assert(sizeof(vgg_sample) == sizeof(struct vgg__kernel_sample),
               "samples are copied as they are");

struct data {
    struct vgg__cudnn *device;
    struct vgg__gather_args args; /* all but what a run says */
    void *images, *tables;
    uint64_t count;
};

static size_t axis_bytes(const vgg_axis *axis)
{
    return vgg__cudnn_round_up((size_t)axis->out * axis->taps * sizeof(uint32_t));
}

/* One part of the images. */
static vgg_status send_part(struct data *d, uint64_t first, const uint8_t *images,
                            size_t size, size_t image)
{
    vgg_status status = vgg__cudnn_enter(d->device);
    if (status != VGG_OK) return status;
    status = vgg__cudnn_upload(d->device, (unsigned char *)d->images + first * image,
                               images, size);
    vgg__cudnn_leave(d->device);
    return status;
}

/* Without the device's lock while images are read, by whoever's function it is. */
static vgg_status send_images(struct data *d, const vgg_data_desc *desc)
{
    const vgg_host *host = &d->device->machine.host;
    const size_t image = vgg__extent_count(desc->stored);
    const uint64_t most = VGG__PIECE / image > 0 ? VGG__PIECE / image : 1;
    uint8_t *part = host->alloc(host->ctx, most * image);
    vgg_status status = part != NULL ? VGG_OK : VGG_ENOMEM;
    for (uint64_t i = 0; status == VGG_OK && i < desc->count; i += most) {
        const uint64_t count = desc->count - i < most ? desc->count - i : most;
        for (uint64_t k = 0; status == VGG_OK && k < count; k++)
            status = desc->read(desc->cookie, i + k, part + k * image);
        if (status == VGG_OK) status = send_part(d, i, part, count * image, image);
    }
    host->release(part);
    return status;
}

static vgg_status send_axis(struct data *d, const vgg_axis *axis, unsigned char **at,
                            struct vgg__kernel_axis *out)
{
    const size_t bytes = (size_t)axis->out * axis->taps * sizeof(uint32_t);
    *out = (struct vgg__kernel_axis){axis->in, axis->out, axis->taps, (uint32_t *)*at,
                                     (int32_t *)(*at + axis_bytes(axis))};
    const vgg_status status =
        vgg__cudnn_upload(d->device, (void *)out->at, axis->at, bytes);
    *at += 2 * axis_bytes(axis);
    if (status != VGG_OK) return status;
    return vgg__cudnn_upload(d->device, (void *)out->weight, axis->weight, bytes);
}

static vgg_status send_tables(struct data *d, const vgg_data_desc *desc)
{
    const size_t table = (size_t)desc->stored.c * 256 * sizeof(float);
    const bool resizes = desc->resize_rule != VGG_NO_RESIZE;
    const size_t axes = resizes ? 2 * (axis_bytes(&desc->x) + axis_bytes(&desc->y)) : 0;
    vgg_status status =
        vgg__cudnn_malloc(d->device, vgg__cudnn_round_up(table) + axes, &d->tables);
    if (status != VGG_OK) return status;
    unsigned char *at = d->tables;
    d->args.table = d->tables;
    status = vgg__cudnn_upload(d->device, at, desc->table, table);
    at += vgg__cudnn_round_up(table);
    if (status == VGG_OK && resizes) status = send_axis(d, &desc->x, &at, &d->args.x);
    if (status == VGG_OK && resizes) status = send_axis(d, &desc->y, &at, &d->args.y);
    if (!resizes) {
        d->args.x.in = desc->stored.w;
        d->args.y.in = desc->stored.h;
    }
    return status;
}

static vgg_status fill(struct data *d, const vgg_data_desc *desc)
{
    struct vgg__cudnn *device = d->device;
    const size_t image = vgg__extent_count(desc->stored);
    if (desc->count > SIZE_MAX / (image > 0 ? image : 1))
        return device->machine.host.fail(
            VGG_ELIMIT, "data set: more bytes than an address can say");
    /* Room must be left for the network that the images are for. */
    size_t available = 0, total = 0;
    if (device->api->memGetInfo(&available, &total) == cudaSuccess &&
        desc->count * image > available / 2)
        return device->machine.host.fail(
            VGG_ENOMEM,
            "cuda:%d: a data set of %zu MiB takes more than half of the %zu MiB free",
            device->ordinal, (size_t)(desc->count * image) >> 20, available >> 20);
    vgg_status status = vgg__cudnn_malloc(device, desc->count * image, &d->images);
    if (status == VGG_OK) status = send_tables(d, desc);
    d->args.images = d->images;
    d->args.resize_rule = desc->resize_rule;
    d->args.top = desc->top;
    d->args.left = desc->left;
    d->args.c = desc->shown.c;
    d->args.h = desc->shown.h;
    d->args.w = desc->shown.w;
    return status;
}

vgg_status vgg__cudnn_data_create(void *opaque, const vgg_data_desc *desc, void **data)
{
    struct vgg__cudnn *device = opaque;
    *data = NULL;
    struct data *d = vgg__machine_calloc(&device->machine, 1, sizeof *d);
    if (d == NULL) return VGG_ENOMEM;
    d->device = device;
    d->count = desc->count;
    vgg_status status = vgg__cudnn_enter(device);
    if (status == VGG_OK) {
        status = fill(d, desc);
        vgg__cudnn_leave(device);
    }
    if (status == VGG_OK) status = send_images(d, desc);
    if (status != VGG_OK) {
        vgg__cudnn_data_free(d);
        return status;
    }
    *data = d;
    return VGG_OK;
}

void vgg__cudnn_data_free(void *data)
{
    struct data *d = data;
    if (d == NULL) return;
    struct vgg__cudnn *device = d->device;
    vgg__cudnn_enter_anyway(device);
    vgg__cudnn_finish(device);
    vgg__cudnn_free(device, d->images);
    vgg__cudnn_free(device, d->tables);
    vgg__cudnn_leave(device);
    device->machine.host.release(d);
}

/* The samples go by the side stream, beside whatever the device still has to do. */
static vgg_status send_samples(struct vgg__cudnn_program *p, const vgg_run *run)
{
    struct vgg__cudnn *device = p->device;
    const size_t bytes = p->count * sizeof *run->samples;
    vgg_status status = vgg__cudnn_check(
        device, device->api->eventSynchronize(p->samples_taken), "wait for samples");
    if (status != VGG_OK) return status;
    memcpy(p->pinned.samples, run->samples, bytes);
    status = vgg__cudnn_check(
        device,
        device->api->memcpyAsync(p->small.samples, p->pinned.samples, bytes,
                                 cudaMemcpyHostToDevice, device->side),
        "copy samples");
    return status == VGG_OK ? vgg__cudnn_join(device, device->stream) : status;
}

vgg_status vgg__cudnn_gather(struct vgg__cudnn_program *p, const vgg_run *run, void *to)
{
    struct vgg__cudnn *device = p->device;
    const struct data *d = run->data;
    struct vgg__gather_args args = d->args;
    args.samples = p->small.samples;
    args.out = to;
    args.n = p->layout.batch;
    args.step = p->small.step;
    vgg_status status = send_samples(p, run);
    if (status == VGG_OK)
        status = vgg__cudnn_launch(device, device->stream,
                                   &vgg__kernel_gather[vgg__cudnn_type(p)],
                                   vgg__gather_grid(&args), 0, &args);
    if (status == VGG_OK)
        status = vgg__cudnn_check(
            device, device->api->eventRecord(p->samples_taken, device->stream),
            "mark samples");
    return status;
}
