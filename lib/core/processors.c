/* SPDX-License-Identifier: Apache-2.0 */
/* How many processors the process may use: affinity, and the CPU quota of its control
 * groups (version 2: cpu.max; version 1: cpu.cfs_quota_us and cpu.cfs_period_us), of
 * which the tightest from its own group up to the root counts. Whatever can't be read
 * or understood is taken as no quota. Nothing here allocates or depends on the
 * locale. */
#include "core/state.h"

#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Read a small file as a string; false if it can't be read or is larger. */
static bool read_text(const char *path, char *text, size_t size)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    size_t used = 0;
    ssize_t got = 1;
    while (got > 0 && used < size) {
        got = read(fd, text + used, size - used);
        if (got > 0) used += (size_t)got;
    }
    close(fd);
    if (got != 0 || used == size) return false;
    text[used] = '\0';
    return true;
}

/* A decimal number at *at, which is moved behind it; false if there is none. */
static bool read_number(const char **at, uint64_t *out)
{
    const char *s = *at;
    uint64_t value = 0;
    for (; *s >= '0' && *s <= '9'; s++)
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, (uint64_t)(*s - '0'), &value))
            return false;
    if (s == *at) return false;
    *at = s;
    *out = value;
    return true;
}

/* Whole processors that a quota makes, 0: none. */
static uint32_t quota_of(uint64_t quota, uint64_t period)
{
    if (quota == 0 || period == 0) return 0;
    const uint64_t count = quota / period + (quota % period != 0);
    return count < VGG_MAX_THREADS ? (uint32_t)count : VGG_MAX_THREADS;
}

/* Quota of one folder of version 2: "max 100000" or "150000 100000". */
static uint32_t folder_quota_v2(const char *folder)
{
    char path[PATH_MAX], text[128];
    const int length = snprintf(path, sizeof path, "%s/cpu.max", folder);
    if (length < 0 || (size_t)length >= sizeof path) return 0;
    if (!read_text(path, text, sizeof text)) return 0;
    const char *at = text;
    uint64_t quota, period;
    if (!read_number(&at, &quota) || *at++ != ' ' || !read_number(&at, &period))
        return 0;
    return quota_of(quota, period);
}

/* A number alone in a file of a folder, 0 if there is none (-1 is "no quota"). */
static uint64_t folder_number(const char *folder, const char *name)
{
    char path[PATH_MAX], text[64];
    const int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    if (length < 0 || (size_t)length >= sizeof path) return 0;
    if (!read_text(path, text, sizeof text)) return 0;
    const char *at = text;
    uint64_t value;
    return read_number(&at, &value) ? value : 0;
}

static uint32_t folder_quota_v1(const char *folder)
{
    return quota_of(folder_number(folder, "cpu.cfs_quota_us"),
                    folder_number(folder, "cpu.cfs_period_us"));
}

/* The tightest quota from `group` up to the root of a hierarchy mounted at `mount`; 0
 * if none has one. In a container `group` may be a path that only the host has: then
 * the folders that exist count, at least the root. */
static uint32_t hierarchy_quota(const char *mount, const char *group,
                                uint32_t (*folder_quota)(const char *folder))
{
    char folder[PATH_MAX];
    const size_t root = strlen(mount);
    if (strstr(group, "..") != NULL) group = "";
    const int length = snprintf(folder, sizeof folder, "%s%s", mount, group);
    if (length < 0 || (size_t)length >= sizeof folder) return 0;
    uint32_t least = 0;
    for (;;) {
        const uint32_t quota = folder_quota(folder);
        if (quota != 0 && (least == 0 || quota < least)) least = quota;
        char *slash = strrchr(folder + root, '/');
        if (slash == NULL) return least;
        *slash = '\0';
    }
}

/* Is `name` one of a comma-separated list that ends at `end`? */
static bool list_has(const char *list, const char *end, const char *name)
{
    const size_t length = strlen(name);
    while (list < end) {
        const char *comma = memchr(list, ',', (size_t)(end - list));
        if (comma == NULL) comma = end;
        if ((size_t)(comma - list) == length && memcmp(list, name, length) == 0)
            return true;
        list = comma + 1;
    }
    return false;
}

/* Quota by one line of the table, "id:controllers:group"; version 2 has id 0 and
 * none. */
static uint32_t line_quota(const char *line, const char *root)
{
    const char *list = strchr(line, ':');
    const char *end = list != NULL ? strchr(list + 1, ':') : NULL;
    if (end == NULL) return 0;
    list++;
    if (list == end) return hierarchy_quota(root, end + 1, folder_quota_v2);
    if (!list_has(list, end, "cpu")) return 0;
    char mount[256];
    const int length = snprintf(mount, sizeof mount, "%s/cpu", root);
    if (length < 0 || (size_t)length >= sizeof mount) return 0;
    return hierarchy_quota(mount, end + 1, folder_quota_v1);
}

uint32_t vgg__cgroup_quota(const char *table, const char *root)
{
    char text[8192];
    if (!read_text(table, text, sizeof text)) return 0;
    uint32_t least = 0;
    char *rest = text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
        const uint32_t quota = line_quota(line, root);
        if (quota != 0 && (least == 0 || quota < least)) least = quota;
    }
    return least;
}

static uint32_t affinity_count(void)
{
    cpu_set_t sets[16]; /* 16384 processors: a kernel with more refuses with EINVAL */
    if (sched_getaffinity(0, sizeof sets, sets) == 0) {
        const int count = CPU_COUNT_S(sizeof sets, sets);
        if (count > 0) return (uint32_t)count;
    }
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 && online <= VGG_MAX_THREADS ? (uint32_t)online : 1;
}

uint32_t vgg__processors(void)
{
    const uint32_t quota = vgg__cgroup_quota("/proc/self/cgroup", "/sys/fs/cgroup");
    uint32_t count = affinity_count();
    if (quota != 0 && quota < count) count = quota;
    return count < VGG_MAX_THREADS ? count : VGG_MAX_THREADS;
}
