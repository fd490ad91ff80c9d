/* SPDX-License-Identifier: Apache-2.0 */
/* The engine `ref`: runs anywhere, on one thread, in single and double precision. It is
 * the oracle of all others. */
#include <stdio.h>

#include "common/program.h"
#include "common/store.h"

extern const struct vgg__stage_impl *const vgg__ref_stages_f32[VGG_STAGE_KINDS];
extern const struct vgg__stage_impl *const vgg__ref_stages_f64[VGG_STAGE_KINDS];

static const char description[] =
    "plain loops on one thread, single and double precision";

static void run_in_order(const struct vgg__machine *machine, uint32_t tasks,
                         vgg__task_fn run, void *arg)
{
    for (uint32_t task = 0; task < tasks; task++) run(arg, task, 0);
}

static vgg_status probe(const vgg_host *host, vgg_device_desc *list, uint32_t capacity,
                        uint32_t *count)
{
    *count = capacity > 0 ? 1 : 0;
    if (capacity == 0) return VGG_OK;
    snprintf(list[0].name, sizeof list[0].name, "ref");
    snprintf(list[0].text, sizeof list[0].text, "%s", description);
    return VGG_OK;
}

static vgg_status open_device(const vgg_host *host, uint32_t index, void **device)
{
    *device = NULL;
    if (index != 0)
        return host->fail(VGG_EDEVICE, "ref: no device %u, expected 0", index);
    struct vgg__machine *machine = host->alloc(host->ctx, sizeof *machine);
    if (!machine) return VGG_ENOMEM;
    *machine = (struct vgg__machine){
        .host = *host,
        .stages = {[VGG_FP32] = vgg__ref_stages_f32, [VGG_FP64] = vgg__ref_stages_f64},
        .parallel = run_in_order,
    };
    *device = machine;
    return VGG_OK;
}

static void close_device(void *device)
{
    struct vgg__machine *machine = device;
    machine->host.release(machine);
}

static void device_text(void *device, char *text, size_t size)
{
    snprintf(text, size, "%s", description);
}

const vgg_engine vgg__engine_ref = {
    .abi = VGG_ENGINE_ABI,
    .size = sizeof(vgg_engine),
    .name = "ref",
    .fusions = 0,
    .abilities = 0,
    .probe = probe,
    .open = open_device,
    .close = close_device,
    .device_text = device_text,
    .store_create = vgg__host_store_create,
    .store_free = vgg__host_store_free,
    .store_gradients = vgg__host_store_gradients,
    .store_read = vgg__host_store_read,
    .store_write = vgg__host_store_write,
    .store_zero_gradients = vgg__host_store_zero_gradients,
    .store_gradient_norm2 = vgg__host_store_gradient_norm2,
    .store_scale_gradients = vgg__host_store_scale_gradients,
    .store_update = vgg__host_store_update,
    .data_create = NULL, /* the host's data is at hand */
    .data_free = NULL,
    .supports = vgg__program_supports,
    .measure = vgg__program_measure,
    .compile = vgg__program_compile,
    .program_free = vgg__program_free,
    .run = vgg__program_run,
    .read = vgg__program_read,
    .describe = vgg__program_describe,
    .report = vgg__program_report,
};
