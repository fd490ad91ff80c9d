/* SPDX-License-Identifier: Apache-2.0 */
/* Launches of the engine's kernels.
 *
 * More dynamic shared memory than ALWAYS is for functions that were told how much they
 * may have. That is one figure for all launches of a function on a device, of any
 * thread and of those in a graph that was recorded before, which has several sizes: so
 * it is never what one launch needs, but all that the device has. */
#include "cudnn/api.h"

#define ALWAYS ((size_t)48 << 10)

static cudaError_t make_room(const struct vgg__api *api,
                             const struct vgg__kernel *kernel)
{
    static const enum cudaFuncAttribute name =
        cudaFuncAttributeMaxDynamicSharedMemorySize;
    struct cudaFuncAttributes about;
    int device, most;
    cudaError_t error = api->funcGetAttributes(&about, kernel);
    if (error == cudaSuccess) error = api->getDevice(&device);
    if (error == cudaSuccess)
        error = api->deviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin,
                                        device);
    if (error != cudaSuccess) return error;
    most -= (int)about.sharedSizeBytes; /* the function's own variables */
    if (about.maxDynamicSharedSizeBytes >= most) return cudaSuccess;
    return api->funcSetAttribute(kernel, name, most);
}

cudaError_t vgg__launch(const struct vgg__api *api, const struct vgg__kernel *kernel,
                        struct vgg__grid grid, size_t shared, const void *args,
                        cudaStream_t stream)
{
    const cudaError_t error = shared > ALWAYS ? make_room(api, kernel) : cudaSuccess;
    return error == cudaSuccess ? api->launch(kernel, grid, shared, args, stream)
                                : error;
}
