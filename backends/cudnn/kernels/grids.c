/* SPDX-License-Identifier: Apache-2.0 */
/* How kernels are launched: functions of shapes alone, made for 132 multiprocessors of
 * 2048 threads (H100, H200), and right on any GPU. */
#include "kernels.h"
#include "tiles.h"

#define MULTIPROCESSORS 132
#define THREADS         VGG__THREADS
#define FULL            (MULTIPROCESSORS * 8) /* blocks that fill the device */

#define RESIDENT (MULTIPROCESSORS * 4) /* blocks with sums that fit at once */

#define ELEMENTS 4    /* of a thread, before there are more blocks */
#define ROWS     4096 /* elements of a block that leaves a row of sums */
#define WARPS    (THREADS / 32)

_Static_assert(RESIDENT <= VGG__MAX_PARTIAL, "a block leaves a row of sums");

static struct vgg__grid grid_of(uint64_t blocks, uint64_t most)
{
    if (blocks > most) blocks = most;
    if (blocks == 0) blocks = 1;
    return (struct vgg__grid){{(uint32_t)blocks, 1, 1}, {THREADS, 1, 1}};
}

static uint64_t parts(uint64_t count, uint64_t size)
{
    return count / size + (count % size != 0);
}

struct vgg__grid vgg__grid_elements(uint64_t count)
{
    return grid_of(parts(count, ELEMENTS * THREADS), FULL);
}

/* Few enough that the rows of sums are small beside what they are sums of. */
struct vgg__grid vgg__grid_rows(uint64_t rows, uint32_t c)
{
    const uint64_t by_size = parts(rows, parts(ROWS, c)), by_rows = parts(rows, 16);
    return grid_of(by_size < by_rows ? by_size : by_rows, RESIDENT);
}

struct vgg__grid vgg__grid_columns(uint32_t c)
{
    return grid_of(parts(c, VGG__SUM_COLUMNS), INT32_MAX);
}

struct vgg__grid vgg__grid_blocks(uint64_t count)
{
    return grid_of(count, INT32_MAX);
}

struct vgg__grid vgg__grid_warps(uint64_t count)
{
    return grid_of(parts(count, WARPS), INT32_MAX);
}

/* ---- Kernels with a grid of their own -------------------------------------------- */

/* A block's rows of one image; gather.cu. */
struct vgg__grid vgg__gather_grid(const struct vgg__gather_args *args)
{
    return grid_of((uint64_t)args->n * parts(args->h, VGG__GATHER_ROWS), INT32_MAX);
}

struct vgg__grid vgg__conv_plain_grid(const struct vgg__conv_plain_args *args)
{
    const uint64_t pixels = (uint64_t)args->n * args->h * args->wd;
    if (args->what == 2)
        return vgg__grid_blocks((uint64_t)args->oc * args->kernel * args->kernel *
                                args->ic);
    return grid_of(parts(pixels * (args->what == 0 ? args->oc : args->ic), THREADS),
                   INT32_MAX);
}

int vgg__conv_first_takes(uint32_t ic, uint32_t oc, uint32_t kernel, uint32_t pool)
{
    return kernel == 3 && ic >= 1 && ic <= 4 && oc >= 8 && oc <= 64 && oc % 8 == 0 &&
           pool <= 1;
}

/* Blocks stay and take one tile, or their warps one row, after the other, so there are
 * as many as fit at once. */
static struct vgg__grid resident_grid(uint64_t pieces, uint32_t oc, uint32_t blocks)
{
    const uint32_t chunks = (uint32_t)parts(oc, VGG__FIRST_CHANNELS);
    struct vgg__grid grid = grid_of(pieces, MULTIPROCESSORS * blocks / chunks);
    grid.blocks[1] = chunks;
    return grid;
}

static struct vgg__first_launch by_tiles(const struct vgg__kernel *kernel, uint32_t n,
                                         uint32_t h, uint32_t w, uint32_t oc)
{
    const uint64_t tiles = n * parts(parts(h, 2), VGG__FIRST_ROWS) *
                           parts(parts(w, 2), VGG__FIRST_COLUMNS);
    return (struct vgg__first_launch){kernel,
                                      resident_grid(tiles, oc, VGG__FIRST_BLOCKS), 0};
}

/* A warp for each part of a row, of which there are `rows` in all images. */
static struct vgg__grid rows_grid(uint64_t rows, uint32_t w, uint32_t windows,
                                  uint32_t oc)
{
    const uint64_t pieces = rows * parts(w / 2, windows);
    return resident_grid(parts(pieces, WARPS), oc, VGG__ROWS_BLOCKS);
}

static int goes_by_rows(uint32_t ic, uint32_t pool, enum vgg__type type)
{
    return type == VGG__BF16 && ic == 1 && pool != 0;
}

struct vgg__first_launch vgg__conv_first_launch(const struct vgg__conv_first_args *args,
                                                enum vgg__type type)
{
    if (goes_by_rows(args->ic, args->pool, type) && args->relu != 0)
        return (struct vgg__first_launch){&vgg__kernel_conv_first_rows,
                                          rows_grid((uint64_t)args->n * (args->h / 2),
                                                    args->wd, VGG__ROWS_WINDOWS,
                                                    args->oc),
                                          VGG__ROWS_SHARED};
    return by_tiles(&vgg__kernel_conv_first[type], args->n, args->h, args->wd,
                    args->oc);
}

struct vgg__first_launch
vgg__conv_first_back_launch(const struct vgg__conv_first_back_args *args,
                            enum vgg__type type)
{
    if (goes_by_rows(args->ic, args->pool, type))
        return (struct vgg__first_launch){&vgg__kernel_conv_first_rows_back,
                                          rows_grid((uint64_t)args->n * (args->h / 2),
                                                    args->wd, VGG__ROWS_BACK_WINDOWS,
                                                    args->oc),
                                          VGG__ROWS_BACK_SHARED};
    return by_tiles(&vgg__kernel_conv_first_back[type], args->n, args->h, args->wd,
                    args->oc);
}
