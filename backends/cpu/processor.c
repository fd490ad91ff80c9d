/* SPDX-License-Identifier: Apache-2.0 */
/* Which table of kernels this processor runs, and what it is called. */
#include "cpu/kernels.h"

#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>

const struct vgg__kernels *vgg__kernels_choose(uint32_t most)
{
    __builtin_cpu_init();
    if (most >= VGG_ISA_AVX512 && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma"))
        return &vgg__kernels_avx512;
    if (most >= VGG_ISA_AVX2 && __builtin_cpu_supports("avx2") &&
        __builtin_cpu_supports("fma"))
        return &vgg__kernels_avx2;
    return &vgg__kernels_sse2;
}

void vgg__processor_name(char *text, size_t size)
{
    unsigned brand[13] = {0}, most = __get_cpuid_max(0x80000000, NULL);
    for (unsigned i = 0; i < 3 && most >= 0x80000004; i++)
        __get_cpuid(0x80000002 + i, &brand[4 * i], &brand[4 * i + 1], &brand[4 * i + 2],
                    &brand[4 * i + 3]);
    char name[sizeof(brand)];
    memcpy(name, brand, sizeof(brand));
    const char *begin = name + strspn(name, " ");
    size_t length = strlen(begin);
    while (length > 0 && begin[length - 1] == ' ') length--;
    snprintf(text, size, "%.*s", (int)length, begin);
    if (length == 0) snprintf(text, size, "x86-64");
}

#else

const struct vgg__kernels *vgg__kernels_choose(uint32_t most)
{
    (void)most;
    return &vgg__kernels_base;
}

void vgg__processor_name(char *text, size_t size)
{
    snprintf(text, size, "aarch64");
}

#endif

const char *vgg__isa_name(uint32_t isa)
{
#if defined(__x86_64__)
    static const char *const names[] = {"SSE2", "AVX2", "AVX-512"};
#else
    static const char *const names[] = {"NEON", "NEON", "NEON"};
#endif
    return names[isa];
}
