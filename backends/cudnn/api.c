/* SPDX-License-Identifier: Apache-2.0 */
/* The real table: the CUDA runtime is linked into the plugin, cuDNN and cuBLASLt are
 * opened here, where the system, the toolkit or a Python environment has them.
 *
 * NVRTC is opened as well: cuDNN's run-time compiled engines look for it by soname, and
 * find it only if it is loaded already or where the dynamic loader looks. */
#include "cudnn/api.h"

#include <dlfcn.h>
#include <glob.h>
#include <limits.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LEAST_CUDNN 90100 /* 9.1: what the engine's graphs were tried with */
#define PLACES      16
#define PATTERN     (PATH_MAX + 64)

/* ---- Finding libraries ----------------------------------------------------------- */

/* Patterns of folders, in the order in which they are looked through. */
struct places {
    char pattern[PLACES][PATTERN];
    unsigned count, named; /* named: those that come before the loader's own */
};

static void add_place(struct places *places, const char *before, const char *after)
{
    if (before == NULL || before[0] == '\0' || places->count == PLACES) return;
    snprintf(places->pattern[places->count++], PATTERN, "%s%s", before, after);
}

/* The folder above that of the python3 that a shell would run. */
static void add_python(struct places *places)
{
    static const char packages[] = "/../lib/python3*/site-packages/nvidia/*/lib";
    const char *path = secure_getenv("PATH");
    for (const char *at = path; at != NULL && *at != '\0';) {
        const size_t length = strcspn(at, ":");
        char program[PATH_MAX];
        snprintf(program, sizeof program, "%.*s/python3", (int)length, at);
        char *slash = strrchr(program, '/');
        char *real = realpath(program, NULL);
        if (real != NULL) {
            *slash = '\0'; /* a virtual environment's bin/, not what its link names */
            add_place(places, program, packages);
            free(real);
            return;
        }
        at += length + (at[length] == ':');
    }
}

static void list_places(struct places *places)
{
    places->count = 0;
    add_place(places, secure_getenv("VGG_CUDA_LIBRARIES"), "");
    places->named = places->count;
    add_place(places, secure_getenv("CUDA_HOME"), "/lib64");
    add_place(places, secure_getenv("CUDA_HOME"), "/lib");
    add_place(places, secure_getenv("CUDA_PATH"), "/lib64");
    add_place(places, secure_getenv("CUDA_PATH"), "/lib");
    add_place(places, secure_getenv("VIRTUAL_ENV"),
              "/lib/python3*/site-packages/nvidia/*/lib");
    add_python(places);
    add_place(places, "/usr/local/cuda", "/lib64");
    add_place(places, "/usr/local/cuda", "/lib");
    add_place(places, secure_getenv("HOME"),
              "/.local/lib/python3*/site-packages/nvidia/*/lib");
    add_place(places, "/usr/local/lib/python3*/dist-packages/nvidia/*/lib", "");
    add_place(places, "/usr/lib/python3*/dist-packages/nvidia/*/lib", "");
}

static void *open_in(const char *pattern, const char *soname)
{
    char name[PATTERN + 64];
    snprintf(name, sizeof name, "%s/%s", pattern, soname);
    glob_t found;
    void *handle = NULL;
    if (glob(name, 0, NULL, &found) == 0)
        for (size_t i = 0; handle == NULL && i < found.gl_pathc; i++)
            handle = dlopen(found.gl_pathv[i], RTLD_NOW | RTLD_LOCAL);
    globfree(&found);
    return handle;
}

/* In the place that was named, by soname where the loader looks, then in the other
 * places. Libraries stay loaded: CUDA does not take it well when its parts go. */
static void *open_library(const struct places *places, const char *soname)
{
    void *handle = NULL;
    for (unsigned i = 0; handle == NULL && i < places->count; i++) {
        if (i == places->named) handle = dlopen(soname, RTLD_NOW | RTLD_LOCAL);
        if (handle == NULL) handle = open_in(places->pattern[i], soname);
    }
    return handle;
}

/* ---- The table ------------------------------------------------------------------- */

static cudaError_t launch(const struct vgg__kernel *kernel, struct vgg__grid grid,
                          size_t shared, const void *args, cudaStream_t stream)
{
    const dim3 blocks = {grid.blocks[0], grid.blocks[1], grid.blocks[2]};
    const dim3 threads = {grid.threads[0], grid.threads[1], grid.threads[2]};
    void *list[] = {(void *)args};
    if (shared > 48 * 1024) {
        const cudaError_t error = cudaFuncSetAttribute(
            kernel->function, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
        if (error != cudaSuccess) return error;
    }
    return cudaLaunchKernel(kernel->function, blocks, threads, list, shared, stream);
}

static struct vgg__api table = {
    .getDeviceCount = cudaGetDeviceCount,
    .getDeviceProperties = cudaGetDeviceProperties,
    .getDevice = cudaGetDevice,
    .setDevice = cudaSetDevice,
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
    .launch = launch,
};

/* A function of a library and the place in the table that it goes to. */
struct symbol {
    const char *name;
    void *place;
};

static const struct symbol dnn_symbols[] = {
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

static const struct symbol lt_symbols[] = {
    {"cublasLtGetVersion", &table.ltGetVersion},
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
    {"cublasLtMatmul", &table.ltMatmul},
};

/* The name of the first symbol that is not there; NULL: all are. */
static const char *load_symbols(void *library, const struct symbol *symbols,
                                size_t count)
{
    for (size_t i = 0; i < count; i++) {
        void *function = dlsym(library, symbols[i].name);
        if (function == NULL) return symbols[i].name;
        memcpy(symbols[i].place, &function, sizeof function);
    }
    return NULL;
}

/* ---- Once a process -------------------------------------------------------------- */

static char failure[256]; /* empty: the table is complete */

static void missing(const char *what, const char *package)
{
    snprintf(
        failure, sizeof failure,
        "%s was not found: install it (NVIDIA's CUDA packages, or pip install %s) or "
        "name its folder in VGG_CUDA_LIBRARIES",
        what, package);
}

static void too_old(const char *what, const char *symbol)
{
    snprintf(failure, sizeof failure, "%s has no %s: it is older than expected", what,
             symbol);
}

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

static void load(void)
{
    if (!has_gpu()) return;
    static struct places places; /* too large for a stack */
    list_places(&places);
    void *lt = open_library(&places, "libcublasLt.so.13");
    if (lt == NULL) lt = open_library(&places, "libcublasLt.so.12");
    if (open_library(&places, "libnvrtc.so.13") == NULL)
        open_library(&places, "libnvrtc.so.12");
    void *dnn = open_library(&places, "libcudnn.so.9");
    if (dnn == NULL) dnn = open_library(&places, "libcudnn_graph.so.9");
    const char *symbol = NULL;
    if (lt == NULL)
        missing("cuBLASLt (libcublasLt.so.13)", "nvidia-cublas");
    else if (dnn == NULL)
        missing("cuDNN (libcudnn.so.9)", "nvidia-cudnn-cu13");
    else if ((symbol = load_symbols(lt, lt_symbols,
                                    sizeof lt_symbols / sizeof *lt_symbols)) != NULL)
        too_old("cuBLASLt", symbol);
    else if ((symbol = load_symbols(dnn, dnn_symbols,
                                    sizeof dnn_symbols / sizeof *dnn_symbols)) != NULL)
        too_old("cuDNN", symbol);
    else if (table.dnnGetVersion() < LEAST_CUDNN)
        snprintf(failure, sizeof failure, "cuDNN is %zu; expected %d (9.1) or newer",
                 table.dnnGetVersion(), LEAST_CUDNN);
}

const struct vgg__api *vgg__api_open(char *reason, size_t size)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    snprintf(reason, size, "%s", failure);
    return failure[0] == '\0' ? &table : NULL;
}
