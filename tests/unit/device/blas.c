/* SPDX-License-Identifier: Apache-2.0 */
/* OpenBLAS is loaded only where it can do no harm: a host's own is left alone or given
 * back as it was, and too few threads or too little address space is an answer, not the
 * end of the process. Each test is a process of its own. */
#include "harness.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#include <vgg/device.h>

#define LIBRARY "libopenblas.so.0"

static bool own_process(void)
{
    const char *fork = getenv("CK_FORK");
    return fork == NULL || strcmp(fork, "no") != 0;
}

/* AddressSanitizer reserves most of the address space, and looks for leaks as the user
 * that it began as. */
static bool can_limit(void)
{
#if defined(__SANITIZE_ADDRESS__)
    return false;
#else
    return own_process();
#endif
}

/* Whether the process now has so much address space and no more: an emulator of another
 * processor doesn't keep the limit. */
static bool limit_address_space(size_t bytes)
{
    const struct rlimit limit = {bytes, bytes};
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
    void *more = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (more == MAP_FAILED) return true;
    munmap(more, bytes);
    return false;
}

static vgg_status open_with(uint32_t gemm, uint32_t blas, uint32_t threads,
                            vgg_device **device)
{
    vgg_context_options opts = VGG_CONTEXT_OPTIONS_INIT;
    opts.gemm = gemm;
    opts.blas = blas;
    opts.threads = threads;
    vgg_context *context;
    ck_ok(vgg_context_create(&opts, &context));
    const vgg_status status = vgg_device_open(context, "cpu", device);
    vgg_context_free(context);
    return status;
}

static void check_text(const vgg_device *device, const char *fragment)
{
    const char *text = vgg_device_text(device);
    ck_assert_msg(strstr(text, fragment) != NULL, "lacks \"%s\": %s", fragment, text);
}

/* The host's OpenBLAS with two threads; its getter, or NULL if there is none here. */
static int (*load_as_host(void))(void)
{
    void *library = dlopen(LIBRARY, RTLD_NOW);
    if (library == NULL) return NULL;
    int (*get)(void);
    void (*set)(int);
    void *symbol = dlsym(library, "openblas_get_num_threads");
    memcpy(&get, &symbol, sizeof(get));
    symbol = dlsym(library, "openblas_set_num_threads");
    memcpy(&set, &symbol, sizeof(set));
    set(2);
    return get;
}

START_TEST(test_hosts_own_is_left_alone)
{
    int (*threads)(void) = own_process() ? load_as_host() : NULL;
    if (threads == NULL) return;
    const int before = threads(); /* a serial build has one */
    vgg_device *device;
    ck_ok(open_with(VGG_GEMM_AUTO, VGG_BLAS_LEAVE, 2, &device));
    check_text(device, "gemm own (");
    ck_assert_int_eq(threads(), before);
    vgg_device_free(device);
    ck_fails_with(open_with(VGG_GEMM_OPENBLAS, VGG_BLAS_LEAVE, 2, &device), VGG_EDEVICE,
                  "belongs to the host program");
    ck_assert_int_eq(threads(), before);
}
END_TEST

START_TEST(test_hosts_own_is_taken_and_given_back)
{
    int (*threads)(void) = own_process() ? load_as_host() : NULL;
    if (threads == NULL) return;
    const int before = threads();
    vgg_device *first, *second;
    ck_ok(open_with(VGG_GEMM_OPENBLAS, VGG_BLAS_TAKE, 2, &first));
    check_text(first, "gemm OpenBLAS 0.");
    ck_assert_int_eq(threads(), 1);
    ck_ok(open_with(VGG_GEMM_OPENBLAS, VGG_BLAS_TAKE, 3, &second));
    vgg_device_free(first);
    ck_assert_int_eq(threads(), 1);
    vgg_device_free(second);
    ck_assert_int_eq(threads(), before);
}
END_TEST

/* No more threads for this user: its constructor would raise SIGINT. */
START_TEST(test_no_threads)
{
    if (!can_limit()) return;
    if (getuid() == 0 && setuid(65534) != 0) return; /* root has no such limit */
    const struct rlimit none = {1, 1};
    ck_assert_int_eq(setrlimit(RLIMIT_NPROC, &none), 0);
    vgg_device *device;
    ck_ok(open_with(VGG_GEMM_AUTO, VGG_BLAS_LEAVE, 1, &device));
    check_text(device, "gemm own (");
    ck_assert_str_eq(vgg_last_error(), "");
    vgg_device_free(device);
    ck_assert(open_with(VGG_GEMM_OPENBLAS, VGG_BLAS_LEAVE, 1, &device) == VGG_EDEVICE);
    ck_assert_ptr_null(dlopen(LIBRARY, RTLD_NOW | RTLD_NOLOAD));
}
END_TEST

/* No room for its buffers: it would wait for them for ever. */
START_TEST(test_no_address_space)
{
    if (!can_limit() || !limit_address_space((size_t)256 << 20)) return;
    vgg_device *device;
    ck_ok(open_with(VGG_GEMM_AUTO, VGG_BLAS_LEAVE, 1, &device));
    check_text(device, "gemm own (");
    vgg_device_free(device);
    ck_assert(open_with(VGG_GEMM_OPENBLAS, VGG_BLAS_LEAVE, 1, &device) != VGG_OK);
    ck_assert_ptr_null(dlopen(LIBRARY, RTLD_NOW | RTLD_NOLOAD));
}
END_TEST

/* A host's own, but no room for as many callers at once as there are threads. */
START_TEST(test_no_room_for_callers)
{
    int (*threads)(void) = can_limit() ? load_as_host() : NULL;
    if (threads == NULL) return;
    const int before = threads();
    if (!limit_address_space((size_t)2 << 30)) return;
    vgg_device *device;
    ck_fails_with(open_with(VGG_GEMM_OPENBLAS, VGG_BLAS_TAKE, 16, &device), VGG_ENOMEM,
                  "OpenBLAS needs 16 buffers of 128 MiB");
    ck_assert_int_eq(threads(), before);
}
END_TEST

static Suite *blas_suite(void)
{
    Suite *suite = suite_create("blas");
    TCase *loading = tcase_create("loading");
    tcase_set_timeout(loading, 30);
    tcase_add_test(loading, test_hosts_own_is_left_alone);
    tcase_add_test(loading, test_hosts_own_is_taken_and_given_back);
    tcase_add_test(loading, test_no_threads);
    tcase_add_test(loading, test_no_address_space);
    tcase_add_test(loading, test_no_room_for_callers);
    suite_add_tcase(suite, loading);
    return suite;
}

int main(void)
{
    Suite *suites[] = {blas_suite()};
    return harness_main(suites, 1);
}
