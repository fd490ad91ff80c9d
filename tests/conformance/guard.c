/* SPDX-License-Identifier: Apache-2.0 */
/* Layout of a block: header, GUARD bytes, the block, GUARD bytes. */
#include "guard.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 1024 };

struct header {
    void *memory; /* as malloc gave it */
    size_t size;
};

/* A byte that depends on its place, so that a shifted copy is noticed. */
static unsigned char pattern(size_t i)
{
    return (unsigned char)(0xa5 ^ (i * 37));
}

static void *guarded_alloc(void *cookie, size_t size, size_t align)
{
    unsigned char *memory = malloc(sizeof(struct header) + 2 * GUARD + size + align);
    if (!memory) return NULL;
    const size_t least = (size_t)(memory + sizeof(struct header) + GUARD);
    unsigned char *block = (unsigned char *)((least + align - 1) / align * align);
    memcpy(block - GUARD - sizeof(struct header), &(struct header){memory, size},
           sizeof(struct header));
    for (size_t i = 0; i < GUARD; i++) block[i - GUARD] = block[size + i] = pattern(i);
    memset(block, 0x7f, size); /* as float, a large number: nobody may count on zeros */
    return block;
}

static void guarded_release(void *cookie, void *memory)
{
    unsigned char *block = memory;
    struct header header;
    memcpy(&header, block - GUARD - sizeof header, sizeof header);
    for (size_t i = 0; i < GUARD; i++) {
        if (block[i - GUARD] != pattern(i))
            ck_abort_msg("byte %zu before a block of %zu", GUARD - i, header.size);
        if (block[header.size + i] != pattern(i))
            ck_abort_msg("byte %zu after a block of %zu", i, header.size);
    }
    free(header.memory);
}

const vgg_allocator guard_allocator = {NULL, guarded_alloc, guarded_release};

void *guard_array(size_t count, size_t size)
{
    void *array = guarded_alloc(NULL, count * size, 64);
    ck_assert_ptr_nonnull(array);
    return memset(array, 0, count * size);
}

void guard_free(void *array)
{
    if (array) guarded_release(NULL, array);
}
