/* SPDX-License-Identifier: Apache-2.0 */
/* Moving parameters between the boundary's layout and the device's; see store.h. */
#include "cudnn/store.h"

#include <string.h>

#define CHUNK 4096 /* elements of a chunk: a block's work */
#define PLACE 64   /* elements: places are aligned to 256 bytes, bf16's to 128 */

static uint64_t round_up(uint64_t count)
{
    return (count + PLACE - 1) / PLACE * PLACE;
}

/* Where everything lies: what is not a linear weight first. */
static void place(struct vgg__cudnn_store *s, const vgg_param_desc *params)
{
    for (int linear = 0; linear < 2; linear++) {
        for (uint32_t i = 0; i < s->count; i++) {
            const vgg_param_desc *from = &params[i];
            if ((int)(from->linear != 0) != linear) continue;
            s->params[i] = (struct vgg__cudnn_param){.offset = s->elements,
                                                     .count = from->count,
                                                     .linear = from->linear,
                                                     .buffer = from->buffer,
                                                     .trainable = from->trainable};
            if (from->shape.rank == 4) {
                s->params[i].outer = from->shape.dim[1];
                s->params[i].inner = from->shape.dim[2] * from->shape.dim[3];
            }
            s->elements += round_up(from->count);
        }
        if (linear == 0) s->small = s->elements;
    }
}

/* An array as long as the values, all zero. */
static vgg_status make_array(struct vgg__cudnn_store *s, size_t element, void *out)
{
    void *memory = NULL;
    const size_t bytes = s->elements * element;
    vgg_status status = vgg__cudnn_malloc(s->device, bytes, &memory);
    if (status == VGG_OK)
        status = vgg__cudnn_check(
            s->device, s->device->api->memsetAsync(memory, 0, bytes, s->device->stream),
            "clear parameters");
    if (status != VGG_OK) {
        vgg__cudnn_free(s->device, memory);
        memory = NULL;
    }
    memcpy(out, &memory, sizeof memory);
    return status;
}

vgg_status vgg__cudnn_store_chunks(struct vgg__cudnn_store *s,
                                   const vgg_param_desc *params, bool small,
                                   struct vgg__chunk **out, uint32_t *count)
{
    const vgg_host *host = &s->device->machine.host;
    uint64_t chunks = 0;
    *out = NULL;
    *count = 0;
    for (int pass = 0; pass < 2; pass++) {
        struct vgg__chunk *list = NULL;
        if (pass == 1 && chunks == 0) return VGG_OK;
        if (pass == 1) {
            list = host->alloc(host->ctx, chunks * sizeof *list);
            if (list == NULL) return VGG_ENOMEM;
        }
        chunks = 0;
        for (uint32_t i = 0; i < s->count; i++) {
            const struct vgg__cudnn_param *p = &s->params[i];
            if (!params[i].trainable || p->buffer || (small && p->linear)) continue;
            for (uint64_t at = 0; at < p->count; at += CHUNK, chunks++)
                if (list != NULL)
                    list[chunks] = (struct vgg__chunk){
                        .offset = p->offset + at,
                        .count =
                            (uint32_t)(p->count - at < CHUNK ? p->count - at : CHUNK)};
        }
        if (list == NULL) continue;
        const size_t bytes = chunks * sizeof *list;
        void *memory = NULL;
        vgg_status status = vgg__cudnn_malloc(s->device, bytes, &memory);
        if (status == VGG_OK)
            status = vgg__cudnn_upload(s->device, memory, list, bytes);
        host->release(list);
        if (status != VGG_OK) {
            vgg__cudnn_free(s->device, memory);
            return status;
        }
        *out = memory;
        *count = (uint32_t)chunks;
    }
    return VGG_OK;
}

/* ---- Making and giving back ------------------------------------------------------ */

static void free_arrays(struct vgg__cudnn_store *s)
{
    void *const owned[] = {s->value,  s->gradient, s->state[0], s->state[1],
                           s->shadow, s->chunks,   s->partial};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++)
        vgg__cudnn_free(s->device, owned[i]);
}

static vgg_status make_arrays(struct vgg__cudnn_store *s, uint32_t precision)
{
    const vgg_status status = make_array(s, sizeof(float), &s->value);
    if (status != VGG_OK || precision != VGG_BF16) return status;
    return make_array(s, 2, &s->shadow);
}

vgg_status vgg__cudnn_store_create(void *opaque, const vgg_param_desc *params,
                                   uint32_t count, uint32_t precision, void **store)
{
    struct vgg__cudnn *device = opaque;
    const vgg_host *host = &device->machine.host;
    *store = NULL;
    struct vgg__cudnn_store *s = vgg__machine_calloc(&device->machine, 1, sizeof *s);
    if (s == NULL) return VGG_ENOMEM;
    s->device = device;
    s->count = count;
    s->shadow_stale = precision == VGG_BF16;
    s->params = vgg__machine_calloc(&device->machine, count + 1, sizeof *s->params);
    vgg_status status = s->params != NULL ? vgg__cudnn_enter(device) : VGG_ENOMEM;
    if (status == VGG_OK) {
        place(s, params);
        status = make_arrays(s, precision);
        if (status != VGG_OK) free_arrays(s);
        vgg__cudnn_leave(device);
    }
    if (status != VGG_OK) {
        host->release(s->params);
        host->release(s);
        return status;
    }
    *store = s;
    return VGG_OK;
}

void vgg__cudnn_store_free(void *store)
{
    struct vgg__cudnn_store *s = store;
    if (s == NULL) return;
    struct vgg__cudnn *device = s->device;
    vgg__cudnn_enter_anyway(device);
    vgg__cudnn_finish(device);
    free_arrays(s);
    vgg__cudnn_leave(device);
    device->machine.host.release(s->params);
    device->machine.host.release(s);
}

static vgg_status make_gradients(struct vgg__cudnn_store *s,
                                 const vgg_param_desc *params)
{
    struct vgg__cudnn *device = s->device;
    vgg_status status = VGG_OK;
    if (s->gradient == NULL) status = make_array(s, sizeof(float), &s->gradient);
    if (status == VGG_OK) status = vgg__cudnn_wait(device);
    if (status != VGG_OK) return status;
    struct vgg__chunk *chunks = NULL;
    uint32_t count = 0;
    status = vgg__cudnn_store_chunks(s, params, false, &chunks, &count);
    if (status != VGG_OK) return status;
    void *partial = NULL;
    status = vgg__cudnn_malloc(device, count * sizeof(double), &partial);
    if (status != VGG_OK) {
        vgg__cudnn_free(device, chunks);
        return status;
    }
    vgg__cudnn_free(device, s->chunks);
    vgg__cudnn_free(device, s->partial);
    s->chunks = chunks;
    s->chunk_count = count;
    s->partial = partial;
    return VGG_OK;
}

vgg_status vgg__cudnn_store_gradients(void *store, const vgg_param_desc *params)
{
    struct vgg__cudnn_store *s = store;
    vgg_status status = vgg__cudnn_enter(s->device);
    if (status != VGG_OK) return status;
    status = make_gradients(s, params);
    for (uint32_t i = 0; status == VGG_OK && i < s->count; i++) {
        struct vgg__cudnn_param *p = &s->params[i];
        /* What thaws begins at zero, as if its gradient were new. */
        if (params[i].trainable && !p->trainable)
            status = vgg__cudnn_check(s->device,
                                      s->device->api->memsetAsync(
                                          s->gradient + p->offset, 0,
                                          p->count * sizeof(float), s->device->stream),
                                      "clear a gradient");
        p->trainable = params[i].trainable;
    }
    vgg__cudnn_leave(s->device);
    return status;
}

/* ---- Reading and writing --------------------------------------------------------- */

/* The array that a slot lies in; NULL: it does not exist. */
static float *slot_array(const struct vgg__cudnn_store *s, uint32_t param,
                         vgg_slot slot)
{
    float *const arrays[] = {
        [VGG_SLOT_VALUE] = s->value,
        [VGG_SLOT_GRADIENT] = s->params[param].trainable ? s->gradient : NULL,
        [VGG_SLOT_STATE0] = s->state[0],
        [VGG_SLOT_STATE1] = s->state[1],
    };
    return arrays[slot];
}

/* Element `at` of a parameter as the device has it, in the boundary's order. */
static uint64_t outside(const struct vgg__cudnn_param *p, uint64_t at)
{
    if (p->outer == 0) return at;
    const uint64_t row = (uint64_t)p->outer * p->inner, rest = at % row;
    return at - rest + rest % p->outer * p->inner + rest / p->outer;
}

/* The caller's array. */
struct outer {
    void *array;
    vgg_dtype dtype;
    bool to_device;
};

/* Elements [at, at + count) in the device's order, between the caller's array and a
 * piece. */
static void move(const struct vgg__cudnn_param *p, uint64_t at, uint64_t count,
                 const struct outer *outer, float *piece)
{
    float *single = outer->array;
    double *twice = outer->array;
    const bool wide = outer->dtype == VGG_F64;
    if (p->outer == 0 && !wide) {
        memcpy(outer->to_device ? piece : single + at,
               outer->to_device ? single + at : piece, count * sizeof(float));
        return;
    }
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t from = outside(p, at + i);
        if (outer->to_device)
            piece[i] = wide ? (float)twice[from] : single[from];
        else if (wide)
            twice[from] = piece[i];
        else
            single[from] = piece[i];
    }
}

static vgg_status transfer(struct vgg__cudnn_store *s, uint32_t param, float *base,
                           const struct outer *outer)
{
    struct vgg__cudnn *device = s->device;
    const struct vgg__cudnn_param *p = &s->params[param];
    const uint64_t most = device->piece / sizeof(float);
    float *piece = device->host_piece[0];
    const bool in = outer->to_device;
    vgg_status status = vgg__cudnn_wait(device); /* the piece may be in use */
    for (uint64_t at = 0; status == VGG_OK && at < p->count; at += most) {
        const uint64_t count = p->count - at < most ? p->count - at : most;
        float *there = base + p->offset + at;
        if (in) move(p, at, count, outer, piece);
        status = vgg__cudnn_check(
            device,
            device->api->memcpyAsync(
                in ? there : piece, in ? piece : there, count * sizeof(float),
                in ? cudaMemcpyHostToDevice : cudaMemcpyDeviceToHost, device->stream),
            "copy a parameter");
        if (status == VGG_OK) status = vgg__cudnn_wait(device);
        if (status == VGG_OK && !in) move(p, at, count, outer, piece);
    }
    return status;
}

vgg_status vgg__cudnn_store_read(void *store, uint32_t param, vgg_slot slot, void *out,
                                 vgg_dtype dtype)
{
    static const char *const names[] = {"value", "gradient", "first optimiser state",
                                        "second optimiser state"};
    struct vgg__cudnn_store *s = store;
    float *base = slot_array(s, param, slot);
    if (base == NULL)
        return s->device->machine.host.fail(VGG_ESTATE, "parameter %u: has no %s",
                                            param, names[slot]);
    vgg_status status = vgg__cudnn_enter(s->device);
    if (status != VGG_OK) return status;
    status = transfer(s, param, base, &(struct outer){out, dtype, false});
    vgg__cudnn_leave(s->device);
    return status;
}

vgg_status vgg__cudnn_store_write(void *store, uint32_t param, vgg_slot slot,
                                  const void *in, vgg_dtype dtype)
{
    struct vgg__cudnn_store *s = store;
    vgg_status status = vgg__cudnn_enter(s->device);
    if (status != VGG_OK) return status;
    const uint32_t which = slot == VGG_SLOT_STATE1;
    if (slot >= VGG_SLOT_STATE0 && s->state[which] == NULL)
        status = make_array(s, sizeof(float), &s->state[which]);
    float *base = slot_array(s, param, slot);
    if (status == VGG_OK && base == NULL)
        status = s->device->machine.host.fail(VGG_ESTATE,
                                              "parameter %u: has no gradient", param);
    if (status == VGG_OK)
        status = transfer(s, param, base, &(struct outer){(void *)in, dtype, true});
    if (slot == VGG_SLOT_VALUE) s->shadow_stale = s->shadow != NULL;
    vgg__cudnn_leave(s->device);
    return status;
}

vgg_status vgg__cudnn_store_states(struct vgg__cudnn_store *s, uint32_t count)
{
    vgg_status status = VGG_OK;
    for (uint32_t i = 0; status == VGG_OK && i < count; i++)
        if (s->state[i] == NULL) status = make_array(s, sizeof(float), &s->state[i]);
    return status;
}

vgg_status vgg__cudnn_store_refresh(struct vgg__cudnn_store *s)
{
    if (!s->shadow_stale) return VGG_OK;
    const struct vgg__shadow_args args = {s->value, s->shadow, s->elements};
    const vgg_status status =
        vgg__cudnn_launch(s->device, s->device->stream, &vgg__kernel_shadow,
                          vgg__grid_elements(s->elements), 0, &args);
    s->shadow_stale = status != VGG_OK;
    return status;
}
