/* SPDX-License-Identifier: Apache-2.0 */
/* The stand-in driver; see driver.h.
 *
 * Functions name the arguments that they look at; callers pass CUDA's, which are more.
 * cuDNN takes a driver only if it finds all of the names at the end. None of those is
 * called on the way to a plan, and one that is called fails. */
#include "driver.h"

#include <elf.h>
#include <string.h>

#define VERSION      13000 /* of CUDA */
#define MACHINE_CUDA 190   /* e_machine of a GPU's code */

enum result { /* of cuda.h, as far as needed */
              SUCCESS = 0,
              STUB_LIBRARY = 34,
              NO_DEVICE = 100,
              NO_BINARY_FOR_GPU = 209,
              INVALID_HANDLE = 400
};

static struct driver_seen seen;
static bool refuses;
static char library, kernel; /* things to point to */

struct driver_seen driver_seen(void)
{
    return seen;
}

void driver_refuse(bool refuse)
{
    refuses = refuse;
}

/* ---- What is called -------------------------------------------------------------- */

/* The flags of a GPU's machine code: since ABI 8 the architecture stands in the second
 * byte, before that in the first. */
static uint32_t architecture_of(const void *code)
{
    Elf64_Ehdr header;
    memcpy(&header, code, sizeof header);
    if (memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
        header.e_machine != MACHINE_CUDA)
        return 0;
    return header.e_flags >> (header.e_ident[EI_ABIVERSION] >= 8 ? 8 : 0) & 0xff;
}

int cuLibraryLoadData(void **out, const void *code)
{
    seen.loads++;
    seen.architecture = architecture_of(code);
    *out = &library;
    return refuses ? NO_BINARY_FOR_GPU : SUCCESS;
}

int cuLibraryUnload(const void *given)
{
    return given == &library ? SUCCESS : INVALID_HANDLE;
}

int cuLibraryGetKernel(void **out, const void *given)
{
    *out = &kernel;
    return given == &library ? SUCCESS : INVALID_HANDLE;
}

int cuDriverGetVersion(int *version)
{
    *version = VERSION;
    return SUCCESS;
}

int cuInit(unsigned flags)
{
    (void)flags;
    return NO_DEVICE;
}

/* cuDNN loads what it has compiled only where there is a device. */
int cuDeviceGetCount(int *count)
{
    *count = 1;
    return SUCCESS;
}

int cuGetErrorString(int error, const char **text)
{
    (void)error;
    *text = "the stand-in driver does not do this";
    return SUCCESS;
}

/* ---- What is looked for ---------------------------------------------------------- */

static int refuse(void)
{
    return STUB_LIBRARY;
}

int cuCtxGetCurrent(void) __attribute__((alias("refuse")));
int cuCtxGetDevice(void) __attribute__((alias("refuse")));
int cuCtxGetLimit(void) __attribute__((alias("refuse")));
int cuCtxPopCurrent(void) __attribute__((alias("refuse")));
int cuCtxPushCurrent(void) __attribute__((alias("refuse")));
int cuDeviceGet(void) __attribute__((alias("refuse")));
int cuDeviceGetAttribute(void) __attribute__((alias("refuse")));
int cuDevicePrimaryCtxRelease(void) __attribute__((alias("refuse")));
int cuDevicePrimaryCtxReset(void) __attribute__((alias("refuse")));
int cuDevicePrimaryCtxRetain(void) __attribute__((alias("refuse")));
int cuFuncGetAttribute(void) __attribute__((alias("refuse")));
int cuFuncSetAttribute(void) __attribute__((alias("refuse")));
int cuGetErrorName(void) __attribute__((alias("refuse")));
int cuGetExportTable(void) __attribute__((alias("refuse")));
int cuGetProcAddress_v2(void) __attribute__((alias("refuse")));
int cuKernelGetAttribute(void) __attribute__((alias("refuse")));
int cuKernelSetAttribute(void) __attribute__((alias("refuse")));
int cuLaunchCooperativeKernel(void) __attribute__((alias("refuse")));
int cuLaunchKernel(void) __attribute__((alias("refuse")));
int cuLaunchKernelEx(void) __attribute__((alias("refuse")));
int cuLibraryLoadFromFile(void) __attribute__((alias("refuse")));
int cuLinkAddData(void) __attribute__((alias("refuse")));
int cuLinkAddData_v2(void) __attribute__((alias("refuse")));
int cuLinkAddFile_v2(void) __attribute__((alias("refuse")));
int cuLinkComplete(void) __attribute__((alias("refuse")));
int cuLinkCreate(void) __attribute__((alias("refuse")));
int cuLinkCreate_v2(void) __attribute__((alias("refuse")));
int cuLinkDestroy(void) __attribute__((alias("refuse")));
int cuMemcpyDtoH_v2(void) __attribute__((alias("refuse")));
int cuModuleGetFunction(void) __attribute__((alias("refuse")));
int cuModuleGetGlobal_v2(void) __attribute__((alias("refuse")));
int cuModuleLoadData(void) __attribute__((alias("refuse")));
int cuModuleLoadDataEx(void) __attribute__((alias("refuse")));
int cuModuleLoadFatBinary(void) __attribute__((alias("refuse")));
int cuModuleUnload(void) __attribute__((alias("refuse")));
int cuOccupancyMaxActiveBlocksPerMultiprocessor(void) __attribute__((alias("refuse")));
int cuOccupancyMaxPotentialClusterSize(void) __attribute__((alias("refuse")));
int cuStreamGetCtx(void) __attribute__((alias("refuse")));
int cuStreamSynchronize(void) __attribute__((alias("refuse")));
int cuTensorMapEncodeTiled(void) __attribute__((alias("refuse")));
