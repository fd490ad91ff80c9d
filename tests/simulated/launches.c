/* SPDX-License-Identifier: Apache-2.0 */
/* Launches that need much shared memory: kernels of several sizes, graphs that were
 * recorded before, several devices and threads at once. */
#include <pthread.h>
#include <unistd.h>

#include "cudnn/cudnn.h"
#include "harness.h"
#include "simulated.h"
#include "targets.h"

enum { SMALL = 60000, LARGE = 200000, ROUNDS = 50 };

static void do_nothing(const void *args)
{
    (void)args;
}

static const struct vgg__kernel idle = {
    .name = "idle", .host = do_nothing, .args = 8, .threads = 32};

static vgg_status launch(struct vgg__cudnn *device, cudaStream_t stream, size_t shared)
{
    static const struct vgg__grid grid = {{1, 1, 1}, {32, 1, 1}};
    const uint64_t args = 0;
    return vgg__cudnn_launch(device, stream, &idle, grid, shared, &args);
}

static struct vgg__cudnn *open_device(uint32_t index, vgg_context **ctx)
{
    void *device;
    ck_ok(vgg_context_create(NULL, ctx));
    const vgg_host host = session_host(*ctx);
    ck_ok(targets[0].engine->open(&host, index, &device));
    return device;
}

static void close_device(struct vgg__cudnn *device, vgg_context *ctx)
{
    targets[0].engine->close(device);
    vgg_context_free(ctx);
}

/* A smaller launch takes nothing from a larger one that was recorded. */
START_TEST(several_sizes)
{
    vgg_context *ctx;
    struct vgg__cudnn *const device = open_device(0, &ctx);
    const struct vgg__api *api = device->api;
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    ck_ok(vgg__cudnn_enter(device));
    ck_assert_int_eq(
        api->streamBeginCapture(device->capture, cudaStreamCaptureModeThreadLocal), 0);
    ck_ok(launch(device, device->capture, LARGE));
    ck_assert_int_eq(api->streamEndCapture(device->capture, &graph), 0);
    ck_ok(launch(device, device->stream, SMALL));
    ck_assert_int_eq(api->graphInstantiate(&exec, graph, 0), 0);
    ck_ok(launch(device, device->stream, SMALL));
    ck_assert_int_eq(api->graphLaunch(exec, device->stream), 0);
    ck_ok(vgg__cudnn_wait(device));
    api->graphExecDestroy(exec);
    api->graphDestroy(graph);
    vgg__cudnn_leave(device);
    close_device(device, ctx);
    ck_assert_ptr_null(vgg__simulated_complaint());
    ck_assert_ptr_null(vgg__simulated_leak());
}
END_TEST

/* All that a device has, and not a byte more. */
START_TEST(most)
{
    static const struct {
        const char *name;
        size_t bytes;
    } gpus[] = {{"H100", 232448}, {"A100", 166912}, {"L4", 101376}, {"T4", 65536}};
    vgg_context *ctx;
    vgg__simulated.devices[0] = gpus[_i].name;
    struct vgg__cudnn *const device = open_device(0, &ctx);
    ck_ok(vgg__cudnn_enter(device));
    ck_ok(launch(device, device->stream, gpus[_i].bytes - 128)); /* of its own */
    ck_assert_ptr_null(vgg__simulated_complaint());
    ck_fails_with(launch(device, device->stream, gpus[_i].bytes - 127), VGG_EDEVICE,
                  "idle");
    vgg__simulated_forget();
    vgg__cudnn_leave(device);
    close_device(device, ctx);
}
END_TEST

/* The device's table, with time for others between all that a launch is made of. */
static struct vgg__api slow;
static cudaError_t (*launch_now)(const struct vgg__kernel *kernel,
                                 struct vgg__grid grid, size_t shared, const void *args,
                                 cudaStream_t stream);

static cudaError_t launch_slowly(const struct vgg__kernel *kernel,
                                 struct vgg__grid grid, size_t shared, const void *args,
                                 cudaStream_t stream)
{
    usleep(100);
    return launch_now(kernel, grid, shared, args, stream);
}

struct worker {
    pthread_t thread;
    vgg_context *ctx;
    struct vgg__cudnn *device;
    size_t shared;
    int failed;
};

static void *launch_often(void *opaque)
{
    struct worker *w = opaque;
    for (int i = 0; i < ROUNDS; i++) {
        if (vgg__cudnn_enter(w->device) != VGG_OK) w->failed++;
        w->failed += launch(w->device, w->device->stream, w->shared) != VGG_OK;
        vgg__cudnn_leave(w->device);
    }
    return NULL;
}

/* Two handles have no lock in common, even of one GPU. */
START_TEST(at_once)
{
    struct worker workers[4];
    for (int i = 0; i < 4; i++) {
        workers[i] = (struct worker){.shared = i % 2 == 0 ? SMALL : LARGE};
        workers[i].device = open_device((uint32_t)i / 2, &workers[i].ctx);
        slow = *workers[i].device->api;
        launch_now = slow.launch;
    }
    slow.launch = launch_slowly;
    for (int i = 0; i < 4; i++) workers[i].device->api = &slow;
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(
            pthread_create(&workers[i].thread, NULL, launch_often, &workers[i]), 0);
    for (int i = 0; i < 4; i++) pthread_join(workers[i].thread, NULL);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(workers[i].failed, 0);
        close_device(workers[i].device, workers[i].ctx);
    }
    ck_assert_ptr_null(vgg__simulated_complaint());
}
END_TEST

static void two_devices(void)
{
    vgg__simulated.devices[1] = "H100";
}

int main(void)
{
    Suite *suite = suite_create("launches");
    TCase *tcase = tcase_create("shared memory");
    tcase_add_checked_fixture(tcase, two_devices, NULL);
    tcase_add_test(tcase, several_sizes);
    tcase_add_loop_test(tcase, most, 0, 4);
    tcase_add_test(tcase, at_once);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
