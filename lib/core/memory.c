/* SPDX-License-Identifier: Apache-2.0 */
/* Memory through a context: each block has a header of one alignment unit in front that
 * says whose it is and how large. Header and block count towards the context's bytes,
 * so a cap holds for what is really asked of the allocator. */
#include "core/memory.h"

#include "core/error.h"
#include "core/state.h"

#include <inttypes.h>
#include <string.h>

struct header {
    vgg_context *ctx;
    size_t size; /* of header and block */
};

_Static_assert(sizeof(struct header) <= VGG_ALIGN,
               "the header fits in front of a block");

/* Add to the count of held bytes, unless that would go over the cap. */
static bool count_bytes(vgg_context *ctx, size_t size)
{
    const uint64_t cap = ctx->opts.max_bytes != 0 ? ctx->opts.max_bytes : UINT64_MAX;
    uint64_t held = atomic_load_explicit(&ctx->bytes, memory_order_relaxed);
    do {
        if (held > cap || size > cap - held) {
            vgg__fail(VGG_ENOMEM,
                      "out of memory: %zu bytes wanted, %" PRIu64 " of at most %" PRIu64
                      " bytes held",
                      size, held, cap);
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(
        &ctx->bytes, &held, held + size, memory_order_relaxed, memory_order_relaxed));
    return true;
}

void *vgg__alloc(vgg_context *ctx, size_t size)
{
    ctx = vgg__context_get(ctx);
    size_t total;
    if (!vgg__add(size, VGG_ALIGN, &total) || total > PTRDIFF_MAX) {
        vgg__fail(VGG_ENOMEM, "out of memory: %zu bytes wanted, more than can exist",
                  size);
        return NULL;
    }
    if (!count_bytes(ctx, total)) return NULL;
    void *memory = ctx->allocator.alloc(ctx->allocator.cookie, total, VGG_ALIGN);
    if (memory == NULL) {
        const uint64_t held =
            atomic_fetch_sub_explicit(&ctx->bytes, total, memory_order_relaxed) - total;
        vgg__fail(VGG_ENOMEM,
                  "out of memory: %zu bytes wanted, %" PRIu64 " bytes held, the "
                  "allocator has no more",
                  total, held);
        return NULL;
    }
    *(struct header *)memory = (struct header){ctx, total};
    return (char *)memory + VGG_ALIGN;
}

void *vgg__calloc(vgg_context *ctx, size_t count, size_t size)
{
    size_t total;
    if (!vgg__mul(count, size, &total)) {
        vgg__fail(VGG_ENOMEM,
                  "out of memory: %zu x %zu bytes wanted, more than can exist", count,
                  size);
        return NULL;
    }
    void *memory = vgg__alloc(ctx, total);
    if (memory != NULL) memset(memory, 0, total);
    return memory;
}

void vgg__free(void *memory)
{
    if (memory == NULL) return;
    struct header *header = (struct header *)((char *)memory - VGG_ALIGN);
    vgg_context *ctx = header->ctx;
    atomic_fetch_sub_explicit(&ctx->bytes, header->size, memory_order_relaxed);
    ctx->allocator.release(ctx->allocator.cookie, header);
}

char *vgg__strdup(vgg_context *ctx, const char *text)
{
    const size_t size = strlen(text) + 1;
    char *copy = vgg__alloc(ctx, size);
    if (copy != NULL) memcpy(copy, text, size);
    return copy;
}
