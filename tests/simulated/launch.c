/* SPDX-License-Identifier: Apache-2.0 */
/* Launches of the engine's kernels: limits and pointers are looked at when they are
 * queued, the host's build of the kernel runs when they are carried out. */
#include "inside.h"

#include "host_run.h"

struct launch {
    struct sim_op op;
    const struct vgg__kernel *kernel;
    struct vgg__grid grid;
    size_t shared;
    void *args;
};

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
    if (shared > prop->sharedMemPerBlockOptin)
        return sim_refuse(cudaErrorInvalidValue,
                          "launch of %s: %zu bytes of shared memory, %s has %zu",
                          kernel->name, shared, prop->name,
                          prop->sharedMemPerBlockOptin);
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

void sim_launch_table(struct vgg__api *api)
{
    api->launch = launch_kernel;
}
