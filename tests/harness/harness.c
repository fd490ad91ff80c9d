/* SPDX-License-Identifier: Apache-2.0 */
/* What every test program needs around Check. */
#include "harness.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__)
/* A size that can never be had is refused, as without the sanitizer. */
const char *__asan_default_options(void);

const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}
#endif

int harness_main(Suite *const *suites, int count)
{
    SRunner *runner = srunner_create(suites[0]);
    for (int i = 1; i < count; i++) srunner_add_suite(runner, suites[i]);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

void harness_mkdtemp(char path[64])
{
    snprintf(path, 64, "/tmp/vgg-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(path));
}

static int remove_entry(const char *path, const struct stat *st, int type,
                        struct FTW *at)
{
    (void)st, (void)type, (void)at;
    return remove(path);
}

void harness_rmdir(const char *path)
{
    nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}
