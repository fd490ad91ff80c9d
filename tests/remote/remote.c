/* SPDX-License-Identifier: Apache-2.0 */
/* The engine around an engine: everything goes through, but what remote.h says. */
#include "remote.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct remote remote;

void remote_begin(const vgg_engine *inner)
{
    remote = (struct remote){.inner = inner, .room = UINT64_MAX, .devices = 1};
    remote_engine.fusions = inner->fusions; /* the same stages, the same bits */
    remote_engine.abilities = VGG_CAN_STEP;
    remote_engine.data_create = remote_data_create;
    remote_engine.data_free = remote_data_free;
}

struct program {
    void *inner, *store;
    uint32_t mode, step;
    float *input; /* [batch][c][h][w], for samples of a data set */
};

static vgg_status probe(const vgg_host *host, vgg_device_desc *list, uint32_t capacity,
                        uint32_t *count)
{
    for (*count = 0; *count < capacity && *count < remote.devices; ++*count) {
        snprintf(list[*count].name, sizeof list->name, "cuda:%u", *count);
        snprintf(list[*count].text, sizeof list->text, "a test's engine");
    }
    return VGG_OK;
}

static vgg_status open_device(const vgg_host *host, uint32_t index, void **device)
{
    remote.host = host;
    *device = NULL;
    if (index < remote.broken)
        return host->fail(VGG_EDEVICE, "cuda:%u: broken today", index);
    return remote.inner->open(host, 0, device);
}

static void close_device(void *device)
{
    remote.inner->close(device);
}

static void device_text(void *device, char *text, size_t size)
{
    snprintf(text, size, "a test's engine around %s", remote.inner->name);
}

static vgg_status store_create(void *device, const vgg_param_desc *params,
                               uint32_t count, uint32_t precision, void **store)
{
    return remote.inner->store_create(device, params, count, precision, store);
}

static void store_free(void *store)
{
    remote.inner->store_free(store);
}

static vgg_status store_gradients(void *store, const vgg_param_desc *params)
{
    remote.gradients++;
    return remote.inner->store_gradients(store, params);
}

static vgg_status store_read(void *store, uint32_t param, vgg_slot slot, void *out,
                             vgg_dtype dtype)
{
    return remote.inner->store_read(store, param, slot, out, dtype);
}

static vgg_status store_write(void *store, uint32_t param, vgg_slot slot,
                              const void *in, vgg_dtype dtype)
{
    return remote.inner->store_write(store, param, slot, in, dtype);
}

static vgg_status store_zero_gradients(void *store)
{
    remote.gradients++;
    return remote.inner->store_zero_gradients(store);
}

static vgg_status store_gradient_norm2(void *store, double *out)
{
    remote.gradients++;
    return remote.inner->store_gradient_norm2(store, out);
}

static vgg_status store_scale_gradients(void *store, double factor)
{
    remote.gradients++;
    return remote.inner->store_scale_gradients(store, factor);
}

static vgg_status store_update(void *store, const vgg_update *update)
{
    remote.gradients++;
    return remote.inner->store_update(store, update);
}

static bool supports(void *device, const vgg_stage *stage, uint32_t precision,
                     const char **why)
{
    return remote.inner->supports(device, stage, precision, why);
}

/* Whether the inner engine has a step: else it has a backward and an update. */
static bool inner_steps(void)
{
    return (remote.inner->abilities & VGG_CAN_STEP) != 0;
}

static vgg_program_desc inner_desc(const vgg_program_desc *desc)
{
    vgg_program_desc inner = *desc;
    inner.step = desc->step && inner_steps();
    return inner;
}

static vgg_status measure(void *device, const vgg_program_desc *desc, uint64_t *bytes)
{
    const vgg_program_desc inner = inner_desc(desc);
    return remote.inner->measure(device, &inner, bytes);
}

static void program_free(void *program)
{
    struct program *p = program;
    if (p == NULL) return;
    remote.inner->program_free(p->inner);
    free(p->input);
    free(p);
}

static vgg_status compile(void *device, void *store, const vgg_program_desc *desc,
                          void **program)
{
    const vgg_program_desc inner = inner_desc(desc);
    const vgg_extent in = desc->stages[0].in;
    *program = NULL;
    if (remote.program_count < 8) remote.programs[remote.program_count++] = *desc;
    if (desc->step &&
        !inner_steps()) { /* of its own, that the library knows nothing of */
        const vgg_status status = remote.inner->store_gradients(store, desc->params);
        if (status != VGG_OK) return status;
    }
    struct program *p = calloc(1, sizeof *p);
    p->store = store;
    p->mode = desc->mode;
    p->step = desc->step;
    p->input = malloc(sizeof(float) * desc->batch * in.c * in.h * in.w);
    const vgg_status status = remote.inner->compile(device, store, &inner, &p->inner);
    if (status != VGG_OK) {
        p->inner = NULL;
        program_free(p);
        return status;
    }
    *program = p;
    return VGG_OK;
}

static vgg_status forward(struct program *p, const vgg_run *run)
{
    vgg_run inner = *run;
    if (run->data == NULL) {
        remote.from_host++;
        if (remote.wants_data && p->mode == VGG_MODE_TRAIN)
            return remote.host->fail(VGG_EDEVICE, "expected samples, found images");
        return remote.inner->run(p->inner, VGG_PHASE_FORWARD, &inner);
    }
    remote.from_samples++;
    const size_t size = remote_data_sample(run->data);
    for (uint32_t i = 0; i < run->count; i++)
        remote_data_show(run->data, &run->samples[i], p->input + i * size);
    inner.input = p->input;
    const vgg_status status = remote.inner->run(p->inner, VGG_PHASE_FORWARD, &inner);
    return status;
}

static vgg_status inner_step(struct program *p, const vgg_run *run)
{
    if (inner_steps()) return remote.inner->run(p->inner, VGG_PHASE_STEP, run);
    vgg_status status = remote.inner->store_zero_gradients(p->store);
    if (status == VGG_OK) status = remote.inner->run(p->inner, VGG_PHASE_LOSS, run);
    if (status == VGG_OK) status = remote.inner->run(p->inner, VGG_PHASE_BACKWARD, run);
    if (status == VGG_OK) status = remote.inner->store_update(p->store, run->update);
    return status;
}

static vgg_status step(struct program *p, const vgg_run *run)
{
    const vgg_status status = inner_step(p, run);
    remote.steps += status == VGG_OK;
    return status;
}

static vgg_status run_phase(void *program, vgg_phase phase, const vgg_run *run)
{
    struct program *p = program;
    if (phase == VGG_PHASE_FORWARD) return forward(p, run);
    if (phase == VGG_PHASE_STEP || phase == VGG_PHASE_BACKWARD)
        if ((phase == VGG_PHASE_STEP) != (p->step != 0))
            return remote.host->fail(VGG_ESTATE, "a phase of another program");
    if (phase == VGG_PHASE_STEP) return step(p, run);
    remote.backwards += phase == VGG_PHASE_BACKWARD;
    return remote.inner->run(p->inner, phase, run);
}

static vgg_status read_view(void *program, vgg_view view, uint32_t index, void *out,
                            vgg_dtype dtype)
{
    return remote.inner->read(((struct program *)program)->inner, view, index, out,
                              dtype);
}

static void describe(void *program, uint32_t stage, char *text, size_t size)
{
    remote.inner->describe(((struct program *)program)->inner, stage, text, size);
}

vgg_engine remote_engine = {
    .abi = VGG_ENGINE_ABI,
    .size = sizeof(vgg_engine),
    .name = "cudnn",
    .probe = probe,
    .open = open_device,
    .close = close_device,
    .device_text = device_text,
    .store_create = store_create,
    .store_free = store_free,
    .store_gradients = store_gradients,
    .store_read = store_read,
    .store_write = store_write,
    .store_zero_gradients = store_zero_gradients,
    .store_gradient_norm2 = store_gradient_norm2,
    .store_scale_gradients = store_scale_gradients,
    .store_update = store_update,
    .supports = supports,
    .measure = measure,
    .compile = compile,
    .program_free = program_free,
    .run = run_phase,
    .read = read_view,
    .describe = describe,
};
