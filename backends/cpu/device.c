/* SPDX-License-Identifier: Apache-2.0 */
/* The engine `cpu`: one device, all threads of the context. */
#include <stdio.h>

#include "common/store.h"
#include "cpu/cpu.h"

static const struct vgg__stage_impl *const stages[VGG_STAGE_KINDS] = {
    [VGG_STAGE_CONV] = &vgg__cpu_conv,
    [VGG_STAGE_BATCH_NORM] = &vgg__cpu_batch_norm,
    [VGG_STAGE_RELU] = &vgg__cpu_relu,
    [VGG_STAGE_POOL] = &vgg__cpu_pool,
    [VGG_STAGE_ADAPTIVE_POOL] = &vgg__cpu_adaptive_pool,
    [VGG_STAGE_FLATTEN] = &vgg__cpu_flatten,
    [VGG_STAGE_LINEAR] = &vgg__cpu_linear,
    [VGG_STAGE_DROPOUT] = &vgg__cpu_dropout,
    [VGG_STAGE_LOSS] = &vgg__cpu_loss,
    [VGG_STAGE_TAP] = &vgg__cpu_tap,
};

static void parallel(const struct vgg__machine *machine, uint32_t tasks,
                     vgg__task_fn run, void *arg)
{
    vgg__parallel(machine->host.ctx, tasks, run, arg);
}

/* Nothing is loaded or started to look. */
static vgg_status probe(const vgg_host *host, vgg_device_desc *list, uint32_t capacity,
                        uint32_t *count)
{
    *count = capacity > 0 ? 1 : 0;
    if (capacity == 0) return VGG_OK;
    char name[64];
    vgg__processor_name(name, sizeof(name));
    snprintf(list->name, sizeof(list->name), "cpu");
    const uint32_t threads = vgg__context_options(host->ctx)->threads;
    snprintf(list->text, sizeof(list->text), "%s, %s, %u thread%s", name,
             vgg__kernels_choose(VGG_ISA_AVX512)->name, threads,
             threads == 1 ? "" : "s");
    return VGG_OK;
}

static vgg_status open_device(const vgg_host *host, uint32_t index, void **device)
{
    *device = NULL;
    if (index != 0)
        return host->fail(VGG_EDEVICE, "cpu: no device %u, expected 0", index);
    const vgg_context_options *context = vgg__context_options(host->ctx);
    struct vgg__cpu *cpu = host->alloc(host->ctx, sizeof(*cpu));
    if (cpu == NULL) return VGG_ENOMEM;
    *cpu = (struct vgg__cpu){
        .machine = {.host = *host,
                    .stages = {[VGG_FP32] = stages},
                    .channels_last = true,
                    .parallel = parallel},
        .conv = context->conv,
        .workers = context->threads,
    };
    pthread_mutex_init(&cpu->searching, NULL);
    vgg__processor_name(cpu->processor, sizeof(cpu->processor));
    const struct vgg__gemm_options options = {.gemm = context->gemm,
                                              .blas = context->blas,
                                              .workers = cpu->workers,
                                              .most = VGG_ISA_AVX512};
    vgg_status status = vgg__gemm_open(host, &options, &cpu->gemm);
    if (status == VGG_OK) {
        status = vgg__pool_acquire(host->ctx);
        if (status != VGG_OK) vgg__gemm_close(&cpu->gemm);
    }
    if (status != VGG_OK) {
        pthread_mutex_destroy(&cpu->searching);
        host->release(cpu);
        return status;
    }
    *device = cpu;
    return VGG_OK;
}

static void close_device(void *device)
{
    struct vgg__cpu *cpu = device;
    vgg__pool_release(cpu->machine.host.ctx);
    vgg__gemm_close(&cpu->gemm);
    vgg__conv_forget(cpu);
    pthread_mutex_destroy(&cpu->searching);
    cpu->machine.host.release(cpu);
}

/* What a plan needs, and the text of it, depends on the algorithms: they are found
 * first. */
static vgg_status measure(void *device, const vgg_program_desc *desc, uint64_t *bytes)
{
    *bytes = 0;
    const vgg_status status = vgg__conv_search(device, desc);
    return status == VGG_OK ? vgg__program_measure(device, desc, bytes) : status;
}

static vgg_status compile(void *device, void *store, const vgg_program_desc *desc,
                          void **program)
{
    *program = NULL;
    const vgg_status status = vgg__conv_search(device, desc);
    return status == VGG_OK ? vgg__program_compile(device, store, desc, program)
                            : status;
}

static void device_text(void *device, char *text, size_t size)
{
    const struct vgg__cpu *cpu = device;
    snprintf(text, size, "%s, %s, %u thread%s; %s", cpu->processor,
             cpu->gemm.kernels->name, cpu->workers, cpu->workers == 1 ? "" : "s",
             cpu->gemm.text);
}

const vgg_engine vgg__engine_cpu = {
    .abi = VGG_ENGINE_ABI,
    .size = sizeof(vgg_engine),
    .name = "cpu",
    .fusions = VGG_FUSE_RELU | VGG_FUSE_POOL,
    .abilities = VGG_CAN_STEP | VGG_CAN_BF16_WEIGHTS,
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
    .measure = measure,
    .compile = compile,
    .program_free = vgg__program_free,
    .run = vgg__program_run,
    .read = vgg__program_read,
    .describe = vgg__program_describe,
    .report = vgg__program_report,
};
