/* SPDX-License-Identifier: Apache-2.0 */
/* A cap on memory, from none to enough: a session ends well or says that it is out of
 * memory, never holds more than the cap, and leaves nothing. And sessions again and
 * again leave no more than one did. */
#include "session.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char dir[64];

static void make_dir(void)
{
    world_mkdtemp(dir);
}

static void remove_dir(void)
{
    harness_rmdir(dir);
}

/* An allocator that remembers the most that was held, headers of its own aside. */
struct meter {
    pthread_mutex_t lock;
    size_t held, most;
};

struct header {
    size_t size;
};

static void *meter_alloc(void *cookie, size_t size, size_t align)
{
    struct meter *meter = cookie;
    char *block = aligned_alloc(align, (size + 2 * align - 1) / align * align);
    if (block == NULL) return NULL;
    ((struct header *)block)->size = size;
    pthread_mutex_lock(&meter->lock);
    meter->held += size;
    if (meter->held > meter->most) meter->most = meter->held;
    pthread_mutex_unlock(&meter->lock);
    return block + align;
}

static void meter_release(void *cookie, void *memory)
{
    struct meter *meter = cookie;
    char *block = (char *)memory - 64; /* the library asks for cache lines alone */
    pthread_mutex_lock(&meter->lock);
    meter->held -= ((struct header *)block)->size;
    pthread_mutex_unlock(&meter->lock);
    free(block);
}

/* A session under a cap; what it held at most, and whether it was enough. */
static vgg_status capped_session(const char *device, uint64_t cap, uint64_t *most)
{
    struct meter meter = {PTHREAD_MUTEX_INITIALIZER, 0, 0};
    const vgg_allocator allocator = {&meter, meter_alloc, meter_release};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.allocator = &allocator;
    opts.max_bytes = cap;
    opts.threads = 2;
    vgg_context *ctx;
    ck_ok(vgg_context_create(&opts, &ctx));
    const size_t own = meter.held; /* the context's, which the cap does not count */
    const vgg_status status = session_run(ctx, device, dir, NULL);
    ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
    ck_assert_uint_eq(meter.held, own);
    *most = meter.most - own;
    vgg_context_free(ctx);
    ck_assert_uint_eq(meter.held, 0);
    return status;
}

static const char *const devices[] = {"ref", "cpu"};

START_TEST(every_cap)
{
    uint64_t needed, most;
    ck_ok(capped_session(devices[_i], 0, &needed));
    const uint64_t steps = 60;
    for (uint64_t i = 0; i < steps; i++) {
        const uint64_t cap = 1 + needed * i / steps;
        ck_fails_with(capped_session(devices[_i], cap, &most), VGG_ENOMEM,
                      "out of memory");
        ck_assert_uint_le(most, cap);
    }
    ck_ok(capped_session(devices[_i], needed, &most));
    ck_assert_uint_eq(most, needed);
    ck_fails_with(capped_session(devices[_i], needed - 1, &most), VGG_ENOMEM,
                  "out of memory");
}
END_TEST

/* Pages of the process that are in memory. */
static long resident_pages(void)
{
    long size, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    ck_assert_int_eq(fscanf(file, "%ld %ld", &size, &resident), 2);
    fclose(file);
    return resident;
}

/* A sanitizer holds back what was given back; an emulator's pages are counted with the
 * program's. */
static bool keeps_pages(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#else
    return getenv("MESON_EXE_WRAPPER") != NULL;
#endif
}

/* A leak of as little as 1 KiB a session would show; allocators keep some pages. */
START_TEST(again_and_again)
{
    uint64_t first, digest;
    for (int i = 0; i < 20; i++) ck_ok(session_run(NULL, devices[_i], dir, &first));
    const long before = resident_pages();
    for (int i = 0; i < 100; i++) {
        ck_ok(session_run(NULL, devices[_i], dir, &digest));
        ck_assert(digest == first);
    }
    ck_assert_uint_eq(vgg_context_bytes(NULL), 0);
    const long grown = (resident_pages() - before) * sysconf(_SC_PAGESIZE);
    ck_assert_msg(keeps_pages() || grown < 100 * 1024,
                  "%ld bytes more after 100 sessions", grown);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fault/limits");
    TCase *tcase = tcase_create("limits");
    tcase_set_timeout(tcase, 120);
    tcase_add_checked_fixture(tcase, make_dir, remove_dir);
    tcase_add_loop_test(tcase, every_cap, 0, 2);
    tcase_add_loop_test(tcase, again_and_again, 0, 2);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
