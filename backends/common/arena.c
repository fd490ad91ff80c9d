/* SPDX-License-Identifier: Apache-2.0 */
/* Placing blocks in an arena: greedy by size, best fit. Optimal placement is NP-hard;
 * for the chain of a VGG, greedy takes the two largest neighbours and little more.
 *
 * `order` serves twice: its tail holds the blocks still to place, largest first, its
 * head those already placed, by ascending offset. */
#include "common/arena.h"

#include "core/memory.h"

/* Insertion sort, equal sizes by index: the plan must be the same everywhere. */
static void sort_by_size(const struct vgg__block *blocks, uint32_t count,
                         uint32_t *order)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t at = i;
        for (; at > 0 && blocks[order[at - 1]].size < blocks[i].size; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}

static bool live_together(const struct vgg__block *a, const struct vgg__block *b)
{
    return a->first <= b->last && b->first <= a->last;
}

/* The smallest hole below the highest neighbour that takes `block`, else above it. */
static size_t find_offset(const struct vgg__block *blocks, const uint32_t *placed,
                          uint32_t placed_count, const struct vgg__block *block)
{
    const size_t size = vgg__align_up(block->size);
    size_t best = SIZE_MAX, best_hole = SIZE_MAX, end = 0;
    for (uint32_t i = 0; i < placed_count; i++) {
        const struct vgg__block *other = &blocks[placed[i]];
        if (!live_together(block, other)) continue;
        if (other->offset > end && other->offset - end >= size &&
            other->offset - end < best_hole) {
            best_hole = other->offset - end;
            best = end;
        }
        const size_t other_end = other->offset + vgg__align_up(other->size);
        if (other_end > end) end = other_end;
    }
    return best != SIZE_MAX ? best : end;
}

/* Put `index` among the `count` placed blocks, by offset. */
static void insert_placed(const struct vgg__block *blocks, uint32_t *placed,
                          uint32_t count, uint32_t index)
{
    uint32_t at = count;
    for (; at > 0 && blocks[placed[at - 1]].offset > blocks[index].offset; at--)
        placed[at] = placed[at - 1];
    placed[at] = index;
}

vgg_status vgg__arena_plan(const vgg_host *host, struct vgg__block *blocks,
                           uint32_t count, uint32_t *order, size_t *bytes)
{
    *bytes = 0;
    /* No offset can exceed the sum of all sizes: with it checked, nothing overflows. */
    size_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum = vgg__size_add(sum, vgg__size_add(blocks[i].size, VGG_ALIGN));
        blocks[i].offset = 0;
    }
    if (sum == SIZE_MAX)
        return host->fail(VGG_ELIMIT,
                          "program: needs more memory than an address can say");

    sort_by_size(blocks, count, order);
    uint32_t placed = 0;
    for (; placed < count && blocks[order[placed]].size > 0; placed++) {
        const uint32_t index = order[placed];
        struct vgg__block *block = &blocks[index];
        block->offset = find_offset(blocks, order, placed, block);
        const size_t end = block->offset + vgg__align_up(block->size);
        if (end > *bytes) *bytes = end;
        insert_placed(blocks, order, placed, index);
    }
    return VGG_OK;
}
