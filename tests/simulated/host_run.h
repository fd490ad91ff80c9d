/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the engine's kernels on the host, as a GPU that looks for mistakes would.
 *
 * A launch is a loop over blocks in shuffled order. Every thread of a block is a fiber:
 * it runs until it ends or has to wait, and whoever can go on is resumed in shuffled
 * order: all by turns, or one warp as far as it gets before the next. Barriers and warp
 * collectives wait for exactly those threads for which the hardware waits. Shared
 * memory is full of NaN when a block begins.
 *
 * Launches of several threads of the process run one after the other. */
#ifndef VGG_TEST_HOST_RUN_H
#define VGG_TEST_HOST_RUN_H

#include <stddef.h>
#include <stdint.h>

#include "cudnn/kernels/kernels.h"
#include "site.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Run a kernel and wait for it. NULL, or what was wrong, in one line that stays until
 * the calling thread's next launch. */
const char *vgg__host_launch(const struct vgg__kernel *kernel, struct vgg__grid grid,
                             size_t shared, const void *args);

/* Where what was wrong with that launch was found (site.h). */
const char *vgg__host_site(void);

/* From now on, shuffle by this seed. */
void vgg__host_seed(uint64_t seed);

/* ---- For host_cuda.h: called by kernels ------------------------------------------ */

#define VGG__HOST_WORDS 16 /* most words that a lane can hand over at once */

struct vgg__host_dim {
    uint32_t x, y, z;
};

/* Of the thread that runs now. */
struct vgg__host_place {
    struct vgg__host_dim thread, block, threads, blocks;
    uint32_t lane;
    uint64_t serial; /* of the block among all that have run, from 1 */
};
extern struct vgg__host_place vgg__host_now;

/* Wait for all living threads of the block. */
void vgg__host_barrier(const char *file, int line);

/* Wait until `threads` of the block wait at this barrier: 1 .. 15. */
void vgg__host_group_barrier(uint32_t number, uint32_t threads, const char *file,
                             int line);

/* Wait for the living lanes of `mask` in the own warp. */
void vgg__host_warp_barrier(uint32_t mask, const char *what);

/* Every lane of `mask` hands over `count` words and waits for the others; then
 * result[lane] are the words of each. They stay until the lane's second next exchange;
 * those of lanes that are not in the mask, or have ended, are poison. */
typedef uint32_t vgg__host_words[VGG__HOST_WORDS];
const vgg__host_words *vgg__host_exchange(uint32_t mask, const uint32_t *words,
                                          uint32_t count, const char *what);

/* The block's memory for a shared variable: the same for the same key. */
void *vgg__host_shared(const void *key, size_t size);
void *vgg__host_dynamic_shared(void);

/* The launch fails with this text. */
void vgg__host_fault_at(const char *site, const char *format, ...)
    __attribute__((noreturn, format(printf, 2, 3)));
#define vgg__host_fault(...) vgg__host_fault_at(VGG__SITE, __VA_ARGS__)

#ifdef __cplusplus
}
#endif

#endif
