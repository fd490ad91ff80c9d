/* SPDX-License-Identifier: Apache-2.0 */
/* Seconds of a clock that never goes back. Results never depend on it. */
#ifndef VGG_LIB_CLOCK_H
#define VGG_LIB_CLOCK_H

#include <time.h>

static inline double vgg__seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

#endif
