/* SPDX-License-Identifier: Apache-2.0 */
/* The arena planner: no two blocks that live at once share a byte. */
#include "common/arena.h"

#include <stdlib.h>

#include "core/error.h"
#include "core/memory.h"
#include "core/random.h"
#include "harness.h"

static const vgg_host host = {.fail = vgg__fail};

enum { MOST = 64 };

static bool overlap(const struct vgg__block *a, const struct vgg__block *b)
{
    const bool in_time = a->first <= b->last && b->first <= a->last;
    const bool in_space =
        a->offset < b->offset + b->size && b->offset < a->offset + a->size;
    return a->size > 0 && b->size > 0 && in_time && in_space;
}

static void check_plan(const struct vgg__block *blocks, uint32_t count, size_t bytes)
{
    for (uint32_t i = 0; i < count; i++) {
        ck_assert_uint_eq(blocks[i].offset % VGG_ALIGN, 0);
        ck_assert_uint_le(blocks[i].offset + blocks[i].size, bytes);
        for (uint32_t k = 0; k < i; k++)
            ck_assert_msg(!overlap(&blocks[i], &blocks[k]), "blocks %u and %u", k, i);
    }
}

/* The most bytes that live at one time: no plan can take less. */
static size_t least_bytes(const struct vgg__block *blocks, uint32_t count)
{
    size_t most = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t sum = 0; /* at the time that block i begins */
        for (uint32_t k = 0; k < count; k++)
            if (blocks[k].first <= blocks[i].first && blocks[i].first <= blocks[k].last)
                sum += vgg__align_up(blocks[k].size);
        if (sum > most) most = sum;
    }
    return most;
}

START_TEST(random_blocks)
{
    struct vgg__block blocks[MOST];
    uint32_t order[MOST];
    const uint32_t count = 1 + (uint32_t)_i % MOST;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t r[4];
        vgg__random((uint64_t)_i, 1, 0, i, r);
        blocks[i] = (struct vgg__block){r[0] % 5 ? r[0] % 1000 : 0, r[1] % 20, 0, 99};
        blocks[i].last = blocks[i].first + r[2] % 8;
    }
    size_t bytes = 0;
    ck_ok(vgg__arena_plan(&host, blocks, count, order, &bytes));
    check_plan(blocks, count, bytes);
    ck_assert_uint_ge(bytes, least_bytes(blocks, count));
}
END_TEST

/* Inference: a value lives with its predecessor alone, so that a chain takes no more
 * than its two largest neighbours. */
START_TEST(chain)
{
    static const size_t sizes[] = {640, 6400, 6400, 1280, 3200, 3200, 640, 64};
    struct vgg__block blocks[8];
    uint32_t order[8];
    for (uint32_t i = 0; i < 8; i++)
        blocks[i] = (struct vgg__block){sizes[i], i, i + 1, 0};
    size_t bytes = 0;
    ck_ok(vgg__arena_plan(&host, blocks, 8, order, &bytes));
    check_plan(blocks, 8, bytes);
    ck_assert_uint_eq(bytes, 12800);
}
END_TEST

/* Training: everything is kept, and nothing can be shared. */
START_TEST(all_at_once)
{
    struct vgg__block blocks[5];
    uint32_t order[5];
    for (uint32_t i = 0; i < 5; i++) blocks[i] = (struct vgg__block){100, i, 20, 0};
    size_t bytes = 0;
    ck_ok(vgg__arena_plan(&host, blocks, 5, order, &bytes));
    check_plan(blocks, 5, bytes);
    ck_assert_uint_eq(bytes, 5 * 128);
}
END_TEST

START_TEST(too_large)
{
    struct vgg__block blocks[3] = {
        {SIZE_MAX / 2, 0, 1, 0}, {SIZE_MAX / 2, 2, 3, 0}, {1}};
    uint32_t order[3];
    size_t bytes = 0;
    ck_fails(vgg__arena_plan(&host, blocks, 2, order, &bytes), VGG_ELIMIT);
    blocks[0].size = SIZE_MAX; /* what a saturated product says */
    ck_fails(vgg__arena_plan(&host, blocks, 1, order, &bytes), VGG_ELIMIT);
    ck_assert_uint_eq(bytes, 0);
}
END_TEST

START_TEST(nothing)
{
    size_t bytes = 1;
    ck_ok(vgg__arena_plan(&host, NULL, 0, NULL, &bytes));
    ck_assert_uint_eq(bytes, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("arena");
    TCase *tcase = tcase_create("plan");
    tcase_add_loop_test(tcase, random_blocks, 0, 200);
    tcase_add_test(tcase, chain);
    tcase_add_test(tcase, all_at_once);
    tcase_add_test(tcase, too_large);
    tcase_add_test(tcase, nothing);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
