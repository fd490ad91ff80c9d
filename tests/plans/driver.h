/* SPDX-License-Identifier: Apache-2.0 */
/* A stand-in for the NVIDIA driver, by the name that cuDNN opens it (libcuda.so.1).
 *
 * It takes the code that cuDNN's run-time compiled engines have made, so that their
 * plans are finalised as on a GPU's machine, and looks what GPU it is for. Nothing can
 * be run, and the CUDA runtime finds no device. A process has one, and one thread. */
#ifndef PLANS_DRIVER_H
#define PLANS_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

struct driver_seen {
    uint32_t loads;        /* pieces of code that cuDNN wanted loaded */
    uint32_t architecture; /* of the last: 90 for 9.0; 0: it is not a GPU's */
};
struct driver_seen driver_seen(void);

/* From now on loading fails (or works again). */
void driver_refuse(bool refuse);

/* As cuDNN calls them; 0: done. */
int cuLibraryLoadData(void **out, const void *code);
int cuLibraryUnload(const void *given);
int cuLibraryGetKernel(void **out, const void *given);
int cuDriverGetVersion(int *version);
int cuInit(unsigned flags);
int cuDeviceGetCount(int *count);
int cuGetErrorString(int error, const char **text);

#endif
