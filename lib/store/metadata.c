/* SPDX-License-Identifier: Apache-2.0 */
/* The map of strings in a weights file. */
#include "store/metadata.h"

#include "core/context.h"
#include "core/error.h"
#include "core/memory.h"
#include "io/json.h"

#include <string.h>

vgg_status vgg_metadata_create(vgg_context *ctx, vgg_metadata **out)
{
    VGG_REQUIRE(out != NULL);
    *out = NULL;
    vgg_metadata *metadata = vgg__calloc(ctx, 1, sizeof *metadata);
    if (metadata == NULL) return VGG_ENOMEM;
    metadata->ctx = vgg__context_ref(ctx);
    *out = metadata;
    return VGG_OK;
}

void vgg_metadata_free(vgg_metadata *metadata)
{
    if (metadata == NULL) return;
    vgg_context *ctx = metadata->ctx;
    for (uint32_t i = 0; i < metadata->count; i++) {
        vgg__free(metadata->pairs[i].key);
        vgg__free(metadata->pairs[i].value);
    }
    vgg__free(metadata->pairs);
    vgg__free(metadata);
    vgg__context_unref(ctx);
}

bool vgg__metadata_is_own(const char *key)
{
    return strncmp(key, "vgg.", 4) == 0;
}

bool vgg__metadata_is_beside(const char *key)
{
    return vgg__metadata_is_own(key) || strcmp(key, "format") == 0;
}

static struct vgg__pair *find(const vgg_metadata *metadata, const char *key)
{
    for (uint32_t i = 0; i < metadata->count; i++)
        if (strcmp(metadata->pairs[i].key, key) == 0) return &metadata->pairs[i];
    return NULL;
}

/* One more key of this kind is not too many: what a user may set can be saved with all
 * that the library adds, and what was saved can be read. */
static vgg_status check_count(const vgg_metadata *metadata, const char *key)
{
    const bool beside = vgg__metadata_is_beside(key);
    const uint32_t most = beside ? VGG_METADATA_OWN : VGG_METADATA_KEYS;
    if (metadata->count < most) return VGG_OK;
    uint32_t count = 0;
    for (uint32_t i = 0; i < metadata->count; i++)
        count += vgg__metadata_is_beside(metadata->pairs[i].key) == beside;
    if (count < most) return VGG_OK;
    return vgg__fail(VGG_ELIMIT, "metadata has more than %u keys%s", most,
                     beside ? " of the library" : "");
}

/* Room for one more pair. */
static vgg_status grow(vgg_metadata *metadata)
{
    if (metadata->count < metadata->capacity) return VGG_OK;
    const uint32_t capacity = metadata->capacity > 0 ? 2 * metadata->capacity : 8;
    struct vgg__pair *pairs = vgg__calloc(metadata->ctx, capacity, sizeof *pairs);
    if (pairs == NULL) return VGG_ENOMEM;
    if (metadata->count > 0)
        memcpy(pairs, metadata->pairs, metadata->count * sizeof *pairs);
    vgg__free(metadata->pairs);
    metadata->pairs = pairs;
    metadata->capacity = capacity;
    return VGG_OK;
}

vgg_status vgg__metadata_put(vgg_metadata *metadata, const char *key, const char *value)
{
    struct vgg__pair *pair = find(metadata, key);
    if (pair == NULL) VGG_TRY(check_count(metadata, key));
    if (pair == NULL) VGG_TRY(grow(metadata));
    char *new_value = vgg__strdup(metadata->ctx, value);
    if (new_value == NULL) return VGG_ENOMEM;
    if (pair != NULL) {
        vgg__free(pair->value);
        pair->value = new_value;
        return VGG_OK;
    }
    char *new_key = vgg__strdup(metadata->ctx, key);
    if (new_key == NULL) {
        vgg__free(new_value);
        return VGG_ENOMEM;
    }
    metadata->pairs[metadata->count++] = (struct vgg__pair){new_key, new_value};
    return VGG_OK;
}

vgg_status vgg_metadata_set(vgg_metadata *metadata, const char *key, const char *value)
{
    VGG_REQUIRE(metadata != NULL);
    VGG_REQUIRE(key != NULL);
    VGG_REQUIRE(value != NULL);
    const size_t key_size = strnlen(key, VGG_METADATA_KEY);
    if (key_size == 0 || key_size == VGG_METADATA_KEY)
        return vgg__fail(VGG_EINVAL, "a metadata key has 1 to %d bytes",
                         VGG_METADATA_KEY - 1);
    if (strnlen(value, VGG_METADATA_VALUE) == VGG_METADATA_VALUE)
        return vgg__fail(VGG_EINVAL, "metadata \"%s\": a value has at most %d bytes",
                         key, VGG_METADATA_VALUE - 1);
    if (vgg__metadata_is_own(key))
        return vgg__fail(VGG_EINVAL, "metadata \"%s\": \"vgg.\" is the library's", key);
    if (!vgg__json_can_hold(key) || !vgg__json_can_hold(value))
        return vgg__fail(VGG_EINVAL, "metadata \"%s\": not valid UTF-8", key);
    return vgg__metadata_put(metadata, key, value);
}

const char *vgg_metadata_get(const vgg_metadata *metadata, const char *key)
{
    if (metadata == NULL || key == NULL) return NULL;
    const struct vgg__pair *pair = find(metadata, key);
    return pair != NULL ? pair->value : NULL;
}
