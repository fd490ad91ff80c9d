/* SPDX-License-Identifier: Apache-2.0 */
/* Sorting in place without memory of its own (the C library's qsort() takes some), in
 * O(n log n) also for hostile orders. Not stable. */
#ifndef VGG_CORE_SORT_H
#define VGG_CORE_SORT_H

#include <stddef.h>

/* `count` elements of `size` bytes (at most 128); compare() as for qsort(). */
void vgg__sort(void *base, size_t count, size_t size,
               int (*compare)(const void *a, const void *b));

#endif
