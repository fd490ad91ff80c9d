/* SPDX-License-Identifier: Apache-2.0 */
/* Launches of the engine's kernels: limits and pointers are looked at when they are
 * queued, the host's build of the kernel runs when they are carried out. How much
 * dynamic shared memory its function may have is looked at again when a graph is made
 * executable and when that is launched, since nothing says that CUDA does not. */
#include "inside.h"

#include "host_run.h"

#define ALWAYS 49152 /* bytes of dynamic shared memory that need no asking */
#define OWN    128   /* bytes that every kernel has beside them */

/* What a function may have on a device. */
struct room {
    struct room *next;
    const struct vgg__kernel *kernel;
    int device;
    size_t bytes;
};

static struct room *rooms;

struct launch {
    struct sim_op op;
    int device;
    const struct vgg__kernel *kernel;
    struct vgg__grid grid;
    size_t shared;
    void *args;
};

static size_t room_of(const struct vgg__kernel *kernel, int device)
{
    for (const struct room *r = rooms; r; r = r->next)
        if (r->kernel == kernel && r->device == device) return r->bytes;
    return ALWAYS;
}

static bool fits(const struct sim_op *op)
{
    const struct launch *launch = (const struct launch *)op;
    return launch->shared <= room_of(launch->kernel, launch->device);
}

static void run_launch(struct sim_op *op, uint32_t step, void **state)
{
    (void)step, (void)state;
    const struct launch *launch = (const struct launch *)op;
    const char *const idle = vgg__simulated.idle;
    if (idle && strncmp(launch->kernel->name, idle, strlen(idle)) == 0) return;
    vgg__host_seed(sim_random(UINT64_MAX) | 1);
    const char *fault =
        vgg__host_launch(launch->kernel, launch->grid, launch->shared, launch->args);
    if (fault) sim_violate("kernel %s", fault);
}

static void drop_launch(struct sim_op *op)
{
    free(((struct launch *)op)->args);
}

/* Every aligned word of the argument that can only be a pointer must point to memory
 * that the device may touch. */
static cudaError_t check_args(const struct vgg__kernel *kernel, const void *args)
{
    for (size_t at = 0; at + sizeof(uint64_t) <= kernel->args; at += sizeof(uint64_t)) {
        uint64_t word;
        char why[96];
        memcpy(&word, (const uint8_t *)args + at, sizeof word);
        if (sim_bad_pointer(word, why, sizeof why))
            return sim_refuse(cudaErrorInvalidValue,
                              "launch of %s: byte %zu of its argument points to %s",
                              kernel->name, at, why);
    }
    return cudaSuccess;
}

static cudaError_t check_grid(const struct vgg__kernel *kernel,
                              const struct vgg__grid *grid, size_t shared)
{
    const struct cudaDeviceProp *prop = sim_properties(sim_device());
    uint64_t threads = 1;
    for (int i = 0; i < 3; i++) {
        threads *= grid->threads[i];
        if (grid->blocks[i] == 0 || grid->threads[i] == 0)
            return sim_refuse(cudaErrorInvalidConfiguration, "launch of %s: empty grid",
                              kernel->name);
        if (grid->blocks[i] > (uint32_t)prop->maxGridSize[i] ||
            grid->threads[i] > (uint32_t)prop->maxThreadsDim[i])
            return sim_refuse(cudaErrorInvalidConfiguration,
                              "launch of %s: axis %d of %u blocks of %u threads",
                              kernel->name, i, grid->blocks[i], grid->threads[i]);
    }
    if (threads > (uint64_t)prop->maxThreadsPerBlock)
        return sim_refuse(cudaErrorInvalidConfiguration,
                          "launch of %s: %llu threads a block", kernel->name,
                          (unsigned long long)threads);
    if (shared > room_of(kernel, sim_device()))
        return sim_refuse(cudaErrorInvalidValue,
                          "launch of %s: %zu bytes of shared memory, the function may "
                          "have %zu",
                          kernel->name, shared, room_of(kernel, sim_device()));
    return cudaSuccess;
}

static bool has_code(void)
{
    const struct cudaDeviceProp *prop = sim_properties(sim_device());
    const int code = vgg__simulated.code;
    return code == 0 || (code / 10 == prop->major && code % 10 <= prop->minor);
}

static cudaError_t launch_kernel(const struct vgg__kernel *kernel,
                                 struct vgg__grid grid, size_t shared, const void *args,
                                 cudaStream_t stream)
{
    cudaError_t error = sim_enter("launch");
    if (!error) error = sim_stream_check(stream, kernel->name);
    if (!error && !kernel->host)
        error = sim_refuse(cudaErrorInvalidDeviceFunction,
                           "launch of %s: no host build", kernel->name);
    if (!error) error = check_grid(kernel, &grid, shared);
    if (!error) error = check_args(kernel, args);
    if (!error && !has_code()) error = cudaErrorNoKernelImageForDevice;
    if (error) return sim_leave(error);
    struct launch *launch = sim_op_new(sizeof *launch, kernel->name, run_launch);
    launch->op.drop = drop_launch;
    launch->op.fits = fits;
    launch->device = sim_device();
    launch->op.cost = 2000 + sim_hash_text(kernel->name) % 1000;
    launch->kernel = kernel;
    launch->grid = grid;
    launch->shared = shared;
    launch->args = sim_new(kernel->args);
    memcpy(launch->args, args, kernel->args);
    launch->op.identity =
        sim_hash_bytes(sim_hash_bytes(sim_hash_text(kernel->name), &grid, sizeof grid),
                       args, kernel->args);
    return sim_leave(sim_queue(stream, &launch->op));
}

/* ---- Attributes of functions ----------------------------------------------------- */

static cudaError_t func_get_attributes(struct cudaFuncAttributes *about,
                                       const struct vgg__kernel *kernel)
{
    cudaError_t error = sim_enter("funcGetAttributes");
    if (!error && !has_code()) error = cudaErrorNoKernelImageForDevice;
    if (!error)
        *about = (struct cudaFuncAttributes){.sharedSizeBytes = OWN,
                                             .maxThreadsPerBlock = (int)kernel->threads,
                                             .maxDynamicSharedSizeBytes =
                                                 (int)room_of(kernel, sim_device())};
    return sim_leave(error);
}

static cudaError_t func_set_attribute(const struct vgg__kernel *kernel,
                                      enum cudaFuncAttribute name, int value)
{
    cudaError_t error = sim_enter("funcSetAttribute");
    const int device = sim_device();
    const struct cudaDeviceProp *prop = sim_properties(device);
    if (!error && name != cudaFuncAttributeMaxDynamicSharedMemorySize)
        error = sim_refuse(cudaErrorInvalidValue, "funcSetAttribute: attribute %d",
                           (int)name);
    if (!error && (value < 0 || (size_t)value + OWN > prop->sharedMemPerBlockOptin))
        error = sim_refuse(cudaErrorInvalidValue,
                           "funcSetAttribute: %d bytes of shared memory for %s beside "
                           "its own %d, %s has %zu",
                           value, kernel->name, OWN, prop->name,
                           prop->sharedMemPerBlockOptin);
    if (error) return sim_leave(error);
    struct room *room = rooms;
    while (room && (room->kernel != kernel || room->device != device))
        room = room->next;
    if (!room) {
        room = sim_new(sizeof *room);
        *room = (struct room){.next = rooms, .kernel = kernel, .device = device};
        rooms = room;
    }
    room->bytes = (size_t)value;
    return sim_leave(cudaSuccess);
}

void sim_launch_reset(void)
{
    while (rooms) {
        struct room *next = rooms->next;
        free(rooms);
        rooms = next;
    }
}

void sim_launch_table(struct vgg__api *api)
{
    api->funcGetAttributes = func_get_attributes;
    api->funcSetAttribute = func_set_attribute;
    api->launch = launch_kernel;
}
