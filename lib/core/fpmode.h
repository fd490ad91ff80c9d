/* SPDX-License-Identifier: Apache-2.0 */
/* The floating-point mode of the calling thread: results must not depend on a host that
 * rounds up or flushes denormals, and the host must find its mode as it left it. */
#ifndef VGG_CORE_FPMODE_H
#define VGG_CORE_FPMODE_H

#include <stdint.h>

#if defined(__SSE__)
#include <xmmintrin.h>

/* Round to nearest, no trap, denormals kept. Returns what was set before. */
static inline uint64_t vgg__fpmode_enter(void)
{
    const uint64_t before = _mm_getcsr();
    _mm_setcsr(0x1f80);
    return before;
}

static inline void vgg__fpmode_leave(uint64_t before)
{
    _mm_setcsr((unsigned)before);
}

#elif defined(__aarch64__)

static inline uint64_t vgg__fpmode_enter(void)
{
    uint64_t before;
    __asm__ volatile("mrs %0, fpcr" : "=r"(before));
    __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0));
    return before;
}

static inline void vgg__fpmode_leave(uint64_t before)
{
    __asm__ volatile("msr fpcr, %0" : : "r"(before));
}

#else
#error "libvgg supports x86-64 and aarch64"
#endif

#endif
