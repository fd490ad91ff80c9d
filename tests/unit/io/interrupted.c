/* SPDX-License-Identifier: Apache-2.0 */
/* A signal interrupts every other opening: nobody outside notices. */
#include "harness.h"
#include "io/atomic.h"
#include "io/file.h"
#include "io/input.h"
#include "io/os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char base[64], path[128];
static long interrupted;

static int openat_later(int folder, const char *name, int flags, mode_t mode)
{
    static bool again;
    again = !again;
    if (!again) return vgg__os_real.openat(folder, name, flags, mode);
    interrupted++;
    errno = EINTR;
    return -1;
}

static void setup(void)
{
    static struct vgg__os table;
    table = vgg__os_real;
    table.openat = openat_later;
    vgg__os = &table;
    interrupted = 0;
    harness_mkdtemp(base);
    snprintf(path, sizeof path, "%s/target", base);
}

static void teardown(void)
{
    ck_assert_int_gt(interrupted, 0);
    harness_rmdir(base);
}

static void save_file(void)
{
    struct vgg__atomic_file file;
    ck_ok(vgg__atomic_file_begin(&file, path));
    ck_ok(vgg__out_write(&file.out, "text", 4));
    ck_ok(vgg__atomic_file_commit(&file));
}

START_TEST(files)
{
    struct vgg__input input;
    struct vgg__file plain;
    save_file();
    save_file();
    ck_ok(vgg__input_open(&input, AT_FDCWD, path, 1, path));
    ck_assert_uint_eq(input.size, 4);
    vgg__input_close(&input);
    ck_ok(vgg__file_open(&plain, NULL, path));
    vgg__file_close(&plain);
}
END_TEST

START_TEST(folders)
{
    static const char *const names[] = {"manifest"};
    for (int i = 0; i < 2; i++) {
        struct vgg__atomic_folder folder;
        struct vgg__out out;
        ck_ok(vgg__atomic_folder_begin(&folder, path, names, 1));
        ck_ok(vgg__atomic_folder_create(&folder, names[0], &out));
        ck_ok(vgg__out_finish(&out));
        ck_ok(vgg__atomic_folder_commit(&folder));
    }
    int fd;
    ck_ok(vgg__atomic_folder_open(path, &fd));
    close(fd);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("interrupted");
    TCase *tests = tcase_create("interrupted");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, files);
    tcase_add_test(tests, folders);
    suite_add_tcase(suite, tests);
    return harness_main(&suite, 1);
}
