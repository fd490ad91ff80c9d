/* SPDX-License-Identifier: Apache-2.0 */
/* Heapsort: see sort.h. */
#include "core/sort.h"

#include <string.h>

#define LARGEST 128 /* bytes of an element */

static void swap(char *a, char *b, size_t size)
{
    char t[LARGEST];
    memcpy(t, a, size);
    memcpy(a, b, size);
    memcpy(b, t, size);
}

void vgg__sort(void *base, size_t count, size_t size,
               int (*compare)(const void *a, const void *b))
{
    char *p = base;
    /* Below `start` nothing is a heap yet; from `end` on all is sorted. */
    for (size_t start = count / 2, end = count; end > 1;) {
        if (start > 0)
            start--;
        else
            swap(p, p + --end * size, size);
        for (size_t root = start, child; (child = 2 * root + 1) < end; root = child) {
            if (child + 1 < end &&
                compare(p + child * size, p + (child + 1) * size) < 0)
                child++;
            if (compare(p + root * size, p + child * size) >= 0) break;
            swap(p + root * size, p + child * size, size);
        }
    }
}
