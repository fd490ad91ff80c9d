/* SPDX-License-Identifier: Apache-2.0 */
/* An allocator with 1 KiB of known bytes before and after every block; giving back a
 * block whose guards were touched fails the running test. */
#ifndef VGG_TEST_GUARD_H
#define VGG_TEST_GUARD_H

#include <vgg/context.h>

/* Its cookie is unused. */
extern const vgg_allocator guard_allocator;

/* The same for a test's own arrays: zeroed, `count` elements of `size` bytes. */
void *guard_array(size_t count, size_t size);
void guard_free(void *array);

#endif
