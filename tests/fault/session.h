/* SPDX-License-Identifier: Apache-2.0 */
/* Everything that a program does with the library, once: the tests around it look at
 * what that costs and what it leaves. */
#ifndef VGG_FAULT_SESSION_H
#define VGG_FAULT_SESSION_H

#include "feed.h"

/* On a device: list devices, build, train two epochs with a test loader that works
 * ahead, evaluate, save and load weights and a checkpoint in `dir`. Everything is given
 * back whatever happens; what the weights came to is in `digest`. */
vgg_status session_run(vgg_context *ctx, const char *device, const char *dir,
                       uint64_t *digest);

#endif
