/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters and what belongs to them; see store.h. */
#include "common/store.h"

#include <string.h>

#include "common/update.h"

static vgg_dtype store_type(const struct vgg__host_store *store)
{
    return store->precision == VGG_FP64 ? VGG_F64 : VGG_F32;
}

vgg_status vgg__host_store_create(void *device, const vgg_param_desc *params,
                                  uint32_t count, uint32_t precision, void **store)
{
    const struct vgg__machine *machine = device;
    *store = NULL;
    struct vgg__host_store *s = vgg__machine_calloc(machine, 1, sizeof *s);
    if (!s) return VGG_ENOMEM;
    *s = (struct vgg__host_store){
        .machine = machine, .precision = precision, .version = 1};
    s->params = vgg__machine_calloc(machine, count, sizeof *s->params);
    bool complete = s->params != NULL;
    for (uint32_t i = 0; complete && i < count; i++) {
        struct vgg__param *p = &s->params[i];
        p->count = params[i].count;
        p->buffer = params[i].buffer;
        p->first_chunk = s->chunk_count;
        s->chunk_count += (uint32_t)((p->count + VGG_CHUNK - 1) / VGG_CHUNK);
        p->value = vgg__machine_calloc(machine, p->count, vgg__element(precision));
        complete = p->value != NULL;
        s->count++;
    }
    if (!complete) {
        vgg__host_store_free(s);
        return VGG_ENOMEM;
    }
    *store = s;
    return VGG_OK;
}

void vgg__host_store_free(void *store)
{
    struct vgg__host_store *s = store;
    if (!s) return;
    void (*const release)(void *) = s->machine->host.release;
    for (uint32_t i = 0; i < s->count; i++) {
        struct vgg__param *p = &s->params[i];
        void *const owned[] = {p->value, p->gradient, p->state[0], p->state[1]};
        for (size_t k = 0; k < sizeof owned / sizeof *owned; k++) release(owned[k]);
    }
    release(s->params);
    release(s->partial);
    release(s);
}

vgg_status vgg__host_store_gradients(void *store, const vgg_param_desc *params)
{
    struct vgg__host_store *s = store;
    if (!s->partial) {
        s->partial =
            vgg__machine_calloc(s->machine, s->chunk_count, sizeof *s->partial);
        if (!s->partial) return VGG_ENOMEM;
    }
    for (uint32_t i = 0; i < s->count; i++) {
        struct vgg__param *p = &s->params[i];
        if (!params[i].trainable) {
            s->machine->host.release(p->gradient);
            p->gradient = NULL;
        } else if (!p->gradient) {
            p->gradient =
                vgg__machine_calloc(s->machine, p->count, vgg__element(s->precision));
            if (!p->gradient) return VGG_ENOMEM;
        }
    }
    return VGG_OK;
}

/* Where a slot's elements are; NULL: it does not exist. */
static void *slot_memory(const struct vgg__param *p, vgg_slot slot)
{
    void *const memory[] = {
        [VGG_SLOT_VALUE] = p->value,
        [VGG_SLOT_GRADIENT] = p->gradient,
        [VGG_SLOT_STATE0] = p->state[0],
        [VGG_SLOT_STATE1] = p->state[1],
    };
    return memory[slot];
}

/* A parameter's first or second state, zero when new. */
static vgg_status make_state(struct vgg__host_store *s, struct vgg__param *p,
                             uint32_t which)
{
    if (p->state[which]) return VGG_OK;
    p->state[which] =
        vgg__machine_calloc(s->machine, p->count, vgg__element(s->precision));
    return p->state[which] ? VGG_OK : VGG_ENOMEM;
}

static vgg_status no_slot(const struct vgg__host_store *s, uint32_t param,
                          vgg_slot slot)
{
    static const char *const names[] = {"value", "gradient", "first optimiser state",
                                        "second optimiser state"};
    return s->machine->host.fail(VGG_ESTATE, "parameter %u: has no %s", param,
                                 names[slot]);
}

vgg_status vgg__host_store_read(void *store, uint32_t param, vgg_slot slot, void *out,
                                vgg_dtype dtype)
{
    const struct vgg__host_store *s = store;
    const struct vgg__param *p = &s->params[param];
    const void *from = slot_memory(p, slot);
    if (!from) return no_slot(s, param, slot);
    vgg__convert(out, dtype, from, store_type(s), p->count);
    return VGG_OK;
}

vgg_status vgg__host_store_write(void *store, uint32_t param, vgg_slot slot,
                                 const void *in, vgg_dtype dtype)
{
    struct vgg__host_store *s = store;
    struct vgg__param *p = &s->params[param];
    if (slot == VGG_SLOT_STATE0 || slot == VGG_SLOT_STATE1) {
        const vgg_status status = make_state(s, p, slot - VGG_SLOT_STATE0);
        if (status != VGG_OK) return status;
    }
    void *to = slot_memory(p, slot);
    if (!to) return no_slot(s, param, slot);
    vgg__convert(to, store_type(s), in, dtype, p->count);
    if (slot == VGG_SLOT_VALUE && !p->buffer) s->version++;
    return VGG_OK;
}

/* ---- Work in chunks -------------------------------------------------------- */

struct chunk {
    const struct vgg__param *param;
    size_t offset; /* bytes */
    size_t count;
};

static struct chunk find_chunk(const struct vgg__host_store *s, uint32_t task)
{
    uint32_t i = s->count - 1;
    while (s->params[i].first_chunk > task || s->params[i].count == 0) i--;
    const struct vgg__param *p = &s->params[i];
    const size_t first = (size_t)(task - p->first_chunk) * VGG_CHUNK;
    const size_t left = p->count - first;
    return (struct chunk){.param = p,
                          .offset = first * vgg__element(s->precision),
                          .count = left < VGG_CHUNK ? left : VGG_CHUNK};
}

static void *chunk_memory(void *base, const struct chunk *chunk)
{
    return (unsigned char *)base + chunk->offset;
}

static void zero_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct vgg__host_store *s = arg;
    const struct chunk chunk = find_chunk(s, task);
    if (!chunk.param->gradient) return;
    memset(chunk_memory(chunk.param->gradient, &chunk), 0,
           chunk.count * vgg__element(s->precision));
}

vgg_status vgg__host_store_zero_gradients(void *store)
{
    struct vgg__host_store *s = store;
    s->machine->parallel(s->machine, s->chunk_count, zero_task, s);
    return VGG_OK;
}

enum { LANES = 8 }; /* independent sums, so that the additions need not wait */

static double sum_lanes(const double lanes[LANES])
{
    double sum = 0;
    for (uint32_t k = 0; k < LANES; k++) sum += lanes[k];
    return sum;
}

static double norm2_f32(const float *x, size_t count)
{
    double lanes[LANES] = {0};
    for (size_t i = 0; i < count; i++) lanes[i % LANES] += (double)x[i] * x[i];
    return sum_lanes(lanes);
}

static double norm2_f64(const double *x, size_t count)
{
    double lanes[LANES] = {0};
    for (size_t i = 0; i < count; i++) lanes[i % LANES] += x[i] * x[i];
    return sum_lanes(lanes);
}

static void norm2_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct vgg__host_store *s = arg;
    const struct chunk chunk = find_chunk(s, task);
    s->partial[task] = 0;
    if (!chunk.param->gradient) return;
    const void *x = chunk_memory(chunk.param->gradient, &chunk);
    s->partial[task] = s->precision == VGG_FP64 ? norm2_f64(x, chunk.count)
                                                : norm2_f32(x, chunk.count);
}

vgg_status vgg__host_store_gradient_norm2(void *store, double *out)
{
    struct vgg__host_store *s = store;
    *out = 0;
    if (!s->partial) return s->machine->host.fail(VGG_ESTATE, "norm: no gradients");
    s->machine->parallel(s->machine, s->chunk_count, norm2_task, s);
    for (uint32_t i = 0; i < s->chunk_count; i++) *out += s->partial[i];
    return VGG_OK;
}

struct scaling {
    const struct vgg__host_store *store;
    double factor;
};

static void scale_f32(float *x, size_t count, float factor)
{
    for (size_t i = 0; i < count; i++) x[i] *= factor;
}

static void scale_f64(double *x, size_t count, double factor)
{
    for (size_t i = 0; i < count; i++) x[i] *= factor;
}

static void scale_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct scaling *scaling = arg;
    const struct chunk chunk = find_chunk(scaling->store, task);
    if (!chunk.param->gradient) return;
    void *x = chunk_memory(chunk.param->gradient, &chunk);
    if (scaling->store->precision == VGG_FP64)
        scale_f64(x, chunk.count, scaling->factor);
    else
        scale_f32(x, chunk.count, (float)scaling->factor);
}

vgg_status vgg__host_store_scale_gradients(void *store, double factor)
{
    struct vgg__host_store *s = store;
    struct scaling scaling = {s, factor};
    s->machine->parallel(s->machine, s->chunk_count, scale_task, &scaling);
    return VGG_OK;
}

static void update_chunk(const struct vgg__host_store *s,
                         const struct vgg__update_args *args)
{
    if (s->precision == VGG_FP64)
        vgg__update_f64(args);
    else
        vgg__update_f32(args);
}

struct updating {
    const struct vgg__host_store *store;
    const vgg_update *update;
    const struct vgg__param *param; /* of a descent */
    const void *gradient;
};

static void update_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct updating *updating = arg;
    const struct chunk chunk = find_chunk(updating->store, task);
    const struct vgg__param *p = chunk.param;
    if (!p->gradient) return;
    struct vgg__update_args args = {.update = updating->update,
                                    .value = chunk_memory(p->value, &chunk),
                                    .gradient = chunk_memory(p->gradient, &chunk),
                                    .count = chunk.count};
    for (uint32_t k = 0; k < vgg__update_states(updating->update); k++)
        args.state[k] = chunk_memory(p->state[k], &chunk);
    update_chunk(updating->store, &args);
}

static void descend_task(void *arg, uint32_t task, uint32_t worker)
{
    const struct updating *updating = arg;
    const struct vgg__param *p = updating->param;
    const struct chunk chunk = find_chunk(updating->store, p->first_chunk + task);
    const struct vgg__update_args args = {
        .update = updating->update,
        .value = chunk_memory(p->value, &chunk),
        .gradient = chunk_memory((void *)updating->gradient, &chunk),
        .count = chunk.count};
    update_chunk(updating->store, &args);
}

void vgg__host_store_descend(const struct vgg__host_store *store, uint32_t param,
                             const void *gradient, const vgg_update *update)
{
    const struct vgg__param *p = &store->params[param];
    struct updating updating = {store, update, p, gradient};
    store->machine->parallel(store->machine,
                             (uint32_t)((p->count + VGG_CHUNK - 1) / VGG_CHUNK),
                             descend_task, &updating);
}

vgg_status vgg__host_store_update(void *store, const vgg_update *update)
{
    struct vgg__host_store *s = store;
    /* All state first: a failure must leave every value as it was. */
    for (uint32_t i = 0; i < s->count; i++) {
        if (!s->params[i].gradient) continue;
        for (uint32_t k = 0; k < vgg__update_states(update); k++) {
            const vgg_status status = make_state(s, &s->params[i], k);
            if (status != VGG_OK) return status;
        }
    }
    struct updating updating = {.store = s, .update = update};
    s->machine->parallel(s->machine, s->chunk_count, update_task, &updating);
    s->version++;
    return VGG_OK;
}
