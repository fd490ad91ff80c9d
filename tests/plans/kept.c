/* SPDX-License-Identifier: Apache-2.0 */
/* Plans as text, which the engine keeps on disk: read back they are the same plan, made
 * without compiling, and what is not a plan's text is refused. */
#include "driver.h"
#include "harness.h"
#include "products.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void *take(vgg_context *ctx, size_t size)
{
    (void)ctx;
    return malloc(size);
}

static void *take_nothing(vgg_context *ctx, size_t size)
{
    (void)ctx, (void)size;
    return NULL;
}

static const vgg_host host = {.alloc = take, .release = free};
static const vgg_host full_host = {.alloc = take_nothing, .release = free};

static const struct {
    const char *device;
    struct layer layer;
    uint32_t batch;
    enum precision precision;
    enum form form;
    bool compiled;
} kept[] = {
    {"h200", {64, 64, 56}, 128, BF16, FORWARD, false},
    {"h200", {16, 32, 112}, 96, BF16, WEIGHTS, false},
    {"h200", {64, 64, 56}, 128, BF16, MASK, true},
    {"h200", {64, 64, 56}, 128, STRICT, MASK, true},
    {"h200", {3, 64, 224}, 64, BF16, BIAS_RELU, false}, /* takes work space */
    {"t4", {64, 128, 28}, 96, STRICT, BIAS_RELU, false},
};

/* The plan of a case, as text. */
static char *make_text(const struct device *device, int which,
                       struct vgg__dnn_plan *plan, size_t *length)
{
    const struct vgg__dnn_problem problem = product(
        &kept[which].layer, kept[which].batch, kept[which].precision, kept[which].form);
    uint32_t refused = 0;
    char *text = NULL;
    ck_assert_uint_eq(vgg__dnn_plans(&device->target, &problem, plan, 1, &refused), 1);
    ck_assert(vgg__dnn_plan_write(&device->target, &host, plan, &text, length));
    ck_assert_ptr_nonnull(text);
    ck_assert_uint_gt(*length, 100);
    return text;
}

START_TEST(test_read_back)
{
    struct device device;
    struct vgg__dnn_plan plan, again;
    size_t length = 0, length_again = 0;
    device_open(&device, kept[_i].device);
    char *text = make_text(&device, _i, &plan, &length), *text_again = NULL;
    const uint32_t loads = driver_seen().loads;
    const clock_t start = clock();
    ck_assert(vgg__dnn_plan_read(&device.target, text, length, &again));
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    ck_assert_uint_eq(again.workspace, plan.workspace);
    ck_assert(
        vgg__dnn_plan_write(&device.target, &host, &again, &text_again, &length_again));
    ck_assert_uint_eq(length, length_again);
    ck_assert_int_eq(memcmp(text, text_again, length), 0);
    ck_assert_int_eq(driver_seen().loads > loads, kept[_i].compiled);
    printf("%s %s %s: %zu bytes, read in %.0f ms\n", kept[_i].device,
           precision_names[kept[_i].precision], form_names[kept[_i].form], length,
           seconds * 1e3);
    free(text);
    free(text_again);
    vgg__dnn_plan_free(&device.api, &plan);
    vgg__dnn_plan_free(&device.api, &again);
    ck_assert_int_eq(device_calls.alive, 0);
    device_close(&device);
}
END_TEST

static void check_refused(const struct device *device, const char *text, size_t length,
                          const char *what)
{
    struct vgg__dnn_plan plan;
    const bool made = vgg__dnn_plan_read(&device->target, text, length, &plan);
    ck_assert_msg(!made, "%s: it is taken for a plan", what);
    ck_assert_ptr_null(plan.plan);
    ck_assert_int_eq(device_calls.alive, 0);
}

START_TEST(test_what_is_no_plan)
{
    struct device device;
    struct vgg__dnn_plan plan;
    size_t length = 0;
    char what[64];
    device_open(&device, kept[_i].device);
    char *text = make_text(&device, _i, &plan, &length);
    vgg__dnn_plan_free(&device.api, &plan);
    for (size_t part = 0; part < 8; part++) {
        snprintf(what, sizeof what, "the first %zu eighths", part);
        check_refused(&device, text, length * part / 8, what);
    }
    check_refused(&device, "{}", 2, "nothing");
    memset(text, 'x', length);
    check_refused(&device, text, length, "not JSON");
    free(text);
    device_close(&device);
}
END_TEST

/* No memory, and each call that fails, on the way to the text and back. */
START_TEST(test_failures)
{
    struct device device;
    struct vgg__dnn_plan plan, again;
    size_t length = 0;
    device_open(&device, kept[0].device);
    char *text = make_text(&device, 0, &plan, &length), *none = NULL;
    ck_assert(!vgg__dnn_plan_write(&device.target, &full_host, &plan, &none, &length));
    ck_assert_ptr_null(none);
    for (uint32_t call = 1; call <= 2; call++) {
        device_calls.count = 0;
        device_calls.failing = call;
        ck_assert(!vgg__dnn_plan_write(&device.target, &host, &plan, &none, &length));
        ck_assert_ptr_null(none);
    }
    vgg__dnn_plan_free(&device.api, &plan);
    for (uint32_t call = 1; call <= 5; call++) {
        device_calls.count = 0;
        device_calls.failing = call;
        ck_assert(!vgg__dnn_plan_read(&device.target, text, length, &again));
        ck_assert_ptr_null(again.plan);
        ck_assert_int_eq(device_calls.alive, 0);
    }
    device_calls.count = 0;
    device_calls.failing = 6;
    ck_assert(vgg__dnn_plan_read(&device.target, text, length, &again));
    vgg__dnn_plan_free(&device.api, &again);
    free(text);
    device_close(&device);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("plans-kept");
    TCase *tc = tcase_create("kept");
    tcase_set_timeout(tc, 300);
    const int count = sizeof kept / sizeof *kept;
    tcase_add_loop_test(tc, test_read_back, 0, count);
    tcase_add_loop_test(tc, test_what_is_no_plan, 0, count);
    tcase_add_test(tc, test_failures);
    suite_add_tcase(suite, tc);
    return harness_main(&suite, 1);
}
