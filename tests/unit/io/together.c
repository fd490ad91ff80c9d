/* SPDX-License-Identifier: Apache-2.0 */
/* Two saves of one file at once: both succeed, and the later rename counts. */
#include "core/error.h"
#include "harness.h"
#include "io/atomic.h"
#include "io/os.h"

#include <stdio.h>
#include <string.h>

static char base[64], path[128];
static int depth;

static vgg_status save(const char *text)
{
    struct vgg__atomic_file file;
    VGG_TRY(vgg__atomic_file_begin(&file, path));
    vgg_status status = vgg__out_write(&file.out, text, strlen(text));
    if (status == VGG_OK) return vgg__atomic_file_commit(&file);
    vgg__atomic_file_abort(&file);
    return status;
}

/* Where the outer save is about to give its file the name, another begins and ends. */
static int rename_late(int from_folder, const char *from, int to_folder, const char *to,
                       unsigned flags)
{
    if (depth++ == 0) ck_ok(save("inner"));
    return vgg__os_real.renameat2(from_folder, from, to_folder, to, flags);
}

static void setup(void)
{
    static struct vgg__os table;
    table = vgg__os_real;
    table.renameat2 = rename_late;
    vgg__os = &table;
    harness_mkdtemp(base);
    snprintf(path, sizeof path, "%s/target", base);
}

static void teardown(void)
{
    harness_rmdir(base);
}

START_TEST(files)
{
    char text[16] = "";
    ck_ok(save("outer"));
    ck_assert_int_eq(depth, 2);
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    ck_assert_ptr_nonnull(fgets(text, sizeof text, f));
    fclose(f);
    ck_assert_str_eq(text, "outer");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("together");
    TCase *tests = tcase_create("together");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, files);
    suite_add_tcase(suite, tests);
    return harness_main(&suite, 1);
}
