/* SPDX-License-Identifier: Apache-2.0 */
/* The table of the simulated device; what all its calls begin and end with: one lock,
 * injected failures, complaints, chance. */
#include "inside.h"

#include <pthread.h>
#include <stdarg.h>

#define AT_START                                                                       \
    {                                                                                  \
        .devices = {"H200"}, .driver = 13000, .dnn_version = 91900,                    \
        .lt_version = 130000, .seed = 1                                                \
    }
static const struct vgg__simulated at_start = AT_START;
struct vgg__simulated vgg__simulated = AT_START;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char complaint[512];
static const char *site; /* of the complaint */
static cudaError_t lost;
static uint64_t draws;
static _Thread_local cudaError_t last_error;

void *sim_new(size_t size)
{
    void *memory = calloc(1, size > 0 ? size : 1);
    if (!memory) {
        fprintf(stderr, "simulated device: no memory\n");
        abort();
    }
    return memory;
}

/* ---- Chance: splitmix64 ---------------------------------------------------------- */

uint64_t sim_hash(uint64_t key)
{
    uint64_t z = (key + vgg__simulated.seed * 0x632be59bd9b4e019) + 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
}

/* FNV-1a */
uint64_t sim_hash_bytes(uint64_t before, const void *bytes, size_t size)
{
    uint64_t sum = before + 0xcbf29ce484222325;
    for (size_t i = 0; i < size; i++)
        sum = (sum ^ ((const uint8_t *)bytes)[i]) * 0x100000001b3;
    return sum;
}

uint64_t sim_hash_text(const char *text)
{
    return sim_hash(sim_hash_bytes(0, text, strlen(text)));
}

uint64_t sim_random(uint64_t below)
{
    return sim_hash(0x5eed0000000000 + draws++) % below;
}

/* ---- Complaints ------------------------------------------------------------------ */

static void complain(const char *place, const char *format, va_list args)
{
    if (complaint[0] != '\0') return;
    site = place;
    vsnprintf(complaint, sizeof complaint, format, args);
}

cudaError_t sim_refuse_at(const char *place, cudaError_t error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(place, format, args);
    va_end(args);
    return error;
}

cudnnStatus_t sim_dnn_refuse_at(const char *place, cudnnStatus_t status,
                                const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(place, format, args);
    va_end(args);
    return status;
}

cublasStatus_t sim_lt_refuse_at(const char *place, cublasStatus_t status,
                                const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(place, format, args);
    va_end(args);
    return status;
}

cudaError_t sim_refuse_unless_failed_at(const char *place, cudaError_t error,
                                        const char *what)
{
    return vgg__simulated.failed ? error : sim_refuse_at(place, error, "%s", what);
}

void sim_violate_at(const char *place, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(place, format, args);
    va_end(args);
    if (!lost) lost = cudaErrorIllegalAddress;
}

cudaError_t sim_lost(void)
{
    return lost;
}

const char *vgg__simulated_complaint(void)
{
    return complaint[0] != '\0' ? complaint : NULL;
}

const char *vgg__simulated_site(void)
{
    return complaint[0] != '\0' ? site : NULL;
}

void vgg__simulated_forget(void)
{
    complaint[0] = '\0';
}

const char *vgg__simulated_leak(void)
{
    static char text[256];
    pthread_mutex_lock(&lock);
    const bool leak = sim_memory_leak(text, sizeof text) ||
                      sim_stream_leak(text, sizeof text) ||
                      sim_capture_leak(text, sizeof text) ||
                      sim_dnn_leak(text, sizeof text) || sim_lt_leak(text, sizeof text);
    pthread_mutex_unlock(&lock);
    return leak ? text : NULL;
}

void vgg__simulated_reset(void)
{
    pthread_mutex_lock(&lock);
    sim_stream_reset();
    sim_capture_reset();
    sim_dnn_reset();
    sim_lt_reset();
    sim_memory_reset();
    sim_launch_reset();
    sim_device_reset();
    vgg__simulated = at_start;
    complaint[0] = '\0';
    lost = last_error = cudaSuccess;
    draws = 0;
    pthread_mutex_unlock(&lock);
}

/* ---- Calls ----------------------------------------------------------------------- */

/* The call's injected failure, if its turn has come. */
static cudaError_t injected(const char *name)
{
    struct vgg__simulated *s = &vgg__simulated;
    s->calls++;
    if (s->fail_call == 0 || (s->fail_name && strcmp(s->fail_name, name) != 0))
        return cudaSuccess;
    if (--s->fail_call > 0) return cudaSuccess;
    s->failed = name;
    if (s->fail_sticky) lost = (cudaError_t)s->fail_error;
    return (cudaError_t)s->fail_error;
}

cudaError_t sim_enter(const char *name)
{
    pthread_mutex_lock(&lock);
    const cudaError_t error = injected(name);
    return lost ? lost : error;
}

cudaError_t sim_enter_outside_capture(const char *name)
{
    const cudaError_t error = sim_enter(name);
    return error ? error : sim_capture_forbids(name);
}

cudaError_t sim_leave(cudaError_t error)
{
    if (error == cudaSuccess) error = lost;
    if (error != cudaSuccess) last_error = error;
    pthread_mutex_unlock(&lock);
    return error;
}

cudnnStatus_t sim_dnn_enter(const char *name, bool in_capture)
{
    const cudaError_t error =
        in_capture ? sim_enter(name) : sim_enter_outside_capture(name);
    if (error == cudaSuccess) return CUDNN_STATUS_SUCCESS;
    return error == cudaErrorMemoryAllocation
               ? CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED
               : CUDNN_STATUS_EXECUTION_FAILED_CUDART;
}

cudnnStatus_t sim_dnn_leave(cudnnStatus_t status)
{
    if (status == CUDNN_STATUS_SUCCESS && lost)
        status = CUDNN_STATUS_EXECUTION_FAILED_CUDART;
    pthread_mutex_unlock(&lock);
    return status;
}

cublasStatus_t sim_lt_enter(const char *name, bool in_capture)
{
    const cudaError_t error =
        in_capture ? sim_enter(name) : sim_enter_outside_capture(name);
    if (error == cudaSuccess) return CUBLAS_STATUS_SUCCESS;
    return error == cudaErrorMemoryAllocation ? CUBLAS_STATUS_ALLOC_FAILED
                                              : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t sim_lt_leave(cublasStatus_t status)
{
    if (status == CUBLAS_STATUS_SUCCESS && lost)
        status = CUBLAS_STATUS_EXECUTION_FAILED;
    pthread_mutex_unlock(&lock);
    return status;
}

/* ---- Errors as text -------------------------------------------------------------- */

static cudaError_t get_last_error(void)
{
    const cudaError_t error = lost ? lost : last_error;
    last_error = cudaSuccess;
    return error;
}

static const char *get_error_name(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "cudaSuccess";
    case cudaErrorInvalidValue:
        return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
        return "cudaErrorMemoryAllocation";
    case cudaErrorNoDevice:
        return "cudaErrorNoDevice";
    case cudaErrorInsufficientDriver:
        return "cudaErrorInsufficientDriver";
    case cudaErrorIllegalAddress:
        return "cudaErrorIllegalAddress";
    case cudaErrorNoKernelImageForDevice:
        return "cudaErrorNoKernelImageForDevice";
    case cudaErrorStreamCaptureUnsupported:
        return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
        return "cudaErrorStreamCaptureInvalidated";
    default:
        return "cudaError";
    }
}

/* In the engine's own errors, what the misuse was. */
static const char *get_error_string(cudaError_t error)
{
    if (error == cudaSuccess) return "no error";
    return complaint[0] != '\0' ? complaint : "an error of the simulated device";
}

/* ---- The table ------------------------------------------------------------------- */

static struct vgg__api table;
static pthread_once_t filled = PTHREAD_ONCE_INIT;

static void fill(void)
{
    table.getLastError = get_last_error;
    table.getErrorName = get_error_name;
    table.getErrorString = get_error_string;
    sim_memory_table(&table);
    sim_stream_table(&table);
    sim_capture_table(&table);
    sim_device_table(&table);
    sim_launch_table(&table);
    sim_dnn_table(&table);
    sim_lt_table(&table);
}

const struct vgg__api *vgg__api_open(char *reason, size_t size)
{
    if (vgg__simulated.missing) {
        snprintf(reason, size, "%s", vgg__simulated.missing);
        return NULL;
    }
    pthread_once(&filled, fill);
    static char code[16];
    snprintf(code, sizeof code, "sm_%d", vgg__simulated.code);
    table.code = vgg__simulated.code ? code : "every GPU";
    table.warning = vgg__simulated.warning;
    return &table;
}
