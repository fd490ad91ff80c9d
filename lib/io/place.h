/* SPDX-License-Identifier: Apache-2.0 */
/* Parts that atomic.c and folder.c share: see atomic.h. */
#ifndef VGG_IO_PLACE_H
#define VGG_IO_PLACE_H

#include "io/atomic.h"

/* Open the parent and make up the names. VGG_EINVAL, VGG_EIO. Close it also on
 * failure. */
vgg_status vgg__place_open(struct vgg__place *place, const char *path);
void vgg__place_close(struct vgg__place *place);

/* VGG_EIO with errno's text. */
vgg_status vgg__place_fail(const struct vgg__place *place, const char *what);

/* Is the folder's entry `name` what `fd` has open? */
bool vgg__place_holds(int folder, const char *name, int fd);

/* Make, open and lock a new file or folder with a temporary name. What replaces another
 * has no permissions that that has not, but may be written by its owner; owner and
 * group are those of anything new. */
vgg_status vgg__place_create(struct vgg__place *place, bool folder, int *fd);

/* Give what is open exactly these permissions; a file system without any goes without.
 * VGG_EIO. */
vgg_status vgg__place_give_mode(const struct vgg__place *place, int fd, mode_t mode);

/* Remove what has the temporary name. */
void vgg__place_discard(struct vgg__place *place, bool folder);

/* Remove the leftovers of dead processes: what has exactly a temporary name of this
 * place, is this user's, is not locked, and is a file, or a folder with nothing but
 * known files. Anything else stays. */
void vgg__place_clean(const struct vgg__place *place);

/* Flush the parent to disk. */
vgg_status vgg__place_sync(const struct vgg__place *place);

#endif
