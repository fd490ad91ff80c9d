/* SPDX-License-Identifier: Apache-2.0 */
/* Attaching data sets to devices; see resident.h. The list hangs on the device, under
 * the lock that is held while a copy is made: who asks for the same one meanwhile waits
 * for it. */
#include "plan/resident.h"

#include <inttypes.h>
#include <string.h>

#include "core/error.h"
#include "core/fpmode.h"
#include "core/memory.h"
#include "data/dataset.h"
#include "data/resize.h"

/* The transform without what is drawn for each sample, which comes with the sample. */
static vgg_transform spec_of(const vgg_loader *loader)
{
    vgg_transform spec = loader->transform;
    spec.shift = 0;
    spec.flip = spec.erase = 0.0f;
    return spec;
}

static struct vgg__resident *find(vgg_device *device, const vgg_loader *loader)
{
    const vgg_transform spec = spec_of(loader);
    for (struct vgg__resident *at = device->residents; at != NULL; at = at->next)
        if (at->data == loader->data && memcmp(&at->spec, &spec, sizeof spec) == 0)
            return at;
    return NULL;
}

/* ---- Making one ------------------------------------------------------------------ */

/* A data set that has its labels in a list is read for its images alone. */
struct reading {
    const vgg_dataset *data;
    uint32_t *labels;
    bool asked;        /* the engine was asked to take it */
    vgg_status status; /* of the reading that failed */
};

static vgg_status read_image(void *cookie, uint64_t index, uint8_t *image)
{
    struct reading *reading = cookie;
    uint32_t label;
    reading->status = vgg_dataset_read(reading->data, index, image, &label);
    if (reading->status == VGG_OK && reading->labels != NULL)
        reading->labels[index] = label;
    return reading->status;
}

static void release(struct vgg__resident *resident)
{
    if (resident->handle != NULL) resident->device->engine->data_free(resident->handle);
    vgg_device *device = resident->device;
    vgg_dataset_free(resident->data);
    vgg__free(resident->own_labels);
    vgg__free(resident);
    vgg_device_free(device);
}

static vgg_status fill(struct vgg__resident *resident, vgg_loader *loader,
                       struct reading *reading)
{
    const vgg_engine *engine = resident->device->engine;
    const uint64_t count = vgg_dataset_count(resident->data);
    resident->labels = resident->data->labels;
    if (resident->labels == NULL) {
        resident->own_labels =
            vgg__calloc(resident->device->ctx, count, sizeof(uint32_t));
        if (resident->own_labels == NULL) return VGG_ENOMEM;
        resident->labels = resident->own_labels;
    }
    reading->data = resident->data;
    reading->labels = resident->own_labels;
    vgg_data_desc desc;
    vgg_status status = vgg__loader_describe(loader, &desc);
    desc.read = read_image;
    desc.cookie = reading;
    reading->asked = status == VGG_OK;
    if (reading->asked)
        status = engine->data_create(resident->device->state, &desc, &resident->handle);
    vgg__axis_free(&desc.x);
    vgg__axis_free(&desc.y);
    return status;
}

/* *out stays NULL if the data set is to stay with the host, for lack of room: the
 * reason is the thread's error text then. */
static vgg_status make(vgg_device *device, vgg_loader *loader,
                       struct vgg__resident **out)
{
    struct reading reading = {.status = VGG_OK};
    struct vgg__resident *resident = vgg__calloc(device->ctx, 1, sizeof *resident);
    if (resident == NULL) return VGG_ENOMEM;
    resident->device = vgg__device_ref(device);
    resident->data = vgg__dataset_ref(loader->data);
    resident->spec = spec_of(loader);
    const uint64_t mode = vgg__fpmode_enter();
    const vgg_status status = fill(resident, loader, &reading);
    vgg__fpmode_leave(mode);
    if (status == VGG_OK) {
        *out = resident;
        return VGG_OK;
    }
    release(resident);
    const bool no_room =
        status == VGG_ENOMEM || status == VGG_ELIMIT || status == VGG_EUNSUPPORTED;
    return reading.asked && reading.status == VGG_OK && no_room ? VGG_OK : status;
}

/* ---- Sharing it ------------------------------------------------------------------ */

vgg_status vgg__resident_attach(vgg_device *device, vgg_loader *loader,
                                struct vgg__resident **out)
{
    *out = NULL;
    if (device->engine->data_create == NULL) return VGG_OK;
    VGG_TRY(vgg__loader_prepare_names(loader));
    struct vgg__error kept;
    vgg__error_keep(&kept);
    pthread_mutex_lock(&device->lock);
    struct vgg__resident *resident = find(device, loader);
    vgg_status status = VGG_OK;
    if (resident == NULL) {
        status = make(device, loader, &resident);
        if (resident != NULL) {
            resident->next = device->residents;
            device->residents = resident;
        }
    }
    if (resident != NULL) resident->users++;
    pthread_mutex_unlock(&device->lock);
    /* Without the lock: whoever takes the line may use the device. */
    if (status == VGG_OK && resident == NULL) {
        vgg__log(device->ctx, VGG_LOG_INFO,
                 "%s: a data set of %" PRIu64 " images stays with the host: %s",
                 device->desc.name, vgg_dataset_count(loader->data), vgg_last_error());
        vgg__error_restore(&kept);
    }
    *out = resident;
    return status;
}

void vgg__resident_detach(struct vgg__resident *resident)
{
    if (resident == NULL) return;
    vgg_device *device = resident->device;
    pthread_mutex_lock(&device->lock);
    const bool last = --resident->users == 0;
    if (last) {
        struct vgg__resident **link = &device->residents;
        while (*link != resident) link = &(*link)->next;
        *link = resident->next;
    }
    pthread_mutex_unlock(&device->lock);
    if (last) release(resident);
}
