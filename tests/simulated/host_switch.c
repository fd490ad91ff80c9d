/* SPDX-License-Identifier: Apache-2.0 */
#include "host_switch.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if !defined __x86_64__ && !defined VGG_HOST_UCONTEXT
#define VGG_HOST_UCONTEXT 1
#endif

#if VGG_HOST_UCONTEXT
#include <ucontext.h>
typedef ucontext_t context;
#else
typedef void *context; /* the stack pointer; the rest lies on the stack */
#endif

struct vgg__host_fiber {
    context context;
    uint8_t *stack; /* its lowest byte */
    void *shadow;   /* AddressSanitizer's */
};

static struct {
    struct vgg__host_fiber *fibers;
    size_t size; /* of a stack */
    context scheduler;
    void *shadow;
    const void *stack; /* of the scheduler */
    size_t stack_size;
} all;

/* ---- The switch ------------------------------------------------------------------ */

#if VGG_HOST_UCONTEXT

static void switch_context(context *from, context *to)
{
    swapcontext(from, to);
}

static void start_context(struct vgg__host_fiber *fiber, void (*entry)(void))
{
    getcontext(&fiber->context);
    fiber->context.uc_stack.ss_sp = fiber->stack;
    fiber->context.uc_stack.ss_size = all.size;
    fiber->context.uc_link = NULL;
    makecontext(&fiber->context, entry, 0);
}

#else

void vgg__host_switch(void **from, void *to);

__asm__(".pushsection .text\n"
        ".type vgg__host_switch, @function\n"
        ".hidden vgg__host_switch\n"
        ".globl vgg__host_switch\n"
        "vgg__host_switch:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size vgg__host_switch, . - vgg__host_switch\n"
        ".popsection\n");

static void switch_context(context *from, context *to)
{
    vgg__host_switch(from, *to);
}

/* Six registers, where to return to, and the return address of that, which makes the
 * stack lie as the ABI wants it on entry. Stacks begin at different places of a page,
 * so that they do not all compete for the same lines of the cache. */
static void start_context(struct vgg__host_fiber *fiber, void (*entry)(void))
{
    const size_t colour = (size_t)(fiber - all.fibers) % 61 * 64;
    void **const top = (void **)(fiber->stack + all.size - colour);
    for (int i = 1; i <= 8; i++) top[-i] = NULL;
    top[-2] = (void *)(uintptr_t)entry;
    fiber->context = top - 8;
}

#endif

/* ---- AddressSanitizer ------------------------------------------------------------ */

static void leave_to(void **shadow, const void *stack, size_t size)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(shadow, stack, size);
#endif
}

static void arrive(void *shadow, const void **stack, size_t *size)
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(shadow, stack, size);
#endif
}

/* ---- Fibers ---------------------------------------------------------------------- */

bool vgg__host_fibers_make(size_t count, size_t size)
{
    if (all.fibers != NULL) return true;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), step = size + page;
    struct vgg__host_fiber *const fibers = calloc(count, sizeof *fibers);
    if (fibers == NULL) return false;
    uint8_t *const memory = mmap(NULL, count * step, PROT_READ | PROT_WRITE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        free(fibers);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        mprotect(memory + i * step, page, PROT_NONE);
        fibers[i].stack = memory + i * step + page;
    }
    all.fibers = fibers;
    all.size = size;
    return true;
}

static void (*first_entry)(void);

static void begin(void)
{
    arrive(NULL, &all.stack, &all.stack_size);
    first_entry();
}

struct vgg__host_fiber *vgg__host_fiber_start(size_t which, void (*entry)(void))
{
    struct vgg__host_fiber *const fiber = &all.fibers[which];
    first_entry = entry;
    fiber->shadow = NULL;
    start_context(fiber, begin);
    return fiber;
}

void vgg__host_fiber_resume(struct vgg__host_fiber *fiber)
{
    leave_to(&all.shadow, fiber->stack, all.size);
    switch_context(&all.scheduler, &fiber->context);
    arrive(all.shadow, NULL, NULL);
}

void vgg__host_fiber_pause(struct vgg__host_fiber *fiber)
{
    leave_to(&fiber->shadow, all.stack, all.stack_size);
    switch_context(&fiber->context, &all.scheduler);
    arrive(fiber->shadow, &all.stack, &all.stack_size);
}

void vgg__host_fiber_end(struct vgg__host_fiber *fiber)
{
    leave_to(NULL, all.stack, all.stack_size);
    switch_context(&fiber->context, &all.scheduler);
    __builtin_unreachable();
}

void vgg__host_fiber_drop(struct vgg__host_fiber *fiber)
{
#ifdef __SANITIZE_ADDRESS__
    __asan_unpoison_memory_region(fiber->stack, all.size);
#endif
}
