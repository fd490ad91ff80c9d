/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU engine: its device, and what its rooms call of each other.
 *
 * All work of a device goes through one stream in the order of the calls, so nothing of
 * one program overtakes another. A second stream is beside it: within a backward it
 * forks off and joins, and it carries what a run is told (samples, labels) and answers
 * (the loss), which the host waits for by an event of the program's own.
 * Entries of the engine hold the device's lock while they queue work, make its GPU the
 * thread's current one and put the caller's back (vgg__cudnn_enter, _leave); what runs
 * inside expects that. Waiting is done with the lock held too: one thread at a time
 * talks to a device.
 *
 * A CUDA error that means that the device's state is gone marks the device as lost:
 * everything on it fails from then on, and CUDA gives a process no second start. */
#ifndef VGG_CUDNN_CUDNN_H
#define VGG_CUDNN_CUDNN_H

#include <pthread.h>

#include "common/program.h"
#include "cudnn/api.h"
#include "cudnn/kernels/conv_mma.h"

/* Work space of cuDNN and cuBLASLt, shared by everything on the stream. */
#define VGG__WORKSPACE ((size_t)64 << 20)
/* Staging between host and device, one piece; there are two. */
#define VGG__PIECE  ((size_t)8 << 20)
#define VGG__PIECES 2

struct vgg__cudnn {
    struct vgg__machine machine; /* first: the toolkit's view of the device */
    const struct vgg__api *api;
    int ordinal;                     /* as CUDA counts */
    int capability;                  /* 90 for 9.0 */
    struct vgg__conv_mma_device mma; /* what the engine's own convolutions must know */
    bool groups_tried;               /* products of warp groups, on a small layer */
    char text[256];
    pthread_mutex_t lock;
    int before; /* the caller's current device, while the lock is held */
    bool lost;
    bool opened; /* memory that is short is the batch's fault, not the device's */
    cudaStream_t stream, capture; /* `capture` is where graphs are recorded */
    /* Beside it: gradients of weights within a backward, samples, labels, the loss. */
    cudaStream_t side;
    cudaEvent_t fork, join;
    cudnnHandle_t dnn;
    cublasLtHandle_t lt;
    void *workspace, *side_workspace;
    /* Pieces: pinned on the host, and their counterparts on the device. */
    size_t piece; /* bytes */
    void *host_piece[VGG__PIECES], *device_piece[VGG__PIECES];
    cudaEvent_t piece_free[VGG__PIECES];
    cudaEvent_t begin, end; /* for timing */
};

/* ---- errors.c -------------------------------------------------------------------- */

/* What to do about libraries that do not work with the driver or the GPU. */
#define VGG__UPDATE "update the driver, cuDNN and cuBLASLt, which do not fit together"
/* And about a failure of what has worked. */
#define VGG__AGAIN                                                                     \
    "start the process again; if it stays so, update the driver and the library"

/* A CUDA call's result as a status; `what` is what was tried ("copy weights"). A launch
 * may also find that there is no code for the GPU. */
vgg_status vgg__cudnn_check(struct vgg__cudnn *device, cudaError_t error,
                            const char *what);
vgg_status vgg__cudnn_check_launch(struct vgg__cudnn *device, cudaError_t error,
                                   const char *kernel);

/* The same of the libraries, which have refused `what`; `remedy`: what to do. */
vgg_status vgg__cudnn_dnn_failed(struct vgg__cudnn *device, const char *what,
                                 cudnnStatus_t status, const char *remedy);
vgg_status vgg__cudnn_lt_failed(struct vgg__cudnn *device, const char *what,
                                cublasStatus_t status, const char *remedy);

/* Memory is short: the status, and what to do. A device that has too little to be
 * opened is one that can't be had. */
vgg_status vgg__cudnn_full(const struct vgg__cudnn *device, const char **remedy);

/* The answer to every call after the device was lost. */
vgg_status vgg__cudnn_lost(struct vgg__cudnn *device);

/* ---- cuda.c ---------------------------------------------------------------------- */

/* Lock, current device; VGG_EDEVICE where the device is lost. Every success needs a
 * leave(). */
vgg_status vgg__cudnn_enter(struct vgg__cudnn *device);
void vgg__cudnn_leave(struct vgg__cudnn *device);

/* The same for giving back, where a lost device is no reason to keep anything. */
void vgg__cudnn_enter_anyway(struct vgg__cudnn *device);

/* Device memory, not cleared. VGG_ENOMEM (while the device opens: VGG_EDEVICE) says how
 * much was asked and is there. */
vgg_status vgg__cudnn_malloc(struct vgg__cudnn *device, size_t size, void **out);
void vgg__cudnn_free(struct vgg__cudnn *device, void *memory);

/* Host memory that the GPU reads and writes by itself; mallocHost's counterpart. */
vgg_status vgg__cudnn_pin(struct vgg__cudnn *device, size_t size, void **out);

/* Copy host memory of any kind and size to the device, and wait. */
vgg_status vgg__cudnn_upload(struct vgg__cudnn *device, void *to, const void *from,
                             size_t size);

/* Parts of one piece of memory begin on multiples of 256. Saturates. */
static inline size_t vgg__cudnn_round_up(size_t size)
{
    return size > SIZE_MAX - 255 ? SIZE_MAX : (size + 255) / 256 * 256;
}

/* Wait for all that was queued on the device's stream. */
vgg_status vgg__cudnn_wait(struct vgg__cudnn *device);

/* Before something is given back: nothing runs any more, whatever state it is in. */
void vgg__cudnn_finish(struct vgg__cudnn *device);

/* Queue a kernel on `stream` of the device; `shared`: dynamic bytes. */
vgg_status vgg__cudnn_launch(struct vgg__cudnn *device, cudaStream_t stream,
                             const struct vgg__kernel *kernel, struct vgg__grid grid,
                             size_t shared, const void *args);

/* From here on the side queue goes on beside `stream`; and `stream` waits for it. */
vgg_status vgg__cudnn_fork(struct vgg__cudnn *device, cudaStream_t stream);
vgg_status vgg__cudnn_join(struct vgg__cudnn *device, cudaStream_t stream);

/* Microseconds of what `queue` puts on the device's stream, the mean of several runs,
 * in whole nanoseconds, as choices are kept; negative: it fails. */
float vgg__cudnn_time(struct vgg__cudnn *device,
                      vgg_status (*queue)(const void *cookie), const void *cookie);

/* The work space of a queue. */
static inline void *vgg__cudnn_workspace(const struct vgg__cudnn *device,
                                         cudaStream_t stream)
{
    return stream == device->side ? device->side_workspace : device->workspace;
}

/* Make pieces hold at least `size` bytes; give them back when nothing runs any more. */
vgg_status vgg__cudnn_grow_pieces(struct vgg__cudnn *device, size_t size);
void vgg__cudnn_free_pieces(struct vgg__cudnn *device);

/* ---- try.c, try_groups.c --------------------------------------------------------- */

/* A kernel, a product and a convolution that must come out right. */
vgg_status vgg__cudnn_try(struct vgg__cudnn *device);
/* The engine's products of warp groups, before the first that is to be timed. Where
 * they come out wrong, or can't be run, the device goes on without them, with a
 * warning; an error is one that loses it. */
vgg_status vgg__cudnn_try_groups(struct vgg__cudnn *device);

/* ---- data.c, store.c ------------------------------------------------------------- */

vgg_status vgg__cudnn_data_create(void *device, const vgg_data_desc *desc, void **data);
void vgg__cudnn_data_free(void *data);

vgg_status vgg__cudnn_store_create(void *device, const vgg_param_desc *params,
                                   uint32_t count, uint32_t precision, void **store);
void vgg__cudnn_store_free(void *store);
vgg_status vgg__cudnn_store_gradients(void *store, const vgg_param_desc *params);
vgg_status vgg__cudnn_store_read(void *store, uint32_t param, vgg_slot slot, void *out,
                                 vgg_dtype dtype);
vgg_status vgg__cudnn_store_write(void *store, uint32_t param, vgg_slot slot,
                                  const void *in, vgg_dtype dtype);
vgg_status vgg__cudnn_store_zero_gradients(void *store);
vgg_status vgg__cudnn_store_gradient_norm2(void *store, double *out);
vgg_status vgg__cudnn_store_scale_gradients(void *store, double factor);
vgg_status vgg__cudnn_store_update(void *store, const vgg_update *update);

/* ---- program.c ------------------------------------------------------------------- */

bool vgg__cudnn_supports(void *device, const vgg_stage *stage, uint32_t precision,
                         const char **why);
vgg_status vgg__cudnn_measure(void *device, const vgg_program_desc *desc,
                              uint64_t *bytes);
vgg_status vgg__cudnn_compile(void *device, void *store, const vgg_program_desc *desc,
                              void **program);
void vgg__cudnn_program_free(void *program);
vgg_status vgg__cudnn_run(void *program, vgg_phase phase, const vgg_run *run);
vgg_status vgg__cudnn_read(void *program, vgg_view view, uint32_t index, void *out,
                           vgg_dtype dtype);
void vgg__cudnn_describe(void *program, uint32_t stage, char *text, size_t size);

#endif
