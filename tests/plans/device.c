/* SPDX-License-Identifier: Apache-2.0 */
/* Devices from their descriptions; see device.h. */
#include "device.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#include "cudnn/cudnn.h"

#define MOST_TEXT   4096
#define MOST_VALUES 256 /* bytes of an attribute that may be spoiled */
#define MOST_NOTES  32

#if defined(__SANITIZE_ADDRESS__)
/* What cuDNN keeps is its own affair; descriptors are counted here. */
const char *__lsan_default_suppressions(void);

const char *__lsan_default_suppressions(void)
{
    return "leak:libcudnn\nleak:libcublasLt\n";
}
#endif

struct device_calls device_calls;
static cudnnBackendDescriptor_t opened; /* the properties of the device opened last */

/* Whether this call fails. */
static bool fails(void)
{
    return ++device_calls.count == device_calls.failing;
}

static cudnnStatus_t create(cudnnBackendDescriptorType_t type,
                            cudnnBackendDescriptor_t *descriptor)
{
    if (fails()) return CUDNN_STATUS_ALLOC_FAILED;
    const cudnnStatus_t status = cudnnBackendCreateDescriptor(type, descriptor);
    if (status == CUDNN_STATUS_SUCCESS) device_calls.alive++;
    return status;
}

static cudnnStatus_t destroy(cudnnBackendDescriptor_t descriptor)
{
    device_calls.alive--;
    return cudnnBackendDestroyDescriptor(descriptor);
}

/* Where a plan wants a handle it gets the description of the device that is open. */
static cudnnStatus_t set(cudnnBackendDescriptor_t descriptor,
                         cudnnBackendAttributeName_t name,
                         cudnnBackendAttributeType_t type, int64_t count,
                         const void *values)
{
    unsigned char copy[MOST_VALUES];
    if (fails()) return CUDNN_STATUS_BAD_PARAM;
    if (device_calls.spoil != NULL && type == CUDNN_TYPE_INT64 &&
        (size_t)count * sizeof(int64_t) <= sizeof copy) {
        memcpy(copy, values, (size_t)count * sizeof(int64_t));
        device_calls.spoil(device_calls.context, descriptor, name, count, copy);
        values = copy;
    }
    if (name == CUDNN_ATTR_EXECUTION_PLAN_HANDLE)
        return cudnnBackendSetAttribute(descriptor,
                                        CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP,
                                        CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &opened);
    return cudnnBackendSetAttribute(descriptor, name, type, count, values);
}

static cudnnStatus_t get(cudnnBackendDescriptor_t descriptor,
                         cudnnBackendAttributeName_t name,
                         cudnnBackendAttributeType_t type, int64_t requested,
                         int64_t *count, void *values)
{
    if (fails()) return CUDNN_STATUS_BAD_PARAM;
    return cudnnBackendGetAttribute(descriptor, name, type, requested, count, values);
}

static cudnnStatus_t finalize(cudnnBackendDescriptor_t descriptor)
{
    return fails() ? CUDNN_STATUS_NOT_SUPPORTED : cudnnBackendFinalize(descriptor);
}

static size_t read_description(const char *name, char text[MOST_TEXT])
{
    char path[512];
    snprintf(path, sizeof path, DEVICES "/%s.json", name);
    FILE *file = fopen(path, "r");
    ck_assert_msg(file != NULL, "%s: cannot be read", path);
    const size_t length = fread(text, 1, MOST_TEXT, file);
    fclose(file);
    ck_assert_msg(length > 0 && length < MOST_TEXT, "%s: %zu bytes", path, length);
    return length;
}

void device_open(struct device *device, const char *name)
{
    char text[MOST_TEXT], reason[256] = "";
    const size_t length = read_description(name, text);
    *device = (struct device){.api = {.dnnGetVersion = cudnnGetVersion,
                                      .dnnGetErrorString = cudnnGetErrorString,
                                      .dnnGetLastErrorString = cudnnGetLastErrorString,
                                      .dnnCreateDescriptor = create,
                                      .dnnDestroyDescriptor = destroy,
                                      .dnnSetAttribute = set,
                                      .dnnGetAttribute = get,
                                      .dnnFinalize = finalize}};
    cudnnBackendDescriptor_t properties = NULL;
    cudnnStatus_t status =
        cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &properties);
    if (status == CUDNN_STATUS_SUCCESS)
        status = cudnnBackendSetAttribute(properties,
                                          CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
                                          CUDNN_TYPE_CHAR, (int64_t)length, text);
    if (status == CUDNN_STATUS_SUCCESS) status = cudnnBackendFinalize(properties);
    if (status != CUDNN_STATUS_SUCCESS) cudnnGetLastErrorString(reason, sizeof reason);
    ck_assert_msg(status == CUDNN_STATUS_SUCCESS, "%s: cuDNN %zu: %s: %s", name,
                  cudnnGetVersion(), cudnnGetErrorString(status), reason);
    opened = properties;
    device->target = (struct vgg__dnn_target){.api = &device->api,
                                              .properties = properties,
                                              .most_workspace = VGG__WORKSPACE};
    device_calls = (struct device_calls){0};
}

void device_close(struct device *device)
{
    cudnnBackendDestroyDescriptor(device->target.properties);
    opened = NULL;
    *device = (struct device){0};
}

/* ---- Notes of a plan ------------------------------------------------------------- */

/* A descriptor that is an attribute of another. */
static cudnnBackendDescriptor_t part(cudnnBackendDescriptor_t of,
                                     cudnnBackendAttributeName_t name,
                                     cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t out = NULL;
    int64_t count = 0;
    ck_assert_int_eq(cudnnBackendCreateDescriptor(type, &out), CUDNN_STATUS_SUCCESS);
    ck_assert_int_eq(cudnnBackendGetAttribute(of, name, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                              1, &count, &out),
                     CUDNN_STATUS_SUCCESS);
    ck_assert_int_eq(count, 1);
    return out;
}

struct device_notes device_notes(const struct vgg__dnn_plan *plan)
{
    struct device_notes out = {0};
    cudnnBackendNumericalNote_t numerical[MOST_NOTES];
    cudnnBackendBehaviorNote_t behavior[MOST_NOTES];
    int64_t count = 0;
    cudnnBackendDescriptor_t config =
        part(plan->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
             CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    cudnnBackendDescriptor_t engine =
        part(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    ck_assert_int_eq(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                              CUDNN_TYPE_NUMERICAL_NOTE, MOST_NOTES,
                                              &count, numerical),
                     CUDNN_STATUS_SUCCESS);
    for (int64_t i = 0; i < count; i++) {
        out.tensor_cores |= numerical[i] == CUDNN_NUMERICAL_NOTE_TENSOR_CORE;
        out.cuts |= numerical[i] == CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS ||
                    numerical[i] == CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
        out.transforms |= numerical[i] == CUDNN_NUMERICAL_NOTE_WINOGRAD ||
                          numerical[i] == CUDNN_NUMERICAL_NOTE_FFT;
        out.varies |= numerical[i] == CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
    }
    ck_assert_int_eq(cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE,
                                              CUDNN_TYPE_BEHAVIOR_NOTE, MOST_NOTES,
                                              &count, behavior),
                     CUDNN_STATUS_SUCCESS);
    for (int64_t i = 0; i < count; i++)
        out.compiled |= behavior[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION;
    cudnnBackendDestroyDescriptor(engine);
    cudnnBackendDestroyDescriptor(config);
    return out;
}
