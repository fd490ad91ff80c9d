/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin on the simulated device says what a test wants to know of it, and has as
 * much memory as a test wants. */
#include "simulated.h"

__attribute__((visibility("default"))) const char *simulated_fault(void);
__attribute__((visibility("default"))) void simulated_memory(uint64_t bytes);

const char *simulated_fault(void)
{
    const char *complaint = vgg__simulated_complaint();
    return complaint ? complaint : vgg__simulated_leak();
}

/* 0: what the device has. */
void simulated_memory(uint64_t bytes)
{
    vgg__simulated.memory = bytes;
}

__attribute__((constructor)) static void begin(void)
{
    vgg__simulated.hurry = true;
}
