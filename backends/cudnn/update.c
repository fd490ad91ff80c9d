/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to gradients between backward and the next step, on the device: zero,
 * norm, scale, update. Per-update constants are computed in double and rounded once, as
 * common/update.c does. */
#include <math.h>

#include "cudnn/store.h"

vgg_status vgg__cudnn_store_zero_gradients(void *store)
{
    struct vgg__cudnn_store *s = store;
    vgg_status status = vgg__cudnn_enter(s->device);
    if (status != VGG_OK) return status;
    if (s->gradient != NULL)
        status = vgg__cudnn_check(
            s->device,
            s->device->api->memsetAsync(s->gradient, 0, s->elements * sizeof(float),
                                        s->device->stream),
            "clear gradients");
    vgg__cudnn_leave(s->device);
    return status;
}

static vgg_status sum_chunks(struct vgg__cudnn_store *s, double *out)
{
    struct vgg__cudnn *device = s->device;
    const uint32_t most = (uint32_t)(device->piece / sizeof(double));
    const double *sums = device->host_piece[0];
    const struct vgg__norm2_args args = {s->gradient, s->chunks, s->partial};
    vgg_status status = vgg__cudnn_launch(device, device->stream, &vgg__kernel_norm2,
                                          vgg__grid_blocks(s->chunk_count), 0, &args);
    for (uint32_t at = 0; status == VGG_OK && at < s->chunk_count; at += most) {
        const uint32_t count = s->chunk_count - at < most ? s->chunk_count - at : most;
        status = vgg__cudnn_wait(device);
        if (status == VGG_OK)
            status = vgg__cudnn_check(
                device,
                device->api->memcpyAsync(device->host_piece[0], s->partial + at,
                                         count * sizeof(double), cudaMemcpyDeviceToHost,
                                         device->stream),
                "copy sums");
        if (status == VGG_OK) status = vgg__cudnn_wait(device);
        for (uint32_t i = 0; status == VGG_OK && i < count; i++) *out += sums[i];
    }
    return status;
}

vgg_status vgg__cudnn_store_gradient_norm2(void *store, double *out)
{
    struct vgg__cudnn_store *s = store;
    *out = 0;
    if (s->chunk_count == 0) return VGG_OK;
    vgg_status status = vgg__cudnn_enter(s->device);
    if (status != VGG_OK) return status;
    status = sum_chunks(s, out);
    vgg__cudnn_leave(s->device);
    return status;
}

vgg_status vgg__cudnn_store_scale_gradients(void *store, double factor)
{
    struct vgg__cudnn_store *s = store;
    if (s->gradient == NULL) return VGG_OK;
    vgg_status status = vgg__cudnn_enter(s->device);
    if (status != VGG_OK) return status;
    const struct vgg__scale_args args = {s->gradient, s->elements, (float)factor};
    status = vgg__cudnn_launch(s->device, s->device->stream, &vgg__kernel_scale,
                               vgg__grid_elements(s->elements), 0, &args);
    vgg__cudnn_leave(s->device);
    return status;
}

struct vgg__update_args_gpu vgg__cudnn_update_args(const vgg_update *u)
{
    const bool decoupled = u->kind == VGG_ADAMW;
    struct vgg__update_args_gpu args = {
        .kind = u->kind,
        .nesterov = u->nesterov,
        .has_momentum = u->kind == VGG_SGD && u->momentum != 0,
        .first_step = u->t == 1,
        .lr = (float)u->lr,
        .weight_decay = (float)(decoupled ? 0 : u->weight_decay),
        .momentum = (float)u->momentum,
    };
    if (u->kind == VGG_SGD) return args;
    args.keep = (float)(decoupled ? 1 - u->lr * u->weight_decay : 1);
    args.share1 = (float)(1 - u->beta1);
    args.share2 = (float)(1 - u->beta2);
    args.beta2 = (float)u->beta2;
    args.epsilon = (float)u->epsilon;
    args.step_size = (float)(u->lr / (1 - pow(u->beta1, (double)u->t)));
    args.root2 = (float)sqrt(1 - pow(u->beta2, (double)u->t));
    return args;
}

static uint32_t state_count(const vgg_update *update)
{
    if (update->kind != VGG_SGD) return 2;
    return update->momentum != 0 ? 1 : 0;
}

static vgg_status update_values(struct vgg__cudnn_store *s, const vgg_update *update)
{
    vgg_status status = vgg__cudnn_store_states(s, state_count(update));
    if (status == VGG_OK) status = vgg__cudnn_store_refresh(s);
    if (status != VGG_OK) return status;
    struct vgg__update_args_gpu args = vgg__cudnn_update_args(update);
    args.value = s->value;
    args.gradient = s->gradient;
    args.state0 = state_count(update) > 0 ? s->state[0] : NULL;
    args.state1 = state_count(update) > 1 ? s->state[1] : NULL;
    args.shadow = s->shadow;
    args.chunks = s->chunks;
    return vgg__cudnn_launch(s->device, s->device->stream, &vgg__kernel_update,
                             vgg__grid_blocks(s->chunk_count), 0, &args);
}

vgg_status vgg__cudnn_store_update(void *store, const vgg_update *update)
{
    struct vgg__cudnn_store *s = store;
    if (s->chunk_count == 0) return VGG_OK;
    vgg_status status = vgg__cudnn_enter(s->device);
    if (status != VGG_OK) return status;
    status = update_values(s, update);
    vgg__cudnn_leave(s->device);
    return status;
}
