/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file common.h
 * @brief What every header needs: linkage, status codes, the last error.
 *
 * Conventions of the whole interface:
 *  - A function that can fail returns a ::vgg_status; its outputs come last. Objects
 *    and numbers that it gives are NULL or zero after a failure; what a buffer or
 *    tensor of the caller's holds then is undefined.
 *  - A pointer that a function *returns* is borrowed from the object it was asked of
 *    (but vgg_build()'s and vgg_tensor_ref()'s, which are the caller's); a pointer
 *    stored *through an out-parameter* belongs to the caller.
 *  - Functions named `_free` take NULL and do nothing with it.
 *  - Options are structs whose first member is their size, set by a `VGG_..._INIT`
 *    macro; NULL means the defaults.
 *  - Objects keep what they need alive: a model, device or context may be freed before
 *    the plans, loaders and trainers made from it.
 *  - The library never exits, aborts or prints, and leaves signals, locale, environment
 *    and floating-point mode of its host as they were.
 */
#ifndef VGG_COMMON_H
#define VGG_COMMON_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define VGG_BEGIN_DECLS extern "C" {
#define VGG_END_DECLS   }
#else
#define VGG_BEGIN_DECLS /**< opens a block of C declarations in C++ */
#define VGG_END_DECLS   /**< closes it */
#endif

#if defined(__GNUC__)
#define VGG_API __attribute__((visibility("default"))) /**< an exported function */
#else
#define VGG_API
#endif

VGG_BEGIN_DECLS

/** All failures: X(name, value, text). See #VGG_STATUS_MAP. */
#define VGG_FAILURE_MAP(X)                                                             \
    X(VGG_EINVAL, -1, "invalid argument")                                              \
    X(VGG_ENOMEM, -2, "out of memory")                                                 \
    X(VGG_ESHAPE, -3, "shapes do not fit")                                             \
    X(VGG_EUNSUPPORTED, -4, "not supported")                                           \
    X(VGG_EDEVICE, -5, "device or engine failed")                                      \
    X(VGG_EIO, -6, "input or output failed")                                           \
    X(VGG_EFORMAT, -7, "malformed file")                                               \
    X(VGG_ETRUNCATED, -8, "file ends early")                                           \
    X(VGG_ELIMIT, -9, "over a limit")                                                  \
    X(VGG_EMISMATCH, -10, "valid, but does not fit")                                   \
    X(VGG_ECHECKSUM, -11, "checksum differs")                                          \
    X(VGG_ESTATE, -12, "not possible in this state")                                   \
    X(VGG_ECANCELED, -13, "canceled")                                                  \
    X(VGG_ENONFINITE, -14, "not a finite number")

/**
 * All status codes: X(name, value, text). Zero is success, failures are negative,
 * and the numbers never change; new ones may be added.
 */
#define VGG_STATUS_MAP(X) X(VGG_OK, 0, "success") VGG_FAILURE_MAP(X)

/** Outcome of a call; see #VGG_STATUS_MAP for the list. */
typedef enum vgg_status {
    VGG_OK = 0 /**< success */
#define VGG_STATUS_ENUM(name, value, text) , name = value
    VGG_FAILURE_MAP(VGG_STATUS_ENUM)
#undef VGG_STATUS_ENUM
} vgg_status;

/**
 * Name of a status code, for instance "VGG_EINVAL".
 *
 * @return a constant string, "VGG_?" for an unknown code. Thread-safety: safe.
 */
VGG_API const char *vgg_status_name(vgg_status status);

/**
 * Meaning of a status code in a few words, for instance "invalid argument".
 *
 * @return a constant string. Thread-safety: safe.
 */
VGG_API const char *vgg_status_text(vgg_status status);

/**
 * What the last failing call of this thread found: one printable line that says what
 * was expected and what was found, without a newline, at most 511 bytes.
 *
 * A call that succeeds leaves it as it was.
 *
 * @return the thread's own text, valid until its next failing call; "" if none failed.
 */
VGG_API const char *vgg_last_error(void);

VGG_END_DECLS

#endif
