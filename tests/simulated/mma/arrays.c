/* SPDX-License-Identifier: Apache-2.0 */
#include "arrays.h"

#include <check.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../host_run.h"

#define MOST 64

static struct {
    void *map;
    size_t size;
} arrays[MOST];
static size_t array_count;

void *array(size_t bytes)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t room = (bytes + 15) / 16 * 16, pages = (room + page - 1) / page * page;
    ck_assert_uint_lt(array_count, MOST);
    uint8_t *const map = mmap(NULL, pages + page, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(map, MAP_FAILED);
    ck_assert_int_eq(mprotect(map + pages, page, PROT_NONE), 0);
    memset(map, 0xff, pages);
    arrays[array_count].map = map;
    arrays[array_count++].size = pages + page;
    return map + pages - room;
}

void arrays_free(void)
{
    while (array_count > 0) {
        array_count--;
        munmap(arrays[array_count].map, arrays[array_count].size);
    }
}

uint16_t bf16_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float bf16_value(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, 4);
    return x;
}

float small(uint32_t sequence, size_t index, int span, float unit)
{
    uint64_t x = (index + 1) * 0x9e3779b97f4a7c15u + sequence * 0xd1342543de82ef95u;
    x = (x ^ x >> 32) * 0xd6e8feb86659fd93u;
    x = (x ^ x >> 29) >> 20;
    return (float)((int)(x % (uint64_t)(2 * span + 1)) - span) * unit;
}

void *smalls(enum vgg__type type, size_t count, uint32_t sequence, int span, float unit)
{
    void *const to = array(count * (type == VGG__BF16 ? 2 : 4));
    for (size_t i = 0; i < count; i++) {
        const float x = small(sequence, i, span, unit);
        if (type == VGG__BF16)
            ((uint16_t *)to)[i] = bf16_of(x);
        else
            ((float *)to)[i] = x;
    }
    return to;
}

float element(const void *array, enum vgg__type type, size_t index)
{
    return type == VGG__BF16 ? bf16_value(((const uint16_t *)array)[index])
                             : ((const float *)array)[index];
}

void launch(const struct vgg__kernel *kernel, struct vgg__grid grid, size_t shared,
            const void *args)
{
    const char *const wrong = vgg__host_launch(kernel, grid, shared, args);
    ck_assert_msg(wrong == NULL, "%s", wrong);
    ck_assert_uint_eq(launch_forgotten(grid.threads[0]), 0);
}
