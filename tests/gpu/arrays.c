/* SPDX-License-Identifier: Apache-2.0 */
/* Arrays and launches of the kernels' tests on a GPU: memory of the host that the GPU
 * reaches under the same address. */
#include "arrays.h"

#include <check.h>
#include <string.h>

#include "conv.h"
#include "cudnn/api.h"
#include "cudnn/device.h"

#define MOST 64

static void *arrays[MOST];
static size_t array_count;

struct vgg__conv_mma_device conv_devices[2] = {[1] = {89, 58, 101376, 102400, 0}};

static const struct vgg__api *api(void)
{
    char reason[256];
    return vgg__api_open(reason, sizeof reason); /* need.c has asked already */
}

/* The first of the devices that kernels are fitted to is the one that is there. */
static void __attribute__((constructor)) look_at_device(void)
{
    struct cudaDeviceProp prop;
    if (api() == NULL || api()->getDeviceProperties(&prop, 0) != cudaSuccess) return;
    conv_devices[0] = (struct vgg__conv_mma_device){
        .capability = (uint32_t)(10 * prop.major + prop.minor),
        .multiprocessors = (uint32_t)prop.multiProcessorCount,
        .shared_block = (uint32_t)prop.sharedMemPerBlockOptin,
        .shared_multiprocessor = (uint32_t)prop.sharedMemPerMultiprocessor,
        .wide = prop.major == 9 && prop.minor == 0 &&
                strcmp(vgg__cudnn_groups(), "off") != 0};
}

void *array(size_t bytes)
{
    const size_t room = (bytes + 15) / 16 * 16;
    ck_assert_uint_lt(array_count, MOST);
    ck_assert_int_eq(api()->mallocHost(&arrays[array_count], room), cudaSuccess);
    memset(arrays[array_count], 0xff, room);
    return arrays[array_count++];
}

void arrays_free(void)
{
    while (array_count > 0) api()->freeHost(arrays[--array_count]);
}

void launch(const struct vgg__kernel *kernel, struct vgg__grid grid, size_t shared,
            const void *args)
{
    cudaError_t error = vgg__launch(api(), kernel, grid, shared, args, NULL);
    if (error == cudaSuccess) error = api()->streamSynchronize(NULL);
    ck_assert_msg(error == cudaSuccess, "%s: %s", kernel->name,
                  api()->getErrorString(error));
}
