/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated devices: what cudaGetDeviceProperties would say, by public figures. */
#include "inside.h"

#include <strings.h>

static const struct model {
    const char *key, *name;
    int major, minor, processors;
    uint64_t memory; /* MiB */
    int l2;          /* MiB */
    size_t shared;   /* bytes a block may opt in to */
    size_t shared_processor;
    int blocks, threads; /* of a multiprocessor */
} models[] = {
    {"H100", "NVIDIA H100 80GB HBM3", 9, 0, 132, 81559, 50, 232448, 233472, 32, 2048},
    {"H200", "NVIDIA H200", 9, 0, 132, 143771, 60, 232448, 233472, 32, 2048},
    {"A100", "NVIDIA A100-SXM4-80GB", 8, 0, 108, 81920, 40, 166912, 167936, 32, 2048},
    {"L4", "NVIDIA L4", 8, 9, 58, 23034, 48, 101376, 102400, 24, 1536},
    {"B200", "NVIDIA B200", 10, 0, 148, 183359, 126, 232448, 233472, 32, 2048},
    {"T4", "Tesla T4", 7, 5, 40, 15360, 4, 65536, 65536, 16, 1024},
};

static _Thread_local int current;
static struct cudaDeviceProp properties[SIMULATED_DEVICES];

static const struct model *model_of(int device)
{
    const char *key = device >= 0 && device < SIMULATED_DEVICES
                          ? vgg__simulated.devices[device]
                          : NULL;
    for (size_t i = 0; key && i < sizeof models / sizeof *models; i++)
        if (strcmp(models[i].key, key) == 0) return &models[i];
    return NULL;
}

static int count_devices(void)
{
    int count = 0;
    while (model_of(count)) count++;
    return count;
}

int sim_device(void)
{
    return current;
}

static void describe(struct cudaDeviceProp *prop, const struct model *model, int device)
{
    *prop = (struct cudaDeviceProp){
        .totalGlobalMem = (size_t)model->memory << 20,
        .sharedMemPerBlock = 49152,
        .regsPerBlock = 65536,
        .warpSize = 32,
        .maxThreadsPerBlock = 1024,
        .maxThreadsDim = {1024, 1024, 64},
        .maxGridSize = {2147483647, 65535, 65535},
        .major = model->major,
        .minor = model->minor,
        .multiProcessorCount = model->processors,
        .unifiedAddressing = 1,
        .concurrentKernels = 1,
        .l2CacheSize = model->l2 << 20,
        .maxThreadsPerMultiProcessor = model->threads,
        .sharedMemPerMultiprocessor = model->shared_processor,
        .sharedMemPerBlockOptin = model->shared,
        .regsPerMultiprocessor = 65536,
        .maxBlocksPerMultiProcessor = model->blocks,
        .reservedSharedMemPerBlock = model->major >= 8 ? 1024 : 0,
        .pciBusID = 1 + device,
        .ECCEnabled = 1,
    };
    snprintf(prop->name, sizeof prop->name, "%s", model->name);
    for (size_t i = 0; i < sizeof prop->uuid.bytes; i++)
        prop->uuid.bytes[i] = (char)(device + 1);
}

const struct cudaDeviceProp *sim_properties(int device)
{
    const struct model *model = model_of(device);
    if (!model) return NULL;
    describe(&properties[device], model, device);
    return &properties[device];
}

void sim_device_reset(void)
{
    current = 0;
}

/* No driver at all, or one without a device. */
static cudaError_t absence(void)
{
    if (vgg__simulated.driver == 0) return cudaErrorInsufficientDriver;
    return count_devices() == 0 ? cudaErrorNoDevice : cudaSuccess;
}

static cudaError_t get_device_count(int *count)
{
    cudaError_t error = sim_enter("getDeviceCount");
    *count = 0;
    if (!error) error = absence();
    if (!error) *count = count_devices();
    return sim_leave(error);
}

static cudaError_t get_device_properties(struct cudaDeviceProp *prop, int device)
{
    cudaError_t error = sim_enter("getDeviceProperties");
    if (!error) error = absence();
    if (!error && !sim_properties(device))
        error = sim_refuse(cudaErrorInvalidDevice, "getDeviceProperties: no device %d",
                           device);
    if (!error) *prop = *sim_properties(device);
    return sim_leave(error);
}

static cudaError_t get_device(int *device)
{
    cudaError_t error = sim_enter("getDevice");
    if (!error) error = absence();
    if (!error) *device = current;
    return sim_leave(error);
}

static cudaError_t set_device(int device)
{
    cudaError_t error = sim_enter("setDevice");
    if (!error) error = absence();
    if (!error && !model_of(device))
        error = sim_refuse(cudaErrorInvalidDevice, "setDevice: no device %d", device);
    if (!error) current = device;
    return sim_leave(error);
}

static cudaError_t device_get_attribute(int *value, enum cudaDeviceAttr name,
                                        int device)
{
    cudaError_t error = sim_enter("deviceGetAttribute");
    const struct cudaDeviceProp *prop = sim_properties(device);
    if (!error) error = absence();
    if (!error && (!prop || name != cudaDevAttrMaxSharedMemoryPerBlockOptin))
        error = sim_refuse(cudaErrorInvalidValue,
                           "deviceGetAttribute: no device %d, or attribute %d", device,
                           (int)name);
    if (!error) *value = (int)prop->sharedMemPerBlockOptin;
    return sim_leave(error);
}

static cudaError_t driver_get_version(int *version)
{
    const cudaError_t error = sim_enter("driverGetVersion");
    if (!error) *version = vgg__simulated.driver;
    return sim_leave(error);
}

static cudaError_t mem_get_info(size_t *available, size_t *total)
{
    cudaError_t error = sim_enter_outside_capture("memGetInfo");
    if (!error) error = absence();
    if (!error) {
        *total = sim_properties(current)->totalGlobalMem;
        const uint64_t cap = vgg__simulated.memory ? vgg__simulated.memory : *total;
        const uint64_t used = sim_memory_used(current);
        *available = used < cap ? cap - used : 0;
    }
    return sim_leave(error);
}

void sim_device_table(struct vgg__api *api)
{
    api->getDeviceCount = get_device_count;
    api->getDeviceProperties = get_device_properties;
    api->getDevice = get_device;
    api->setDevice = set_device;
    api->deviceGetAttribute = device_get_attribute;
    api->driverGetVersion = driver_get_version;
    api->memGetInfo = mem_get_info;
}
