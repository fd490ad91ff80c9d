/* SPDX-License-Identifier: Apache-2.0 */
/* What failed, as the thread's error text: the call, the library's own words, and what
 * to do about it. */
#include <stdio.h>

#include "cudnn/cudnn.h"

static bool is_one_of(cudaError_t error, const int *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (list[i] == (int)error) return true;
    return false;
}

/* Errors after which the process can't use the context any more. Those by number have
 * no name in the headers of older toolkits. */
static bool is_fatal(cudaError_t error)
{
    static const int list[] = {
        cudaErrorIllegalAddress,
        cudaErrorLaunchTimeout,
        cudaErrorAssert,
        cudaErrorHardwareStackError,
        cudaErrorIllegalInstruction,
        cudaErrorMisalignedAddress,
        cudaErrorInvalidAddressSpace,
        cudaErrorInvalidPc,
        cudaErrorLaunchFailure,
        cudaErrorECCUncorrectable,
        cudaErrorUnknown,
        cudaErrorNvlinkUncorrectable,
        226, /* cudaErrorContained */
        721, /* cudaErrorTensorMemoryLeak */
        810, /* cudaErrorMpsClientTerminated */
        911, /* cudaErrorExternalDevice */
    };
    return is_one_of(error, list, sizeof list / sizeof *list);
}

vgg_status vgg__cudnn_lost(struct vgg__cudnn *device)
{
    return device->machine.host.fail(
        VGG_EDEVICE,
        "cuda:%d: the device was lost by an earlier error; start the process again",
        device->ordinal);
}

vgg_status vgg__cudnn_full(const struct vgg__cudnn *device, const char **remedy)
{
    *remedy = device->opened ? "use a smaller batch"
                             : "no room to open it, whatever the batch: end what else "
                               "uses it, or take another device";
    return device->opened ? VGG_ENOMEM : VGG_EDEVICE;
}

vgg_status vgg__cudnn_check(struct vgg__cudnn *device, cudaError_t error,
                            const char *what)
{
    if (error == cudaSuccess) return VGG_OK;
    const char *remedy = NULL;
    vgg_status status = VGG_EDEVICE;
    device->api->getLastError(); /* what is not sticky must not hit the host's calls */
    if (error == cudaErrorMemoryAllocation) status = vgg__cudnn_full(device, &remedy);
    if (is_fatal(error)) {
        device->lost = true;
        remedy = "the device is lost to this process; start it again";
    }
    return device->machine.host.fail(
        status, "cuda:%d: %s: %s (%s)%s%s", device->ordinal, what,
        device->api->getErrorString(error), device->api->getErrorName(error),
        remedy != NULL ? ": " : "", remedy != NULL ? remedy : "");
}

/* What cuDNN has to say of its last refusal in this thread, on one line and behind the
 * status; nothing if it says nothing. */
static void read_words(const struct vgg__api *api, char *text, size_t size)
{
    char words[256] = "";
    api->dnnGetLastErrorString(words, sizeof words);
    words[sizeof words - 1] = '\0';
    for (char *at = words; *at != '\0'; at++)
        if ((unsigned char)*at < ' ') *at = ' ';
    snprintf(text, size, words[0] != '\0' ? " (%.160s)" : "%s", words);
}

vgg_status vgg__cudnn_dnn_failed(struct vgg__cudnn *device, const char *what,
                                 cudnnStatus_t status, const char *remedy)
{
    char words[200];
    const cudaError_t error = device->api->getLastError();
    if (is_fatal(error)) return vgg__cudnn_check(device, error, what);
    read_words(device->api, words, sizeof words);
    return device->machine.host.fail(
        VGG_EDEVICE, "cuda:%d: %s: cuDNN: %s%s: %s", device->ordinal, what,
        device->api->dnnGetErrorString(status), words, remedy);
}

/* Too little memory has a remedy of its own. */
vgg_status vgg__cudnn_lt_failed(struct vgg__cudnn *device, const char *what,
                                cublasStatus_t status, const char *remedy)
{
    const cudaError_t error = device->api->getLastError();
    if (is_fatal(error)) return vgg__cudnn_check(device, error, what);
    const vgg_status told = status == CUBLAS_STATUS_ALLOC_FAILED
                                ? vgg__cudnn_full(device, &remedy)
                                : VGG_EDEVICE;
    return device->machine.host.fail(told, "cuda:%d: %s: cuBLASLt: %s: %s",
                                     device->ordinal, what,
                                     device->api->ltGetStatusName(status), remedy);
}

vgg_status vgg__cudnn_check_launch(struct vgg__cudnn *device, cudaError_t error,
                                   const char *kernel)
{
    static const int no_code[] = {cudaErrorNoKernelImageForDevice,
                                  cudaErrorInvalidDeviceFunction,
                                  cudaErrorUnsupportedPtxVersion};
    if (!is_one_of(error, no_code, sizeof no_code / sizeof *no_code))
        return vgg__cudnn_check(device, error, kernel);
    device->api->getLastError();
    return device->machine.host.fail(
        VGG_EDEVICE,
        "cuda:%d: %s: the plugin is made for %s, this GPU is sm_%d: build it with "
        "-Dcudnn_arch=%d or all",
        device->ordinal, kernel, device->api->code, device->capability,
        device->capability);
}
