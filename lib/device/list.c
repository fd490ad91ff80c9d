/* SPDX-License-Identifier: Apache-2.0 */
/* What this machine has: every engine is probed, and the ones that can't run are kept
 * with their reason. */
#include <stdio.h>
#include <string.h>

#include "core/context.h"
#include "core/error.h"
#include "core/memory.h"
#include "device/device.h"

struct entry {
    const char *engine;
    vgg_device_desc desc;
};

struct refusal {
    const char *engine;
    char reason[VGG_ERROR_SIZE];
};

struct vgg_device_list {
    vgg_context *ctx;
    uint32_t count;
    uint32_t refused_count;
    struct entry entries[VGG_ENGINES * VGG_MAX_DEVICES];
    struct refusal refused[VGG_ENGINES];
};

static vgg_status probe(vgg_context *ctx, uint32_t index,
                        vgg_device_desc found[VGG_MAX_DEVICES], uint32_t *count)
{
    bool installed;
    const vgg_engine *engine;
    VGG_TRY(vgg__engine_get(ctx, index, &installed, &engine));
    return vgg__engine_probe(ctx, engine, found, count);
}

static vgg_status list_engine(vgg_device_list *list, uint32_t index)
{
    vgg_device_desc found[VGG_MAX_DEVICES];
    uint32_t count = 0;
    struct vgg__error kept;
    vgg__error_keep(&kept);
    const vgg_status status = probe(list->ctx, index, found, &count);
    if (status == VGG_ENOMEM) return status;
    if (status != VGG_OK) {
        struct refusal *refusal = &list->refused[list->refused_count++];
        refusal->engine = vgg__engine_name(index);
        snprintf(refusal->reason, sizeof refusal->reason, "%s", vgg_last_error());
        vgg__error_restore(&kept);
        return VGG_OK;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct entry *entry = &list->entries[list->count++];
        entry->engine = vgg__engine_name(index);
        entry->desc = found[i];
    }
    return VGG_OK;
}

vgg_status vgg_device_list_create(vgg_context *ctx, vgg_device_list **out)
{
    VGG_REQUIRE(out != NULL);
    *out = NULL;
    vgg_device_list *list = vgg__calloc(ctx, 1, sizeof *list);
    if (list == NULL) return VGG_ENOMEM;
    list->ctx = vgg__context_ref(ctx);
    for (uint32_t i = 0; i < VGG_ENGINES; i++) {
        const vgg_status status = list_engine(list, i);
        if (status != VGG_OK) {
            vgg_device_list_free(list);
            return status;
        }
    }
    *out = list;
    return VGG_OK;
}

void vgg_device_list_free(vgg_device_list *list)
{
    if (list == NULL) return;
    vgg_context *ctx = list->ctx;
    vgg__free(list);
    vgg__context_unref(ctx);
}

uint32_t vgg_device_list_count(const vgg_device_list *list)
{
    return list != NULL ? list->count : 0;
}

const char *vgg_device_list_name(const vgg_device_list *list, uint32_t index)
{
    return index < vgg_device_list_count(list) ? list->entries[index].desc.name : NULL;
}

const char *vgg_device_list_engine(const vgg_device_list *list, uint32_t index)
{
    return index < vgg_device_list_count(list) ? list->entries[index].engine : NULL;
}

const char *vgg_device_list_text(const vgg_device_list *list, uint32_t index)
{
    return index < vgg_device_list_count(list) ? list->entries[index].desc.text : NULL;
}

uint32_t vgg_device_list_refused_count(const vgg_device_list *list)
{
    return list != NULL ? list->refused_count : 0;
}

const char *vgg_device_list_refused_engine(const vgg_device_list *list, uint32_t index)
{
    return index < vgg_device_list_refused_count(list) ? list->refused[index].engine
                                                       : NULL;
}

const char *vgg_device_list_refused_reason(const vgg_device_list *list, uint32_t index)
{
    return index < vgg_device_list_refused_count(list) ? list->refused[index].reason
                                                       : NULL;
}
