/* SPDX-License-Identifier: Apache-2.0 */
/* Permissions of what is saved: those of what it replaces, and never more meanwhile. */
#include "harness.h"
#include "io/atomic.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const names[] = {"manifest", "data"};
static char base[64], path[128];

static void setup(void)
{
    umask(0027);
    harness_mkdtemp(base);
    snprintf(path, sizeof path, "%s/target", base);
}

static void teardown(void)
{
    harness_rmdir(base);
}

static mode_t mode_of(const char *name)
{
    char file[256];
    struct stat st;
    snprintf(file, sizeof file, "%s%s", path, name);
    ck_assert_int_eq(lstat(file, &st), 0);
    return st.st_mode & 07777;
}

static void set_mode(const char *name, mode_t mode)
{
    char file[256];
    snprintf(file, sizeof file, "%s%s", path, name);
    ck_assert_int_eq(chmod(file, mode), 0);
}

static mode_t mode_of_fd(int fd)
{
    struct stat st;
    ck_assert_int_eq(fstat(fd, &st), 0);
    return st.st_mode & 07777;
}

/* `meanwhile`: the most that the file may allow while it is written. */
static void save_file(mode_t meanwhile)
{
    struct vgg__atomic_file file;
    ck_ok(vgg__atomic_file_begin(&file, path));
    ck_assert_uint_eq(mode_of_fd(file.out.fd) & ~meanwhile, 0);
    ck_ok(vgg__out_write(&file.out, "text", 4));
    ck_ok(vgg__atomic_file_commit(&file));
}

static void save_folder(mode_t meanwhile)
{
    struct vgg__atomic_folder folder;
    ck_ok(vgg__atomic_folder_begin(&folder, path, names, 2));
    ck_assert_uint_eq(mode_of_fd(folder.fd) & ~meanwhile, 0);
    for (int i = 0; i < 2; i++) {
        struct vgg__out out;
        ck_ok(vgg__atomic_folder_create(&folder, names[i], &out));
        ck_ok(vgg__out_finish(&out));
    }
    ck_ok(vgg__atomic_folder_commit(&folder));
}

START_TEST(files)
{
    static const mode_t modes[] = {0600, 0666, 0444, 0604, 0};
    save_file(0640);
    ck_assert_uint_eq(mode_of(""), 0640); /* as any new file */
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        set_mode("", modes[i]);
        save_file(modes[i] | 0600);
        ck_assert_uint_eq(mode_of(""), modes[i]);
    }
    set_mode("", 06755); /* whoever may run it is no matter of weights */
    save_file(0755);
    ck_assert_uint_eq(mode_of(""), 0755);
}
END_TEST

/* A link's own permissions say nothing, and what it leads to is not replaced. */
START_TEST(links)
{
    ck_assert_int_eq(symlink("elsewhere", path), 0);
    save_file(0640);
    ck_assert_uint_eq(mode_of(""), 0640);
}
END_TEST

START_TEST(folders)
{
    static const mode_t modes[] = {0700, 0777, 0500, 01775, 02750};
    save_folder(0750);
    ck_assert_uint_eq(mode_of(""), 0750);
    ck_assert_uint_eq(mode_of("/data"), 0640);
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        set_mode("/data", 0600);
        set_mode("/manifest", 0444);
        set_mode("", modes[i]);
        save_folder(modes[i] | 0700);
        ck_assert_uint_eq(mode_of(""), modes[i]);
        ck_assert_uint_eq(mode_of("/data"), 0600);
        ck_assert_uint_eq(mode_of("/manifest"), 0444);
    }
}
END_TEST

/* An empty folder that was made for it is replaced as well. A file that was not there
 * before is a new one. */
START_TEST(empty_folder)
{
    ck_assert_int_eq(mkdir(path, 0777), 0);
    set_mode("", 0711);
    save_folder(0711);
    ck_assert_uint_eq(mode_of(""), 0711);
    ck_assert_uint_eq(mode_of("/data"), 0640);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("modes");
    TCase *tests = tcase_create("modes");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, files);
    tcase_add_test(tests, links);
    tcase_add_test(tests, folders);
    tcase_add_test(tests, empty_folder);
    suite_add_tcase(suite, tests);
    return harness_main(&suite, 1);
}
