/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a caller's sized options struct, whichever release it was compiled against.
 *
 * The rule is the Linux kernel's copy_struct_from_user(): a smaller struct is filled
 * with zeros (an appended field's zero means the old behaviour), a larger one is taken
 * if its unknown tail is zero. */
#ifndef VGG_CORE_OPTIONS_H
#define VGG_CORE_OPTIONS_H

#include <vgg/common.h>

/* A struct's size when `last` was its last member, for `first_size`. */
#define VGG_SIZE_UP_TO(type, last) (offsetof(type, last) + sizeof(((type *)0)->last))

/* `out` holds the defaults, `size` bytes. `source` is the caller's struct, beginning
 * with its size_t size, or NULL for the defaults. `first_size` is the struct's size in
 * the first release that had it. `out`'s own size member is set to `size`. VGG_EINVAL:
 * a size below first_size or beyond reason (64 KiB); VGG_EUNSUPPORTED: a non-zero byte
 * in the unknown tail. `name` is for the text, for instance "vgg_plan_options". */
vgg_status vgg__options_read(const char *name, const void *source, size_t first_size,
                             void *out, size_t size);

/* The other way: fill a caller's struct, whose size member is set and stays, from a
 * whole one of `size` bytes. What an older caller's has no room for is left out, what a
 * newer one's has more stays as it is. VGG_EINVAL as above. */
vgg_status vgg__options_write(const char *name, const void *source, size_t size,
                              size_t first_size, void *out);

#endif
