/* SPDX-License-Identifier: Apache-2.0 */
/* The entries of a folder of known files, so that nothing of others is taken for it. */
#ifndef VGG_IO_ENTRIES_H
#define VGG_IO_ENTRIES_H

#include "io/atomic.h"

/* Is every entry known, and the first name among them, or is there none? The name of an
 * entry that is not known goes to `foreign`, else "". Takes `fd`. 0 or errno. */
int vgg__entries_check(const struct vgg__names *known, int fd, bool *whole,
                       char foreign[VGG_FILE_NAME_SIZE]);

/* Remove the known files of a folder and then the folder; false if it is still there.
 * The first name goes last: a folder that is half removed has it, or is empty. */
bool vgg__entries_remove(const struct vgg__names *known, int parent, const char *name);

#endif
