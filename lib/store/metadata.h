/* SPDX-License-Identifier: Apache-2.0 */
/* The map of strings in a weights file. A plain array in the order of the first set:
 * there are few. */
#ifndef VGG_STORE_METADATA_H
#define VGG_STORE_METADATA_H

#include <stdbool.h>
#include <vgg/weights.h>

#define VGG_METADATA_KEYS  1024  /* most keys of a user's */
#define VGG_METADATA_OWN   16    /* most keys beside them: vgg__metadata_is_beside() */
#define VGG_METADATA_KEY   256   /* bytes of a key, with its final zero */
#define VGG_METADATA_VALUE 65536 /* bytes of a value, with its final zero */

struct vgg__pair {
    char *key, *value;
};

struct vgg_metadata {
    vgg_context *ctx;
    uint32_t count, capacity;
    struct vgg__pair *pairs;
};

/* As vgg_metadata_set(), for strings that are known to be good, and for the library's
 * own keys. VGG_ELIMIT, VGG_ENOMEM. */
vgg_status vgg__metadata_put(vgg_metadata *metadata, const char *key,
                             const char *value);

/* Is the key one of the library's? */
bool vgg__metadata_is_own(const char *key);

/* Is it one of those that saving adds, and that a user's number of keys is counted
 * without: the library's, and "format"? */
bool vgg__metadata_is_beside(const char *key);

#endif
