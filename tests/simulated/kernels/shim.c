/* SPDX-License-Identifier: Apache-2.0 */
/* What host_run.c allows, and what it finds. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../host_run.h"
#include "buffers.h"
#include "faults.h"
#include "harness.h"

#define BLOCKS 3

static float out[BLOCKS * 256 + 4] __attribute__((aligned(16)));

static const char *run(enum fault fault, size_t shared)
{
    const struct fault_args args = {fault, out};
    memset(out, 0, sizeof out);
    return vgg__host_launch(&fault_kernel, grid_1d(BLOCKS, 256), shared, &args);
}

START_TEST(allowed)
{
    for (int fault = 0; fault < FAULT_STALE_SHARED; fault++)
        for (uint64_t seed = 0; seed < 10; seed++) {
            vgg__host_seed(seed);
            const char *const wrong = run((enum fault)fault, 64);
            ck_assert_msg(wrong == NULL, "fault %d: %s", fault, wrong);
            for (size_t i = 0; i < BLOCKS * 256; i++)
                expect_within((double)out[i], 1, 0, i);
        }
}
END_TEST

START_TEST(shared_is_poison)
{
    ck_assert_ptr_eq(run(FAULT_STALE_SHARED, 64), NULL);
    for (size_t i = 0; i < BLOCKS * 256; i++) ck_assert(isnan(out[i]));
}
END_TEST

static const struct {
    enum fault fault;
    size_t shared;
    const char *text;
} refused[] = {
    {FAULT_BARRIER_MISSED, 64, ", thread 40 at "},
    {FAULT_WARP_MISSED, 64, "in __shfl_sync with mask ffffffff for threads"},
    {FAULT_WARP_MASKS, 64, "waits in __syncwarp with mask "},
    {FAULT_NOT_IN_MASK, 64, "is not in its own mask 0000ffff"},
    {FAULT_WARP_AND_BLOCK, 64, "waits in __syncwarp with mask ffffffff"},
    {FAULT_SHARED_OVERRUN, 64, "written behind a shared variable of 1024 bytes"},
    {FAULT_DYNAMIC_OVERRUN, 64, "written behind 64 bytes of dynamic"},
    {FAULT_TOO_MUCH_SHARED, 64, "53024 bytes of shared memory declared"},
    {FAULT_NO_DYNAMIC, 0, "dynamic shared memory, of which it has none"},
    {FAULT_MISALIGNED, 64, "is no multiple of 16"},
    {FAULT_TRAP, 64, ": trap"},
    {FAULT_MANY_VARIABLES, 64, "more than 32 shared variables"},
    {FAULT_GROUP_BARRIER, 64, "barrier 16 of 256 threads"},
    {FAULT_WIDE_EXCHANGE, 64, "exchange: 17 words, at most 16"},
};
#define REFUSED (int)(sizeof refused / sizeof refused[0])

static void expect_refused(const char *text, const char *fragment)
{
    ck_assert_ptr_ne(text, NULL);
    ck_assert_msg(strstr(text, fragment) != NULL, "%s", text);
    vgg__site_caught(vgg__host_site());
}

/* And whoever comes next finds everything in order. */
START_TEST(found)
{
    for (uint64_t seed = 0; seed < 10; seed++) {
        vgg__host_seed(seed);
        const char *const text = run(refused[_i].fault, refused[_i].shared);
        expect_refused(text, refused[_i].text);
        ck_assert_msg(strncmp(text, "faulty: block (", 15) == 0, "%s", text);
        ck_assert_ptr_eq(run(FAULT_COLLECTIVES, 64), NULL);
    }
}
END_TEST

/* A race shows as a result that depends on the order. */
START_TEST(races)
{
    float first[BLOCKS * 256];
    int differ[2] = {0, 0};
    for (uint32_t race = 0; race < 2; race++)
        for (uint64_t seed = 0; seed < 5; seed++) {
            const struct race_args args = {race, out};
            vgg__host_seed(seed);
            ck_assert_ptr_eq(
                vgg__host_launch(&race_kernel, grid_1d(BLOCKS, 256), 0, &args), NULL);
            if (seed == 0) memcpy(first, out, sizeof first);
            differ[race] += memcmp(first, out, sizeof first) != 0;
        }
    ck_assert_int_eq(differ[0], 0);
    ck_assert_int_eq(differ[1], 4);
}
END_TEST

static const struct {
    struct vgg__grid grid;
    size_t shared;
    const char *text;
} limits[] = {
    {{{0, 1, 1}, {32, 1, 1}}, 0, "blocks are none or too many"},
    {{{1, 65536, 1}, {32, 1, 1}}, 0, "blocks are none or too many"},
    {{{1, 1, 70000}, {32, 1, 1}}, 0, "blocks are none or too many"},
    {{{1, 1, 1}, {0, 1, 1}}, 0, "threads are none or too many"},
    {{{1, 1, 1}, {1, 1, 65}}, 0, "threads are none or too many"},
    {{{INT32_MAX, 3, 1}, {32, 1, 1}}, 0, "more blocks than a simulation can run"},
    {{{1, 1, 1}, {64, 32, 1}}, 0, "more than 1024 threads"},
    {{{1, 1, 1}, {257, 1, 1}}, 0, "more threads than its launch bounds say"},
    {{{1, 1, 1}, {32, 1, 1}}, 232449, "more than 227 KiB"},
};

START_TEST(launch_limits)
{
    const struct fault_args args = {FAULT_NONE, out};
    expect_refused(
        vgg__host_launch(&fault_kernel, limits[_i].grid, limits[_i].shared, &args),
        limits[_i].text);
}
END_TEST

START_TEST(kernels_that_cannot_run)
{
    struct vgg__kernel kernel = fault_kernel;
    kernel.host = NULL;
    expect_refused(vgg__host_launch(&kernel, grid_1d(1, 32), 0, NULL),
                   "not compiled for the host");
    kernel = fault_kernel;
    kernel.args = 4097;
    expect_refused(vgg__host_launch(&kernel, grid_1d(1, 32), 0, NULL),
                   "more than 4096 bytes");
}
END_TEST

/* ---- The tests' own checks ------------------------------------------------------- */

/* Launches that write where they must not; each is a test of a process of its own. */
START_TEST(input_is_written)
{
    const struct vgg__scale_args args = {input(64), 16, 2};
    memset(args.value, 0, 64);
    launch(&vgg__kernel_scale, grid_1d(1, 256), &args);
    args.value[0] = 1;
    launch(&vgg__kernel_scale, grid_1d(1, 256), &args);
}
END_TEST

START_TEST(guard_is_written)
{
    const struct vgg__scale_args args = {output(60), 16, 2};
    launch(&vgg__kernel_scale, grid_1d(1, 256), &args);
}
END_TEST

START_TEST(page_is_touched)
{
    const struct vgg__scale_args args = {output(64), 20, 2};
    launch(&vgg__kernel_scale, grid_1d(1, 256), &args);
}
END_TEST

START_TEST(order_matters)
{
    const struct race_args args = {1, output(256 * 4)};
    launch(&race_kernel, grid_1d(1, 256), &args);
}
END_TEST

/* Each must fail. */
START_TEST(checks_can_fail)
{
    const TTest *const failing[] = {input_is_written, guard_is_written, page_is_touched,
                                    order_matters};
    const int count = (int)(sizeof failing / sizeof failing[0]);
    TCase *const all = tcase_create("failing");
    for (int i = 0; i < count; i++) tcase_add_test(all, failing[i]);
    Suite *const suite = suite_create("failing");
    suite_add_tcase(suite, all);
    SRunner *const runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_FORK);
    srunner_run_all(runner, CK_SILENT);
    ck_assert_int_eq(srunner_ntests_failed(runner), count);
    srunner_free(runner);
}
END_TEST

int main(void)
{
    Suite *const suite = suite_create("shim");
    TCase *const all = tcase_create("shim");
    tcase_set_timeout(all, 120);
    tcase_add_test(all, allowed);
    tcase_add_test(all, shared_is_poison);
    tcase_add_loop_test(all, found, 0, REFUSED);
    tcase_add_test(all, races);
    tcase_add_loop_test(all, launch_limits, 0, (int)(sizeof limits / sizeof limits[0]));
    tcase_add_test(all, kernels_that_cannot_run);
    tcase_add_test(all, checks_can_fail);
    suite_add_tcase(suite, all);
    return harness_main(&suite, 1);
}
