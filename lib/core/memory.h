/* SPDX-License-Identifier: Apache-2.0 */
/* Memory through a context: counted, capped, aligned to 64 bytes.
 *
 * A block remembers its context, so giving it back needs nothing but the pointer. A
 * failing allocation has already set the error text: `return VGG_ENOMEM` is enough. */
#ifndef VGG_CORE_MEMORY_H
#define VGG_CORE_MEMORY_H

#include <stdbool.h>
#include <vgg/context.h>

#define VGG_ALIGN 64 /* bytes: a cache line, and the widest vector */

/* `size` bytes, uninitialised; size 0 gives a valid pointer. NULL: error text is
 * set. */
void *vgg__alloc(vgg_context *ctx, size_t size);

/* `count` elements of `size` bytes, zeroed; the product is checked. */
void *vgg__calloc(vgg_context *ctx, size_t count, size_t size);

/* Give back; NULL is fine. */
void vgg__free(void *memory);

/* A copy of a string. */
char *vgg__strdup(vgg_context *ctx, const char *text);

/* Checked arithmetic: false, and *out untouched, on overflow. */
static inline bool vgg__mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool vgg__add(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* Up to the next multiple of VGG_ALIGN; callers have checked the size before. */
static inline size_t vgg__align_up(size_t size)
{
    return (size + VGG_ALIGN - 1) & ~(size_t)(VGG_ALIGN - 1);
}

#endif
