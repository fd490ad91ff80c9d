/* SPDX-License-Identifier: Apache-2.0 */
/* Fibers: several stacks, of which one runs. On x86-64 a switch saves the registers
 * that a call keeps, and no more; elsewhere it is swapcontext(). AddressSanitizer is
 * told. */
#ifndef VGG_TEST_HOST_SWITCH_H
#define VGG_TEST_HOST_SWITCH_H

#include <stdbool.h>
#include <stddef.h>

struct vgg__host_fiber;

/* `count` stacks of `size` bytes, each with a page below it that nobody may touch; they
 * stay until the process ends. False: no memory. */
bool vgg__host_fibers_make(size_t count, size_t size);

/* Stack number `which`, made ready to run entry(). */
struct vgg__host_fiber *vgg__host_fiber_start(size_t which, void (*entry)(void));

/* From the scheduler: run it until it pauses or ends. */
void vgg__host_fiber_resume(struct vgg__host_fiber *fiber);

/* From a fiber: back to the scheduler; returns when resumed. */
void vgg__host_fiber_pause(struct vgg__host_fiber *fiber);

/* From a fiber: back to the scheduler for ever. */
__attribute__((noreturn)) void vgg__host_fiber_end(struct vgg__host_fiber *fiber);

/* From the scheduler: the fiber will not be resumed. */
void vgg__host_fiber_drop(struct vgg__host_fiber *fiber);

#endif
