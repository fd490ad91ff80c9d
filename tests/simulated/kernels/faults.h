/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels that do what is forbidden, each in its own way; and some that may do what
 * they do. */
#ifndef VGG_TEST_FAULTS_H
#define VGG_TEST_FAULTS_H

#include "cudnn/kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum fault {
    /* allowed */
    FAULT_NONE,
    FAULT_EARLY_RETURN, /* who has ended is not waited for */
    FAULT_COLLECTIVES,  /* every shuffle and vote against its definition */
    FAULT_HALF_WARPS,   /* each half of a warp on its own */
    FAULT_STALE_SHARED, /* reads shared memory that nobody wrote: a NaN */
    /* refused */
    FAULT_BARRIER_MISSED, /* one thread waits elsewhere */
    FAULT_WARP_MISSED,    /* one lane does not come to a shuffle */
    FAULT_WARP_MASKS,     /* lanes come with different masks */
    FAULT_NOT_IN_MASK,
    FAULT_WARP_AND_BLOCK, /* half of the warp waits for the block */
    FAULT_SHARED_OVERRUN,
    FAULT_DYNAMIC_OVERRUN,
    FAULT_TOO_MUCH_SHARED,
    FAULT_NO_DYNAMIC, /* uses dynamic shared memory that it was not given */
    FAULT_MISALIGNED,
    FAULT_TRAP,
    FAULT_MANY_VARIABLES,
    FAULT_GROUP_BARRIER, /* of a number that hardware does not have */
    FAULT_WIDE_EXCHANGE,
    FAULTS
};

struct fault_args {
    enum fault fault;
    float *out; /* [blocks][256] */
};

extern const struct vgg__kernel fault_kernel; /* 256 threads, 64 bytes of dynamic */

/* Every thread writes what its neighbour reads; with `race`, without a barrier. */
struct race_args {
    uint32_t race;
    float *out;
};
extern const struct vgg__kernel race_kernel;

#ifdef __cplusplus
}
#endif

#endif
