/* SPDX-License-Identifier: Apache-2.0 */
/* One save at a time to a place, of this process or another: see lock.c. */
#ifndef VGG_IO_LOCK_H
#define VGG_IO_LOCK_H

#include "io/place.h"

/* Wait for the place's lock, but not for ever. VGG_EIO: another has it, or no file can
 * be made there; VGG_EMISMATCH: its name is someone else's. */
vgg_status vgg__lock_take(struct vgg__place *place);

/* Give it back; nothing is left of it. Does nothing where none was taken. */
void vgg__lock_release(struct vgg__place *place);

#endif
