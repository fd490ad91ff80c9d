/* SPDX-License-Identifier: Apache-2.0 */
/* Memory through a context: aligned, counted to the byte, capped, from the caller's own
 * allocator, and an error text that says how much was wanted and held. */
#include "core/memory.h"

#include "harness.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* An allocator that counts, and refuses once `left` is used up. */
struct counter {
    int allocs, releases, left;
    size_t last_align;
};

static void *counting_alloc(void *cookie, size_t size, size_t align)
{
    struct counter *counter = cookie;
    if (counter->left == 0) return NULL;
    counter->left--;
    counter->allocs++;
    counter->last_align = align;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void counting_release(void *cookie, void *memory)
{
    struct counter *counter = cookie;
    ck_assert_ptr_nonnull(memory);
    counter->releases++;
    free(memory);
}

static vgg_context *context_with(struct counter *counter, uint64_t max_bytes)
{
    const vgg_allocator allocator = {counter, counting_alloc, counting_release};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.allocator = &allocator;
    opts.max_bytes = max_bytes;
    opts.threads = 1;
    vgg_context *ctx;
    ck_ok(vgg_context_create(&opts, &ctx));
    return ctx;
}

START_TEST(aligned_and_counted)
{
    struct counter counter = {.left = -1};
    vgg_context *ctx = context_with(&counter, 0);
    ck_assert_int_eq(counter.allocs, 1); /* the context itself */
    ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
    void *blocks[40];
    uint64_t held = 0;
    for (size_t i = 0; i < 40; i++) {
        const size_t size = i * 37;
        blocks[i] = vgg__alloc(ctx, size);
        ck_assert_ptr_nonnull(blocks[i]);
        ck_assert_uint_eq((uintptr_t)blocks[i] % VGG_ALIGN, 0);
        ck_assert_uint_eq(counter.last_align, VGG_ALIGN);
        memset(blocks[i], 0xff, size);
        held += size + VGG_ALIGN;
        ck_assert_uint_eq(vgg_context_bytes(ctx), held);
    }
    for (size_t i = 0; i < 40; i++) vgg__free(blocks[i]);
    ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
    vgg_context_free(ctx);
    ck_assert_int_eq(counter.allocs, 41);
    ck_assert_int_eq(counter.releases, 41);
}
END_TEST

START_TEST(calloc_zeroes)
{
    /* A dirty block of the same size is likely to be handed out again. */
    void *dirty = vgg__alloc(NULL, 3000);
    memset(dirty, 0xff, 3000);
    vgg__free(dirty);
    unsigned char *memory = vgg__calloc(NULL, 1000, 3);
    for (int i = 0; i < 3000; i++) ck_assert_uint_eq(memory[i], 0);
    vgg__free(memory);
    vgg__free(NULL);
}
END_TEST

START_TEST(strdup_copies)
{
    char text[] = "conv3_2";
    char *copy = vgg__strdup(NULL, text);
    text[0] = 'x';
    ck_assert_str_eq(copy, "conv3_2");
    vgg__free(copy);
}
END_TEST

START_TEST(impossible_sizes)
{
    const uint64_t before = vgg_context_bytes(NULL);
    ck_assert_ptr_null(vgg__alloc(NULL, SIZE_MAX));
    ck_assert_ptr_null(vgg__alloc(NULL, SIZE_MAX - VGG_ALIGN + 1));
    ck_assert_ptr_null(vgg__alloc(NULL, (size_t)PTRDIFF_MAX));
    ck_assert_ptr_nonnull(strstr(vgg_last_error(), "9223372036854775807 bytes"));
    ck_assert_ptr_null(vgg__calloc(NULL, SIZE_MAX / 2 + 1, 2));
    ck_assert_ptr_nonnull(strstr(vgg_last_error(), "9223372036854775808 x 2 bytes"));
    ck_assert_uint_eq(vgg_context_bytes(NULL), before);
}
END_TEST

START_TEST(allocator_refuses)
{
    struct counter counter = {.left = 2};
    vgg_context *ctx = context_with(&counter, 0);
    void *first = vgg__alloc(ctx, 100);
    ck_assert_ptr_null(vgg__alloc(ctx, 1000));
    ck_assert_str_eq(vgg_last_error(),
                     "out of memory: 1064 bytes wanted, 164 bytes held, "
                     "the allocator has no more");
    ck_assert_uint_eq(vgg_context_bytes(ctx), 164);
    ck_assert_ptr_null(vgg__calloc(ctx, 1, 8));
    ck_assert_ptr_null(vgg__strdup(ctx, "x"));
    vgg__free(first);
    ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
    vgg_context_free(ctx);
    ck_assert_int_eq(counter.releases, 2);
}
END_TEST

START_TEST(cap)
{
    struct counter counter = {.left = -1};
    vgg_context *ctx = context_with(&counter, 1000);
    void *first = vgg__alloc(ctx, 400);
    ck_assert_ptr_nonnull(first);
    ck_assert_ptr_null(vgg__alloc(ctx, 473)); /* 464 + 537 = 1001 */
    ck_assert_str_eq(vgg_last_error(),
                     "out of memory: 537 bytes wanted, 464 of at most "
                     "1000 bytes held");
    ck_assert_int_eq(counter.allocs, 2); /* it was not even asked */
    void *second = vgg__alloc(ctx, 472);
    ck_assert_ptr_nonnull(second);
    ck_assert_uint_eq(vgg_context_bytes(ctx), 1000);
    ck_assert_ptr_null(vgg__alloc(ctx, 0));
    vgg__free(first);
    first = vgg__alloc(ctx, 400);
    ck_assert_ptr_nonnull(first);
    vgg__free(first);
    vgg__free(second);
    vgg_context_free(ctx);
}
END_TEST

/* Many threads at a cap: it is never passed, and nothing is lost count of. */
static void *allocate_often(void *arg)
{
    vgg_context *ctx = arg;
    for (int i = 0; i < 20000; i++) {
        void *memory = vgg__alloc(ctx, (size_t)(i % 7) * 100);
        ck_assert_uint_le(vgg_context_bytes(ctx), 2000);
        vgg__free(memory);
    }
    return NULL;
}

START_TEST(cap_of_many_threads)
{
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.max_bytes = 2000;
    vgg_context *ctx;
    ck_ok(vgg_context_create(&opts, &ctx));
    pthread_t threads[8];
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, allocate_often, ctx), 0);
    for (int i = 0; i < 8; i++) pthread_join(threads[i], NULL);
    ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
    vgg_context_free(ctx);
}
END_TEST

START_TEST(checked_arithmetic)
{
    size_t out = 7;
    ck_assert(!vgg__mul(SIZE_MAX / 2 + 1, 2, &out) &&
              !vgg__mul(SIZE_MAX, SIZE_MAX, &out));
    ck_assert(!vgg__add(SIZE_MAX, 1, &out));
    ck_assert(vgg__mul(SIZE_MAX / 3, 3, &out) && out == SIZE_MAX / 3 * 3);
    ck_assert(vgg__add(SIZE_MAX - 1, 1, &out) && out == SIZE_MAX);
    ck_assert_uint_eq(vgg__align_up(0), 0);
    ck_assert_uint_eq(vgg__align_up(1), 64);
    ck_assert_uint_eq(vgg__align_up(64), 64);
    ck_assert_uint_eq(vgg__align_up(65), 128);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/memory");
    TCase *tcase = tcase_create("memory");
    tcase_add_test(tcase, aligned_and_counted);
    tcase_add_test(tcase, calloc_zeroes);
    tcase_add_test(tcase, strdup_copies);
    tcase_add_test(tcase, impossible_sizes);
    tcase_add_test(tcase, allocator_refuses);
    tcase_add_test(tcase, cap);
    tcase_add_test(tcase, cap_of_many_threads);
    tcase_add_test(tcase, checked_arithmetic);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
