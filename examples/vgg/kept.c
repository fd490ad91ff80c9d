/* SPDX-License-Identifier: Apache-2.0 */
/* One state an image says whether it is there; whoever comes first puts it. */
#include "kept.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

enum { EMPTY, COMING, THERE };

struct kept {
    uint64_t count; /* of images that have a place */
    size_t bytes;   /* of each */
    uint8_t *images;
    atomic_uchar state[]; /* of each */
};

struct kept *kept_open(uint64_t count, size_t bytes, uint64_t *room)
{
    const uint64_t most = *room / (bytes + 1);
    if (count > most) count = most;
    if (count == 0) return NULL;
    struct kept *const kept = calloc(1, sizeof *kept + count);
    uint8_t *const images = malloc(count * bytes); /* pages come as they are written */
    if (!kept || !images) {
        free(kept);
        free(images);
        return NULL;
    }
    kept->count = count;
    kept->bytes = bytes;
    kept->images = images;
    *room -= count * (bytes + 1);
    return kept;
}

void kept_close(struct kept *kept)
{
    if (!kept) return;
    free(kept->images);
    free(kept);
}

bool kept_take(const struct kept *kept, uint64_t index, uint8_t *image)
{
    if (!kept || index >= kept->count) return false;
    if (atomic_load_explicit(&kept->state[index], memory_order_acquire) != THERE)
        return false;
    memcpy(image, kept->images + index * kept->bytes, kept->bytes);
    return true;
}

void kept_give(struct kept *kept, uint64_t index, const uint8_t *image)
{
    unsigned char empty = EMPTY;
    if (!kept || index >= kept->count) return;
    if (!atomic_compare_exchange_strong(&kept->state[index], &empty, COMING)) return;
    memcpy(kept->images + index * kept->bytes, image, kept->bytes);
    atomic_store_explicit(&kept->state[index], THERE, memory_order_release);
}
