/* SPDX-License-Identifier: Apache-2.0 */
/* The allocator of contexts that name none. */
#include "core/state.h"

#include <stdlib.h>
#include <sys/mman.h>

/* From here on the C library gives a block a mapping of its own, whatever its limits
 * have become, which ends with the block; unless it was told otherwise, when the advice
 * outlives the block and does no harm. */
#define HUGE_BLOCK ((size_t)32 << 20)
#define HUGE_PAGE  ((size_t)2 << 20)

/* A network's arrays are read with strides of many pages, and looking up a small page
 * each time costs a matrix product a third of its speed. A wish: a kernel that can't
 * leaves things as they are. */
static void *default_alloc(void *cookie, size_t size, size_t align)
{
    (void)cookie;
    void *memory = NULL;
    const bool huge = size >= HUGE_BLOCK;
    if (posix_memalign(&memory, huge ? HUGE_PAGE : align, size) != 0) return NULL;
    if (huge) madvise(memory, size & ~(HUGE_PAGE - 1), MADV_HUGEPAGE);
    return memory;
}

static void default_release(void *cookie, void *memory)
{
    (void)cookie;
    free(memory);
}

const vgg_allocator vgg__default_allocator = {NULL, default_alloc, default_release};
