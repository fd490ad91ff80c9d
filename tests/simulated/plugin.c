/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin on the simulated device says what a test wants to know of it, and is what
 * a test wants it to be. */
#include "inside.h"

#define SHOWN __attribute__((visibility("default")))

SHOWN const char *simulated_fault(void);
SHOWN void simulated_memory(uint64_t bytes);
SHOWN void simulated_leave(uint64_t bytes);
SHOWN void simulated_missing(const char *reason);
SHOWN const char *simulated_trap(const char *call);

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

/* As much as is in use now, and so many bytes more. */
void simulated_leave(uint64_t bytes)
{
    vgg__simulated.memory = sim_memory_used(0) + bytes;
}

/* A library that can't be had, for this reason; NULL: none. */
void simulated_missing(const char *reason)
{
    vgg__simulated.missing = reason;
}

/* The next of these calls fails; the one that has failed since the last time, NULL if
 * none has. */
const char *simulated_trap(const char *call)
{
    const char *failed = vgg__simulated.failed;
    vgg__simulated.failed = NULL;
    vgg__simulated.fail_name = call;
    vgg__simulated.fail_call = call ? 1 : 0;
    vgg__simulated.fail_error = cudaErrorInvalidValue;
    return failed;
}

__attribute__((constructor)) static void begin(void)
{
    vgg__simulated.hurry = true;
}
