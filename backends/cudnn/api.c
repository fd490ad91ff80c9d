/* SPDX-License-Identifier: Apache-2.0 */
/* The real table: the CUDA runtime is linked into the plugin, cuDNN and cuBLASLt are
 * opened at run time (libraries.c).
 *
 * NVRTC is opened as well: cuDNN's run-time compiled engines look for it by soname, and
 * find it only if it is loaded already or where the dynamic loader looks. Without it
 * the engine works, with what is compiled already. */
#include "cudnn/api.h"

#include <pthread.h>
#include <stdio.h>

#include "cudnn/libraries.h"

/* ---- The table ------------------------------------------------------------------- */

static cudaError_t func_get_attributes(struct cudaFuncAttributes *about,
                                       const struct vgg__kernel *kernel)
{
    return cudaFuncGetAttributes(about, kernel->function);
}

static cudaError_t func_set_attribute(const struct vgg__kernel *kernel,
                                      enum cudaFuncAttribute name, int value)
{
    return cudaFuncSetAttribute(kernel->function, name, value);
}

static cudaError_t launch(const struct vgg__kernel *kernel, struct vgg__grid grid,
                          size_t shared, const void *args, cudaStream_t stream)
{
    const dim3 blocks = {grid.blocks[0], grid.blocks[1], grid.blocks[2]};
    const dim3 threads = {grid.threads[0], grid.threads[1], grid.threads[2]};
    void *list[] = {(void *)args};
    return cudaLaunchKernel(kernel->function, blocks, threads, list, shared, stream);
}

static struct vgg__api table = {
    .code = VGG_CUDA_CODE,
    .getDeviceCount = cudaGetDeviceCount,
    .getDeviceProperties = cudaGetDeviceProperties,
    .getDevice = cudaGetDevice,
    .setDevice = cudaSetDevice,
    .deviceGetAttribute = cudaDeviceGetAttribute,
    .driverGetVersion = cudaDriverGetVersion,
    .memGetInfo = cudaMemGetInfo,
    .malloc = cudaMalloc,
    .free = cudaFree,
    .mallocHost = cudaMallocHost,
    .freeHost = cudaFreeHost,
    .memcpyAsync = cudaMemcpyAsync,
    .memsetAsync = cudaMemsetAsync,
    .streamCreateWithFlags = cudaStreamCreateWithFlags,
    .streamDestroy = cudaStreamDestroy,
    .streamSynchronize = cudaStreamSynchronize,
    .streamWaitEvent = cudaStreamWaitEvent,
    .streamBeginCapture = cudaStreamBeginCapture,
    .streamEndCapture = cudaStreamEndCapture,
    .graphInstantiate = cudaGraphInstantiate,
    .graphLaunch = cudaGraphLaunch,
    .graphExecDestroy = cudaGraphExecDestroy,
    .graphDestroy = cudaGraphDestroy,
    .eventCreateWithFlags = cudaEventCreateWithFlags,
    .eventRecord = cudaEventRecord,
    .eventSynchronize = cudaEventSynchronize,
    .eventElapsedTime = cudaEventElapsedTime,
    .eventDestroy = cudaEventDestroy,
    .getLastError = cudaGetLastError,
    .getErrorName = cudaGetErrorName,
    .getErrorString = cudaGetErrorString,
    .funcGetAttributes = func_get_attributes,
    .funcSetAttribute = func_set_attribute,
    .launch = launch,
};

static const struct vgg__symbol dnn_symbols[] = {
    {"cudnnGetVersion", &table.dnnGetVersion},
    {"cudnnGetErrorString", &table.dnnGetErrorString},
    {"cudnnGetLastErrorString", &table.dnnGetLastErrorString},
    {"cudnnCreate", &table.dnnCreate},
    {"cudnnDestroy", &table.dnnDestroy},
    {"cudnnSetStream", &table.dnnSetStream},
    {"cudnnBackendCreateDescriptor", &table.dnnCreateDescriptor},
    {"cudnnBackendDestroyDescriptor", &table.dnnDestroyDescriptor},
    {"cudnnBackendSetAttribute", &table.dnnSetAttribute},
    {"cudnnBackendGetAttribute", &table.dnnGetAttribute},
    {"cudnnBackendFinalize", &table.dnnFinalize},
    {"cudnnBackendExecute", &table.dnnExecute},
};

static const struct vgg__symbol lt_symbols[] = {
    {"cublasLtGetVersion", &table.ltGetVersion},
    {"cublasLtGetStatusName", &table.ltGetStatusName},
    {"cublasLtCreate", &table.ltCreate},
    {"cublasLtDestroy", &table.ltDestroy},
    {"cublasLtMatmulDescCreate", &table.ltMatmulDescCreate},
    {"cublasLtMatmulDescDestroy", &table.ltMatmulDescDestroy},
    {"cublasLtMatmulDescSetAttribute", &table.ltMatmulDescSetAttribute},
    {"cublasLtMatrixLayoutCreate", &table.ltMatrixLayoutCreate},
    {"cublasLtMatrixLayoutDestroy", &table.ltMatrixLayoutDestroy},
    {"cublasLtMatmulPreferenceCreate", &table.ltMatmulPreferenceCreate},
    {"cublasLtMatmulPreferenceDestroy", &table.ltMatmulPreferenceDestroy},
    {"cublasLtMatmulPreferenceSetAttribute", &table.ltMatmulPreferenceSetAttribute},
    {"cublasLtMatmulAlgoGetHeuristic", &table.ltMatmulAlgoGetHeuristic},
    {"cublasLtMatmulAlgoCheck", &table.ltMatmulAlgoCheck},
    {"cublasLtMatmulAlgoConfigGetAttribute", &table.ltMatmulAlgoConfigGetAttribute},
    {"cublasLtMatmul", &table.ltMatmul},
};

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const struct vgg__library lt = {
    .title = "cuBLASLt",
    .sonames = {"libcublasLt.so.13", "libcublasLt.so.12"},
    .package = "nvidia-cublas",
    .symbols = lt_symbols,
    .symbol_count = COUNT(lt_symbols)};
static const struct vgg__library nvrtc = {
    .title = "NVRTC",
    .sonames = {"libnvrtc.so.13", "libnvrtc.so.12"},
    .package = "nvidia-cuda-nvrtc"};
static const struct vgg__library dnn = {
    .title = "cuDNN",
    .sonames = {"libcudnn.so.9", "libcudnn_graph.so.9"},
    .package = "nvidia-cudnn-cu13",
    .version = "cudnnGetVersion",
    .least = 90100, /* what the engine's graphs were tried with */
    .symbols = dnn_symbols,
    .symbol_count = COUNT(dnn_symbols)};

/* ---- Once a process -------------------------------------------------------------- */

static char failure[VGG__REASON]; /* empty: the table is complete */
static char warning[VGG__REASON];

/* Libraries of hundreds of MiB are not opened where there is nothing to run them on. */
static bool has_gpu(void)
{
    int count = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    cudaGetLastError();
    if (error == cudaSuccess && count > 0) return true;
    if (error == cudaSuccess || error == cudaErrorNoDevice)
        snprintf(failure, sizeof failure, "no NVIDIA GPU was found");
    else if (error == cudaErrorInsufficientDriver || error == cudaErrorStubLibrary)
        snprintf(failure, sizeof failure,
                 "no NVIDIA driver for CUDA %d or newer is installed",
                 CUDART_VERSION / 1000);
    else
        snprintf(failure, sizeof failure, "no NVIDIA GPU can be used: %s (%s)",
                 cudaGetErrorString(error), cudaGetErrorName(error));
    return false;
}

bool vgg__api_load(char *reason, size_t size)
{
    char missing[VGG__REASON];
    if (vgg__library_open(&lt, reason, size) == NULL) return false;
    if (vgg__library_open(&nvrtc, missing, sizeof missing) == NULL) {
        snprintf(warning, sizeof warning, "no fused convolutions of cuDNN: %.350s",
                 missing);
        table.warning = warning;
    }
    return vgg__library_open(&dnn, reason, size) != NULL;
}

static void load(void)
{
    if (has_gpu()) vgg__api_load(failure, sizeof failure);
}

const struct vgg__api *vgg__api_open(char *reason, size_t size)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    snprintf(reason, size, "%s", failure);
    return failure[0] == '\0' ? &table : NULL;
}
