/* SPDX-License-Identifier: Apache-2.0 */
#include "arrays.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../host_run.h"
#include "conv.h"

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

void launch(const struct vgg__kernel *kernel, struct vgg__grid grid, size_t shared,
            const void *args)
{
    const char *const wrong = vgg__host_launch(kernel, grid, shared, args);
    ck_assert_msg(wrong == NULL, "%s", wrong);
    ck_assert_uint_eq(launch_forgotten(grid.threads[0]), 0);
}

struct vgg__conv_mma_device conv_devices[2] = {
    {90, 132, 232448, 233472, 1},
    {89, 58, 101376, 102400, 0},
};

/* Another one with much, for what is left without products of warp groups. */
static void __attribute__((constructor)) choose_device(void)
{
    if (getenv("NO_WARP_GROUPS") != NULL)
        conv_devices[0] = (struct vgg__conv_mma_device){80, 108, 166912, 167936, 0};
}
