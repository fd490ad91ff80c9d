/* SPDX-License-Identifier: Apache-2.0 */
/* Threads that can't be started (a process limit, a container's): every call that needs
 * them says so, starts none halfway, and works once there are some again. */
#include "feed.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

/* The linker sends the library's pthread_create() here. */
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
                          void *(*run)(void *arg), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
                          void *(*run)(void *arg), void *arg);

static int starts, fail_at; /* threads asked for; the one that fails, 0: none */
static bool forever;        /* those after it fail too */

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr,
                          void *(*run)(void *arg), void *arg)
{
    starts++;
    if (starts == fail_at || (forever && starts > fail_at)) return EAGAIN;
    return __real_pthread_create(thread, attr, run, arg);
}

static int thread_count(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/task");
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(dir);
    return count;
}

/* The kernel lists a joined thread for a moment longer. */
static void check_thread_count(int expected)
{
    for (int i = 0; i < 1000 && thread_count() != expected; i++) usleep(1000);
    ck_assert_int_eq(thread_count(), expected);
}

static vgg_context *context_of(uint32_t threads, vgg_gemm gemm)
{
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.threads = threads;
    opts.gemm = gemm;
    vgg_context *ctx;
    ck_ok(vgg_context_create(&opts, &ctx));
    return ctx;
}

START_TEST(workers_of_a_device)
{
    vgg_context *ctx = context_of(4, VGG_GEMM_OWN);
    vgg_device *device;
    const int before = thread_count();
    for (int k = 1; k <= 3; k++) {
        starts = 0;
        fail_at = k;
        ck_fails_with(
            vgg_device_open(ctx, "cpu", &device), VGG_EDEVICE,
            "can't start thread vgg-worker: Resource temporarily unavailable");
        ck_assert_ptr_null(device);
        ck_assert_int_eq(starts, k);
        check_thread_count(before);
        ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
    }
    starts = fail_at = 0;
    ck_ok(vgg_device_open(ctx, "cpu", &device));
    ck_assert_int_eq(starts, 3);
    ck_assert_int_eq(thread_count(), before + 3);
    vgg_device_free(device);
    check_thread_count(before);
    vgg_context_free(ctx);
}
END_TEST

/* OpenBLAS wants threads too, and ends the process if there are none: with none to have
 * it isn't loaded, and the device says what it lacks. */
START_TEST(no_threads_at_all)
{
    vgg_context *ctx = context_of(4, VGG_GEMM_AUTO);
    vgg_device *device;
    fail_at = 1;
    forever = true;
    const int before = thread_count();
    ck_fails_with(vgg_device_open(ctx, "cpu", &device), VGG_EDEVICE, "thread");
    check_thread_count(before);
    ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
    forever = false;
    fail_at = 0;
    ck_ok(vgg_device_open(ctx, "cpu", &device));
    vgg_device_free(device);
    vgg_context_free(ctx);
}
END_TEST

/* One thread, and the engine ref, need none: they work where there are none to have. */
START_TEST(devices_without_workers)
{
    fail_at = 1;
    vgg_context *one = context_of(1, VGG_GEMM_OWN), *four = context_of(4, VGG_GEMM_OWN);
    vgg_device *device;
    ck_ok(vgg_device_open(one, "cpu", &device));
    vgg_device_free(device);
    ck_ok(vgg_device_open(four, "ref", &device));
    vgg_device_free(device);
    ck_assert_int_eq(starts, 0);
    vgg_context_free(one);
    vgg_context_free(four);
}
END_TEST

START_TEST(thread_of_a_loader)
{
    struct world world = {.ctx = context_of(1, VGG_GEMM_OWN)};
    ck_ok(feed_dataset(&world));
    const int before = thread_count();
    const uint64_t held = vgg_context_bytes(world.ctx);
    starts = 0;
    fail_at = 1;
    ck_fails_with(feed_loader(&world, 2, &world.loader), VGG_EDEVICE,
                  "can't start thread vgg-loader");
    ck_assert_ptr_null(world.loader);
    ck_assert_uint_eq(vgg_context_bytes(world.ctx), held);
    check_thread_count(before);
    starts = 0;
    ck_ok(feed_loader(&world, 0, &world.loader)); /* makes batches when asked for */
    ck_assert_int_eq(starts, 0);
    vgg_loader_free(world.loader);
    fail_at = 0;
    ck_ok(feed_loader(&world, 2, &world.loader));
    vgg_batch batch;
    ck_ok(vgg_loader_next(world.loader, &batch));
    ck_assert_uint_eq(batch.count, 4);
    vgg_loader_free(world.loader);
    check_thread_count(before);
    vgg_dataset_free(world.data);
    vgg_tensor_free(world.images);
    ck_assert_uint_eq(vgg_context_bytes(world.ctx), 0);
    vgg_context_free(world.ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fault/threads");
    TCase *tcase = tcase_create("threads");
    tcase_add_test(tcase, workers_of_a_device);
    tcase_add_test(tcase, no_threads_at_all);
    tcase_add_test(tcase, devices_without_workers);
    tcase_add_test(tcase, thread_of_a_loader);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
