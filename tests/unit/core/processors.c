/* SPDX-License-Identifier: Apache-2.0 */
/* The quota of control groups, read from trees made for the test: both versions, nested
 * groups, containers that see a part of the tree, and everything that is broken. */
#include "core/state.h"
#include "harness.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static char root[64];

static void make_root(void)
{
    harness_mkdtemp(root);
}

static void remove_root(void)
{
    harness_rmdir(root);
}

/* Write a file below the root, making the folders on its way. */
static void put(const char *path, const char *text)
{
    char full[256];
    snprintf(full, sizeof full, "%s/%s", root, path);
    for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = '\0';
        mkdir(full, 0700);
        *slash = '/';
    }
    FILE *file = fopen(full, "w");
    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    fclose(file);
}

static uint32_t quota(void)
{
    char table[128], groups[128];
    snprintf(table, sizeof table, "%s/table", root);
    snprintf(groups, sizeof groups, "%s/cgroup", root);
    return vgg__cgroup_quota(table, groups);
}

START_TEST(version_2)
{
    static const struct {
        const char *text;
        uint32_t expected;
    } rows[] = {
        {"max 100000\n", 0},
        {"100000 100000\n", 1},
        {"100001 100000\n", 2},
        {"150000 100000\n", 2},
        {"1000 100000\n", 1},
        {"400000 100000\n", 4},
        {"99999999999 1000", 1024},
        {"", 0},
        {"\n", 0},
        {"0 100000\n", 0},
        {"100000 0\n", 0},
        {"100000", 0},
        {"-1 100000\n", 0},
        {"x y\n", 0},
        {"100000 max\n", 0},
        {"18446744073709551616 1", 0},
        {"18446744073709551615 1", 1024},
    };
    put("table", "0::/a\n");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put("cgroup/a/cpu.max", rows[i].text);
        ck_assert_msg(quota() == rows[i].expected, "\"%s\": %u, expected %u",
                      rows[i].text, quota(), rows[i].expected);
    }
}
END_TEST

START_TEST(tightest_on_the_way_up)
{
    put("table", "0::/a/b/c\n");
    put("cgroup/cpu.max", "800000 100000\n");
    put("cgroup/a/cpu.max", "300000 100000\n");
    put("cgroup/a/b/cpu.max", "500000 100000\n");
    put("cgroup/a/b/c/cpu.max", "max 100000\n");
    ck_assert_uint_eq(quota(), 3);
    put("cgroup/cpu.max", "200000 100000\n");
    ck_assert_uint_eq(quota(), 2);
    put("cgroup/a/b/c/cpu.max", "100000 100000\n");
    ck_assert_uint_eq(quota(), 1);
}
END_TEST

/* The table may name groups that only the host sees. */
START_TEST(within_a_container)
{
    put("cgroup/cpu.max", "300000 100000\n");
    put("table", "0::/\n");
    ck_assert_uint_eq(quota(), 3);
    put("table", "0::/system.slice/docker-1234.scope\n");
    ck_assert_uint_eq(quota(), 3);
    put("table", "0::/../../other\n");
    ck_assert_uint_eq(quota(), 3);
}
END_TEST

START_TEST(version_1)
{
    put("table", "12:cpuset:/other\n4:cpu,cpuacct:/box\n1:name=systemd:/\n");
    put("cgroup/cpu/box/cpu.cfs_quota_us", "250000\n");
    put("cgroup/cpu/box/cpu.cfs_period_us", "100000\n");
    put("cgroup/cpu/other/cpu.cfs_quota_us", "100000\n");
    put("cgroup/cpu/other/cpu.cfs_period_us", "100000\n");
    ck_assert_uint_eq(quota(), 3);
    put("cgroup/cpu/box/cpu.cfs_quota_us", "-1\n");
    ck_assert_uint_eq(quota(), 0);
    put("cgroup/cpu/cpu.cfs_quota_us", "50000\n");
    put("cgroup/cpu/cpu.cfs_period_us", "10000\n");
    ck_assert_uint_eq(quota(), 5);
    put("table", "4:cpuacct,cpu:/box\n");
    ck_assert_uint_eq(quota(), 5);
    put("table", "4:cpuset,cpuacct:/box\n");
    ck_assert_uint_eq(quota(), 0);
}
END_TEST

START_TEST(broken_tables)
{
    static const char *const tables[] = {"",     "\n",           "0", "0:", "0:cpu",
                                         "::::", "garbage\n\n\n"};
    put("cgroup/cpu.max", "100000 100000\n");
    ck_assert_uint_eq(quota(), 0); /* no table at all */
    for (size_t i = 0; i < 5; i++) {
        put("table", tables[i]);
        ck_assert_uint_eq(quota(), 0);
    }
    char large[20000];
    memset(large, 'a', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    memcpy(large, "0::/", 4);
    put("table", large);
    ck_assert_uint_eq(quota(), 0);
    large[8000] = '\0'; /* a path over PATH_MAX */
    put("table", large);
    ck_assert_uint_eq(quota(), 0);
}
END_TEST

START_TEST(this_machine)
{
    ck_assert_uint_ge(vgg__processors(), 1);
    ck_assert_uint_le(vgg__processors(), VGG_MAX_THREADS);
    ck_assert_uint_eq(vgg__cgroup_quota("/nowhere", "/nowhere"), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/processors");
    TCase *tcase = tcase_create("quota");
    tcase_add_checked_fixture(tcase, make_root, remove_root);
    tcase_add_test(tcase, version_2);
    tcase_add_test(tcase, tightest_on_the_way_up);
    tcase_add_test(tcase, within_a_container);
    tcase_add_test(tcase, version_1);
    tcase_add_test(tcase, broken_tables);
    tcase_add_test(tcase, this_machine);
    suite_add_tcase(suite, tcase);
    return harness_main(&suite, 1);
}
