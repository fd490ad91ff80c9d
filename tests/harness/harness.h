/* SPDX-License-Identifier: Apache-2.0 */
/* What every test program needs around Check. */
#ifndef VGG_TEST_HARNESS_H
#define VGG_TEST_HARNESS_H

#include <check.h>
#include <vgg/common.h>

/* Run the suites of a program, `count` of them; the exit status of main(). Fixed
 * CK_FORK / CK_VERBOSITY / CK_RUN_CASE variables work as Check documents them. */
int harness_main(Suite *const *suites, int count);

/* A call must succeed; otherwise the test fails with the library's own text. */
#define ck_ok(call)                                                                    \
    do {                                                                               \
        const vgg_status ck_status_ = (call);                                          \
        ck_assert_msg(ck_status_ == VGG_OK, "%s: %s: %s", #call,                       \
                      vgg_status_name(ck_status_), vgg_last_error());                  \
    } while (0)

/* A call must fail with exactly this status, and say why. */
#define ck_fails(call, expected)                                                       \
    do {                                                                               \
        const vgg_status ck_status_ = (call);                                          \
        ck_assert_msg(ck_status_ == (expected), "%s: %s, expected %s: %s", #call,      \
                      vgg_status_name(ck_status_), vgg_status_name(expected),          \
                      vgg_last_error());                                               \
        ck_assert_msg(vgg_last_error()[0] != '\0', "%s: no text", #call);              \
    } while (0)

/* The same, and the text must contain a fragment. */
#define ck_fails_with(call, expected, fragment)                                        \
    do {                                                                               \
        ck_fails(call, expected);                                                      \
        ck_assert_msg(strstr(vgg_last_error(), fragment) != NULL,                      \
                      "%s: text lacks \"%s\": %s", #call, fragment, vgg_last_error()); \
    } while (0)

/* A new empty folder for a test, removed by harness_rmdir(). */
void harness_mkdtemp(char path[64]);

/* Remove a folder and everything in it. */
void harness_rmdir(const char *path);

#endif
