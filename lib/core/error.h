/* SPDX-License-Identifier: Apache-2.0 */
/* The thread's last error, and the macros that set it.
 *
 * A failure is reported once, where it is found: vgg__fail() stores the text and
 * returns the status, callers pass the status on (VGG_TRY) without replacing the
 * text. */
#ifndef VGG_CORE_ERROR_H
#define VGG_CORE_ERROR_H

#include <vgg/common.h>

#define VGG_ERROR_SIZE 512 /* bytes of the text, with its final zero */

/* Store a printf-formatted line and return `status`. Bytes that are not printable ASCII
 * or valid UTF-8 are escaped (\x1b), a line that is too long is cut with "...".
 * vgg_last_error() may be among the arguments: the text is made before it is stored. */
vgg_status vgg__fail(vgg_status status, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The same with ": <text of errnum>" appended. */
vgg_status vgg__fail_errno(vgg_status status, int errnum, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The last error, kept over what may fail without a failure of the whole: a public call
 * that succeeds leaves it as it was. */
struct vgg__error {
    char text[VGG_ERROR_SIZE];
};

void vgg__error_keep(struct vgg__error *kept);
void vgg__error_restore(const struct vgg__error *kept);

/* Return from the calling function if a call failed. */
#define VGG_TRY(call)                                                                  \
    do {                                                                               \
        const vgg_status status_ = (call);                                             \
        if (status_ != VGG_OK) return status_;                                         \
    } while (0)

/* Refuse a call whose arguments are wrong; the text names function and condition. */
#define VGG_REQUIRE(condition)                                                         \
    do {                                                                               \
        if (!(condition))                                                              \
            return vgg__fail(VGG_EINVAL, "%s: needs %s", __func__, #condition);        \
    } while (0)

#endif
