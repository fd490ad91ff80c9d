/* SPDX-License-Identifier: Apache-2.0 */
/* The rule for sized options, with the struct of three releases: older callers get
 * zeros in what they don't know, newer ones work while they ask for nothing unknown. */
#include "core/options.h"

#include "harness.h"

#include <stdlib.h>
#include <string.h>

struct first { /* the first release */
    size_t size;
    uint64_t a;
};

struct present { /* this release */
    size_t size;
    uint64_t a, b;
};

struct next { /* one to come */
    size_t size;
    uint64_t a, b, c;
};

static const struct present defaults = {sizeof defaults, 10, 20};

static vgg_status read_options(const void *source, struct present *out)
{
    *out = defaults;
    out->size = 0;
    return vgg__options_read("vgg_x_options", source, sizeof(struct first), out,
                             sizeof *out);
}

START_TEST(null_is_the_defaults)
{
    struct present out;
    ck_ok(read_options(NULL, &out));
    ck_assert_mem_eq(&out, &defaults, sizeof out);
}
END_TEST

START_TEST(present_release)
{
    const struct present source = {sizeof source, 1, 2};
    struct present out;
    ck_ok(read_options(&source, &out));
    ck_assert_mem_eq(&out, &source, sizeof out);
}
END_TEST

START_TEST(older_caller)
{
    const struct first source = {sizeof source, 1};
    struct present out;
    ck_ok(read_options(&source, &out));
    ck_assert_uint_eq(out.size, sizeof out);
    ck_assert_uint_eq(out.a, 1);
    ck_assert_uint_eq(out.b, 0);
}
END_TEST

START_TEST(newer_caller_with_zero_tail)
{
    const struct next source = {sizeof source, 1, 2, 0};
    struct present out;
    ck_ok(read_options(&source, &out));
    ck_assert_uint_eq(out.size, sizeof out);
    ck_assert_uint_eq(out.a, 1);
    ck_assert_uint_eq(out.b, 2);
}
END_TEST

START_TEST(newer_caller_with_a_set_tail)
{
    struct next source = {sizeof source, 1, 2, 0};
    struct present out;
    for (size_t i = sizeof out; i < sizeof source; i++) {
        memset(&source.c, 0, sizeof source.c);
        ((unsigned char *)&source)[i] = 1;
        ck_fails_with(read_options(&source, &out), VGG_EUNSUPPORTED, "vgg_x_options");
    }
}
END_TEST

START_TEST(too_small)
{
    struct present source = {0, 1, 2}, out;
    for (source.size = 0; source.size < sizeof(struct first); source.size++)
        ck_fails_with(read_options(&source, &out), VGG_EINVAL, "vgg_x_options.size");
}
END_TEST

/* A size that was never set must not be read up to its end. */
START_TEST(absurd)
{
    static const size_t sizes[] = {65537, (size_t)1 << 40, SIZE_MAX};
    struct present source = {0, 1, 2}, out;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        source.size = sizes[i];
        ck_fails_with(read_options(&source, &out), VGG_EINVAL, "expected 24, found");
    }
}
END_TEST

START_TEST(most_that_is_read)
{
    static union {
        struct present options;
        unsigned char bytes[65536];
    } source;
    source.options = (struct present){sizeof source, 1, 2};
    struct present out;
    ck_ok(read_options(&source, &out));
    source.bytes[sizeof source - 1] = 1;
    ck_fails_with(read_options(&source, &out), VGG_EUNSUPPORTED, "byte 65535");
}
END_TEST

START_TEST(size_of_a_release)
{
    ck_assert_uint_eq(VGG_SIZE_UP_TO(struct next, a), sizeof(struct first));
    ck_assert_uint_eq(VGG_SIZE_UP_TO(struct next, c), sizeof(struct next));
}
END_TEST

/* Filling a caller's struct of each release from this one's. */
static vgg_status write_options(void *out)
{
    static const struct present source = {sizeof source, 1, 2};
    return vgg__options_write("vgg_x_options", &source, sizeof source,
                              sizeof(struct first), out);
}

START_TEST(written_to_any_caller)
{
    struct first *first = malloc(sizeof *first); /* of just its size */
    ck_assert_ptr_nonnull(first);
    *first = (struct first){sizeof *first, 7};
    ck_ok(write_options(first));
    ck_assert_uint_eq(first->size, sizeof *first);
    ck_assert_uint_eq(first->a, 1);
    first->size = sizeof *first - 1;
    first->a = 7;
    ck_fails_with(write_options(first), VGG_EINVAL,
                  "vgg_x_options.size: expected 24, found 15");
    ck_assert_uint_eq(first->a, 7);
    free(first);

    struct present present = {sizeof present, 7, 7};
    ck_ok(write_options(&present));
    ck_assert_uint_eq(present.size, sizeof present);
    ck_assert_uint_eq(present.b, 2);

    struct next next = {sizeof next, 7, 7, 7};
    ck_ok(write_options(&next));
    ck_assert_uint_eq(next.size, sizeof next);
    ck_assert_uint_eq(next.b, 2);
    ck_assert_uint_eq(next.c, 7);
    next.size = SIZE_MAX;
    ck_fails(write_options(&next), VGG_EINVAL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/options");
    TCase *tcase = tcase_create("options");
    tcase_add_test(tcase, null_is_the_defaults);
    tcase_add_test(tcase, present_release);
    tcase_add_test(tcase, older_caller);
    tcase_add_test(tcase, newer_caller_with_zero_tail);
    tcase_add_test(tcase, newer_caller_with_a_set_tail);
    tcase_add_test(tcase, too_small);
    tcase_add_test(tcase, absurd);
    tcase_add_test(tcase, most_that_is_read);
    tcase_add_test(tcase, size_of_a_release);
    tcase_add_test(tcase, written_to_any_caller);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
