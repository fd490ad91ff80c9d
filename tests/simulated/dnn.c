/* SPDX-License-Identifier: Apache-2.0 */
/* The simulated cuDNN's calls: handles, descriptors and their attributes. */
#include "dnn.h"

struct handle {
    struct handle *next;
    int device;
    cudaStream_t stream;
};

/* What the engine holds as a descriptor. */
struct descriptor {
    struct descriptor *next;
    struct dnn_object *object;
};

static struct handle *handles;
static struct descriptor *descriptors;

/* ---- Objects --------------------------------------------------------------------- */

struct dnn_object *dnn_new(cudnnBackendDescriptorType_t type)
{
    struct dnn_object *object = sim_new(sizeof *object);
    object->refs = 1;
    object->type = type;
    return object;
}

struct dnn_object *dnn_hold(struct dnn_object *object)
{
    if (object) object->refs++;
    return object;
}

static void drop_values(struct dnn_attribute *attribute)
{
    struct dnn_object **objects = attribute->values;
    if (attribute->type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        for (int64_t i = 0; i < attribute->count; i++) dnn_drop(objects[i]);
    free(attribute->values);
}

void dnn_drop(struct dnn_object *object)
{
    if (!object || --object->refs > 0) return;
    for (uint32_t i = 0; i < object->count; i++) drop_values(&object->attributes[i]);
    dnn_drop(object->about);
    free(object->info);
    free(object);
}

/* `values` of descriptors are objects here, and are held. */
void dnn_put(struct dnn_object *object, const struct dnn_field *field, int64_t count,
             const void *values)
{
    struct dnn_attribute *at = (struct dnn_attribute *)dnn_find(object, field->name);
    struct dnn_object *const *objects = values;
    const size_t size = (size_t)count * dnn_type_size(field->type);
    if (at)
        drop_values(at);
    else
        at = &object->attributes[object->count++];
    *at = (struct dnn_attribute){field->name, field->type, count, sim_new(size)};
    if (size > 0) memcpy(at->values, values, size);
    if (field->type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        for (int64_t i = 0; i < count; i++) dnn_hold(objects[i]);
}

const struct dnn_attribute *dnn_find(const struct dnn_object *object,
                                     cudnnBackendAttributeName_t name)
{
    for (uint32_t i = 0; object && i < object->count; i++)
        if (object->attributes[i].name == name) return &object->attributes[i];
    return NULL;
}

int64_t dnn_int(const struct dnn_object *object, cudnnBackendAttributeName_t name,
                int64_t missing)
{
    const struct dnn_attribute *at = dnn_find(object, name);
    if (!at || at->count == 0) return missing;
    switch (dnn_type_size(at->type)) {
    case 1:
        return *(uint8_t *)at->values;
    case 4:
        return *(int32_t *)at->values;
    default:
        return *(int64_t *)at->values;
    }
}

double dnn_float(const struct dnn_object *object, cudnnBackendAttributeName_t name,
                 double missing)
{
    const struct dnn_attribute *at = dnn_find(object, name);
    return at ? *(const float *)at->values : missing;
}

struct dnn_object *dnn_child(const struct dnn_object *object,
                             cudnnBackendAttributeName_t name, int64_t index)
{
    const struct dnn_attribute *at = dnn_find(object, name);
    return at && index < at->count ? ((struct dnn_object **)at->values)[index] : NULL;
}

static struct descriptor *descriptor_of(cudnnBackendDescriptor_t descriptor)
{
    for (struct descriptor *d = descriptors; d; d = d->next)
        if (d == descriptor) return d;
    return NULL;
}

/* ---- Handles --------------------------------------------------------------------- */

static struct handle *handle_of(cudnnHandle_t handle)
{
    for (struct handle *h = handles; h; h = h->next)
        if ((cudnnHandle_t)h == handle) return h;
    return NULL;
}

cudaStream_t dnn_stream(cudnnHandle_t handle)
{
    const struct handle *h = handle_of(handle);
    return h ? h->stream : NULL;
}

int dnn_handle_device(cudnnHandle_t handle)
{
    const struct handle *h = handle_of(handle);
    return h ? h->device : -1;
}

static cudnnStatus_t create(cudnnHandle_t *handle)
{
    *handle = NULL;
    cudnnStatus_t status = sim_dnn_enter("dnnCreate", false);
    if (!status && !sim_properties(sim_device())) status = CUDNN_STATUS_NOT_INITIALIZED;
    if (!status) {
        struct handle *made = sim_new(sizeof *made);
        *made = (struct handle){handles, sim_device(), NULL};
        handles = made;
        *handle = (cudnnHandle_t)made;
    }
    return sim_dnn_leave(status);
}

static cudnnStatus_t destroy(cudnnHandle_t handle)
{
    const cudnnStatus_t status = sim_dnn_enter("dnnDestroy", true);
    struct handle *found = handle_of(handle);
    if (!found)
        return sim_dnn_leave(
            sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM, "cudnnDestroy: no handle"));
    struct handle **link = &handles;
    while (*link != found) link = &(*link)->next;
    *link = found->next;
    free(found);
    return sim_dnn_leave(status);
}

static cudnnStatus_t set_stream(cudnnHandle_t handle, cudaStream_t stream)
{
    cudnnStatus_t status = sim_dnn_enter("dnnSetStream", true);
    struct handle *found = handle_of(handle);
    if (!status && !found)
        status = sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM, "cudnnSetStream: no handle");
    if (!status && sim_stream_check(stream, "cudnnSetStream"))
        status = CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH;
    if (!status && found->device != sim_device())
        status = sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH,
                                "cudnnSetStream: the handle is another device's");
    if (!status) found->stream = stream;
    return sim_dnn_leave(status);
}

/* ---- Descriptors ----------------------------------------------------------------- */

static cudnnStatus_t create_descriptor(cudnnBackendDescriptorType_t type,
                                       cudnnBackendDescriptor_t *descriptor)
{
    *descriptor = NULL;
    cudnnStatus_t status = sim_dnn_enter("dnnCreateDescriptor", true);
    if (!status && !dnn_schema(type))
        status = sim_dnn_refuse(
            CUDNN_STATUS_NOT_SUPPORTED,
            "cudnnBackendCreateDescriptor: type %d is not simulated", type);
    if (!status) {
        struct descriptor *made = sim_new(sizeof *made);
        *made = (struct descriptor){descriptors, dnn_new(type)};
        descriptors = made;
        *descriptor = made;
    }
    return sim_dnn_leave(status);
}

static cudnnStatus_t destroy_descriptor(cudnnBackendDescriptor_t descriptor)
{
    const cudnnStatus_t status = sim_dnn_enter("dnnDestroyDescriptor", true);
    struct descriptor *found = descriptor_of(descriptor);
    if (!found)
        return sim_dnn_leave(sim_dnn_refuse(
            CUDNN_STATUS_BAD_PARAM, "cudnnBackendDestroyDescriptor: no descriptor"));
    struct descriptor **link = &descriptors;
    while (*link != found) link = &(*link)->next;
    *link = found->next;
    dnn_drop(found->object);
    free(found);
    return sim_dnn_leave(status);
}

/* The field that an access is about, or what is wrong with it. */
static cudnnStatus_t find_field(const struct descriptor *d, const char *call,
                                cudnnBackendAttributeName_t name,
                                cudnnBackendAttributeType_t type,
                                const struct dnn_field **field)
{
    if (!d)
        return sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER, "%s: no descriptor",
                              call);
    const char *what = dnn_schema(d->object->type)->name;
    *field = dnn_field(d->object->type, name);
    if (!*field)
        return sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM, "%s: %s has no attribute %d",
                              call, what, name);
    if ((*field)->type != type)
        return sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE,
                              "%s: attribute %d of %s is of type %d, not %d", call,
                              name, what, (*field)->type, type);
    return CUDNN_STATUS_SUCCESS;
}

/* Descriptors to set become their objects; each must be final and of the right kind. */
static cudnnStatus_t set_objects(struct dnn_object *object,
                                 const struct dnn_field *field, int64_t count,
                                 const void *values)
{
    struct dnn_object *objects[DNN_TENSORS];
    for (int64_t i = 0; i < count; i++) {
        const struct descriptor *d =
            descriptor_of(((const cudnnBackendDescriptor_t *)values)[i]);
        const char *what = dnn_schema(object->type)->name;
        if (!d || (field->refers >= 0 && (int)d->object->type != field->refers))
            return sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE,
                                  "cudnnBackendSetAttribute: attribute %d of %s: wrong "
                                  "descriptor, or none",
                                  field->name, what);
        if (!d->object->final)
            return sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED,
                                  "cudnnBackendSetAttribute: attribute %d of %s: a "
                                  "descriptor that is not finalised",
                                  field->name, what);
        objects[i] = d->object;
    }
    dnn_put(object, field, count, objects);
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t set_checked(struct descriptor *d, const struct dnn_field *field,
                                 int64_t count, const void *values)
{
    const char *what = dnn_schema(d->object->type)->name;
    if (d->object->final)
        return sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM,
                              "cudnnBackendSetAttribute: %s is finalised", what);
    if (field->flags & DNN_READ_ONLY)
        return sim_dnn_refuse(
            CUDNN_STATUS_BAD_PARAM,
            "cudnnBackendSetAttribute: attribute %d of %s can't be set", field->name,
            what);
    if (count < field->least || count > field->most || !values)
        return sim_dnn_refuse(
            CUDNN_STATUS_BAD_PARAM,
            "cudnnBackendSetAttribute: %lld elements for attribute %d "
            "of %s, or NULL",
            (long long)count, field->name, what);
    if (field->type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        return set_objects(d->object, field, count, values);
    if (field->name == CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION)
        return dnn_plan_load(d->object, count, values);
    dnn_put(d->object, field, count, values);
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t set_attribute(cudnnBackendDescriptor_t descriptor,
                                   cudnnBackendAttributeName_t name,
                                   cudnnBackendAttributeType_t type, int64_t count,
                                   const void *values)
{
    cudnnStatus_t status = sim_dnn_enter("dnnSetAttribute", true);
    struct descriptor *d = descriptor_of(descriptor);
    const struct dnn_field *field = NULL;
    if (!status) status = find_field(d, "cudnnBackendSetAttribute", name, type, &field);
    if (!status) status = set_checked(d, field, count, values);
    return sim_dnn_leave(status);
}

/* Descriptors to read into exist already, and are of the right kind. */
static cudnnStatus_t get_objects(const struct dnn_attribute *at, int64_t requested,
                                 cudnnBackendDescriptor_t *out, int refers)
{
    struct dnn_object **objects = at->values;
    for (int64_t i = 0; i < at->count && i < requested; i++) {
        struct descriptor *d = descriptor_of(out[i]);
        if (!d || (int)d->object->type != refers)
            return sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE,
                                  "cudnnBackendGetAttribute: attribute %d: a wrong "
                                  "descriptor to read into, or none",
                                  at->name);
        dnn_drop(d->object);
        d->object = dnn_hold(objects[i]);
    }
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t get_checked(const struct descriptor *d,
                                 const struct dnn_field *field, int64_t requested,
                                 int64_t *count, void *out)
{
    const char *what = dnn_schema(d->object->type)->name;
    if (!d->object->final)
        return sim_dnn_refuse(CUDNN_STATUS_NOT_INITIALIZED,
                              "cudnnBackendGetAttribute: %s is not finalised", what);
    if (field->name == CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION)
        return dnn_plan_json(d->object, requested, count, out);
    const struct dnn_attribute *at = dnn_find(d->object, field->name);
    if (!at)
        return sim_dnn_refuse(
            CUDNN_STATUS_BAD_PARAM,
            "cudnnBackendGetAttribute: attribute %d of %s was not set", field->name,
            what);
    if (!count || (requested > 0 && !out))
        return sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER,
                              "cudnnBackendGetAttribute: attribute %d of %s into NULL",
                              field->name, what);
    *count = requested == 0 || at->count < requested ? at->count : requested;
    if (requested == 0) return CUDNN_STATUS_SUCCESS;
    if (at->type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        return get_objects(at, requested, out, field->refers);
    if (*count > 0) memcpy(out, at->values, (size_t)*count * dnn_type_size(at->type));
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t get_attribute(cudnnBackendDescriptor_t descriptor,
                                   cudnnBackendAttributeName_t name,
                                   cudnnBackendAttributeType_t type, int64_t requested,
                                   int64_t *count, void *out)
{
    cudnnStatus_t status = sim_dnn_enter("dnnGetAttribute", true);
    const struct descriptor *d = descriptor_of(descriptor);
    const struct dnn_field *field = NULL;
    if (!status) status = find_field(d, "cudnnBackendGetAttribute", name, type, &field);
    if (!status) status = get_checked(d, field, requested, count, out);
    return sim_dnn_leave(status);
}

static cudnnStatus_t finalize(cudnnBackendDescriptor_t descriptor)
{
    cudnnStatus_t status = sim_dnn_enter("dnnFinalize", true);
    const struct descriptor *d = descriptor_of(descriptor);
    if (!status && !d)
        status = sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM_NULL_POINTER,
                                "cudnnBackendFinalize: no descriptor");
    if (!status && d->object->final)
        status = sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM,
                                "cudnnBackendFinalize: %s is finalised already",
                                dnn_schema(d->object->type)->name);
    /* A plan loads a module, which is no work that a stream can record. */
    if (!status && d->object->type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR &&
        sim_capture_forbids("cudnnBackendFinalize of a plan"))
        status = CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER;
    if (!status) status = dnn_check(d->object);
    if (!status) d->object->final = true;
    return sim_dnn_leave(status);
}

static cudnnStatus_t execute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                             cudnnBackendDescriptor_t pack)
{
    cudnnStatus_t status = sim_dnn_enter("dnnExecute", true);
    const struct descriptor *p = descriptor_of(plan), *v = descriptor_of(pack);
    if (!status &&
        (!p || !v || p->object->type != CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR ||
         v->object->type != CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR))
        status = sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM,
                                "cudnnBackendExecute: not a plan and a variant pack");
    if (!status && (!p->object->final || !v->object->final))
        status = sim_dnn_refuse(CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED,
                                "cudnnBackendExecute: plan or pack is not finalised");
    if (!status) status = dnn_execute(handle, p->object, v->object);
    return sim_dnn_leave(status);
}

/* ---- Texts and the end ----------------------------------------------------------- */

static size_t get_version(void)
{
    return vgg__simulated.dnn_version;
}

static const char *get_error_string(cudnnStatus_t status)
{
    return status ? "CUDNN_STATUS of the simulated device" : "CUDNN_STATUS_SUCCESS";
}

static void get_last_error_string(char *text, size_t size)
{
    const char *complaint = vgg__simulated_complaint();
    if (!complaint && vgg__simulated.failed)
        snprintf(text, size, "%s has failed;\nby a test's wish", vgg__simulated.failed);
    else
        snprintf(text, size, "%s", complaint ? complaint : "");
}

bool sim_dnn_leak(char *text, size_t room)
{
    if (handles) snprintf(text, room, "a cuDNN handle");
    if (descriptors)
        snprintf(text, room, "a cuDNN descriptor (%s)",
                 dnn_schema(descriptors->object->type)->name);
    return handles || descriptors;
}

void sim_dnn_reset(void)
{
    while (handles) {
        struct handle *next = handles->next;
        free(handles);
        handles = next;
    }
    while (descriptors) {
        struct descriptor *next = descriptors->next;
        dnn_drop(descriptors->object);
        free(descriptors);
        descriptors = next;
    }
}

void sim_dnn_table(struct vgg__api *api)
{
    api->dnnGetVersion = get_version;
    api->dnnGetErrorString = get_error_string;
    api->dnnGetLastErrorString = get_last_error_string;
    api->dnnCreate = create;
    api->dnnDestroy = destroy;
    api->dnnSetStream = set_stream;
    api->dnnCreateDescriptor = create_descriptor;
    api->dnnDestroyDescriptor = destroy_descriptor;
    api->dnnSetAttribute = set_attribute;
    api->dnnGetAttribute = get_attribute;
    api->dnnFinalize = finalize;
    api->dnnExecute = execute;
}
