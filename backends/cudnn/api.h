/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that the engine calls of CUDA, cuDNN and cuBLASLt, as one table.
 *
 * The plugin's own table is filled when the engine is first asked for anything (api.c):
 * the CUDA runtime is part of the plugin, cuDNN and cuBLASLt are opened by soname.
 * Tests put a simulated device in its place. Nothing of the engine calls these
 * libraries by any other way, kernel launches included. */
#ifndef VGG_CUDNN_API_H
#define VGG_CUDNN_API_H

#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <cudnn_graph.h>
#include <stdbool.h>

#include "cudnn/kernels/kernels.h"
#include "cudnn/libraries.h"

/* Room for what an algorithm of a library is called in descriptions. */
#define VGG__ALGORITHM 48

struct vgg__api {
    /* What works less well than it might, in one line; NULL: nothing. */
    const char *warning;
    /* What the engine's kernels are made for: "sm_80, sm_90, compute_90". */
    const char *code;

    /* CUDA runtime */
    cudaError_t (*getDeviceCount)(int *count);
    cudaError_t (*getDeviceProperties)(struct cudaDeviceProp *prop, int device);
    cudaError_t (*getDevice)(int *device);
    cudaError_t (*setDevice)(int device);
    cudaError_t (*deviceGetAttribute)(int *value, enum cudaDeviceAttr name, int device);
    cudaError_t (*driverGetVersion)(int *version);
    cudaError_t (*memGetInfo)(size_t *available, size_t *total);
    cudaError_t (*malloc)(void **memory, size_t size);
    cudaError_t (*free)(void *memory);
    cudaError_t (*mallocHost)(void **memory, size_t size);
    cudaError_t (*freeHost)(void *memory);
    cudaError_t (*memcpyAsync)(void *to, const void *from, size_t size,
                               enum cudaMemcpyKind kind, cudaStream_t stream);
    cudaError_t (*memsetAsync)(void *to, int byte, size_t size, cudaStream_t stream);
    cudaError_t (*streamCreateWithFlags)(cudaStream_t *stream, unsigned flags);
    cudaError_t (*streamDestroy)(cudaStream_t stream);
    cudaError_t (*streamSynchronize)(cudaStream_t stream);
    cudaError_t (*streamWaitEvent)(cudaStream_t stream, cudaEvent_t event,
                                   unsigned flags);
    cudaError_t (*streamBeginCapture)(cudaStream_t stream,
                                      enum cudaStreamCaptureMode mode);
    cudaError_t (*streamEndCapture)(cudaStream_t stream, cudaGraph_t *graph);
    cudaError_t (*graphInstantiate)(cudaGraphExec_t *exec, cudaGraph_t graph,
                                    unsigned long long flags);
    cudaError_t (*graphLaunch)(cudaGraphExec_t exec, cudaStream_t stream);
    cudaError_t (*graphExecDestroy)(cudaGraphExec_t exec);
    cudaError_t (*graphDestroy)(cudaGraph_t graph);
    cudaError_t (*eventCreateWithFlags)(cudaEvent_t *event, unsigned flags);
    cudaError_t (*eventRecord)(cudaEvent_t event, cudaStream_t stream);
    cudaError_t (*eventSynchronize)(cudaEvent_t event);
    cudaError_t (*eventElapsedTime)(float *ms, cudaEvent_t from, cudaEvent_t to);
    cudaError_t (*eventDestroy)(cudaEvent_t event);
    cudaError_t (*getLastError)(void);
    const char *(*getErrorName)(cudaError_t error);
    const char *(*getErrorString)(cudaError_t error);
    cudaError_t (*funcGetAttributes)(struct cudaFuncAttributes *about,
                                     const struct vgg__kernel *kernel);
    cudaError_t (*funcSetAttribute)(const struct vgg__kernel *kernel,
                                    enum cudaFuncAttribute name, int value);
    /* A kernel of ours: `args` is its one argument, copied. `shared`: dynamic bytes, of
     * which each may have no more than its function: vgg__launch() sees to that. */
    cudaError_t (*launch)(const struct vgg__kernel *kernel, struct vgg__grid grid,
                          size_t shared, const void *args, cudaStream_t stream);

    /* cuDNN: the graph ("backend") interface alone */
    size_t (*dnnGetVersion)(void);
    const char *(*dnnGetErrorString)(cudnnStatus_t status);
    void (*dnnGetLastErrorString)(char *text, size_t size);
    cudnnStatus_t (*dnnCreate)(cudnnHandle_t *handle);
    cudnnStatus_t (*dnnDestroy)(cudnnHandle_t handle);
    cudnnStatus_t (*dnnSetStream)(cudnnHandle_t handle, cudaStream_t stream);
    cudnnStatus_t (*dnnCreateDescriptor)(cudnnBackendDescriptorType_t type,
                                         cudnnBackendDescriptor_t *descriptor);
    cudnnStatus_t (*dnnDestroyDescriptor)(cudnnBackendDescriptor_t descriptor);
    cudnnStatus_t (*dnnSetAttribute)(cudnnBackendDescriptor_t descriptor,
                                     cudnnBackendAttributeName_t name,
                                     cudnnBackendAttributeType_t type, int64_t count,
                                     const void *elements);
    cudnnStatus_t (*dnnGetAttribute)(cudnnBackendDescriptor_t descriptor,
                                     cudnnBackendAttributeName_t name,
                                     cudnnBackendAttributeType_t type,
                                     int64_t requested, int64_t *count, void *elements);
    cudnnStatus_t (*dnnFinalize)(cudnnBackendDescriptor_t descriptor);
    cudnnStatus_t (*dnnExecute)(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                cudnnBackendDescriptor_t pack);

    /* cuBLASLt */
    size_t (*ltGetVersion)(void);
    const char *(*ltGetStatusName)(cublasStatus_t status);
    cublasStatus_t (*ltCreate)(cublasLtHandle_t *handle);
    cublasStatus_t (*ltDestroy)(cublasLtHandle_t handle);
    cublasStatus_t (*ltMatmulDescCreate)(cublasLtMatmulDesc_t *desc,
                                         cublasComputeType_t compute,
                                         cudaDataType_t scale);
    cublasStatus_t (*ltMatmulDescDestroy)(cublasLtMatmulDesc_t desc);
    cublasStatus_t (*ltMatmulDescSetAttribute)(cublasLtMatmulDesc_t desc,
                                               cublasLtMatmulDescAttributes_t name,
                                               const void *value, size_t size);
    cublasStatus_t (*ltMatrixLayoutCreate)(cublasLtMatrixLayout_t *layout,
                                           cudaDataType type, uint64_t rows,
                                           uint64_t cols, int64_t ld);
    cublasStatus_t (*ltMatrixLayoutDestroy)(cublasLtMatrixLayout_t layout);
    cublasStatus_t (*ltMatmulPreferenceCreate)(cublasLtMatmulPreference_t *pref);
    cublasStatus_t (*ltMatmulPreferenceDestroy)(cublasLtMatmulPreference_t pref);
    cublasStatus_t (*ltMatmulPreferenceSetAttribute)(
        cublasLtMatmulPreference_t pref, cublasLtMatmulPreferenceAttributes_t name,
        const void *value, size_t size);
    cublasStatus_t (*ltMatmulAlgoGetHeuristic)(
        cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
        cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
        cublasLtMatmulPreference_t pref, int requested,
        cublasLtMatmulHeuristicResult_t results[], int *count);
    cublasStatus_t (*ltMatmulAlgoCheck)(
        cublasLtHandle_t handle, cublasLtMatmulDesc_t desc, cublasLtMatrixLayout_t a,
        cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
        const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *result);
    cublasStatus_t (*ltMatmulAlgoConfigGetAttribute)(
        const cublasLtMatmulAlgo_t *algo, cublasLtMatmulAlgoConfigAttributes_t name,
        void *value, size_t size, size_t *written);
    cublasStatus_t (*ltMatmul)(cublasLtHandle_t handle, cublasLtMatmulDesc_t desc,
                               const void *alpha, const void *a,
                               cublasLtMatrixLayout_t a_layout, const void *b,
                               cublasLtMatrixLayout_t b_layout, const void *beta,
                               const void *c, cublasLtMatrixLayout_t c_layout, void *d,
                               cublasLtMatrixLayout_t d_layout,
                               const cublasLtMatmulAlgo_t *algo, void *workspace,
                               size_t workspace_size, cudaStream_t stream);
};

/* launch.c: a launch on the thread's current device, whatever memory it takes. */
cudaError_t vgg__launch(const struct vgg__api *api, const struct vgg__kernel *kernel,
                        struct vgg__grid grid, size_t shared, const void *args,
                        cudaStream_t stream);

/* The machine's own libraries; opened once a process. On failure NULL, and `reason`
 * (VGG__REASON bytes) says in one line what is missing and what to do. Thread-safe. */
const struct vgg__api *vgg__api_open(char *reason, size_t size);

/* What it does once it has seen a GPU: open the libraries and fill the table. */
bool vgg__api_load(char *reason, size_t size);

#endif
