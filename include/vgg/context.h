/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file context.h
 * @brief What the library may use of its host: memory, threads, BLAS, plugins, a place
 * to log.
 *
 * Wherever a function takes a ::vgg_context, NULL means the default context: malloc, no
 * log, one thread a processor that the process may use. Two embedders in one process
 * stay apart by each having a context of its own.
 */
#ifndef VGG_CONTEXT_H
#define VGG_CONTEXT_H

#include <vgg/common.h>

VGG_BEGIN_DECLS

/**
 * A context. Thread-safety: safe, may be shared by any number of threads.
 *
 * After a fork() made while no other thread was in the library, the child can go on
 * with what its parent had open, on the calling thread alone, but for loaders that work
 * ahead. What it opens after giving that back has threads again.
 *
 * Who calls a function of the caller's: any thread, the library's own among them, those
 * of ::vgg_allocator and ::vgg_logger, and vgg_source.read; the thread that is within
 * vgg_trainer_fit() those of ::vgg_callbacks; whoever drops the last reference those
 * that release something.
 *
 * A thread must not be cancelled (pthread_cancel) within a call: locks would stay taken
 * and memory lost. A program that cancels threads turns that off around its calls
 * (pthread_setcancelstate).
 */
typedef struct vgg_context vgg_context;

/** Where memory comes from. Frozen layout. Both functions must be thread-safe. */
typedef struct vgg_allocator {
    void *cookie; /**< handed to both functions */
    /** Memory of `size` bytes aligned to `align` (a power of two), or NULL. */
    void *(*alloc)(void *cookie, size_t size, size_t align);
    /** Gives back what `alloc` returned; never called with NULL. */
    void (*release)(void *cookie, void *memory);
} vgg_allocator;

/** How much a log line matters. */
typedef enum vgg_log_level {
    VGG_LOG_DEBUG = 0,  /**< choices, timings */
    VGG_LOG_INFO = 1,   /**< events a user may want to know */
    VGG_LOG_WARNING = 2 /**< something works, but not as it should */
} vgg_log_level;

/** Where log lines go. Frozen layout. The function must be thread-safe. What a line
 *  is about may be locked meanwhile: it must not use the device, plan, loader or
 *  trainer of the call that it comes from, which would wait for it. */
typedef struct vgg_logger {
    void *cookie; /**< handed to the function */
    /** One line without newline. */
    void (*log)(void *cookie, vgg_log_level level, const char *line);
} vgg_logger;

/** Which matrix product the CPU engine calls. */
typedef enum vgg_gemm {
    VGG_GEMM_AUTO = 0,     /**< own with AVX2 or better, else OpenBLAS if it is there */
    VGG_GEMM_OPENBLAS = 1, /**< OpenBLAS; opening a device fails where there is none */
    VGG_GEMM_OWN = 2       /**< the library's own packed kernel */
} vgg_gemm;

/** How the CPU engine computes 3x3 convolutions. Algorithms differ in speed, and in
 *  rounding: F(4x4, 3x3) by about 2e-6 of a map's values on average, and single ones by
 *  up to 1.3e-5 of the largest, most of all in the gradient of the input. With Winograd
 *  an infinity or a NaN spreads over the tiles that see it (infinities become NaN), and
 *  so do values that are too large for its sums, from about a hundredth of FLT_MAX on;
 *  columns keep each where it is. Where the pixels of such a tile's window (4x4 or 6x6)
 *  are all the same, so are its outputs, to the last bit, and a maximum behind it sees
 *  a tie; where they are the same in part only, rounding may decide which of equal
 *  outputs is the maximum, and gets the gradient. */
typedef enum vgg_conv {
    VGG_CONV_AUTO = 0,      /**< what should be fastest, by the shape alone; a direct
                                 kernel for up to 4 input channels */
    VGG_CONV_COLUMNS = 1,   /**< one matrix product over the pixels' neighbourhoods:
                                 the plain sums, in the order of channels */
    VGG_CONV_WINOGRAD2 = 2, /**< Winograd's F(2x2, 3x3): 2.25 times fewer products */
    VGG_CONV_WINOGRAD4 = 3, /**< Winograd's F(4x4, 3x3): 4 times fewer products */
    VGG_CONV_MEASURED = 4   /**< a plan times them, for the forward and each gradient
                                 of every shape, and keeps the fastest: up to a second
                                 each, once for a device, shape, batch and mode. The
                                 machine should have nothing else to do.
                                 vgg_plan_describe() and the log (#VGG_LOG_INFO) tell
                                 what was taken; a shape that there is no memory to
                                 measure is treated as by #VGG_CONV_AUTO. Timings vary,
                                 and so may the last bits from one opening of a device
                                 to the next: the promise of the same bits does not
                                 hold, and deterministic plans are refused */
} vgg_conv;

/** What to do with an OpenBLAS that the host program itself has loaded. One that libvgg
 *  has loaded stays to the process' end, and with it the object that libvgg is part of,
 *  even when that is closed (dlclose). */
typedef enum vgg_blas_policy {
    VGG_BLAS_LEAVE = 0, /**< leave it alone: the own kernel, or an error if asked for */
    VGG_BLAS_TAKE = 1   /**< use it and hold it at one thread while a device is open */
} vgg_blas_policy;

/** Options of vgg_context_create(). Sized: start from #VGG_CONTEXT_OPTIONS_INIT. */
typedef struct vgg_context_options {
    size_t size;                    /**< sizeof(vgg_context_options) */
    const vgg_allocator *allocator; /**< copied; NULL: malloc and free */
    const vgg_logger *logger;       /**< copied; NULL: silent */
    uint64_t max_bytes;             /**< most bytes held at once; 0: no limit */
    uint32_t threads;       /**< 0: as many as affinity and cgroup quota allow */
    uint32_t gemm;          /**< a ::vgg_gemm */
    uint32_t blas;          /**< a ::vgg_blas_policy */
    uint32_t conv;          /**< a ::vgg_conv */
    const char *plugin_dir; /**< folder where engines that are plugins are looked for
                                 first, or a plugin's file; 1 to 1023 bytes; copied.
                                 NULL: only in the other folders that device.h names.
                                 What lies there is loaded as code of this process */
} vgg_context_options;

/** Defaults of ::vgg_context_options. */
#define VGG_CONTEXT_OPTIONS_INIT                                                       \
    {                                                                                  \
        sizeof(vgg_context_options), NULL, NULL, 0, 0, VGG_GEMM_AUTO, VGG_BLAS_LEAVE,  \
            VGG_CONV_AUTO, NULL                                                        \
    }

/**
 * Make a context. Threads are started when a device first needs them.
 *
 * @param opts NULL for the defaults.
 * @param out  the context, to be given to vgg_context_free(); NULL on failure.
 * @return VGG_OK, VGG_EINVAL (an option out of range; more than 1024 threads; a
 *         plugin_dir that is empty or too long), VGG_ENOMEM.
 */
VGG_API vgg_status vgg_context_create(const vgg_context_options *opts,
                                      vgg_context **out);

/** Give a context back. Its threads end with the last device opened in it, which its
 *  plans and trainers keep open; a loader's own thread ends with the loader. */
VGG_API void vgg_context_free(vgg_context *ctx);

/** Number of threads that work for a context, at least 1. Thread-safety: safe. */
VGG_API uint32_t vgg_context_threads(const vgg_context *ctx);

/** Bytes that objects of a context hold now. Thread-safety: safe. */
VGG_API uint64_t vgg_context_bytes(const vgg_context *ctx);

VGG_END_DECLS

#endif
