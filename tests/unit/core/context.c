/* SPDX-License-Identifier: Apache-2.0 */
/* Contexts: options and their limits, lifetime, the default one, the log. */
#include "core/context.h"

#include "core/memory.h"
#include "harness.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <vgg/version.h>

static int live;

static void *plain_alloc(void *cookie, size_t size, size_t align)
{
    (void)cookie;
    live++;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void plain_release(void *cookie, void *memory)
{
    (void)cookie;
    live--;
    free(memory);
}

static void *no_alloc(void *cookie, size_t size, size_t align)
{
    (void)cookie, (void)size, (void)align;
    return NULL;
}

static void no_log(void *cookie, vgg_log_level level, const char *line)
{
    (void)cookie, (void)level, (void)line;
}

START_TEST(version)
{
    ck_assert_str_eq(vgg_version(), VGG_VERSION);
    ck_assert_uint_eq(vgg_abi_version(), VGG_ABI_VERSION);
}
END_TEST

START_TEST(defaults)
{
    vgg_context *ctx;
    ck_ok(vgg_context_create(NULL, &ctx));
    ck_assert_uint_eq(vgg_context_bytes(ctx), 0);
    ck_assert_uint_eq(vgg_context_threads(ctx), vgg_context_threads(NULL));
    const vgg_context_options *opts = vgg__context_options(ctx);
    ck_assert_uint_eq(opts->threads, vgg_context_threads(ctx));
    ck_assert_uint_eq(opts->gemm, VGG_GEMM_AUTO);
    ck_assert_uint_eq(opts->blas, VGG_BLAS_LEAVE);
    ck_assert_ptr_null(opts->logger);
    vgg_context_free(ctx);
    vgg_context_free(NULL);
}
END_TEST

/* One thread a processor that the process may use, at the time of asking. */
START_TEST(threads_follow_affinity)
{
    cpu_set_t before, one;
    ck_assert_int_eq(sched_getaffinity(0, sizeof before, &before), 0);
    int cpu = 0;
    while (!CPU_ISSET(cpu, &before)) cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
    vgg_context *ctx;
    ck_ok(vgg_context_create(NULL, &ctx));
    ck_assert_uint_eq(vgg_context_threads(ctx), 1);
    vgg_context_free(ctx);
    ck_assert_int_eq(sched_setaffinity(0, sizeof before, &before), 0);
    ck_ok(vgg_context_create(NULL, &ctx));
    ck_assert_uint_ge(vgg_context_threads(ctx), 1);
    ck_assert_uint_le(vgg_context_threads(ctx), (unsigned)CPU_COUNT(&before));
    vgg_context_free(ctx);
}
END_TEST

START_TEST(options_are_kept)
{
    vgg_allocator allocator = {&live, plain_alloc, plain_release};
    vgg_logger logger = {&live, no_log};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.allocator = &allocator;
    opts.logger = &logger;
    opts.threads = 1024;
    opts.gemm = VGG_GEMM_OWN;
    opts.blas = VGG_BLAS_TAKE;
    opts.max_bytes = 12345;
    char folder[1024];
    memset(folder, 'f', sizeof folder);
    folder[1023] = '\0';
    opts.plugin_dir = folder;
    vgg_context *ctx;
    ck_ok(vgg_context_create(&opts, &ctx));
    ck_assert_int_eq(live, 1);
    memset(&allocator, 0, sizeof allocator); /* all were copied */
    memset(&logger, 0, sizeof logger);
    memset(folder, 0, sizeof folder);
    const vgg_context_options *kept = vgg__context_options(ctx);
    ck_assert_ptr_eq(kept->allocator->cookie, &live);
    ck_assert_ptr_eq(kept->logger->log, no_log);
    ck_assert_uint_eq(kept->threads, 1024);
    ck_assert_uint_eq(kept->gemm, VGG_GEMM_OWN);
    ck_assert_uint_eq(kept->blas, VGG_BLAS_TAKE);
    ck_assert_uint_eq(kept->max_bytes, 12345);
    ck_assert_uint_eq(strlen(kept->plugin_dir), 1023);
    ck_assert_int_eq(kept->plugin_dir[0], 'f');
    vgg_context_free(ctx);
    ck_assert_int_eq(live, 0);
}
END_TEST

static vgg_status create(vgg_context_options opts)
{
    vgg_context *ctx = (vgg_context *)&live;
    const vgg_status status = vgg_context_create(&opts, &ctx);
    ck_assert(status == VGG_OK || ctx == NULL);
    if (status == VGG_OK) vgg_context_free(ctx);
    return status;
}

START_TEST(refused_options)
{
    const vgg_context_options init = VGG_CONTEXT_OPTIONS_INIT;
    vgg_context_options opts = init;
    opts.threads = 1025;
    ck_fails_with(create(opts), VGG_EINVAL, "at most 1024, found 1025");
    opts = init;
    opts.gemm = 3;
    ck_fails_with(create(opts), VGG_EINVAL, "gemm");
    opts = init;
    opts.blas = 2;
    ck_fails_with(create(opts), VGG_EINVAL, "blas");
    opts = init;
    opts.conv = 5;
    ck_fails_with(create(opts), VGG_EINVAL, "conv");
    opts = init;
    opts.size = 0;
    ck_fails_with(create(opts), VGG_EINVAL, "vgg_context_options.size");
    const vgg_allocator half = {NULL, plain_alloc, NULL},
                        other = {NULL, NULL, plain_release};
    opts = init;
    opts.allocator = &half;
    ck_fails_with(create(opts), VGG_EINVAL, "allocator");
    opts.allocator = &other;
    ck_fails_with(create(opts), VGG_EINVAL, "allocator");
    const vgg_logger mute = {NULL, NULL};
    opts = init;
    opts.logger = &mute;
    ck_fails_with(create(opts), VGG_EINVAL, "logger");
    ck_fails_with(vgg_context_create(NULL, NULL), VGG_EINVAL, "out");
}
END_TEST

START_TEST(no_memory)
{
    const vgg_allocator none = {NULL, no_alloc, plain_release};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.allocator = &none;
    ck_fails_with(create(opts), VGG_ENOMEM, "out of memory");
}
END_TEST

START_TEST(objects_keep_it_alive)
{
    const vgg_allocator allocator = {NULL, plain_alloc, plain_release};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.allocator = &allocator;
    vgg_context *ctx;
    ck_ok(vgg_context_create(&opts, &ctx));
    ck_assert_ptr_eq(vgg__context_ref(ctx), ctx);
    vgg_context_free(ctx);
    ck_assert_int_eq(live, 1);
    vgg__free(vgg__alloc(ctx, 10)); /* still usable */
    vgg__context_unref(ctx);
    ck_assert_int_eq(live, 0);
}
END_TEST

START_TEST(default_stays)
{
    vgg_context *ctx = vgg__context_ref(NULL);
    ck_assert_ptr_nonnull(ctx);
    ck_assert_ptr_eq(vgg__context_ref(ctx), ctx);
    for (int i = 0; i < 10; i++) vgg__context_unref(ctx);
    vgg__context_unref(NULL);
    vgg_context_free(ctx);
    ck_assert_ptr_eq(vgg__context_ref(NULL), ctx);
    ck_assert_uint_eq(vgg_context_threads(ctx), vgg_context_threads(NULL));
    void *memory = vgg__alloc(NULL, 100);
    ck_assert_uint_eq(vgg_context_bytes(ctx), 164);
    vgg__free(memory);
    ck_assert_uint_eq(vgg_context_bytes(NULL), 0);
}
END_TEST

static struct {
    vgg_log_level level;
    char line[1024];
    int count;
} logged;

static void keep_line(void *cookie, vgg_log_level level, const char *line)
{
    ck_assert_ptr_eq(cookie, &logged);
    logged.level = level;
    logged.count++;
    strcpy(logged.line, line);
}

START_TEST(log_lines)
{
    const vgg_logger logger = {&logged, keep_line};
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.logger = &logger;
    vgg_context *ctx;
    ck_ok(vgg_context_create(&opts, &ctx));
    vgg__log(ctx, VGG_LOG_WARNING, "file %s: %d", "a\nb", 7);
    ck_assert_int_eq(logged.level, VGG_LOG_WARNING);
    ck_assert_str_eq(logged.line, "file a\\x0ab: 7");
    vgg__log(ctx, VGG_LOG_DEBUG, "%2000d", 1);
    ck_assert_uint_eq(strlen(logged.line), 511);
    ck_assert_str_eq(logged.line + 508, "...");
    ck_assert_int_eq(logged.count, 2);
    vgg__log(NULL, VGG_LOG_INFO, "nobody listens");
    ck_assert_int_eq(logged.count, 2);
    vgg_context_free(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/context");
    TCase *tcase = tcase_create("context");
    tcase_add_test(tcase, version);
    tcase_add_test(tcase, defaults);
    tcase_add_test(tcase, threads_follow_affinity);
    tcase_add_test(tcase, options_are_kept);
    tcase_add_test(tcase, refused_options);
    tcase_add_test(tcase, no_memory);
    tcase_add_test(tcase, objects_keep_it_alive);
    tcase_add_test(tcase, default_stays);
    tcase_add_test(tcase, log_lines);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
