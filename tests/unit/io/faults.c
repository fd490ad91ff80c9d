/* SPDX-License-Identifier: Apache-2.0 */
/* System calls that fail on demand: see faults.h. */
#include "faults.h"

#include "io/os.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static enum fault fault_kind;
static long fault_at, calls;

/* Is this the call that fails? */
static bool hit(void)
{
    calls++;
    if (fault_kind >= FAULT_STOP) {
        errno = EIO;
        return calls >= fault_at;
    }
    if (fault_kind == FAULT_NONE || fault_kind == FAULT_SHORT || calls != fault_at)
        return false;
    errno = fault_kind == FAULT_ENOSPC  ? ENOSPC
            : fault_kind == FAULT_EINTR ? EINTR
                                        : EIO;
    return true;
}

static size_t shortened(size_t size)
{
    return fault_kind == FAULT_SHORT && calls >= fault_at && size > 1 ? 1 : size;
}

static int fault_openat(int folder, const char *name, int flags, mode_t mode)
{
    return hit() ? -1 : vgg__os_real.openat(folder, name, flags, mode);
}

static int fault_mkdirat(int folder, const char *name, mode_t mode)
{
    return hit() ? -1 : vgg__os_real.mkdirat(folder, name, mode);
}

static int fault_flock(int fd, int operation)
{
    return hit() ? -1 : vgg__os_real.flock(fd, operation);
}

static ssize_t fault_pread(int fd, void *data, size_t size, off_t offset)
{
    return hit() ? -1 : vgg__os_real.pread(fd, data, shortened(size), offset);
}

static ssize_t fault_write(int fd, const void *data, size_t size)
{
    return hit() ? -1 : vgg__os_real.write(fd, data, shortened(size));
}

/* Nobody waits in these tests for another. */
static int fault_nanosleep(const struct timespec *time, struct timespec *left)
{
    *left = (struct timespec){0};
    return time->tv_nsec < 0 || hit() ? -1 : 0;
}

/* Flushing is for power cuts, which no test can make; leaving it out saves minutes. */
static int fault_fsync(int fd)
{
    return hit() ? -1 : vgg__os_real.fstat(fd, &(struct stat){0});
}

/* As on Linux: the descriptor is gone whatever is returned. */
static int fault_close(int fd)
{
    const bool fails = hit();
    const int why = errno;
    const int result = vgg__os_real.close(fd);
    if (fails) errno = why;
    return fails ? -1 : result;
}

static int fault_renameat2(int from_folder, const char *from, int to_folder,
                           const char *to, unsigned flags)
{
    if (hit()) return -1;
    const bool none =
        fault_kind == FAULT_NO_EXCHANGE || fault_kind == FAULT_STOP_NO_EXCHANGE;
    if (none && flags != 0) {
        errno = EINVAL;
        return -1;
    }
    return vgg__os_real.renameat2(from_folder, from, to_folder, to, flags);
}

static int fault_unlinkat(int folder, const char *name, int flags)
{
    return hit() ? -1 : vgg__os_real.unlinkat(folder, name, flags);
}

static int fault_fchmod(int fd, mode_t mode)
{
    return hit() ? -1 : vgg__os_real.fchmod(fd, mode);
}

static int fault_fstat(int fd, struct stat *out)
{
    return hit() ? -1 : vgg__os_real.fstat(fd, out);
}

static int fault_fstatat(int folder, const char *name, struct stat *out, int flags)
{
    return hit() ? -1 : vgg__os_real.fstatat(folder, name, out, flags);
}

static const struct vgg__os failing = {
    .openat = fault_openat,
    .mkdirat = fault_mkdirat,
    .flock = fault_flock,
    .pread = fault_pread,
    .write = fault_write,
    .nanosleep = fault_nanosleep,
    .fsync = fault_fsync,
    .close = fault_close,
    .renameat2 = fault_renameat2,
    .unlinkat = fault_unlinkat,
    .fchmod = fault_fchmod,
    .fstat = fault_fstat,
    .fstatat = fault_fstatat,
};

void faults_begin(enum fault kind, long n)
{
    fault_kind = kind;
    fault_at = n;
    calls = 0;
    vgg__os = &failing;
}

long faults_end(void)
{
    const long count = calls;
    faults_begin(FAULT_NONE, 0);
    return count;
}

int faults_entries(const char *folder, const char *part)
{
    int count = 0;
    DIR *entries = opendir(folder);
    if (entries == NULL) return -1;
    for (const struct dirent *e; (e = readdir(entries)) != NULL;)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            count += strstr(e->d_name, part) != NULL;
    closedir(entries);
    return count;
}

int faults_descriptors(void)
{
    return faults_entries("/proc/self/fd", "");
}
