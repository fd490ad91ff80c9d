/* SPDX-License-Identifier: Apache-2.0 */
/* Faults with kernels: limits, pointers, barriers. What a running kernel may not do has
 * more tests beside the code that runs it (kernels/shim.c). */
#include "../host_run.h"
#include "harness.h"
#include "planted.h"

static void do_nothing(const void *args)
{
    (void)args;
}

static void wait_alone(const void *args)
{
    (void)args;
    if (vgg__host_now.thread.x == 0)
        vgg__host_barrier("first", 1);
    else
        vgg__host_barrier("second", 2);
}

static const struct vgg__kernel idle = {
    .name = "idle", .host = do_nothing, .args = 64, .threads = 1024};
static const struct vgg__kernel divided = {
    .name = "divided", .host = wait_alone, .args = 8, .threads = 64};
static const struct vgg__kernel unbuilt = {.name = "unbuilt", .args = 8, .threads = 64};

static const struct {
    struct vgg__grid grid;
    size_t shared;
    cudaError_t error;
    const char *fragment;
} limits[] = {
    {{{1, 1, 1}, {1025, 1, 1}}, 0, cudaErrorInvalidConfiguration, "axis 0"},
    {{{1, 1, 1}, {32, 64, 1}}, 0, cudaErrorInvalidConfiguration, "2048 threads"},
    {{{1, 1, 1}, {1, 1, 65}}, 0, cudaErrorInvalidConfiguration, "axis 2"},
    {{{1, 65536, 1}, {32, 1, 1}}, 0, cudaErrorInvalidConfiguration, "axis 1"},
    {{{1, 1, 65536}, {32, 1, 1}}, 0, cudaErrorInvalidConfiguration, "axis 2"},
    {{{0, 1, 1}, {32, 1, 1}}, 0, cudaErrorInvalidConfiguration, "empty"},
    {{{1, 1, 1}, {32, 0, 1}}, 0, cudaErrorInvalidConfiguration, "empty"},
    {{{1, 1, 1}, {32, 1, 1}}, 49153, cudaErrorInvalidValue, "may have 49152"},
};

START_TEST(limit)
{
    const uint64_t args[8] = {0};
    cudaStream_t stream = new_stream();
    ck_refused(api->launch(&idle, limits[_i].grid, limits[_i].shared, args, stream),
               limits[_i].error, limits[_i].fragment);
}
END_TEST

static const enum cudaFuncAttribute most = cudaFuncAttributeMaxDynamicSharedMemorySize;

/* What fits one GPU is too much for another, and each has a figure of its own. */
START_TEST(other_gpu)
{
    const uint64_t args[8] = {0};
    const struct vgg__grid grid = {{1, 1, 1}, {32, 1, 1}};
    struct cudaFuncAttributes about;
    ck_good(api->funcSetAttribute(&idle, most, 232320));
    ck_good(api->funcGetAttributes(&about, &idle));
    ck_assert_int_eq(about.maxDynamicSharedSizeBytes, 232320);
    ck_assert_uint_eq(about.sharedSizeBytes, 128);
    ck_good(api->launch(&idle, grid, 232320, args, new_stream()));
    ck_refused(api->funcSetAttribute(&idle, most, 232321), cudaErrorInvalidValue,
               "beside its own 128, NVIDIA H200 has 232448");
    ck_refused(api->funcSetAttribute(&idle, most, -1), cudaErrorInvalidValue, "-1");
    ck_refused(
        api->funcSetAttribute(&idle, cudaFuncAttributePreferredSharedMemoryCarveout, 1),
        cudaErrorInvalidValue, "attribute");
    vgg__simulated.devices[1] = "T4";
    ck_good(api->setDevice(1));
    ck_refused(api->launch(&idle, grid, 49153, args, new_stream()),
               cudaErrorInvalidValue, "may have 49152");
    ck_refused(api->funcSetAttribute(&idle, most, 65409), cudaErrorInvalidValue,
               "Tesla T4 has 65536");
}
END_TEST

/* A graph is not used once its kernels may have less than they were recorded with. */
START_TEST(less_room)
{
    const uint64_t args[8] = {0};
    const struct vgg__grid grid = {{1, 1, 1}, {32, 1, 1}};
    cudaStream_t stream = new_stream();
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    ck_good(api->funcSetAttribute(&idle, most, 100000));
    ck_good(api->streamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    ck_good(api->launch(&idle, grid, 100000, args, stream));
    ck_good(api->streamEndCapture(stream, &graph));
    ck_good(api->funcSetAttribute(&idle, most, 99999));
    ck_refused(api->graphInstantiate(&exec, graph, 0), cudaErrorInvalidValue,
               "graphInstantiate: idle needs more shared memory");
    ck_good(api->funcSetAttribute(&idle, most, 100000));
    ck_good(api->graphInstantiate(&exec, graph, 0));
    ck_good(api->graphLaunch(exec, stream));
    ck_good(api->funcSetAttribute(&idle, most, 60000));
    ck_refused(api->graphLaunch(exec, stream), cudaErrorInvalidValue,
               "graphLaunch: idle needs more shared memory");
}
END_TEST

START_TEST(launch_bounds)
{
    const uint64_t args[8] = {0};
    const struct vgg__grid grid = {{1, 1, 1}, {65, 1, 1}};
    cudaStream_t stream = new_stream();
    ck_good(api->launch(&divided, grid, 0, args, stream));
    ck_refused(api->streamSynchronize(stream), cudaErrorIllegalAddress,
               "launch bounds");
}
END_TEST

START_TEST(unjoined_barrier)
{
    const uint64_t args[8] = {0};
    const struct vgg__grid grid = {{1, 1, 1}, {64, 1, 1}};
    cudaStream_t stream = new_stream();
    ck_good(api->launch(&divided, grid, 0, args, stream));
    ck_refused(api->streamSynchronize(stream), cudaErrorIllegalAddress, "waits at");
}
END_TEST

START_TEST(pointers)
{
    float *on_stack[1024]; /* of which one page is not in the lower quarter of 4 GiB */
    float *pinned = new_pinned(1024), *memory = new_memory(1024);
    cudaStream_t stream = new_stream();
    ck_good(add(stream, pinned, memory, 1)); /* the device can read it */
    pinned[0] = 1;
    ck_good(api->streamSynchronize(stream));
    void *host = (uint32_t)(uintptr_t)on_stack >> 30 ? (void *)on_stack : (void *)&idle;
    if ((uint32_t)(uintptr_t)host >> 30)
        ck_refused(add(stream, host, memory, 1), cudaErrorInvalidValue,
                   "no device memory");
    ck_refused(add(stream, NULL, memory + 257, 1), cudaErrorInvalidValue, "byte 1028");
    ck_good(api->free(memory));
    ck_refused(add(stream, NULL, memory, 1), cudaErrorInvalidValue, "released memory");
    const uint64_t args[8] = {0};
    const struct vgg__grid grid = {{1, 1, 1}, {1, 1, 1}};
    ck_refused(api->launch(&unbuilt, grid, 0, args, stream),
               cudaErrorInvalidDeviceFunction, "no host build");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("planted launch");
    TCase *tcase = tcase_create("faults");
    tcase_add_checked_fixture(tcase, planted_begin, NULL);
    tcase_add_loop_test(tcase, limit, 0, sizeof limits / sizeof *limits);
    tcase_add_test(tcase, other_gpu);
    tcase_add_test(tcase, less_room);
    tcase_add_test(tcase, launch_bounds);
    tcase_add_test(tcase, unjoined_barrier);
    tcase_add_test(tcase, pointers);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
