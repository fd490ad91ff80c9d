/* SPDX-License-Identifier: Apache-2.0 */
/* The plugin on the simulated device says what a test wants to know of it. */
#include "simulated.h"

__attribute__((visibility("default"))) const char *simulated_fault(void);

const char *simulated_fault(void)
{
    const char *complaint = vgg__simulated_complaint();
    return complaint ? complaint : vgg__simulated_leak();
}

__attribute__((constructor)) static void begin(void)
{
    vgg__simulated.hurry = true;
}
